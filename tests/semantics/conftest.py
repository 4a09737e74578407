"""Every test of this folder runs twice: as on one node, and with a log under which nothing can be read before it is durable."""

from __future__ import annotations

from collections.abc import Iterator

import nodes
import pytest
from delayed import DelayedLog


@pytest.fixture(autouse=True, params=["local", "delayed"])
def _log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "delayed":
        monkeypatch.setattr(nodes, "make_log", lambda store: DelayedLog(store, seed=len(request.node.name)))
    yield
