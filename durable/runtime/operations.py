"""What each kind of operation writes beyond its command, and what it asks of the node: `BEGIN`.

======================= ============================= =========================================================
operation               writes                        when that is durable
======================= ============================= =========================================================
CALL, SIDE_EFFECT       nothing                       the body is run
SLEEP                   a timer row                   the timer is armed, if it is due soon
RECEIVE                 nothing                       nothing: it waits for a message
SEND, CHILD             an envelope in the outbox     the envelope is delivered
======================= ============================= =========================================================

`take_up` does the same for an operation whose answer was not recorded when a journal is loaded again, and `abandon` takes
back what can be taken back when nobody waits any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable.errors import OutcomeUnknown
from durable.journal import failures, keys
from durable.journal.codec import ANY, pack
from durable.journal.entries import Attempt, Command, Completion, EntryType, Envelope, EnvelopeKind
from durable.runtime.answer import Answer
from durable.runtime.batches import PartitionBatch
from durable.storage.node import NodeStorage
from durable.workflows.context import SleepUntil
from durable.workflows.machine import Pending, is_attached_child

if TYPE_CHECKING:
    from durable.runtime.execution import Execution


def take_up(
    execution: Execution, command: Command, pending: Pending, storage: NodeStorage, batch: PartitionBatch, now_ms: int
) -> None:
    """An operation that the journal has and whose answer it lacks: go on with it."""
    kind, number = command.entry_type, pending.sequence_number
    if number in execution.calls:  # it was paused, and this call still runs: its answer comes, and a retry is of this operation
        execution.calls[number].operation = execution.working[number] = pending
        return
    last, once = execution.attempts.get(number), kind is EntryType.CALL and pending.payload.function.once
    if kind is EntryType.CALL and last is not None and _waits_for_retry(execution, last, once, storage, now_ms):
        back_off(execution, number, last.next_at_ms, batch)
    elif once:
        unknown = OutcomeUnknown(
            f"{command.name} (entry {number}) was started and its result was never recorded: the process died, or this "
            "node lost it. It may have happened or not. It is declared once=True, so it is not run again."
        )
        execution.inbox.append(Answer(number, error=failures.record(unknown)))
    elif kind in (EntryType.CALL, EntryType.SIDE_EFFECT, EntryType.SLEEP, EntryType.RECEIVE):
        BEGIN[kind](execution, command, pending, batch)
    elif kind is EntryType.SEND and not storage.has(_outbox_key(execution, EnvelopeKind.SEND, number)):
        begin_send(execution, command, pending, batch)  # a fork: what its origin sent was not sent by it
    elif kind is EntryType.CHILD and execution.start is not None and number < execution.start.forked_at:
        begin_child(execution, command, pending, batch)
    # other SENDs and CHILDs are under way: their envelopes are in the outbox, or were accepted


def _waits_for_retry(execution: Execution, last: Attempt, once: bool, storage: NodeStorage, now_ms: int) -> bool:
    """Whether the next attempt has not begun: it is not due, or the timer that begins it has not fired. With ``once`` the timer
    alone tells, and there is one for every wait: this clock may be behind the one by which the attempt began."""
    number, fire_at_ms = last.sequence_number, last.next_at_ms
    timer = keys.timer(execution.partition, fire_at_ms, execution.workflow_id, execution.run, number)
    return (not once and fire_at_ms > now_ms) or storage.has(timer)


def back_off(execution: Execution, number: int, next_at_ms: int, batch: PartitionBatch) -> None:
    """A call waits for its next attempt by a durable timer, like a sleep: the execution can be parked meanwhile."""
    _arm(execution, number, next_at_ms, batch)


def begin_call(execution: Execution, command: Command, pending: Pending, batch: PartitionBatch) -> None:
    execution.working[pending.sequence_number] = pending
    batch.effects.append((execution.node.run_call, execution, pending))


def begin_sleep(execution: Execution, command: Command, pending: Pending, batch: PartitionBatch) -> None:
    work = pending.payload
    fire_at_ms = work.fire_at_ms if isinstance(work, SleepUntil) else command.timestamp + work
    _arm(execution, pending.sequence_number, min(max(0, fire_at_ms), 2**63), batch)


def _arm(execution: Execution, number: int, fire_at_ms: int, batch: PartitionBatch) -> None:
    key = keys.timer(execution.partition, fire_at_ms, execution.workflow_id, execution.run, number)
    execution.timers[number] = key
    batch.writes.append((key, b""))
    batch.effects.append((execution.node.arm_timer, execution, (fire_at_ms, execution.workflow_id, execution.run, number)))


def begin_receive(execution: Execution, command: Command, pending: Pending, batch: PartitionBatch) -> None:
    execution.receivers.setdefault(pending.payload.channel, deque()).append(pending.sequence_number)


def begin_send(execution: Execution, command: Command, pending: Pending, batch: PartitionBatch) -> None:
    work = pending.payload
    number = _envelope_number(execution, pending.sequence_number)
    receiver = pending.machine.receiver(pending.sequence_number, work.workflow_id)
    before = execution.sent.add(receiver, pending.sequence_number)
    post(execution,
        Envelope(
            kind=EnvelopeKind.SEND,
            sender=execution.address(pending.sequence_number),
            receiver=receiver,
            number=number,
            name=work.channel,
            previous=0 if before is None else _envelope_number(execution, before),
            body_json=work.value_json,
        ),
        batch,
    )


def _child_id(execution: Execution, number: int, recorded_id: str) -> str:
    """The id of a child: in a fork, for a child that its origin started and that it starts again, one of its own."""
    start = execution.start
    assert start is not None
    return f"{start.child_base}.{number}" if number < start.forked_at else recorded_id


def begin_child(execution: Execution, command: Command, pending: Pending, batch: PartitionBatch) -> None:
    work = pending.payload
    post(execution,
        Envelope(
            kind=EnvelopeKind.START,
            sender=execution.address(pending.sequence_number),
            receiver=_child_id(execution, pending.sequence_number, work.workflow_id),
            number=_envelope_number(execution, pending.sequence_number),
            name=work.workflow,
            body_json=work.input_json,
            version=work.version,
        ),
        batch,
    )


def abandon(execution: Execution, pending: Pending, batch: PartitionBatch) -> None:
    """Nobody waits for it any more: what still runs is stopped, when this is durable."""
    kind, number = pending.entry_type, pending.sequence_number
    timer = execution.timers.pop(number, None)
    if timer is not None:
        batch.writes.append((timer, None))
    if kind in (EntryType.CALL, EntryType.SIDE_EFFECT):
        batch.effects.append((execution.node.drop_call, execution, number))
    elif kind is EntryType.CHILD and is_attached_child(pending):
        _cancel_child(execution, number, pending.payload.workflow_id, batch)


def abandon_recorded(execution: Execution, storage: NodeStorage, batch: PartitionBatch) -> None:
    """What `_abandon` does for each operation, from the rows alone: for an execution that ends without its code."""
    rows = storage.rows(execution.workflow_id, execution.incarnation, execution.run)
    answered = {row.sequence_number for row in rows if type(row) is Completion}
    for number, command in enumerate(row for row in rows if type(row) is Command):
        if number in answered:
            continue
        if command.entry_type is EntryType.SLEEP:
            batch.writes.append((sleep_key(execution, command, number), None))
        elif command.entry_type is EntryType.CHILD:
            child_id, _, detached = ANY.decode(command.input_json)
            if not detached:
                _cancel_child(execution, number, child_id, batch)


def _cancel_child(execution: Execution, number: int, recorded_id: str, batch: PartitionBatch) -> None:
    receiver = _child_id(execution, number, recorded_id)
    post(execution, Envelope(EnvelopeKind.CANCEL, execution.address(number), receiver, 0), batch)


def sleep_key(execution: Execution, command: Command, number: int) -> bytes:
    """The timer row of a sleep, from its command alone."""
    base = 0 if command.name == "until_ms" else command.timestamp
    fire_at_ms = min(max(0, base + int(command.input_json)), 2**63)
    return keys.timer(execution.partition, fire_at_ms, execution.workflow_id, execution.run, number)


def _envelope_number(execution: Execution, sequence_number: int) -> int:
    return (execution.run << 32) | (sequence_number + 1)


def post(execution: Execution, envelope: Envelope, batch: PartitionBatch) -> None:
    """Put an envelope into the outbox; it leaves when its row is durable."""
    key = _outbox_key(execution, envelope.kind, envelope.sender.sequence_number)
    batch.writes.append((key, pack(envelope)))
    batch.effects.append((execution.node.deliver, key, envelope))


def _outbox_key(execution: Execution, kind: EnvelopeKind, sequence_number: int) -> bytes:
    own = keys.of(execution.partition, keys.OUTBOX, execution.workflow_id) + execution.incarnation + keys.number(execution.run)
    return own + keys.number(sequence_number) + b"%d" % _OUTBOX_ORDER[kind]


_OUTBOX_ORDER = {EnvelopeKind.SEND: 0, EnvelopeKind.START: 0, EnvelopeKind.CANCEL: 1, EnvelopeKind.RESULT: 2}

BEGIN: dict[EntryType, Callable[..., None]] = {
    EntryType.CALL: begin_call,
    EntryType.SIDE_EFFECT: begin_call,
    EntryType.SLEEP: begin_sleep,
    EntryType.RECEIVE: begin_receive,
    EntryType.SEND: begin_send,
    EntryType.CHILD: begin_child,
}
"""What an operation writes and asks for beyond its command row, by its type."""
