"""Every example in a docstring of the cluster's rooms runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import durable.cluster
import durable.membership
import durable.routing
import durable.sim
import durable.transports

MODULES = [
    name
    for package in (durable.membership, durable.routing, durable.sim, durable.transports, durable.cluster)
    for _, name, _ in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
