"""Every example in a docstring of membership, routing and their simulation runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import durable.membership
import durable.routing
import durable.sim

MODULES = [
    name
    for package in (durable.membership, durable.routing, durable.sim)
    for _, name, _ in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
