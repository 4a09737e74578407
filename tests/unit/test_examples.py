"""Every example in a docstring of `durable` runs, and shows what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import durable
from durable.workflows.definition import REGISTRY

PROGRAM = "durable.__main__"
"""To import it is to run it."""

OPTIONAL = ("durable.notebook", "durable.storage.leveldb", "durable.storage.rocksdb")
"""Rooms and modules that may need a package which is not there."""

MODULES = ["durable", *(name for _, name, _ in pkgutil.walk_packages(durable.__path__, "durable.") if name != PROGRAM)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("workflows", "functions"):  # what an example registers is not there for other tests
        monkeypatch.setattr(REGISTRY, kind, dict(getattr(REGISTRY, kind)))
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        if not name.startswith(OPTIONAL):
            raise
        pytest.skip(str(missing))
    assert doctest.testmod(module).failed == 0
