"""Probing: whom to ask next, one round of asking, and asking on behalf of others.

**Why it exists.** Each member pings one other per period, so that the load of a member does not grow with the
cluster. If the pong does not come, the path between the two may be broken rather than the target: k helpers
try from where they stand.

**How it works.** One period of ``interval_s`` (times local health)::

    0 %             50 %                       90 %          100 %
    Ping target     no Ack: PingReq to         helpers send  neither Ack: suspect the target
                    k = 3 helpers              Nack

`ProbeOrder` goes round a shuffled list instead of drawing at random: every member is probed within 2n - 1
periods, not just probably.

**Limits.** One probe at a time: a large cluster finds a given dead member by its many probers, not by any one
of them.

Source: SWIM, section 3.1 (ping, ping-req), section 4.3 (round robin, insertion at random); nacks from
Lifeguard, "Local Health Aware Probe". Read next: `view`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durable.membership.health import Evidence, LocalHealth
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Ack, Nack, Packet, Ping, PingReq

if TYPE_CHECKING:
    from collections import Counter
    from random import Random

    from durable.membership.outbox import Outbox
    from durable.membership.timers import Timers
    from durable.membership.tuning import Tuning
    from durable.membership.view import View

PERIOD, INDIRECT = ("period", ""), ("indirect", "")
NACK, RELAY = "nack", "relay"

RELAYS_MAX = 1_024
"""Probes on behalf of others that wait at one time. Past it PingReqs are dropped: the asker has other
helpers.
"""


class ProbeOrder:
    """The live members in a random order, again and again; shuffled after each round."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._order: list[NodeId] = []
        self._next = 0

    def insert(self, node_id: NodeId) -> None:
        """Add a member at a random place, so that those who join together are not probed together."""
        index = self._random.randrange(len(self._order) + 1)
        self._order.insert(index, node_id)
        if index < self._next:
            self._next += 1

    def remove(self, node_id: NodeId) -> None:
        """Forget a member. It must be in the order."""
        index = self._order.index(node_id)
        del self._order[index]
        if index < self._next:
            self._next -= 1

    def next(self) -> NodeId | None:
        """Whom to probe now; None in an empty cluster."""
        if not self._order:
            return None
        if self._next >= len(self._order):
            self._random.shuffle(self._order)
            self._next = 0
        self._next += 1
        return self._order[self._next - 1]


@dataclass(slots=True)
class Probe:
    """The round under way."""

    target: Member
    sequence: int
    answered: bool = False
    asked: int = 0
    nacked: list[NodeId] = field(default_factory=list)

    def nack(self, helper: NodeId) -> None:
        """Count a helper that is well. A datagram may come twice."""
        if helper not in self.nacked:
            self.nacked.append(helper)

    @property
    def nacks_missing(self) -> int:
        """Helpers of whom nothing was heard."""
        return max(0, self.asked - len(self.nacked))


@dataclass(frozen=True, slots=True)
class Relay:
    """A probe on behalf of another: to whom its outcome goes, under which number."""

    asker: NodeAddress
    asker_id: NodeId
    sequence: int


class Prober:
    """Asks, answers, and asks for others."""

    def __init__(
        self,
        view: View,
        order: ProbeOrder,
        outbox: Outbox,
        timers: Timers,
        health: LocalHealth,
        random: Random,
        tuning: Tuning,
        dropped: Counter[str],
    ) -> None:
        self._view = view
        self._order = order
        self._outbox = outbox
        self._timers = timers
        self._health = health
        self._random = random
        self._tuning = tuning
        self._dropped = dropped
        self._probe: Probe | None = None
        self._relays: dict[int, Relay] = {}

    # The prober's side

    def on_period(self, now: float, _: Any) -> None:
        """Judge the last probe, start the next."""
        self._judge(now)
        multiplier = self._health.multiplier
        self._timers.set(PERIOD, now + self._tuning.interval_s * multiplier)
        target_id = self._order.next()
        if target_id is None:
            return
        target = self._view.others[target_id]
        self._probe = Probe(target, self._outbox.next_sequence())
        self._timers.set(INDIRECT, now + self._tuning.probe_timeout_s * multiplier)
        self._outbox.send(target.address, target_id, Ping(self._probe.sequence, target_id))

    def on_indirect(self, now: float, _: Any) -> None:
        """No direct answer: ask helpers that are not under suspicion themselves."""
        probe = self._probe
        if probe is None or probe.answered:
            return
        able = [
            member
            for member in self._view.live_members()
            if member.status is MemberStatus.ALIVE and member.node_id != probe.target.node_id
        ]
        helpers = self._random.sample(able, min(self._tuning.helpers, len(able)))
        probe.asked = len(helpers)
        request = PingReq(probe.sequence, probe.target.node_id, probe.target.address)
        for helper in helpers:
            self._outbox.send(helper.address, helper.node_id, request)

    def on_ack(self, now: float, sender: NodeAddress, packet: Packet, ack: Ack) -> None:
        """The answer to our own probe, or to one on behalf of another."""
        relay = self._relays.pop(ack.sequence, None)
        if relay is not None:
            self._outbox.send(relay.asker, relay.asker_id, Ack(relay.sequence))
        elif self._probe is not None and self._probe.sequence == ack.sequence and not self._probe.answered:
            self._probe.answered = True
            self._health.record(Evidence.PROBE_ANSWERED)

    def on_nack(self, now: float, sender: NodeAddress, packet: Packet, nack: Nack) -> None:
        """A helper is well, and has not heard from the target either."""
        if self._probe is not None and self._probe.sequence == nack.sequence:
            self._probe.nack(packet.sender)

    def _judge(self, now: float) -> None:
        probe, self._probe = self._probe, None
        self._timers.cancel(INDIRECT)
        if probe is None or probe.answered:
            return
        if probe.asked:
            self._health.record(Evidence.NACK_MISSING, times=probe.nacks_missing)
        else:
            self._health.record(Evidence.PROBE_FAILED_ALONE)
        self._view.accuse(now, probe.target)

    # The side of those who are asked

    def on_ping(self, now: float, sender: NodeAddress, packet: Packet, ping: Ping) -> None:
        """Answer, and answer an accusation that came with it."""
        me = self._view.me
        if ping.target != me.node_id:
            self._dropped["ping for another"] += 1  # one that had this port before us
            return
        accused = any(claim.node_id == me.node_id for claim in packet.claims)
        reply = (me,) if accused else ()
        self._outbox.send(sender, packet.sender, Ack(ping.sequence), boot=packet.boot, reply=reply)

    def on_ping_req(self, now: float, sender: NodeAddress, packet: Packet, request: PingReq) -> None:
        """Ping for another, and say so in time if there is no answer."""
        if len(self._relays) >= RELAYS_MAX:
            self._dropped["too many relays"] += 1
            return
        sequence = self._outbox.next_sequence()
        self._relays[sequence] = Relay(sender, packet.sender, request.sequence)
        if self._tuning.lifeguard:
            self._timers.set((NACK, sequence), now + self._tuning.nack_timeout_s)
        self._timers.set((RELAY, sequence), now + 2 * self._tuning.interval_s)
        self._outbox.send(request.address, request.target, Ping(sequence, request.target))

    def on_nack_due(self, now: float, sequence: Any) -> None:
        """The target is taking long."""
        relay = self._relays.get(sequence)
        if relay is not None:
            self._outbox.send(relay.asker, relay.asker_id, Nack(relay.sequence))

    def on_relay_end(self, now: float, sequence: Any) -> None:
        """Nobody waits for this one any more."""
        self._relays.pop(sequence, None)
