"""`NodeRuntime`: durable workflows in this process.

    async with durable.open("orders.db") as runtime:
        handle = await runtime.submit(process_order, order, workflow_id="order-123")
        print(await handle.result())

What was submitted is durable when ``submit`` returns. Opening a store takes up whatever it holds, in five steps for each
execution: load its metadata; load its journal; make a context that ``is_replaying``; run the code (what is in the journal is
returned, what is not is done and recorded); go on. Timers that fell due meanwhile fire at once.

Read next: `durable.runtime.engine`, how that is done.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar, overload

from durable.errors import (
    DurableError,
    Overloaded,
    WorkflowAlreadyExists,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
)
from durable.journal import failures, keys
from durable.journal.codec import ANY, MISSING, ValueType, encode_value
from durable.journal.entries import CANCEL, Start, Status, StatusRow, WorkflowMetadata
from durable.journal.journal import Journal, entries
from durable.ports import Clock, Entropy, Log
from durable.runtime import admin
from durable.runtime.answer import Answer
from durable.runtime.config import NodeConfig
from durable.runtime.engine import Engine
from durable.runtime.execution import Execution
from durable.runtime.handle import WorkflowHandle
from durable.runtime.transitions import Event
from durable.storage.log import LocalLog
from durable.storage.node import NodeStorage
from durable.workflows.context import seconds
from durable.workflows.definition import REGISTRY, Function, Workflow
from durable.world import SystemClock, SystemEntropy

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
TOMBSTONE_MS = 3_600_000
"""How long a purged id stays taken: longer than any caller repeats a submit whose answer it did not get."""


class NodeRuntime:
    """Runs workflows in this process, on the event loop in which it was made. Made by `make` or `durable.open`."""

    def __init__(self, engine: Engine, owned_log: LocalLog | None, owns_store: bool) -> None:
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

        ``log`` says what durable means: by default an fsync of this store. ``clock`` and ``entropy`` are the world: by
        default the real one, or that of an event loop which simulates its time (`durable.testing.run`).
        """
        config = config or NodeConfig()
        owned = None if log is not None else LocalLog(storage.store)
        simulated = getattr(asyncio.get_running_loop(), "durable_world", None)
        clock = clock or (simulated.clock if simulated else SystemClock(at_least_ms=storage.clock_ms()))
        entropy = entropy or (simulated.entropy if simulated else SystemEntropy())
        engine = Engine(storage, config, log or owned, clock, entropy)  # type: ignore[arg-type]
        if simulated:
            simulated.prepare(engine)
        runtime = cls(engine, owned, owns_store)
        admin.recover(engine)
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

    # --- registering and submitting

    def register(self, item: Workflow[Any, Any] | Function[..., Any] | str) -> None:
        """Say that this code may run here. Decorating registers already; this checks a name, or registers a late import."""
        if isinstance(item, str):
            if item not in REGISTRY.functions:
                REGISTRY.workflow(item)
        else:
            REGISTRY.add(item)

    @overload
    async def submit(
        self, workflow: Workflow[I, R], input: I = ..., workflow_id: str | None = None
    ) -> WorkflowHandle[R]: ...
    @overload
    async def submit(self, workflow: str, input: Any = ..., workflow_id: str | None = None) -> WorkflowHandle[Any]: ...
    async def submit(
        self, workflow: Workflow[Any, Any] | str, input: Any = MISSING, workflow_id: str | None = None
    ) -> WorkflowHandle[Any]:
        """Start an execution; returns when it is durable.

        With an id that exists, the same workflow and input give the existing execution, so a submit can be repeated;
        another workflow or input raises `WorkflowAlreadyExists`. Raises `Overloaded` past ``max_pending``, `NotRegistered`,
        and `EncodingError` for an input that cannot be recorded; then nothing was accepted.
        """
        engine = self._engine
        engine.check_open()
        definition = REGISTRY.workflow(workflow)
        input_json = definition.encode_input(input, engine.config.value_bytes_max)
        if workflow_id is None:
            workflow_id = f"{definition.name}-{engine.entropy.random_bytes(8).hex()}"
        keys.id_bytes(workflow_id)
        handle: WorkflowHandle[Any] = WorkflowHandle(self, workflow_id, definition.output_type)
        existing = self._start_of(workflow_id)
        if existing is not None:
            _check_same(workflow_id, existing, definition.name, input_json)
        else:
            self._check_tombstone(workflow_id)
            if len(engine.live) >= engine.config.max_pending:
                raise Overloaded(
                    f"{len(engine.live):,} executions are accepted and not finished, and max_pending is "
                    f"{engine.config.max_pending:,}. Nothing was accepted: submit again later."
                )
            engine.create(engine.new_start(definition.name, definition.version, input_json, workflow_id), workflow_id)
        await self._barrier(workflow_id)
        return handle

    def handle(self, workflow_id: str) -> WorkflowHandle[Any]:
        """A handle of an execution that may or may not exist; asking it raises `WorkflowNotFound` if it does not."""
        keys.id_bytes(workflow_id)
        return WorkflowHandle(self, workflow_id, ANY)

    # --- looking around

    async def list(
        self,
        *,
        status: Status | str | None = None,
        workflow: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> admin.Executions:
        """Executions by partition and id, at most ``limit``; ``after`` goes on behind the last id of the page before."""
        self._engine.check_open()
        await self._engine.batches.drained()
        return admin.list_executions(self._engine, Status(status) if status else None, workflow, limit, after)

    async def purge(self, older_than: float | timedelta = 0.0) -> builtins.list[str]:
        """Delete finished executions that ended more than ``older_than`` seconds ago. Returns (and logs) their ids.

        A purged id stays taken for an hour, so that a repeated submit does not run again what was done.
        """
        self._engine.check_open()
        await self._engine.batches.drained()
        return await admin.purge(self._engine, seconds(older_than))

    async def export(self, workflow_id: str) -> str:
        """The execution's current run as JSON lines, for `durable.testing` and ``durable replay``."""
        await self._barrier(workflow_id)
        return admin.export(self._engine.storage, workflow_id)

    # --- behind the handles

    async def _barrier(self, workflow_id: str) -> None:
        """Return when everything that was recorded of this execution is durable."""
        self._engine.check_open()
        await self._engine.batches.barrier(keys.partition_of(workflow_id))

    def _start_of(self, workflow_id: str) -> Start | None:
        execution = self._engine.live.get(workflow_id)
        if execution is not None and execution.start is not None:
            return execution.start
        row = self._engine.storage.status(workflow_id)
        return None if row is None else self._engine.storage.start(workflow_id, row)

    def _check_tombstone(self, workflow_id: str) -> None:
        key = keys.of(keys.partition_of(workflow_id), keys.TOMBSTONE, workflow_id)
        purged_ms = self._engine.storage.number_at(key)
        if purged_ms is not None and self._engine.clock.now_ms() - purged_ms < TOMBSTONE_MS:
            raise WorkflowAlreadyExists(
                f"{workflow_id!r} has finished and was purged less than an hour ago: a submit that is repeated must not run "
                "it again. Nothing was started; use another id."
            )

    async def _status_row(self, workflow_id: str) -> StatusRow:
        """Where it stands. What can be read may not be durable yet: so it is read, and told when it is."""
        await self._barrier(workflow_id)
        row = self._engine.storage.status(workflow_id)
        await self._barrier(workflow_id)
        if row is None:
            raise WorkflowNotFound(f"there is no execution with the id {workflow_id!r}")
        return row

    async def _metadata(self, workflow_id: str) -> WorkflowMetadata:
        row = await self._status_row(workflow_id)
        return admin.metadata(self._engine, workflow_id, row)

    def _glance(self, workflow_id: str) -> WorkflowMetadata | str:
        """What a repr shows of an execution, without waiting for the log; or in words why there is nothing to show."""
        if self._engine.closed or self._engine.failure is not None:
            return "its runtime is closed"
        row = self._engine.storage.status(workflow_id)
        return "no such execution" if row is None else admin.metadata(self._engine, workflow_id, row)

    def _overview(self, limit: int) -> tuple[str, admin.Executions, bool]:
        """What a repr shows of this node: open or not, the first executions, and whether there are more."""
        engine = self._engine
        if engine.closed or engine.failure is not None:
            return ("stopped" if engine.failure else "closed"), admin.Executions(), False
        found = admin.list_executions(engine, None, None, limit + 1, None)
        return "open", admin.Executions(found[:limit]), len(found) > limit

    async def _journal(self, workflow_id: str) -> Journal:
        row = await self._status_row(workflow_id)
        storage = self._engine.storage
        rows = storage.rows(workflow_id, row.incarnation, row.run)
        attempts = storage.attempts(workflow_id, row.incarnation, row.run)
        await self._barrier(workflow_id)
        return entries(rows, attempts)

    async def _result(self, workflow_id: str, result_type: ValueType[Any], timeout: float | timedelta | None) -> Any:
        engine = self._engine
        engine.check_open()
        waiter = engine.waiter(workflow_id)  # first: it may end while this asks where it stands
        try:
            row = await self._status_row(workflow_id)
            execution = engine.live.get(workflow_id)
            stopped = row.status is Status.DIVERGED and (execution is None or execution.status is Status.DIVERGED)
            if not row.status.finished and not stopped:
                row = await asyncio.wait_for(waiter, None if timeout is None else seconds(timeout))
        except TimeoutError:
            raise TimeoutError(f"{workflow_id!r} has not finished within {timeout}; it goes on") from None
        finally:
            engine.forget_waiter(workflow_id, waiter)
        return _outcome(workflow_id, row, result_type)

    async def _send(self, workflow_id: str, channel: str, value: Any, key: str | None) -> None:
        engine = self._engine
        engine.check_open()
        value_json = encode_value(value, f"message to {workflow_id}/{channel}", engine.config.value_bytes_max)
        receiver = engine.find(workflow_id)
        request = keys.of(keys.partition_of(workflow_id), keys.REQUEST, workflow_id) + (key or "").encode()
        if key is not None and (engine.storage.has(request) or (receiver is not None and request in receiver.requests)):
            await self._barrier(workflow_id)  # also when the receiver has finished since: this one it had
            return
        refused = engine.post.accept(receiver, workflow_id, channel, value_json, "")
        if refused is not None:
            raise refused
        if receiver is not None and key is not None:
            receiver.requests.add(request)
            engine.batch(receiver).writes.append((request, b""))
        await self._barrier(workflow_id)

    async def _found(self, workflow_id: str) -> Execution | None:
        """The execution, None when it has finished. Raises `WorkflowNotFound`."""
        self._engine.check_open()
        execution = self._engine.find(workflow_id)
        if execution is None:
            await self._status_row(workflow_id)
        return execution

    async def _cancel(self, workflow_id: str) -> None:
        execution = await self._found(workflow_id)
        if execution is None:
            return
        engine = self._engine
        unregistered = execution.machine is None and execution.workflow_name not in REGISTRY.workflows
        if execution.status is Status.DIVERGED or unregistered:
            engine.end_without_code(execution)
            await self._barrier(workflow_id)
            return
        recorded = engine.batches.promise()
        engine.answer(execution, Answer(CANCEL, recorded=lambda: engine.batches.keep(recorded)))
        if execution.paused:
            await self._resume(workflow_id)
        await recorded

    async def _pause(self, workflow_id: str) -> None:
        execution = await self._found(workflow_id)
        if execution is None:
            raise WorkflowError(f"{workflow_id!r} has finished: there is nothing to pause")
        if not execution.paused:
            engine = self._engine
            if execution.status is Status.DIVERGED:
                raise WorkflowError(f"{workflow_id!r} has stopped because its code does not match its journal")
            execution.paused = True
            execution.move(Event.PAUSE)
            batch = engine.put_down(execution)
            execution.status_write(batch, engine.clock.now_ms())
            execution.set_active(batch, True)
            engine.scheduler.forget(execution)
            engine.scheduler.release(execution)
        await self._barrier(workflow_id)

    async def _resume(self, workflow_id: str) -> None:
        execution = await self._found(workflow_id)
        if execution is not None and execution.paused:
            engine = self._engine
            execution.paused = False
            execution.move(Event.RESUME)
            execution.status_write(engine.batch(execution), engine.clock.now_ms())
            engine.batches.after(execution.partition, engine.scheduler.wake, execution)
        await self._barrier(workflow_id)

    async def _fork(self, handle: WorkflowHandle[R], at: int, workflow_id: str | None) -> WorkflowHandle[R]:
        row = await self._status_row(handle.workflow_id)
        new_id = workflow_id or f"{handle.workflow_id}.fork-{self._engine.entropy.random_bytes(4).hex()}"
        keys.id_bytes(new_id)
        if self._start_of(new_id) is not None:
            raise WorkflowAlreadyExists(f"the id {new_id!r} is taken; nothing was forked")
        await admin.fork(self._engine, handle.workflow_id, row, at, new_id)
        return WorkflowHandle(self, new_id, handle._result_type)

    def __repr__(self) -> str:
        state = "stopped" if self._engine.failure else "closed" if self._engine.closed else "open"
        return f"<NodeRuntime {self.node_id} {state}, {len(self._engine.live)} executions in memory>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)


def _check_same(workflow_id: str, existing: Start, workflow: str, input_json: bytes) -> None:
    if existing.workflow != workflow:
        raise WorkflowAlreadyExists(
            f"{workflow_id!r} is an execution of workflow {existing.workflow!r}, not of {workflow!r}. Nothing was started; use "
            "another id."
        )
    if existing.run == 0 and existing.input_json != input_json:
        raise WorkflowAlreadyExists(
            f"{workflow_id!r} was started with another input ({existing.input_json[:80].decode(errors='replace')}). Nothing "
            "was started; use another id."
        )


def _outcome(workflow_id: str, row: StatusRow, result_type: ValueType[Any]) -> Any:
    """The result, or the exception, that a finished (or stopped) execution has for whoever asks."""
    if row.status is Status.COMPLETED:
        return result_type.decode(row.output_json or b"null", f"the result of {workflow_id}")
    if row.status is Status.CANCELLED:
        raise WorkflowCancelled(f"{workflow_id!r} was cancelled")
    assert row.error is not None
    try:
        cause: Exception = failures.rebuild(row.error)
    except DurableError as problem:
        cause = problem
    if row.status is Status.DIVERGED:
        raise cause
    raise WorkflowFailed(f"{workflow_id!r} failed: {row.error.error_type}: {row.error.message}") from cause
