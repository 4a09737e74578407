"""The outbox: every packet is packed here, with what its receiver should know about itself and as much news
as fits.

**How it works.** A packet is filled in this order, within ``packet_bytes_max``:

1. the message, if it has one; 2. *the reply*: our own claim, to one who pinged us under suspicion. For
certain, and not as one of its few rides: after a
   pause, twenty answers to one member would use up the rides that the others need;
3. *the owed*: if we believe the receiver suspect, dead, gone or in another life, that belief, so that it can
refute
   (Lifeguard's buddy system; it is also how one that was buried learns of it);
4. *the news*: claims from the gossip queue.

A packet without any of these is not sent.

Source: SWIM, section 4.1; Lifeguard, "Buddy System". Read next: `probe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.membership.effects import Effect, Send, Stream
from durable.membership.gossip import rides_max
from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Message, Packet, room_bytes

if TYPE_CHECKING:
    from durable.membership.gossip import GossipQueue
    from durable.membership.tuning import Tuning
    from durable.membership.view import View


class Outbox:
    """Where packets leave for the shell, as effects."""

    def __init__(
        self, view: View, queue: GossipQueue, tuning: Tuning, effects: list[Effect], sequence: int
    ) -> None:
        self._view = view
        self._queue = queue
        self._tuning = tuning
        self._effects = effects
        self._sequence = sequence

    def next_sequence(self) -> int:
        """A number that no earlier message of this life has."""
        self._sequence += 1
        return self._sequence

    def send(
        self,
        to: NodeAddress,
        to_id: NodeId,
        message: Message | None,
        *,
        boot: int | None = None,
        reply: tuple[Claim, ...] = (),
    ) -> None:
        """One datagram. ``boot``: the life in which the receiver wrote to us, where we answer."""
        due = reply + self._owed(to_id, boot)
        packet = self._packet(message, due)
        room = room_bytes(packet, self._tuning.packet_bytes_max)
        news = self._queue.take(room, rides_max(self._view.live), without=due)
        if message is not None or due or news:
            self._effects.append(Send(to, self._packet(message, due + news)))

    def stream(self, to: NodeAddress, to_id: NodeId | None, message: Message) -> None:
        """One frame on a connection. ``to_id``: None where we do not know yet who listens there."""
        self._effects.append(Stream(to, self._packet(message, self._owed(to_id, None) if to_id else ())))

    def _packet(self, message: Message | None, claims: tuple[Claim, ...]) -> Packet:
        me = self._view.me
        return Packet(self._tuning.cluster, me.node_id, me.boot, message, claims)

    def _owed(self, to_id: NodeId, boot: int | None) -> tuple[Claim, ...]:
        known = self._view.known(to_id)
        if known is None or (boot is not None and boot > known.boot):
            return ()
        if known.status is MemberStatus.ALIVE and (boot is None or boot == known.boot):
            return ()
        if known.status is MemberStatus.SUSPECT and not self._tuning.lifeguard:
            return ()
        return (self._view.claim_about(known),)
