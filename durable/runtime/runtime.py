"""`NodeRuntime`: durable workflows in this process.

    async with durable.open("orders.db") as runtime:
        handle = await runtime.submit(process_order, order, workflow_id="order-123")
        print(await handle.result())

What was submitted is durable when ``submit`` returns. Opening a store takes up whatever it holds, in five steps for each
execution: load its metadata; load its journal; make a context that ``is_replaying``; run the code (what is in the journal is
returned, what is not is done and recorded); go on. Timers that fell due meanwhile fire at once.

What it can be asked is in `durable.desk.face.Face`. Read next: `durable.runtime.desk`, how it is answered, and
`durable.runtime.engine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from durable.desk.face import Face
from durable.desk.listing import Executions
from durable.errors import StoreError
from durable.journal import keys
from durable.journal.entries import WorkflowMetadata
from durable.ports import Clock, Entropy, Log
from durable.runtime import admin
from durable.runtime.config import NodeConfig
from durable.runtime.desk import LocalDesk
from durable.runtime.engine import Engine
from durable.storage.log import LocalLog
from durable.storage.node import NodeStorage
from durable.workflows.definition import REGISTRY, Function, Workflow
from durable.world import SystemClock, SystemEntropy


class NodeRuntime(Face):
    """Runs workflows in this process, on the event loop in which it was made. Made by `make` or `durable.open`."""

    def __init__(self, engine: Engine, owned_log: LocalLog | None, owns_store: bool) -> None:
        super().__init__(LocalDesk(engine), engine.entropy, engine.config.value_bytes_max)
        self._engine = engine
        self._owned_log = owned_log
        self._owns_store = owns_store

    @classmethod
    async def make(
        cls,
        storage: NodeStorage,
        config: NodeConfig | None = None,
        *,
        log: Log | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        owns_store: bool = False,
    ) -> NodeRuntime:
        """A runtime on this storage, with its unfinished executions taken up.

        Raises `StoreError` when the store is that of a cluster's node, and no ``log`` is given.

        ``log`` says what durable means: by default an fsync of this store. ``clock`` and ``entropy`` are the world: by
        default the real one, or that of an event loop which simulates its time (`durable.testing.run`).
        """
        config = config or NodeConfig()
        if log is None and storage.is_clusters():
            raise StoreError(
                "the store is that of a node of a cluster. Run without the others, its executions would run here and there, and "
                "the others would never hear of it. Nothing was touched. `durable node` runs it, `durable list --store` reads it; "
                "when most of the cluster's disks are lost, `durable recover` makes a store of its own of those that are left."
            )
        owned = None if log is not None else LocalLog(storage.store)
        simulated = getattr(asyncio.get_running_loop(), "durable_world", None)
        clock = clock or (simulated.clock if simulated else SystemClock(at_least_ms=storage.old_clock_ms()))
        entropy = entropy or (simulated.entropy if simulated else SystemEntropy())
        engine = Engine(storage, config, log or owned, clock, entropy)  # type: ignore[arg-type]
        if simulated:
            simulated.prepare(engine)
        runtime = cls(engine, owned, owns_store)
        clock.at_least(max(map(storage.clock_ms, range(keys.PARTITIONS))))  # one process had them all, and one clock
        for partition in range(keys.PARTITIONS):
            engine.adopt(partition)
        return runtime

    async def __aenter__(self) -> NodeRuntime:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop; what was accepted goes on when the store is opened again. Functions under way are cancelled."""
        await self._engine.close()
        if self._owned_log is not None:
            self._owned_log.close()
        if self._owns_store:
            self._engine.storage.store.close()

    @property
    def node_id(self) -> str:
        return self._engine.config.node_id

    @property
    def counts(self) -> Mapping[str, int]:
        """What is in memory now: executions, those that run, those that queue for a slot, threads that nobody waits for."""
        engine = self._engine
        return {
            "in_memory": len(engine.live),
            "running": engine.scheduler.running,
            "queued": engine.scheduler.queued,
            "stuck_threads": engine.runner.threads.stuck,
            "syncs": self._owned_log.syncs if self._owned_log else 0,
            "rows_written": engine.batches.rows_written,
        }

    def register(self, item: Workflow[Any, Any] | Function[..., Any] | str) -> None:
        """Say that this code may run here. Decorating registers already; this checks a name, or registers a late import."""
        if isinstance(item, str):
            if item not in REGISTRY.functions:
                REGISTRY.workflow(item)
        else:
            REGISTRY.add(item)

    # --- for reprs

    def _glance(self, workflow_id: str) -> WorkflowMetadata | str:
        """What a repr shows of an execution, without waiting for the log; or in words why there is nothing to show."""
        if self._engine.closed or self._engine.failure is not None:
            return "its runtime is closed"
        row = self._engine.storage.status(workflow_id)
        return "no such execution" if row is None else admin.metadata(self._engine, workflow_id, row)

    def _overview(self, limit: int) -> tuple[str, Executions, bool]:
        """What a repr shows of this node: open or not, the first executions, and whether there are more."""
        engine = self._engine
        if engine.closed or engine.failure is not None:
            return ("stopped" if engine.failure else "closed"), Executions(), False
        found = admin.list_executions(engine, list(engine.here), None, None, limit + 1, None)
        return "open", Executions(found[:limit]), len(found) > limit

    def __repr__(self) -> str:
        state = "stopped" if self._engine.failure else "closed" if self._engine.closed else "open"
        return f"<NodeRuntime {self.node_id} {state}, {len(self._engine.live)} executions in memory>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)
