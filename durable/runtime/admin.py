"""Around the engine: what executions there are, and deleting and exporting them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from durable.errors import JournalCorrupted, WorkflowNotFound
from durable.journal import keys
from durable.journal.entries import Status, StatusRow, WorkflowMetadata
from durable.runtime import births
from durable.runtime.engine import Engine
from durable.storage.node import NodeStorage

log = logging.getLogger("durable")


def metadata(engine: Engine, workflow_id: str, row: StatusRow) -> WorkflowMetadata:
    """What the store says, with the status that an execution in memory has now, and the owner: who answers."""
    found = engine.storage.metadata(workflow_id, row)
    execution = engine.live.get(workflow_id)
    status = found.status
    if execution is not None and not status.finished and not execution.status.finished:
        status = execution.status
    epoch = engine.epoch(keys.partition_of(workflow_id))
    return msgspec.structs.replace(found, status=status, owner=engine.config.node_id, epoch=epoch)


def list_executions(
    engine: Engine,
    partitions: Sequence[int],
    status: Status | None,
    workflow: str | None,
    limit: int,
    after: str | None,
) -> list[WorkflowMetadata]:
    found: list[WorkflowMetadata] = []
    for workflow_id, row in engine.storage.statuses(after, partitions):
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


def purge(engine: Engine, partitions: Sequence[int], older_than_s: float, request_id: str) -> list[str]:
    """Delete them in the open batches of their partitions; their ids, and those that the same request deleted before."""
    purged: list[str] = []
    for partition in partitions:
        births.forget_the_long_purged(engine, partition)
        purged += engine.storage.purged_by(partition, request_id)
    for workflow_id, row in list(engine.storage.statuses(None, partitions)):
        partition = keys.partition_of(workflow_id)
        before_ms = engine.now_ms(partition) - round(older_than_s * 1000)
        if row.status.finished and row.updated_at <= before_ms and workflow_id not in engine.live:
            if engine.storage.has_any(keys.of(partition, keys.OUTBOX, workflow_id)):
                continue  # its result, or a message of its, has not arrived yet
            births.bury(engine, workflow_id, request_id)
            purged.append(workflow_id)
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
