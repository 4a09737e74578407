"""What a peer must offer to be measured: five calls, three kinds of workflow.

The drivers in `bench.drive` are written once, against this protocol, so that every peer does the same work
in the same order. An adapter is a module that holds a class `Adapter` with it, and two functions that need
none of its peer's packages: ``absent()``, the reason why it cannot run here or None, and ``about()``, its
version and what it syncs by default.

The kinds: ``steps`` calls one function ``count`` times in sequence; ``sleep`` sleeps ``count`` seconds;
``wait`` waits for a message that never comes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol

Kind = Literal["steps", "sleep", "wait"]


class Peer(Protocol):
    async def open(self, folder: Path) -> None:
        """Start on this folder, empty or as a killed process left it. Recovery begins here."""

    async def run(self, kind: Kind, workflow_id: str, count: int) -> int:
        """Submit and wait for the result."""

    async def start(self, kind: Kind, workflow_id: str, count: int) -> None:
        """Submit; return when the submission is accepted durably."""

    async def finished(self, workflow_ids: Sequence[str]) -> None:
        """Return when all of them, submitted before a restart, have their results."""

    async def bodies(self) -> list[float]:
        """When each step's body ran, since the last call (`time.perf_counter` of the process that ran it)."""

    async def arrived(self) -> int:
        """How many different ``wait`` workflows have run up to their wait."""

    async def close(self) -> None:
        """Stop everything that `open` started."""


def adapter(name: str) -> ModuleType:
    """The module of a peer. Imports none of the peer's own packages yet."""
    return importlib.import_module(f"bench.{name}_adapter")
