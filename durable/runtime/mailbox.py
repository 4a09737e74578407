"""The unread messages of one execution.

A message is a row as soon as it is accepted, and stays one until a RECEIVE takes it; the row goes in the same batch in
which the received value enters the journal. So it is received exactly once. What a sender sent before is remembered by
the number of its last envelope: a smaller or equal one is a repetition, and one whose ``previous`` is unknown here leaves
a gap.
"""

from __future__ import annotations

from collections import deque

from durable.journal import keys
from durable.journal.codec import pack
from durable.journal.entries import Envelope, Mail
from durable.ports import Write
from durable.storage.node import NodeStorage


class Mailbox:
    """Messages by channel, in order of arrival. Opened when the first message comes, or when somebody waits for one."""

    def __init__(self, workflow_id: str, incarnation: bytes, storage: NodeStorage) -> None:
        self.workflow_id = workflow_id
        self.incarnation = incarnation
        self._partition = keys.partition_of(workflow_id)
        self._storage = storage
        self._channels: dict[str, deque[tuple[int, Mail]]] = {}
        self._last_from: dict[bytes, int] = {}
        self._next = 0
        self.unread = 0
        for arrival, mail in storage.mail(workflow_id, incarnation):
            self._keep(arrival, mail)

    def accept(self, mail: Mail) -> Write:
        """Keep a message; the write that makes it durable."""
        arrival = self._next
        self._keep(arrival, mail)
        return self._key(arrival), pack(mail)

    def has(self, channel: str) -> bool:
        return bool(self._channels.get(channel))

    def take(self, channel: str) -> tuple[Mail, Write]:
        """The oldest message of a channel, and the write that removes it."""
        arrival, mail = self._channels[channel].popleft()
        self.unread -= 1
        return mail, (self._key(arrival), None)

    # --- repetitions and gaps

    def last_from(self, key: bytes) -> int:
        known = self._last_from.get(key)
        if known is None:
            known = self._storage.last_from_sender(key)
            self._last_from[key] = known
        return known

    def heard(self, key: bytes, number: int) -> Write:
        self._last_from[key] = number
        return key, keys.number(number, 8)

    # ---

    def _keep(self, arrival: int, mail: Mail) -> None:
        self._channels.setdefault(mail.channel, deque()).append((arrival, mail))
        self._next = max(self._next, arrival + 1)
        self.unread += 1

    def _key(self, arrival: int) -> bytes:
        return keys.of(self._partition, keys.MAIL, self.workflow_id) + self.incarnation + keys.number(arrival, 8)


def sender_row_key(envelope: Envelope) -> bytes:
    """Where the receiver of an envelope remembers the number of the last one from this sender."""
    own = keys.of(keys.partition_of(envelope.receiver), keys.SENDER, envelope.receiver)
    return own + keys.id_bytes(envelope.sender.workflow_id) + envelope.sender.incarnation
