"""`LocalDesk`: the desk of this node's own engine.

Every answer is true and durable when it is given. What was written for a request is waited for at the barrier of its partition.
What is only read is read between two: the first, because what was written before must be seen; the second, because
what can be read may not be durable yet. And whether this node still owns the partition, the log confirms (`Log.confirm`): a node
that was overtaken while it was cut off must not tell yesterday's status, nor that there is nothing to do. What a request writes
proves it by becoming durable, so the log is asked when nothing was written (`LocalDesk._recorded`). On one node that costs
nothing. A final result never changes: only one that is old needs the question (`NodeStorage.final`).

Read next: `durable.runtime.engine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from durable.errors import (
    ClusterError,
    NotOwner,
    OutcomeUnknown,
    Overloaded,
    WorkflowAlreadyExists,
    WorkflowError,
    WorkflowNotFound,
)
from durable.journal import forks, keys
from durable.journal.entries import CANCEL, Attempt, Envelope, Failure, Row, Start, Status, StatusRow, WorkflowMetadata
from durable.runtime import admin, births
from durable.runtime.answer import Answer
from durable.runtime.engine import Engine
from durable.runtime.execution import Execution
from durable.runtime.tenure import Tenure
from durable.runtime.transitions import Event
from durable.workflows.definition import REGISTRY

T = TypeVar("T")


class LocalDesk:
    """Answers for the executions of the partitions that are run here. Implements `durable.desk.desk.Desk`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- new executions

    async def submit(self, workflow: str, version: int | None, input_json: bytes, workflow_id: str) -> None:
        engine = self._engine
        partition = self._check(workflow_id)
        existing = births.start_of(engine, workflow_id)
        if existing is not None:
            problem = _difference(workflow_id, existing, workflow, input_json)
        elif births.is_purged(engine, workflow_id):
            problem = (
                f"{workflow_id!r} has finished and was purged less than an hour ago: a submit that is repeated must not run "
                "it again. Nothing was started; use another id."
            )
        else:
            if version is None:
                version = REGISTRY.workflow(workflow).version
            if len(engine.live) >= engine.config.max_pending:
                raise Overloaded(
                    f"{len(engine.live):,} executions are accepted and not finished, and max_pending is "
                    f"{engine.config.max_pending:,}. Nothing was accepted: submit again later."
                )
            births.create(engine, births.new_start(engine, workflow, version, input_json, workflow_id), workflow_id)
            problem = ""
        if problem:
            await self._settled(partition)
            raise WorkflowAlreadyExists(problem)
        await self._recorded(partition, workflow_id)

    async def rows_before(self, workflow_id: str, at: int) -> list[Row]:
        storage = self._engine.storage

        def read(row: StatusRow) -> list[Row]:
            return forks.rows_before(workflow_id, storage.raw_rows(workflow_id, row.incarnation, row.run), at)

        return await self._read(workflow_id, read)

    async def fork(self, new_id: str, at: int, rows: list[Row], request_id: str) -> None:
        engine = self._engine
        partition = self._check(new_id)
        request = _request_key(partition, new_id, request_id)
        taken = new_id in engine.live or births.has_row(engine, new_id) or births.is_purged(engine, new_id)
        if not (taken and self._is_known(new_id, request)):
            if taken or not rows:
                await self._settled(partition)
                raise WorkflowAlreadyExists(f"the id {new_id!r} is taken; nothing was forked") if taken else _not_found(new_id)
            births.fork(engine, new_id, at, rows, request)
        await self._recorded(partition, new_id)

    # --- looking at one

    async def outcome(self, workflow_id: str, timeout_s: float | None) -> StatusRow | None:
        engine = self._engine
        partition = self._check(workflow_id)
        waiter = engine.waiters.add(workflow_id)  # first: it may end while this asks where it stands
        try:
            await engine.batches.barrier(partition)
            row = engine.storage.status(workflow_id)
            await engine.batches.barrier(partition)
            if row is None:
                await self._settled(partition)
                raise _not_found(workflow_id)
            execution = engine.live.get(workflow_id) or row
            stopped = row.status is execution.status is Status.DIVERGED
            if row.status.finished or stopped:
                if engine.storage.final(workflow_id, engine.clock.now_ms()) is None:
                    await engine.log.confirm(partition)
                return row
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            engine.waiters.forget(workflow_id, waiter)

    async def metadata(self, workflow_id: str) -> WorkflowMetadata:
        return await self._read(workflow_id, lambda row: admin.metadata(self._engine, workflow_id, row))

    async def journal(self, workflow_id: str) -> tuple[list[Row], list[Attempt]]:
        storage = self._engine.storage

        def read(row: StatusRow) -> tuple[list[Row], list[Attempt]]:
            address = workflow_id, row.incarnation, row.run
            return storage.rows(*address), storage.attempts(*address)

        return await self._read(workflow_id, read)

    async def export(self, workflow_id: str) -> str:
        return await self._read(workflow_id, lambda _: admin.export(self._engine.storage, workflow_id))

    # --- telling one

    async def send(self, workflow_id: str, channel: str, value_json: bytes, key: str | None) -> None:
        engine = self._engine
        partition = self._check(workflow_id)
        request = _request_key(partition, workflow_id, key or "")
        if key is None or not self._is_known(workflow_id, request):
            receiver = engine.find(workflow_id)
            refused = engine.post.accept(receiver, workflow_id, channel, value_json, "")
            if refused is not None:
                await self._settled(partition)
                raise refused
            if receiver is not None and key is not None:
                receiver.requests.add(request)
                engine.batch(receiver).writes.append((request, b""))
        await self._recorded(partition, key)

    async def cancel(self, workflow_id: str) -> None:
        engine = self._engine
        partition = self._check(workflow_id)
        execution = await self._found(workflow_id)
        if execution is None:
            await self._recorded(partition, workflow_id)
            return
        recorded = engine.batches.promise(partition)
        engine.answer(execution, Answer(CANCEL, recorded=lambda: engine.batches.keep(recorded)))
        await self._kept(recorded, workflow_id)

    async def pause(self, workflow_id: str) -> None:
        engine = self._engine
        partition = self._check(workflow_id)
        execution = await self._found(workflow_id)
        if execution is None:
            await self._settled(partition)
            raise WorkflowError(f"{workflow_id!r} has finished: there is nothing to pause")
        if not execution.paused:
            if execution.status is Status.DIVERGED:
                await self._settled(partition)
                raise WorkflowError(f"{workflow_id!r} has stopped because its code does not match its journal")
            execution.paused = True
            execution.move(Event.PAUSE)
            batch = engine.put_down(execution)
            execution.status_write(batch, execution.now_ms())
            execution.set_active(batch, True)
            engine.scheduler.forget(execution)
            engine.scheduler.release(execution)
        await self._recorded(partition, workflow_id)

    async def resume(self, workflow_id: str) -> None:
        engine = self._engine
        partition = self._check(workflow_id)
        execution = await self._found(workflow_id)
        if execution is not None and execution.paused:
            execution.paused = False
            execution.move(Event.RESUME)
            execution.status_write(engine.batch(execution), execution.now_ms())
            engine.batches.after(partition, engine.scheduler.wake, execution)
        await self._recorded(partition, workflow_id)

    async def post(self, envelope: Envelope) -> Failure | None:
        return await self._engine.post.receive(envelope)

    # --- many

    async def listing(
        self,
        partitions: Sequence[int] | None,
        status: Status | None,
        workflow: str | None,
        limit: int,
        after: str | None,
    ) -> list[WorkflowMetadata]:
        engine = self._engine
        tenures = await self._settle_all(partitions)
        found = admin.list_executions(engine, list(tenures), status, workflow, limit, after)
        await engine.batches.barriers(tenures)
        lost = await self._overtaken(tenures)
        if partitions is not None:
            for error in lost.values():
                raise error
        return [one for one in found if keys.partition_of(one.workflow_id) not in lost] if lost else found

    async def purge(self, partitions: Sequence[int] | None, older_than_s: float, request_id: str) -> list[str]:
        engine = self._engine
        tenures = await self._settle_all(partitions)
        purged = admin.purge(engine, list(tenures), older_than_s, request_id)
        unproven = {each: tenure for each, tenure in tenures.items() if each not in engine.batches.opened()}
        await engine.batches.barriers(tenures)
        lost = self._ended(tenures) | await self._overtaken(unproven)
        if partitions is not None:
            for error in lost.values():
                raise error
        return [each for each in purged if keys.partition_of(each) not in lost]

    # ---

    def _check(self, workflow_id: str) -> int:
        self._engine.check_open()
        partition = self._engine.tenures.check(workflow_id)
        self._engine.log.check(partition)
        self._engine.batches.cut(partition)
        return partition

    async def _settle_all(self, partitions: Sequence[int] | None) -> dict[int, Tenure]:
        """These partitions, or all that are here, with all that was written to them durable. Raises `NotOwner`."""
        engine = self._engine
        engine.check_open()
        wanted = sorted(engine.here if partitions is None else partitions)
        await engine.batches.barriers(wanted)
        if partitions is not None:
            engine.tenures.check_all(wanted)
        return {each: engine.here[each] for each in wanted if each in engine.here}

    def _is_known(self, workflow_id: str, request: bytes) -> bool:
        """Whether this request was accepted: durably, or in this moment."""
        execution = self._engine.live.get(workflow_id)
        if execution is not None and request in execution.requests:
            return True
        if execution is not None and not births.has_row(self._engine, workflow_id):
            return False  # it has only just begun: what is stored was accepted by one of this id that was purged
        return self._engine.storage.has(request)

    async def _recorded(self, partition: int, request_id: str | None) -> None:
        """Return when all that was written until now is durable, and certain to be the truth: what has yet to leave proves it."""
        proven = partition in self._engine.batches.opened()
        await self._kept(self._engine.batches.barrier(partition), request_id)
        if not proven:
            await self._engine.log.confirm(partition)

    async def _kept(self, recorded: asyncio.Future[None], request_id: str | None) -> None:
        try:
            await recorded
        except ClusterError as error:
            again = "" if request_id is None else f" Ask again with the same id, {request_id!r}: it is recognised."
            raise OutcomeUnknown(
                f"it was written, and then this node lost the partition: it may take effect, or not. Nothing that was "
                f"acknowledged is lost.{again} ({error})",
                request_id,
            ) from error

    async def _settled(self, partition: int) -> None:
        """Return when what was read until now is durable, and certain to be the truth."""
        await self._engine.batches.barrier(partition)
        await self._engine.log.confirm(partition)

    def _ended(self, tenures: dict[int, Tenure]) -> dict[int, NotOwner]:
        """Which of them are over, also if the partition has come back: what was read or written in between is another's."""
        here = self._engine.here
        return {each: NotOwner(each) for each, tenure in tenures.items() if here.get(each) is not tenure}

    async def _overtaken(self, tenures: dict[int, Tenure]) -> dict[int, NotOwner]:
        """Which of them another node owns meanwhile. All are asked at once. Raises what else the log says."""
        log = self._engine.log
        lost = self._ended(tenures)
        asked = {partition: log.confirm(partition) for partition in tenures if partition not in lost}
        unconfirmed = [future for future in asked.values() if not future.done()]
        if unconfirmed:
            await asyncio.wait(unconfirmed)
        errors = {partition: future.exception() for partition, future in asked.items()}
        for partition, error in errors.items():
            if isinstance(error, NotOwner):
                lost[partition] = error
            elif error is not None:
                raise error
        return lost

    async def _read(self, workflow_id: str, read: Callable[[StatusRow], T]) -> T:
        """What ``read`` makes of the status row and of the rows behind it: all of one moment."""
        partition = self._check(workflow_id)
        await self._engine.batches.barrier(partition)
        try:
            row = self._engine.storage.status(workflow_id)
            if row is None:
                raise _not_found(workflow_id)
            return read(row)
        finally:
            await self._settled(partition)

    async def _found(self, workflow_id: str) -> Execution | None:
        """The execution, None when it has finished. Raises `WorkflowNotFound`."""
        execution = self._engine.find(workflow_id)
        if execution is None:
            await self._read(workflow_id, lambda row: row)
        return execution


def _request_key(partition: int, workflow_id: str, key: str) -> bytes:
    return keys.of(partition, keys.REQUEST, workflow_id) + key.encode()


def _not_found(workflow_id: str) -> WorkflowNotFound:
    return WorkflowNotFound(f"there is no execution with the id {workflow_id!r}")


def _difference(workflow_id: str, existing: Start, workflow: str, input_json: bytes) -> str:
    """What keeps a submit from being a repetition of the one that began an execution; empty when nothing does."""
    if existing.workflow != workflow:
        return (
            f"{workflow_id!r} is an execution of workflow {existing.workflow!r}, not of {workflow!r}. Nothing was started; use "
            "another id."
        )
    if existing.run == 0 and existing.input_json != input_json:
        return (
            f"{workflow_id!r} was started with another input ({existing.input_json[:80].decode(errors='replace')}). Nothing "
            "was started; use another id."
        )
    return ""
