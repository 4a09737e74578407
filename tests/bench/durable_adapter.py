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


def absent() -> str | None:
    if not find_spec("durable"):
        return "the package `durable` cannot be imported from here"
    import durable

    return None if hasattr(durable, "open") else "this commit of `durable` has no `durable.open` yet"


def about() -> dict[str, str]:
    import durable

    return {"version": getattr(durable, "__version__", "from source"), "sync": "RocksDB, an fsync a group commit (its default)"}


class Adapter:
    def __init__(self) -> None:
        self._workflows = _define()
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


def _define() -> dict[str, Any]:
    import durable

    @durable.function("step")
    async def step(workflow_id: str, number: int) -> int:
        return bodies.body(workflow_id, number)

    @durable.workflow("steps")
    async def steps(ctx: durable.Context, count: int) -> int:
        for number in range(count):
            await ctx.call(step, ctx.workflow_id, number)
        return count

    @durable.workflow("sleep")
    async def sleep(ctx: durable.Context, count: int) -> int:
        await ctx.sleep(float(count))
        return count

    @durable.workflow("wait")
    async def wait(ctx: durable.Context, count: int) -> int:
        bodies.arrive(ctx.workflow_id)
        await ctx.receive("go", int)
        return count

    @durable.workflow("long")
    async def long(ctx: durable.Context, count: int) -> int:
        """A long journal, written fast: a hundred calls at once, again and again. Then it waits to be woken."""
        for first in range(0, count, 100):
            await asyncio.gather(*(ctx.call(step, ctx.workflow_id, n) for n in range(first, min(count, first + 100))))
        return int(await ctx.receive("go", int))

    return {"steps": steps, "sleep": sleep, "wait": wait, "long": long}
