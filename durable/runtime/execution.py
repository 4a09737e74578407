"""One execution in memory: its machine, its rows, and what each operation writes and asks for.

`Execution` stands between the pure machine and the store. It appends the rows that the machine's steps give rise to, and
leaves to the `PartitionBatch` the effects that must wait for them. What it asks of the node around it is the protocol
`Node`: run a function, deliver an envelope, arm a timer. It decides nothing about *when*; `durable.runtime.scheduler` does.

Its status moves by `TRANSITIONS`, and by nothing else.

Parking drops the machine and keeps nothing: whatever an execution knows can be built again from its rows. `load` does that:
replay the commands, apply the recorded completions, then take up what was under way.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from durable.journal import keys
from durable.journal.codec import ANY, pack
from durable.journal.entries import (
    CANCEL,
    Address,
    Attempt,
    Command,
    Completion,
    EntryType,
    Envelope,
    EnvelopeKind,
    Row,
    Start,
    StatusRow,
)
from durable.journal.sent import Sent
from durable.journal.timers import Timer
from durable.runtime import operations
from durable.runtime.answer import Answer
from durable.runtime.batches import PartitionBatch
from durable.runtime.mailbox import Mailbox
from durable.runtime.transitions import ENDINGS, TRANSITIONS, Event
from durable.storage.node import NodeStorage, attempt_write, heartbeat_key, journal_prefix
from durable.workflows.definition import Workflow
from durable.workflows.machine import Outcome, WorkflowMachine
from durable.workflows.replaying import replay

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Each run notes the version that wrote it."""


class Node(Protocol):
    """What an execution asks of the node that it runs on. All of it is called when the rows before it are durable."""

    def run_call(self, execution: Execution, pending: Any) -> None: ...
    def drop_call(self, execution: Execution, sequence_number: int) -> None: ...
    def arm_timer(self, execution: Execution, timer: Timer) -> None: ...
    def deliver(self, key: bytes, envelope: Envelope) -> None: ...
    def ended(self, execution: Execution, status: StatusRow) -> None: ...
    def epoch(self, partition: int) -> int: ...
    def now_ms(self, partition: int) -> int: ...


_MADE_WHEN_TOUCHED: dict[str, Callable[[], Any]] = {
    "inbox": deque,  # answers that were not applied yet
    "receivers": dict,  # channel -> sequence numbers of the RECEIVEs that wait for it
    "timers": dict,  # sequence number -> key of its timer row
    "sent": Sent,  # which messages went where
    "working": dict,  # sequence number -> a call that runs or is about to: while there is one, the slot is held
    "calls": dict,  # sequence number -> the attempt that runs
    "attempts": dict,  # sequence number -> the last attempt that failed
    "first_started_ms": dict,  # sequence number -> when its first attempt began
    "side_keys": dict,  # keys of attempts and heartbeats, each once
    "due": list,  # keys of timers that fired
    "requests": set,  # keys of requests from outside, accepted and perhaps not durable yet
}
"""A hundred thousand executions may wait for a slot: what they do not need yet, they do not have."""


class Execution:
    """One execution that is in memory. ``rows`` counts the rows of its journal, written or not yet.

    ``has_slot``, ``queued`` and ``ready`` belong to the scheduler.
    """

    __slots__ = (
        "node",
        "_prefix",
        "active_row",
        "beats",
        "created_at",
        "error",
        "has_slot",
        "idle_since_s",
        "incarnation",
        "machine",
        "mailbox",
        "owner",
        "parking",
        "partition",
        "paused",
        "queued",
        "ready",
        "rows",
        "run",
        "start",
        "status",
        "woken",
        "workflow_id",
        "workflow_name",
        *_MADE_WHEN_TOUCHED,
    )

    inbox: deque[Answer]
    receivers: dict[str, deque[int]]
    timers: dict[int, bytes]
    sent: Sent
    working: dict[int, Any]
    calls: dict[int, Any]
    attempts: dict[int, Attempt]
    first_started_ms: dict[int, int]
    side_keys: dict[bytes, None]
    due: list[bytes]
    requests: set[bytes]

    def __init__(self, workflow_id: str, status: StatusRow, node: Node, start: Start | None = None) -> None:
        self.workflow_id = workflow_id
        self.partition = keys.partition_of(workflow_id)
        self.workflow_name = status.workflow
        self.incarnation = status.incarnation
        self.run = status.run
        self.created_at = status.created_at
        self.owner = status.owner
        self.status = status.status
        self.paused = status.paused
        self.error = status.error
        self.start = start
        self.machine: WorkflowMachine | None = None
        self.rows = 0
        self.mailbox: Mailbox | None = None
        self.active_row: bool | None = None
        self.parking: PartitionBatch | None = None
        self.has_slot = False
        self.queued = False
        self.ready = False
        self.woken = False
        self.beats = False
        self.idle_since_s = 0.0
        self.node = node
        self._prefix = keys.number(self.partition, 2) + keys.JOURNAL + keys.id_bytes(workflow_id) + self.incarnation
        self._prefix += keys.number(self.run)

    def __getattr__(self, name: str) -> Any:
        try:
            made = _MADE_WHEN_TOUCHED[name]()
        except KeyError:
            raise AttributeError(name) from None
        setattr(self, name, made)
        return made

    @property
    def epoch(self) -> int:
        """Of the tenure in which it is run here."""
        return self.node.epoch(self.partition)

    @property
    def cancelled(self) -> bool:
        """Whether it has yet to be told that it is cancelled."""
        return any(answer.sequence_number == CANCEL for answer in self.inbox)

    def now_ms(self) -> int:
        """The time in its partition."""
        return self.node.now_ms(self.partition)

    # --- status

    def move(self, event: Event) -> None:
        """Raises KeyError for a transition that the table does not have: a fault of this library."""
        self.status = TRANSITIONS[self.status, event]

    def resume_to_cancel(self) -> None:
        """A cancel ends a pause. It comes ahead of what waited, or the code would go on because it was cancelled."""
        self.paused = False
        self.move(Event.RESUME)
        self.inbox = deque(sorted(self.inbox, key=lambda answer: answer.sequence_number != CANCEL))

    def status_write(self, batch: PartitionBatch, now_ms: int, output_json: bytes | None = None) -> StatusRow:
        row = StatusRow(
            workflow=self.workflow_name,
            status=self.status,
            incarnation=self.incarnation,
            run=self.run,
            created_at=self.created_at,
            updated_at=now_ms,
            owner=self.owner,
            output_json=output_json,
            error=self.error,
            paused=self.paused,
        )
        batch.writes.append((keys.of(self.partition, keys.STATUS, self.workflow_id), pack(row)))
        return row

    def set_active(self, batch: PartitionBatch, active: bool) -> None:
        """The row by which a restarted node finds work to go on with."""
        if active != self.active_row:
            self.active_row = active
            batch.writes.append((keys.of(self.partition, keys.ACTIVE, self.workflow_id), b"" if active else None))

    # --- rows

    def append(self, row: Row, batch: PartitionBatch) -> None:
        batch.writes.append((self._prefix + self.rows.to_bytes(4, "big"), pack(row)))
        self.rows += 1

    def begin(self, workflow: Workflow[Any, Any], batch: PartitionBatch, now_ms: int, value_bytes_max: int) -> None:
        """Run a new execution's code until it waits for the first time."""
        assert self.start is not None
        self.machine = WorkflowMachine(workflow, self.start, self.workflow_id, (), value_bytes_max)
        self.machine.wall_ms = now_ms
        self.machine.begin()
        self._collect(batch)

    def load(
        self, workflow: Workflow[Any, Any], storage: NodeStorage, batch: PartitionBatch, now_ms: int, value_bytes_max: int
    ) -> None:
        """Replay the journal, and take up what was under way. Raises `ReplayError`; then nothing was written."""
        rows = storage.rows(self.workflow_id, self.incarnation, self.run)
        start = rows[0]
        assert isinstance(start, Start)
        self.start = start
        machine = replay(workflow, start, rows, self.workflow_id, now_ms, value_bytes_max)
        self.machine, self.rows = machine, len(rows)
        self.open_mailbox(storage)
        self.timers.clear()
        self.receivers.clear()
        recorded = machine.cursor.recorded
        for attempt in storage.attempts(self.workflow_id, self.incarnation, self.run):
            self.attempts[attempt.sequence_number] = attempt
            self.first_started_ms.setdefault(attempt.sequence_number, attempt.started_at_ms)
            self.side_keys[attempt_write(self.workflow_id, self.incarnation, self.run, attempt)[0]] = None
        sends = {
            number: machine.receiver(number, ANY.decode(command.input_json)[0])
            for number, command in enumerate(recorded)
            if command.entry_type is EntryType.SEND
        }
        if sends:
            self.sent.restore(sends, rows, start.forked_at)
        self.set_active(batch, True)
        for number in sorted(machine.pending):
            if number < len(recorded):
                batch.cut()
                operations.take_up(self, recorded[number], machine.pending[number], storage, batch, now_ms)
        self._find_timers_of_the_abandoned(recorded, storage)
        self._collect(batch)

    def _find_timers_of_the_abandoned(self, recorded: Sequence[Command], storage: NodeStorage) -> None:
        """What was answered while it was paused, its code learns by the replay, and may wait for less than its rows say."""
        assert self.machine is not None
        for number in [each.sequence_number for each in self.machine.abandoned if each.sequence_number < len(recorded)]:
            key, last = b"", self.attempts.get(number)
            if recorded[number].entry_type is EntryType.SLEEP:
                key = operations.sleep_key(self, recorded[number], number)
            elif last is not None:
                key = keys.timer(self.partition, last.next_at_ms, self.workflow_id, self.run, number)
            if key and storage.has(key):
                self.timers[number] = key  # it is taken back with the operation

    def open_mailbox(self, storage: NodeStorage) -> Mailbox:
        if self.mailbox is None:
            self.mailbox = Mailbox(self.workflow_id, self.incarnation, storage)
        return self.mailbox

    def step(self, answer: Answer, batch: PartitionBatch, now_ms: int) -> None:
        """Record an answer, give it to the code, and record what the code makes of it."""
        machine = self.machine
        assert machine is not None
        number = answer.sequence_number
        if number == CANCEL:
            wanted = not machine.cancel_requested
        else:
            wanted = number in machine.pending or self.sent.is_under_way(number)
        if wanted:
            completion = Completion(number, answer.output_json, max(now_ms, machine.now_ms), answer.error)
            self.append(completion, batch)
            self.sent.answered(number, answer.error is None)
            timer = self.timers.pop(number, None)
            if timer is not None:
                batch.writes.append((timer, None))
            machine.wall_ms = now_ms
            machine.apply(completion)
            self._collect(batch)
        if answer.recorded is not None:
            batch.effects.append((answer.recorded,))

    def record_only(self, answer: Answer, batch: PartitionBatch, now_ms: int) -> None:
        """Record an answer to a paused execution. It is applied by the replay that resumes it."""
        self.append(Completion(answer.sequence_number, answer.output_json, now_ms, answer.error), batch)
        if answer.recorded is not None:
            batch.effects.append((answer.recorded,))

    def next_mail(self, batch: PartitionBatch) -> Answer | None:
        """A message for a RECEIVE that waits for it: taken out of the mailbox in the batch that records it."""
        mailbox, machine = self.mailbox, self.machine
        if mailbox is None or machine is None or not mailbox.unread or not self.receivers:
            return None
        for channel, waiting in list(self.receivers.items()):
            while waiting and waiting[0] not in machine.pending:
                waiting.popleft()
            if not waiting:
                del self.receivers[channel]
            elif mailbox.has(channel):
                mail, write = mailbox.take(channel)
                batch.writes.append(write)
                return Answer(waiting.popleft(), mail.value_json)
        return None

    # --- the end

    def finish(self, outcome: Outcome, batch: PartitionBatch, now_ms: int) -> None:
        """Write the result; tell the parent, and then whoever waits, when it is durable."""
        self.move(ENDINGS[outcome.status])
        self.error = outcome.error
        row = self.status_write(batch, now_ms, outcome.output_json)
        self.set_active(batch, False)
        parent = self.start.parent if self.start else None
        if parent is not None:
            operations.post(self,
                Envelope(
                    kind=EnvelopeKind.RESULT,
                    sender=self.address(0),
                    receiver=parent.workflow_id,
                    number=0,
                    name=outcome.status.value,
                    body_json=outcome.output_json or b"null",
                    error=outcome.error,
                    target=parent,
                ),
                batch,
            )
        batch.effects.append((self.node.ended, self, row))

    def continue_as_new(self, input_json: bytes, batch: PartitionBatch, now_ms: int) -> None:
        """Begin the next run in the same batch that ends this one. The old run's rows are deleted."""
        machine, start = self.machine, self.start
        assert machine is not None
        assert start is not None
        for number in range(self.rows):
            batch.writes.append((self._prefix + keys.number(number), None))
        batch.writes.extend((key, None) for key in self.side_keys)
        self.side_keys.clear()
        self.attempts.clear()
        self.run += 1
        self._prefix = journal_prefix(self.workflow_id, self.incarnation, self.run)
        self.rows = 0
        seed = f"{self.workflow_id}/{self.incarnation.hex()}/{self.run}"
        self.start = Start(
            workflow=start.workflow,
            version=machine.workflow.version,
            input_json=input_json,
            timestamp=max(now_ms, machine.now_ms),
            python=PYTHON,
            incarnation=self.incarnation,
            run=self.run,
            seed=seed,
            child_base=child_base(self.workflow_id, self.incarnation, self.run),
            parent=start.parent,
            state=dict(machine.state),
            checkpoint=machine.checkpoint,
        )
        machine.close()
        self.machine = None
        self.receivers.clear()
        self.first_started_ms.clear()
        self.sent = Sent()
        self.append(self.start, batch)
        self.status_write(batch, now_ms)

    def drop(self) -> None:
        """Take the machine out of memory: nothing that its code does on the way has an effect."""
        machine, self.machine = self.machine, None
        if machine is not None:
            machine.close()

    # --- what operations write, and what they ask for

    def address(self, sequence_number: int) -> Address:
        return Address(self.workflow_id, self.incarnation, self.run, sequence_number)

    def _collect(self, batch: PartitionBatch) -> None:
        machine = self.machine
        assert machine is not None
        if machine.commands:
            for command, pending in machine.take_commands():
                batch.cut()
                self.append(command, batch)
                if pending is not None:
                    operations.BEGIN[command.entry_type](self, command, pending, batch)
        if machine.abandoned:
            for pending in machine.take_abandoned():
                operations.abandon(self, pending, batch)

    def record_attempt(self, attempt: Attempt, batch: PartitionBatch) -> None:
        write = attempt_write(self.workflow_id, self.incarnation, self.run, attempt)
        self.attempts[attempt.sequence_number] = attempt
        self.side_keys[write[0]] = None
        batch.writes.append(write)

    def record_heartbeat(self, number: int, details_json: bytes, batch: PartitionBatch) -> None:
        key = heartbeat_key(self.workflow_id, self.incarnation, self.run, number)
        self.side_keys[key] = None
        batch.writes.append((key, details_json))


def child_base(workflow_id: str, incarnation: bytes, run: int) -> str:
    return f"{workflow_id}.{incarnation.hex()[:8]}.{run}"
