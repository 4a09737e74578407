"""How an execution comes to be: submitted, started by a parent, or forked from another.

Each writes the start row, the status and the active row in one batch, and puts the execution into memory in the same moment:
until that batch is durable, memory is the only place that knows that its id is taken.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from durable.errors import JournalCorrupted, ValueTooLarge
from durable.journal import failures, forks, keys
from durable.journal.codec import pack
from durable.journal.entries import Address, Row, Start, Status, StatusRow
from durable.runtime.batches import PartitionBatch
from durable.runtime.execution import PYTHON, Execution, child_base
from durable.storage.node import TOMBSTONE_MS, journal_prefix
from durable.workflows.machine import Outcome, WorkflowMachine

if TYPE_CHECKING:
    from durable.runtime.engine import Engine

DELETED_BYTES = 64
"""How much longer than its id the key of a row is, at most."""
FORGOTTEN_MS = 7 * 24 * TOMBSTONE_MS
"""How long it is known what a purged id had accepted: longer than any outage that is repaired. A letter is carried until it is
answered, however long its sender's partition, or the answer's way, is cut off.
"""


def new_start(
    engine: Engine, workflow: str, version: int, input_json: bytes, workflow_id: str, parent: Address | None = None
) -> Start:
    incarnation = engine.entropy.random_bytes(8)
    return Start(
        workflow=workflow,
        version=version,
        input_json=input_json,
        timestamp=engine.now_ms(keys.partition_of(workflow_id)),
        python=PYTHON,
        incarnation=incarnation,
        seed=f"{workflow_id}/{incarnation.hex()}/0",
        child_base=child_base(workflow_id, incarnation, 0),
        parent=parent,
    )


def create(engine: Engine, start: Start, workflow_id: str) -> Execution:
    """Accept a new execution: its rows are in the open batch, and it runs as soon as it has a slot."""
    execution = _in_memory(engine, start, workflow_id, start.timestamp)
    batch = engine.batch(execution)
    _unearth(engine, workflow_id, batch)
    execution.append(start, batch)
    execution.status_write(batch, start.timestamp)
    execution.set_active(batch, True)
    engine.scheduler.wake(execution)
    return execution


def _in_memory(engine: Engine, start: Start, workflow_id: str, now_ms: int) -> Execution:
    owner = engine.config.node_id
    status = StatusRow(start.workflow, Status.PENDING, start.incarnation, start.run, now_ms, now_ms, owner)
    execution = engine.live[workflow_id] = Execution(workflow_id, status, engine, start)
    return execution


def start_of(engine: Engine, workflow_id: str) -> Start | None:
    """How the execution with this id began, durably or not yet; None when there is none."""
    execution = engine.live.get(workflow_id)
    if execution is not None and execution.start is not None:
        return execution.start
    row = engine.storage.status(workflow_id)
    return None if row is None else engine.storage.start(workflow_id, row)


def has_row(engine: Engine, workflow_id: str) -> bool:
    """Whether an execution of this id is recorded durably, readable or not."""
    return engine.storage.has(keys.of(keys.partition_of(workflow_id), keys.STATUS, workflow_id))


def is_purged(engine: Engine, workflow_id: str) -> bool:
    """Whether an execution of this id finished and was purged so lately that somebody may still repeat its submit."""
    purged_ms = engine.storage.number_at(keys.of(keys.partition_of(workflow_id), keys.TOMBSTONE, workflow_id))
    return purged_ms is not None and engine.now_ms(keys.partition_of(workflow_id)) - purged_ms < TOMBSTONE_MS


def bury(engine: Engine, workflow_id: str, request_id: str) -> None:
    """Purge a finished execution. What it had accepted is known as long as its tombstone: a letter, a request or the start by a
    parent may be repeated, because the answer was lost, and is to be answered as it would have been.

    It has ended for everybody in one piece; its rows, which may be many, go in pieces behind that. Those that a crash leaves over
    belong to an incarnation that nobody asks for any more, and go with the tombstone, or with the next purge of the id.
    """
    partition = keys.partition_of(workflow_id)
    now_ms = engine.now_ms(partition)
    batch = engine.batches.of(partition)
    batch.cut()
    head = engine.storage.all_keys(workflow_id, (keys.STATUS, keys.ACTIVE))
    batch.writes.extend((key, None) for key in head)
    batch.writes.append((keys.of(partition, keys.TOMBSTONE, workflow_id), keys.number(now_ms, 8)))
    batch.writes.append((keys.purge(partition, request_id, workflow_id), pack((now_ms, [workflow_id]))))
    with suppress(JournalCorrupted):  # it may be purged because it cannot be read
        start = start_of(engine, workflow_id)
        if start is not None and start.parent is not None:
            batch.writes.append((parent_key(workflow_id, start.parent), b""))
    batch.cut()
    _delete(batch, [key for key in engine.storage.all_keys(workflow_id) if key not in head])


def _delete(batch: PartitionBatch, known: list[bytes]) -> None:
    """Delete rows of which any may be gone without those behind it."""
    for key in known:
        batch.writes.append((key, None))
        batch.cut()


def parent_key(child_id: str, parent: Address) -> bytes:
    """Where it stands, after a purge, that this operation of its parent had started an execution."""
    return keys.of(keys.partition_of(child_id), keys.REQUEST, child_id) + b"\0started by\0" + pack(parent)


def _unearth(engine: Engine, workflow_id: str, batch: PartitionBatch) -> None:
    """An id that was purged begins again: requests to the old one are none to the new one. Letters are numbered by their senders,
    who may have written to the old one, so these numbers stay.

    The requests may be many, and go in pieces before what the new one writes; the tombstone goes with that, so that whoever
    comes between finds an id that was purged. Who started the old one is forgotten last.
    """
    tombstone = keys.of(keys.partition_of(workflow_id), keys.TOMBSTONE, workflow_id)
    if engine.storage.has(tombstone):
        batch.cut()
        _delete(batch, engine.storage.all_keys(workflow_id, (keys.REQUEST,))[::-1])
        batch.writes.append((tombstone, None))


def forget_the_long_purged(engine: Engine, partition: int) -> None:
    """Tombstones, and what goes with them, when nobody can repeat himself any more; and what was purged by which request."""
    now_ms, storage = engine.now_ms(partition), engine.storage
    gone = [key for key, (at_ms, _) in storage.purges(partition) if now_ms - at_ms >= TOMBSTONE_MS]
    for workflow_id, purged_ms in storage.tombstones(partition):
        if now_ms - purged_ms >= FORGOTTEN_MS and workflow_id not in engine.live and not has_row(engine, workflow_id):
            gone += storage.all_keys(workflow_id, (*keys.OF_ONE_EXECUTION, *keys.OF_ONE_ID, keys.TOMBSTONE))
    if gone:
        batch = engine.batches.of(partition)
        batch.cut()
        _delete(batch, gone)


def fork(engine: Engine, new_id: str, at: int, rows: list[Row], request_key: bytes) -> None:
    """Begin a new execution with the rows of another one before command ``at``; it starts when they are durable."""
    start, *kept = rows
    assert isinstance(start, Start)
    incarnation = engine.entropy.random_bytes(8)
    forked = forks.start_of(start, kept, at, incarnation, child_base(new_id, incarnation, 0))
    packed = [pack(item) for item in (forked, *kept)]
    prefix = journal_prefix(new_id, incarnation, 0)
    size, bytes_max = sum([len(prefix) + 20 + len(data) for data in packed]), engine.log.batch_bytes_max
    if size > bytes_max:
        raise ValueTooLarge(
            f"the rows before entry {at} take {size:,} bytes, and a fork records them at once, of which this node takes "
            f"{bytes_max:,}. Nothing was forked; fork at an earlier entry."
        )
    now_ms = engine.now_ms(keys.partition_of(new_id))
    execution = _in_memory(engine, forked, new_id, now_ms)
    execution.requests.add(request_key)
    batch = execution.parking = engine.batch(execution)  # it is read from its rows, so they must be there
    _unearth(engine, new_id, batch)
    batch.writes.extend((prefix + keys.number(index), data) for index, data in enumerate(packed))
    batch.writes.append((request_key, b""))
    execution.status_write(batch, now_ms)
    execution.set_active(batch, True)
    batch.effects.append((engine.parked, execution, batch))
    batch.effects.append((engine.scheduler.wake, execution))


def next_run(execution: Execution, machine: WorkflowMachine, outcome: Outcome, bytes_max: int) -> Outcome:
    """That the run continues as a new one; or that it has failed, if the new one would begin with more than a log takes at once."""
    carried = [outcome.next_input_json, machine.checkpoint, *machine.state.values()]
    size = sum([len(each) for each in carried if each])
    size += (execution.rows + len(execution.side_keys)) * (len(execution.workflow_id) + DELETED_BYTES)
    if size <= bytes_max:
        return outcome
    problem = ValueTooLarge(
        f"continue_as_new: the input, the last checkpoint and the keyed state take {size:,} bytes with what is deleted, and are "
        f"recorded at once, of which this node takes {bytes_max:,}. Keep large data in a file or an object store and pass its name."
    )
    return Outcome(Status.FAILED, error=failures.record(problem))
