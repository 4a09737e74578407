"""DBOS Transact: a library in the process, its journal in SQLite. As its documentation has it, with nothing
tuned.

Asynchronous workflows and steps, because that is its fastest way to many at once in one process. SQLite
runs in its default mode (rollback journal, ``synchronous=FULL``): each transaction is synced before it is
acknowledged (about four fdatasync calls a step in W1, counted with strace).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import bodies
from bench.peer import Kind

FINISHED_POLL_S = 0.2  # each poll takes a read lock that its writers wait for; of some 25 s this is noise
FOREVER_S = 3_600.0


def absent() -> str | None:
    return None if find_spec("dbos") else "the package `dbos` is not installed (extra `bench`)"


def about() -> dict[str, str]:
    try:
        return {
            "version": version("dbos"),
            "sync": "SQLite, synchronous=FULL, an fsync a transaction (its default)",
        }
    except PackageNotFoundError:
        return {}


class Adapter:
    def __init__(self) -> None:
        from dbos import DBOS

        self._dbos: Any = DBOS
        self._workflows: dict[Kind, Any] = {}

    async def open(self, folder: Path) -> None:
        await self.launch(f"sqlite:///{folder / 'dbos.sqlite'}")

    async def launch(self, database_url: str) -> None:
        DBOS = self._dbos
        DBOS(
            config={
                "name": "bench",
                "system_database_url": database_url,
                "application_version": "1",
                "run_admin_server": False,
                "log_level": "ERROR",
            }
        )
        self._workflows = _define(DBOS)
        DBOS.launch()

    async def run(self, kind: Kind, workflow_id: str, count: int) -> int:
        handle = await self._submit(kind, workflow_id, count)
        return int(await handle.get_result())

    async def start(self, kind: Kind, workflow_id: str, count: int) -> None:
        await self._submit(kind, workflow_id, count)

    async def _submit(self, kind: Kind, workflow_id: str, count: int) -> Any:
        from dbos import SetWorkflowID

        with SetWorkflowID(workflow_id):
            return await self._dbos.start_workflow_async(self._workflows[kind], count)

    async def finished(self, workflow_ids: Sequence[str]) -> None:
        """By one cheap listing: 500 handles that poll would slow down what they wait for."""
        wanted = len(workflow_ids)
        while True:
            done = await self._dbos.list_workflows_async(
                status="SUCCESS", load_input=False, load_output=False
            )
            if len(done) >= wanted:
                return
            await asyncio.sleep(FINISHED_POLL_S)

    async def bodies(self) -> list[float]:
        return bodies.taken_times()

    async def arrived(self) -> int:
        return bodies.arrived()

    async def close(self) -> None:
        """Nothing: it ends with this process. Its own `destroy` waits for what is running."""


def _define(DBOS: Any) -> dict[Kind, Any]:  # noqa: N803 (its own spelling)
    @DBOS.step()  # type: ignore[untyped-decorator]
    async def step(number: int) -> int:
        return bodies.body(DBOS.workflow_id, number)

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    async def steps(count: int) -> int:
        for number in range(count):
            await step(number)
        return count

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    async def sleep(count: int) -> int:
        await DBOS.sleep_async(float(count))
        return count

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    async def wait(count: int) -> int:
        bodies.arrive()
        await DBOS.recv_async("go", timeout_seconds=FOREVER_S)
        return count

    return {"steps": steps, "sleep": sleep, "wait": wait}
