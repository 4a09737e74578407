"""Around the engine: recovering a store, listing, purging, exporting and forking executions."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from durable.errors import JournalCorrupted, WorkflowError, WorkflowNotFound
from durable.journal import keys
from durable.journal.codec import CorruptRow, pack, unpack_row
from durable.journal.entries import Command, Row, Start, Status, StatusRow, WorkflowMetadata
from durable.journal.journal import decode_rows
from durable.runtime.engine import Engine
from durable.runtime.execution import child_base
from durable.runtime.transitions import Event
from durable.storage.node import NodeStorage, journal_prefix

log = logging.getLogger("durable")


def recover(engine: Engine) -> None:
    """Take up what a store holds: executions with work, envelopes on their way, timers that are due or soon will be."""
    storage = engine.storage
    for partition in range(keys.PARTITIONS):
        for workflow_id in list(storage.active(partition)):
            try:
                execution = engine.find(workflow_id)
            except JournalCorrupted as error:
                log.error("execution %s cannot be recovered: %s", workflow_id, error)
                continue
            if execution is None or execution.paused:
                continue
            execution.active_row = True
            if execution.status is Status.DIVERGED:  # perhaps this process has the code that matches
                execution.move(Event.NEW_CODE)
                execution.error = None
            engine.scheduler.wake(execution)
    for partition in range(keys.PARTITIONS):
        for key, envelope in list(storage.outbox(partition)):
            engine.loop.call_soon(engine.deliver, key, envelope)
    engine.alarm.start()


def metadata(engine: Engine, workflow_id: str, row: StatusRow) -> WorkflowMetadata:
    """What the store says, with the status that an execution in memory has now."""
    found = engine.storage.metadata(workflow_id, row)
    execution = engine.live.get(workflow_id)
    if execution is not None and not found.status.finished and not execution.status.finished:
        found = msgspec.structs.replace(found, status=execution.status)
    return found


class Executions(list[WorkflowMetadata]):
    """What ``runtime.list`` gives: a list, which a notebook shows as a table."""

    def __str__(self) -> str:
        from durable.notebook.tables import show

        return str(show(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # IPython would print every list alike


def list_executions(
    engine: Engine, status: Status | None, workflow: str | None, limit: int, after: str | None
) -> Executions:
    found = Executions()
    for workflow_id, row in engine.storage.statuses(after):
        if len(found) >= limit:
            break
        execution = engine.live.get(workflow_id)
        now = execution.status if execution is not None else row.status
        if (status is None or now is status) and (workflow is None or row.workflow == workflow):
            try:
                found.append(metadata(engine, workflow_id, row))
            except JournalCorrupted as error:
                log.error("execution %s is not listed: %s", workflow_id, error)
    return found


async def purge(engine: Engine, older_than_s: float) -> list[str]:
    before_ms = engine.clock.now_ms() - round(older_than_s * 1000)
    purged: list[str] = []
    for workflow_id, row in list(engine.storage.statuses()):
        if row.status.finished and row.updated_at <= before_ms and workflow_id not in engine.live:
            partition = keys.partition_of(workflow_id)
            if engine.storage.has_any(keys.of(partition, keys.OUTBOX, workflow_id)):
                continue  # its result, or a message of its, has not arrived yet
            batch = engine.batches.of(partition)
            batch.writes.extend((key, None) for key in engine.storage.all_keys(workflow_id))
            tombstone = keys.of(partition, keys.TOMBSTONE, workflow_id)
            batch.writes.append((tombstone, keys.number(engine.clock.now_ms(), 8)))
            purged.append(workflow_id)
    await engine.batches.drained()
    if purged:
        log.info("purged %d executions: %s", len(purged), ", ".join(purged))
    return purged


def export(storage: NodeStorage, workflow_id: str) -> str:
    """One JSON object a line: a header with the metadata, then every row of the journal."""
    row = storage.status(workflow_id)
    if row is None:
        raise WorkflowNotFound(f"there is no execution with the id {workflow_id!r}")
    header = {"durable_export": 1, "workflow_id": workflow_id, "metadata": storage.metadata(workflow_id, row)}
    rows = storage.rows(workflow_id, row.incarnation, row.run)
    return "".join(msgspec.json.encode(line).decode() + "\n" for line in [header, *rows])


_ROW: msgspec.json.Decoder[Row] = msgspec.json.Decoder(Row)


def parse_export(text: str) -> tuple[dict[str, Any], list[Row]]:
    """The header and the rows of an `export`. Raises `WorkflowError` for a text that is none."""
    try:
        first, *rest = text.strip().splitlines()
        header = msgspec.json.decode(first, type=dict[str, Any])
        if header.get("durable_export") != 1:
            raise WorkflowError("this is no export of a durable execution (its first line lacks durable_export: 1)")
        rows = [_ROW.decode(line) for line in rest]
    except (msgspec.MsgspecError, ValueError) as error:
        raise WorkflowError(f"this is no export of a durable execution: {error}") from error
    if not rows or not isinstance(rows[0], Start):
        raise WorkflowError("this export has no start row")
    return header, rows


def _rows_before(storage: NodeStorage, workflow_id: str, status: StatusRow, at: int) -> list[Row]:
    """The rows before command ``at``. What stands behind is not read: a journal may be forked before a corrupt entry."""
    raw = storage.raw_rows(workflow_id, status.incarnation, status.run)
    rows: list[Row] = []
    commands = 0
    for data in raw:
        try:
            row = unpack_row(data)
        except CorruptRow:
            if commands < at or not rows:
                decode_rows(workflow_id, raw)  # raises, and names the row
            return rows
        if isinstance(row, Command):
            if commands == at:
                return rows
            commands += 1
        rows.append(row)
    if not 0 <= at <= commands:
        raise WorkflowError(
            f"{workflow_id!r} has {commands} operations; it can be forked at 0 to {commands}, not at {at}. Nothing was forked."
        )
    return rows


async def fork(engine: Engine, workflow_id: str, status: StatusRow, at: int, new_id: str) -> None:
    """Copy the rows before command ``at`` into a new execution, durably, and start it."""
    start, *kept = _rows_before(engine.storage, workflow_id, status, at)
    assert isinstance(start, Start)
    incarnation = engine.entropy.random_bytes(8)
    forked = msgspec.structs.replace(
        start,
        incarnation=incarnation,
        run=0,
        parent=None,
        child_base=child_base(new_id, incarnation, 0),
        origin_child_bases=(*(old for old in start.origin_child_bases if old[0] < at), (at, _base_before(start, at))),
        forked_at=at,
    )
    now_ms = engine.clock.now_ms()
    row = StatusRow(start.workflow, Status.PENDING, incarnation, 0, now_ms, now_ms, engine.config.node_id)
    partition = keys.partition_of(new_id)
    prefix = journal_prefix(new_id, incarnation, 0)
    batch = engine.batches.of(partition)
    batch.writes.extend((prefix + keys.number(index), pack(item)) for index, item in enumerate([forked, *kept]))
    batch.writes.append((keys.of(partition, keys.STATUS, new_id), pack(row)))
    batch.writes.append((keys.of(partition, keys.ACTIVE, new_id), b""))
    await engine.batches.barrier(partition)
    execution = engine.find(new_id)
    if execution is not None:
        engine.scheduler.wake(execution)


def _base_before(start: Start, at: int) -> str:
    """With which base the origin made the ids of children just before command ``at``."""
    return next((base for until, base in start.origin_child_bases if at <= until), start.child_base)
