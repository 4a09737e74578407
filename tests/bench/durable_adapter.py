"""The library itself: `durable.open` on a folder, RocksDB, everything at its default."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import bodies
from bench.peer import Kind

OVERLOADED_PAUSE_S = 0.01
WITNESS = "recorded"  # the driver that reads, after a kill, what was recorded (`bench.drive_own`)


def absent() -> str | None:
    if not find_spec("durable"):
        return "the package `durable` cannot be imported from here"
    import durable

    return None if hasattr(durable, "open") else "this commit of `durable` has no `durable.open` yet"


def about() -> dict[str, str]:
    import durable

    return {
        "version": getattr(durable, "__version__", "from source"),
        "sync": "RocksDB, an fsync a group commit (its default)",
    }


class Adapter:
    def __init__(self) -> None:
        from bench.durable_workflows import WORKFLOWS

        self._workflows: dict[str, Any] = WORKFLOWS
        self.runtime: Any = None

    async def open(self, folder: Path) -> None:
        import durable

        self.runtime = await durable.open(str(folder / "durable"))
        for workflow in self._workflows.values():
            self.runtime.register(workflow)

    async def run(self, kind: Kind, workflow_id: str, count: int) -> int:
        return int(await (await self.submit(kind, workflow_id, count)).result())

    async def start(self, kind: Kind, workflow_id: str, count: int) -> None:
        await self.submit(kind, workflow_id, count)

    async def submit(self, kind: str, workflow_id: str, count: int) -> Any:
        """Past its bound the runtime refuses, and accepts nothing: a caller waits and tries again."""
        import durable

        while True:
            try:
                return await self.runtime.submit(self._workflows[kind], count, workflow_id=workflow_id)
            except durable.Overloaded:
                await asyncio.sleep(OVERLOADED_PAUSE_S)

    async def finished(self, workflow_ids: Sequence[str]) -> None:
        await asyncio.gather(*(self.runtime.handle(workflow_id).result() for workflow_id in workflow_ids))

    async def bodies(self) -> list[float]:
        return bodies.taken_times()

    async def arrived(self) -> int:
        return bodies.arrived()

    async def close(self) -> None:
        if self.runtime is not None:
            await self.runtime.close()
