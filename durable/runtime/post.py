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
CANCEL  cancelling twice is cancelling none; whoever is not the sender's child is left alone
======= ============================== ==========================================================================

What a repetition is known by outlives a purge (`births.bury`): the answer is the one that was lost.

One node runs this very path for its own partitions, so that a cluster changes nothing. There, when the receiver's partition is not
here, `durable.runtime.carrier` brings the envelope to whoever has it, and `PostOffice.receive` is the other end. What the
receiver writes proves by itself that this node owns it: it becomes durable, or there is no answer. An answer for which *nothing*
is written (a refusal, "that run is over") proves nothing, and a node that was overtaken without knowing it would be wrong: so
the log confirms such an answer before it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from durable.errors import (
    DurableError,
    MailRefused,
    ReplayError,
    WorkflowAlreadyExists,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
)
from durable.journal import failures, keys
from durable.journal.entries import CANCEL, Address, Envelope, EnvelopeKind, Failure, Mail, Status
from durable.ports import Courier
from durable.runtime import births
from durable.runtime.answer import Answer
from durable.runtime.carrier import Carrier
from durable.runtime.execution import Execution
from durable.runtime.mailbox import sender_row_key
from durable.runtime.tenure import Tenure

if TYPE_CHECKING:
    from durable.runtime.engine import Engine

log = logging.getLogger("durable")

Told = Callable[[Failure | None], None]
"""Called with the answer when it is durable; never, when the receiver's partition is lost before."""


class Said:
    """An answer to an envelope for which nothing was written."""

    __slots__ = ("failure",)

    def __init__(self, failure: Failure | None) -> None:
        self.failure = failure


_DONE = Said(None)


class PostOffice:
    """Delivers the envelopes of one node, and accepts those of others."""

    def __init__(self, engine: Engine, courier: Courier | None) -> None:
        self._engine = engine
        self._routes: dict[EnvelopeKind, Callable[[Envelope, Told], Said | None]] = {
            EnvelopeKind.SEND: self._send,
            EnvelopeKind.START: self._start,
            EnvelopeKind.RESULT: self._result,
            EnvelopeKind.CANCEL: self._cancel,
        }
        self._carrier = Carrier(engine, courier, self.receive, self._answered)
        self._receiving: dict[tuple[EnvelopeKind, Address, str], asyncio.Future[Failure | None]] = {}
        self._left: dict[int, None] = {}

    # --- the sender's side

    def deliver(self, key: bytes, envelope: Envelope) -> None:
        """The envelope's row is durable: bring it to its receiver. ``key`` is the row's."""
        engine = self._engine
        tenure = engine.here.get(int.from_bytes(key[:2], "big"))
        if tenure is None or engine.closed or engine.failure is not None:
            return
        partition = keys.partition_of(envelope.receiver)
        if partition in self._left:
            return  # `_deliver_again` finds it in its turn, behind those before it
        if partition not in engine.here or self._carrier.is_before(envelope):
            self._carrier.add(tenure, key, envelope)
            return
        told = partial(self._answered, tenure, key, envelope)
        engine.batches.cut(partition)
        try:
            said = self._routes[envelope.kind](envelope, told)
        except ReplayError as error:  # the receiver cannot be read: the envelope waits in the outbox for the next adoption
            log.error("a message from %s to %s waits: %s", envelope.sender.workflow_id, envelope.receiver, error)
            return
        if said is not None:
            confirmed = engine.log.confirm(partition)
            if confirmed.done() and not confirmed.cancelled() and confirmed.exception() is None:
                engine.batches.after(partition, told, said.failure)
            else:
                self._carrier.add(tenure, key, envelope)  # it asks again, and waits for the answer

    def _answered(self, tenure: Tenure, key: bytes, envelope: Envelope, failure: Failure | None) -> None:
        """The receiver has it, durably, or refuses it."""
        engine = self._engine
        if engine.here.get(tenure.partition) is not tenure or engine.closed or engine.failure is not None:
            return  # whoever runs the sender now finds the row, and asks for itself
        address = envelope.sender
        if envelope.kind is EnvelopeKind.SEND or failure is not None:
            sender = engine.find(address.workflow_id)
            if sender is not None and (sender.incarnation, sender.run) == (address.incarnation, address.run):
                output_json = b"null" if failure is None else None
                forget = partial(self._forget, key)
                engine.answer(sender, Answer(address.sequence_number, output_json, failure, forget))
                return
        self._forget(key)

    def _forget(self, key: bytes) -> None:
        """The envelope has done its work: its row goes."""
        if not self._engine.closed and self._engine.failure is None:
            self._engine.batches.of(int.from_bytes(key[:2], "big")).writes.append((key, None))

    def drop(self, partition: int) -> None:
        """The partition is run here no more: its outbox is carried no further, and what others had sent there starts anew."""
        self._carrier.drop(partition)
        if not self._left:
            self._engine.loop.call_soon(self._deliver_again)
        self._left[partition] = None

    def _deliver_again(self) -> None:
        """Envelopes to partitions that have left were accepted and not yet durable, perhaps: nobody would answer them."""
        engine = self._engine
        left, self._left = self._left, {}
        for partition in list(engine.here):
            for key, envelope in list(engine.storage.outbox(partition)):
                if keys.partition_of(envelope.receiver) in left:
                    self.deliver(key, envelope)

    def close(self) -> None:
        self._carrier.close()

    # --- the receiver's side

    async def receive(self, envelope: Envelope) -> Failure | None:
        """Accept an envelope: None when that is durable here, or why it is refused. Repeated while under way, it is one.

        Raises `NotOwner` and whatever else the log says; then nothing is known, and it is to be carried again.
        """
        mark = (envelope.kind, envelope.sender, envelope.receiver)
        answer = self._receiving.get(mark)
        if answer is None:
            engine = self._engine
            engine.check_open()
            partition = engine.tenures.check(envelope.receiver)
            engine.batches.cut(partition)
            answer = engine.batches.promise(partition)
            self._receiving[mark] = answer
            answer.add_done_callback(lambda _: self._receiving.pop(mark, None))
            try:
                said = self._routes[envelope.kind](envelope, partial(engine.batches.keep, answer))
            except DurableError as error:
                engine.batches.break_promise(answer, error)
                raise
            if said is not None:
                confirmed = engine.log.confirm(partition)
                confirmed.add_done_callback(partial(self._say, partition, answer, said.failure))
        return await asyncio.shield(answer)

    def _say(self, partition: int, answer: asyncio.Future[Any], failure: Failure | None, confirmed: Any) -> None:
        error = asyncio.CancelledError() if confirmed.cancelled() else confirmed.exception()
        if error is not None:
            self._engine.batches.break_promise(answer, error)
        else:
            self._engine.batches.after(partition, self._engine.batches.keep, answer, failure)

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
        mail = Mail(channel, value_json, sender, receiver.now_ms())
        batch = engine.batch(receiver)
        batch.writes.append(mailbox.accept(mail))
        if receiver.machine is None or channel in receiver.receivers:
            receiver.woken = True
            receiver.set_active(batch, True)  # it is parked: after a crash, too, somebody must look at its mail
            if not receiver.paused:
                engine.scheduler.wake(receiver)
        return None

    def _send(self, envelope: Envelope, told: Told) -> Said | None:
        engine = self._engine
        receiver = engine.find(envelope.receiver)
        sender_key = sender_row_key(envelope)
        if receiver is None:
            ended = engine.live.get(envelope.receiver)  # it has finished, and that is not durable yet
            last = engine.storage.last_from_sender(sender_key)
            if ended is not None and ended.mailbox is not None:
                last = ended.mailbox.last_from(sender_key)
            if envelope.number <= last:
                return _DONE  # accepted before; the receiver has finished since
            refused = self.accept(None, envelope.receiver, envelope.name, envelope.body_json, "")
            return Said(failures.record(refused) if refused is not None else None)
        mailbox = receiver.open_mailbox(engine.storage)
        last = mailbox.last_from(sender_key)
        if envelope.number > last:
            if envelope.previous > last:
                refused = MailRefused(
                    f"{envelope.receiver!r} did not accept an earlier message of the same sender, so this one to channel "
                    f"{envelope.name!r} was not accepted either: messages do not overtake each other. Send it again."
                )
            else:
                refused = self.accept(
                    receiver, envelope.receiver, envelope.name, envelope.body_json, envelope.sender.workflow_id
                )
            if refused is not None:
                return Said(failures.record(refused))
            engine.batch(receiver).writes.append(mailbox.heard(sender_key, envelope.number))
        engine.batches.after(receiver.partition, told, None)
        return None

    def _start(self, envelope: Envelope, told: Told) -> Said | None:
        engine = self._engine
        child_id = envelope.receiver
        existing = births.start_of(engine, child_id)
        if existing is not None and existing.parent == envelope.sender:
            return _DONE
        if existing is None and engine.storage.has(births.parent_key(child_id, envelope.sender)):
            return _DONE  # it was started, has finished, and was purged since
        if existing is None and not births.is_purged(engine, child_id):
            start = births.new_start(
                engine, envelope.name, envelope.version, envelope.body_json, child_id, envelope.sender
            )
            execution = births.create(engine, start, child_id)
            engine.batches.after(execution.partition, told, None)
            return None
        taken = WorkflowAlreadyExists(
            f"the id {child_id!r} of the child is taken by an execution that somebody else started, or that was purged less "
            "than an hour ago. The child was not started; nothing is lost."
        )
        return Said(failures.record(taken))

    def _result(self, envelope: Envelope, told: Told) -> Said | None:
        target = envelope.target
        assert target is not None
        parent = self._engine.find(target.workflow_id)
        if parent is None or (parent.incarnation, parent.run) != (target.incarnation, target.run):
            return _DONE
        status = Status(envelope.name)
        error = None if status is Status.COMPLETED else _child_error(envelope, status)
        output_json = envelope.body_json if error is None else None
        self._engine.answer(parent, Answer(target.sequence_number, output_json, error, partial(told, None)))
        return None

    def _cancel(self, envelope: Envelope, told: Told) -> Said | None:
        child = self._engine.find(envelope.receiver)
        start = births.start_of(self._engine, envelope.receiver) if child is not None else None
        if child is None or start is None or start.parent != envelope.sender:
            return _DONE  # it has finished; or the id was taken, and whoever has it is nobody's to cancel but its own parent's
        self._engine.answer(child, Answer(CANCEL, recorded=partial(told, None)))
        return None


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
