"""Letters between executions: sent only when they are durable, accepted exactly once.

An *outbox* row holds each envelope from the moment in which its sender's step is recorded. When that batch is durable it is
delivered; the receiver records it in its own partition; and when that is durable too, the sender's row goes. A crash at any
place leaves the row, so the envelope is delivered again, and the receiver knows a repetition:

======= ============================== ==========================================================================
kind    a repetition is known by       the answer to the sender
======= ============================== ==========================================================================
SEND    the sender's last number       its SEND completes, or fails with `MailRefused`
START   the child's recorded parent    none; when the id is taken, its CHILD fails with `WorkflowAlreadyExists`
RESULT  the parent's CHILD is complete none
CANCEL  cancelling twice is cancelling none
======= ============================== ==========================================================================

One node runs this very path for its own partitions, so that a cluster changes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from durable.errors import (
    JournalCorrupted,
    MailRefused,
    WorkflowAlreadyExists,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
)
from durable.journal import failures, keys
from durable.journal.entries import CANCEL, Envelope, EnvelopeKind, Failure, Mail, Status
from durable.runtime.answer import Answer
from durable.runtime.execution import Execution
from durable.runtime.mailbox import sender_row_key

if TYPE_CHECKING:
    from durable.runtime.engine import Engine

log = logging.getLogger("durable")


class PostOffice:
    """Delivers the envelopes of one node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._routes = {
            EnvelopeKind.SEND: self._send,
            EnvelopeKind.START: self._start,
            EnvelopeKind.RESULT: self._result,
            EnvelopeKind.CANCEL: self._cancel,
        }

    def deliver(self, key: bytes, envelope: Envelope) -> None:
        """The envelope's row is durable: bring it to its receiver. ``key`` is the row's."""
        if not self._engine.closed and self._engine.failure is None:
            try:
                self._routes[envelope.kind](key, envelope)
            except JournalCorrupted as error:  # the envelope stays in the outbox, and is tried again at the next start
                log.error("an envelope for %s cannot be delivered: %s", envelope.receiver, error)

    def accept(
        self, receiver: Execution | None, workflow_id: str, channel: str, value_json: bytes, sender: str
    ) -> MailRefused | None:
        """Put a message into a mailbox, in the open batch of its partition; or say why not."""
        engine = self._engine
        if receiver is None:
            known = engine.storage.status(workflow_id) or engine.live.get(workflow_id)
            why = "has finished" if known is not None else "does not exist"
            return MailRefused(f"{workflow_id!r} {why}: the message to its channel {channel!r} was not accepted")
        mailbox = receiver.open_mailbox(engine.storage)
        if mailbox.unread >= engine.config.mailbox_max:
            return MailRefused(
                f"the mailbox of {workflow_id!r} holds {mailbox.unread:,} unread messages, which is its bound: the message to "
                f"channel {channel!r} was not accepted. Send again when it has received some."
            )
        mail = Mail(channel, value_json, sender, engine.clock.now_ms())
        batch = engine.batch(receiver)
        batch.writes.append(mailbox.accept(mail))
        if receiver.machine is None or channel in receiver.receivers:
            receiver.woken = True
            receiver.set_active(batch, True)  # it is parked: after a crash, too, somebody must look at its mail
            if not receiver.paused:
                engine.scheduler.wake(receiver)
        return None

    def _send(self, key: bytes, envelope: Envelope) -> None:
        engine = self._engine
        receiver = engine.find(envelope.receiver)
        sender_key = sender_row_key(envelope)
        if receiver is None:
            if envelope.number <= engine.storage.last_from_sender(sender_key):
                self._acknowledge(key, envelope, None)  # accepted before a crash; the receiver has finished since
                return
            error = self.accept(None, envelope.receiver, envelope.name, envelope.body_json, "")
            failure = failures.record(error) if error else None
            engine.batches.after(keys.partition_of(envelope.receiver), self._acknowledge, key, envelope, failure)
            return
        mailbox = receiver.open_mailbox(engine.storage)
        last = mailbox.last_from(sender_key)
        if envelope.number > last:
            if envelope.previous > last:
                refused: MailRefused | None = MailRefused(
                    f"{envelope.receiver!r} did not accept an earlier message of the same sender, so this one to channel "
                    f"{envelope.name!r} was not accepted either: messages do not overtake each other. Send it again."
                )
            else:
                refused = self.accept(
                    receiver, envelope.receiver, envelope.name, envelope.body_json, envelope.sender.workflow_id
                )
            if refused is not None:
                self._acknowledge(key, envelope, failures.record(refused))
                return
            engine.batch(receiver).writes.append(mailbox.heard(sender_key, envelope.number))
        engine.batches.after(receiver.partition, self._acknowledge, key, envelope, None)

    def _start(self, key: bytes, envelope: Envelope) -> None:
        engine = self._engine
        child_id = envelope.receiver
        execution = engine.live.get(child_id)
        status = None if execution else engine.storage.status(child_id)
        if execution is None and status is None:
            start = engine.new_start(envelope.name, envelope.version, envelope.body_json, child_id, envelope.sender)
            execution = engine.create(start, child_id)
            engine.batches.after(execution.partition, self.forget, key)
            return
        start_row = execution.start if execution and execution.start else None
        if start_row is None:
            row = status or engine.storage.status(child_id)
            start_row = engine.storage.start(child_id, row) if row else None
        if start_row is not None and start_row.parent == envelope.sender:
            engine.batches.after(keys.partition_of(child_id), self.forget, key)
        else:
            taken = WorkflowAlreadyExists(
                f"the id {child_id!r} of the child is taken by an execution that somebody else started. The child was not "
                "started; nothing is lost."
            )
            self._acknowledge(key, envelope, failures.record(taken))

    def _result(self, key: bytes, envelope: Envelope) -> None:
        target = envelope.target
        assert target is not None
        parent = self._engine.find(target.workflow_id)
        if parent is None or (parent.incarnation, parent.run) != (target.incarnation, target.run):
            self.forget(key)
            return
        status = Status(envelope.name)
        error = None if status is Status.COMPLETED else _child_error(envelope, status)
        output_json = envelope.body_json if error is None else None
        self._engine.answer(
            parent, Answer(target.sequence_number, output_json, error, lambda: self.forget(key))
        )

    def _cancel(self, key: bytes, envelope: Envelope) -> None:
        child = self._engine.find(envelope.receiver)
        if child is None:
            self.forget(key)
        else:
            self._engine.answer(child, Answer(CANCEL, recorded=lambda: self.forget(key)))

    def _acknowledge(self, key: bytes, envelope: Envelope, error: Failure | None) -> None:
        """The receiver has it, durably, or refuses it: the sender's operation is complete."""
        address = envelope.sender
        sender = self._engine.find(address.workflow_id)
        if sender is None or (sender.incarnation, sender.run) != (address.incarnation, address.run):
            self.forget(key)
            return
        output_json = b"null" if error is None else None
        self._engine.answer(
            sender, Answer(address.sequence_number, output_json, error, lambda: self.forget(key))
        )

    def forget(self, key: bytes) -> None:
        """The envelope has done its work: its row goes."""
        if not self._engine.closed and self._engine.failure is None:
            self._engine.batches.of(int.from_bytes(key[:2], "big")).writes.append((key, None))


def _child_error(envelope: Envelope, status: Status) -> Failure:
    child = envelope.sender.workflow_id
    error: WorkflowError
    if status is Status.CANCELLED:
        error = WorkflowCancelled(f"child {child!r} was cancelled")
    else:
        why = envelope.error
        error = WorkflowFailed(f"child {child!r} failed: {why.error_type}: {why.message}" if why else f"child {child!r} failed")
        if why is not None:
            error.__cause__ = failures.rebuild(why)
    return failures.record(error)
