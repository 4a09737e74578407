"""SWIM with Lifeguard: the state machine that a shell drives, and that does nothing by itself.

**Why it exists.** Who is there must be known by everybody, soon, at a cost per member that does not grow with
the cluster, without a leader, and with as few lies as a slow machine allows. Being pure, it runs under a seed
exactly as it runs in production.

**How it works.** A shell calls `receive` for what arrives and `tick` at `next_deadline`, and carries out
`effects` after either. What is believed is `View`'s business; this module is about what is sent, and when:

===========  ===============================  ================================================================
timer        every                            does
===========  ===============================  ================================================================
period       interval_s x local health        judges the last probe, starts the next
indirect     probe_timeout_s after a ping     asks k helpers to ping for us
nack         nack_timeout_s after a PingReq   tells the asker that we are still waiting
relay        two periods after a PingReq      forgets it
gossip       gossip_tick_s, with news only    sends news to a few members, the recently dead among them
exchange     exchange_interval_s              whole lists with one member; calls one believed dead
join         1, 2, 4, ... interval_s          asks the seeds that have not answered
suspect      `Suspicion.deadline`             calls the suspect a last time; a gossip tick later it is dead
reap         dead_timeout_s after a death     out of the list
leave        two periods after leave()        stops, told or not
===========  ===============================  ================================================================

**The stall rule.** If a call comes much later than a deadline, this member itself stood still: acks and
refutations wait unread in its sockets. Then nobody is judged before they had time to be read, the time slept
does not count against any suspect, and local health falls.

**Limits.** It says who seems alive, to within seconds, and is sometimes wrong; it never says who may commit
(`durable.replication`).

Source: Das, Gupta, Motivala, "SWIM" (DSN 2002); Dadgar, Phillips, Currey, "Lifeguard" (2017). Read next:
`durable.routing.ring`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from durable.membership.effects import Displaced, Effect, Joined, JoinRefused, Left
from durable.membership.gossip import GossipQueue
from durable.membership.health import Evidence, LocalHealth
from durable.membership.joining import Seeds, refusal, settings_that_differ
from durable.membership.member import Claim, Member, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import (
    Ack,
    Exchange,
    Join,
    JoinAck,
    Nack,
    Packet,
    Ping,
    PingReq,
    Refused,
)
from durable.membership.outbox import Outbox
from durable.membership.probe import NACK, PERIOD, RELAY, ProbeOrder, Prober
from durable.membership.timers import Timers
from durable.membership.tuning import Tuning
from durable.membership.view import GOSSIP, REAP, SUSPECT, View

if TYPE_CHECKING:
    from random import Random

OnMessage: TypeAlias = Callable[[float, NodeAddress, Packet, Any], None]
OnTimer: TypeAlias = Callable[[float, Any], None]

EXCHANGE, JOIN, LEAVE = ("exchange", ""), ("join", ""), ("leave", "")


class Swim:
    """One member.

    >>> from random import Random
    >>> swim = Swim(NodeId("node-1"), NodeAddress("127.0.0.1", 7800), boot=1, random=Random(1))
    >>> swim.start(now=0.0)
    >>> [member.status.name for member in swim.members()], swim.effects()
    (['ALIVE'], ())

    Args:
        node_id: this member's name, unique in the cluster.
        address: where others reach it.
        boot: the number of this life, greater than any earlier one's (milliseconds since 1970 will do).
        random: the only source of chance: the same seed and the same calls give the same effects.
        tuning: the numbers.
        remembered: claims about members that know of this one already; believed, and not gossiped.
    """

    def __init__(
        self,
        node_id: NodeId,
        address: NodeAddress,
        *,
        boot: int,
        random: Random,
        tuning: Tuning | None = None,
        remembered: Iterable[Claim] = (),
    ) -> None:
        self.tuning = tuning or Tuning()
        self.health = LocalHealth(enabled=self.tuning.lifeguard)
        self.dropped: Counter[str] = Counter()
        me = Claim(node_id, address, boot, 0, MemberStatus.ALIVE, node_id)
        self._random = random
        self._timers = Timers()
        self._queue = GossipQueue()
        self._effects: list[Effect] = []
        order = ProbeOrder(random)
        self._view = View(
            me, self.tuning, self._timers, self._queue, order, self.health, self._effects, self.dropped
        )
        # From a random number on, so that an answer to an earlier life is no answer to this one.
        self._outbox = Outbox(
            self._view, self._queue, self.tuning, self._effects, sequence=random.getrandbits(32)
        )
        prober = Prober(
            self._view, order, self._outbox, self._timers, self.health, random, self.tuning, self.dropped
        )
        self._seeds = Seeds(self.tuning.interval_s, self.tuning.exchange_interval_s)
        self._when_received, self._when_due = self._tables(prober)
        self._started_at = 0.0
        self._listed: tuple[Member, ...] = ()
        self._listed_at = -1
        """The count of changes at which the list was made; most who ask find it unchanged."""
        self._asked_at = self._awake_at = float("-inf")
        self._stopped = False
        for claim in remembered:
            self._view.hear(0.0, claim)
        self._queue.clear()
        self._effects.clear()
        if not self._view.others:
            self._queue.add(me)

    # What a shell asks

    @property
    def me(self) -> Claim:
        """This member's claim about itself: name, address, boot, incarnation, status."""
        return self._view.me

    @property
    def stopped(self) -> bool:
        """Left or displaced: nothing will happen any more."""
        return self._stopped

    def members(self) -> tuple[Member, ...]:
        """The list by name, this member included; the dead and the left for ``dead_timeout_s`` more."""
        if self._listed_at != self._view.changes:
            me, self._listed_at = self._view.me, self._view.changes
            myself = Member(me.node_id, me.address, me.status, me.incarnation, me.boot, self._started_at)
            self._listed = tuple(sorted((myself, *self._view.others.values()), key=lambda member: member.node_id))
        return self._listed

    def next_deadline(self) -> float | None:
        """When `tick` wants to be called, in seconds of the caller's clock. None: when something arrives."""
        return self._timers.next_deadline()

    def effects(self) -> tuple[Effect, ...]:
        """What is to be done, in order. Each is handed out once."""
        taken = tuple(self._effects)
        self._effects.clear()
        return taken

    # What a shell tells

    def start(self, now: float) -> None:
        """Begin to probe. The first period starts at a random moment of it, so that members started together
        do not ping together.
        """
        self._started_at, self._listed_at = now, -1
        self._timers.set(PERIOD, now + self._random.random() * self.tuning.interval_s)
        self._timers.set(EXCHANGE, now + self._random.random() * self.tuning.exchange_interval_s)

    def join(self, now: float, seeds: Sequence[NodeAddress]) -> None:
        """Ask these addresses to let us in, until each has answered. Our own among them is skipped."""
        self._seeds.ask([seed for seed in seeds if seed != self.me.address])
        self._timers.set(JOIN, now)

    def leave(self, now: float) -> None:
        """Tell the others that we go. `Left` is the effect that says it is done, within two periods."""
        if self._stopped or self.me.status is MemberStatus.LEFT:
            return
        self._timers.clear()
        self._view.leave()
        self._timers.set(GOSSIP, now)
        self._timers.set(LEAVE, now + 2 * self.tuning.interval_s)

    def receive(self, now: float, sender: NodeAddress, packet: Packet) -> None:
        """A packet arrived from ``sender``. Never raises: what makes no sense is counted in ``dropped``."""
        if self._stopped:
            return
        if packet.cluster != self.tuning.cluster:
            self.dropped["foreign cluster"] += 1
            return
        if packet.sender == self.me.node_id and packet.boot == self.me.boot:
            self.dropped["own echo"] += 1
            return
        self._notice_stall(now)
        for claim in packet.claims:
            self._view.hear(now, claim)
        if packet.message is not None:
            self._when_received[type(packet.message)](now, sender, packet, packet.message)
        self._meet(now, sender, packet)
        self._after(now)

    def tick(self, now: float) -> None:
        """Do what is due. Calling it early, or twice, does nothing."""
        if self._stopped:
            return
        self._notice_stall(now)
        while timer := self._timers.due(now):
            self._when_due[timer[0]](now, timer[1])
            self._after(now)

    def _on_suspect_due(self, now: float, node_id: Any) -> None:
        if self.tuning.lifeguard and self._view.last_call(now, node_id):
            suspect = self._view.others[node_id]
            self._outbox.send(suspect.address, node_id, Ping(self._outbox.next_sequence(), node_id))
        else:
            self._view.bury(now, node_id)

    # News

    def _on_gossip(self, now: float, _: Any) -> None:
        reachable = [
            member for member in self._view.others.values() if member.status is not MemberStatus.LEFT
        ]
        for member in self._random.sample(reachable, min(self.tuning.gossip_fanout, len(reachable))):
            self._outbox.send(member.address, member.node_id, None)
        if self.me.status is MemberStatus.LEFT and (self.me.node_id not in self._queue or not reachable):
            self._on_leave(now, "")

    def _on_exchange(self, now: float, _: Any) -> None:
        self._timers.set(EXCHANGE, now + self.tuning.exchange_interval_s)
        gone = [*self._view.others.values(), *self._view.tombstones.values()]
        for candidates in (
            self._view.live_members(),
            [member for member in gone if member.status is MemberStatus.DEAD],
        ):
            if candidates:
                member = candidates[self._random.randrange(len(candidates))]
                self._outbox.stream(member.address, member.node_id, self._everybody(answer=False))

    def _on_exchange_message(
        self, now: float, sender: NodeAddress, packet: Packet, exchange: Exchange
    ) -> None:
        if settings_that_differ(self.tuning.settings, exchange.settings):
            self.dropped["other settings"] += 1
            return
        if not exchange.answer:
            # Ours goes out before theirs is merged: else it would only repeat what they just said.
            self._outbox.stream(sender, packet.sender, self._everybody(answer=True))
        for claim in exchange.members:
            self._view.hear(now, claim)

    def _meet(self, now: float, sender: NodeAddress, packet: Packet) -> None:
        """Whoever writes to us and is not in our list is asked for theirs: we may have missed, or forgotten,
        a part of the cluster.
        """
        if isinstance(packet.message, Join | JoinAck | Refused | Exchange):
            return
        known = self._view.known(packet.sender)
        newcomer = known is None or packet.boot > known.boot
        if newcomer and now - self._asked_at >= self.tuning.interval_s:
            self._asked_at = now
            self._outbox.stream(sender, packet.sender, self._everybody(answer=False))

    def _everybody(self, *, answer: bool) -> Exchange:
        return Exchange(self._view.claims(), dict(self.tuning.settings), answer)

    # Coming and going

    def _on_join_timer(self, now: float, _: Any) -> None:
        for seed, sequence in self._seeds.attempt(self._outbox.next_sequence):
            self._outbox.stream(seed, None, Join(sequence, self.me, dict(self.tuning.settings)))
        if self._seeds:
            self._timers.set(JOIN, now + self._seeds.next_pause_s())

    def _on_join(self, now: float, sender: NodeAddress, packet: Packet, join: Join) -> None:
        no = refusal(self._view, self.tuning, join)
        if no is None:
            self._view.hear(now, join.joiner)
        self._outbox.stream(sender, packet.sender, no or JoinAck(join.sequence, self._view.claims()))

    def _on_join_ack(self, now: float, sender: NodeAddress, packet: Packet, ack: JoinAck) -> None:
        if not self._seeds.answered(ack.sequence):
            self.dropped["unasked answer"] += 1
            return
        knew_nobody = not self._view.others
        for claim in ack.members:
            self._view.hear(now, claim)
        if knew_nobody:
            # They know each other: no news to anybody but us. Had we known others, it would be.
            self._queue.clear()
            self._queue.add(self.me)
        self._effects.append(Joined(packet.sender))

    def _on_refused(self, now: float, sender: NodeAddress, packet: Packet, no: Refused) -> None:
        if not self._seeds.asked(no.sequence):
            self.dropped["unasked answer"] += 1
            return
        if no.final:
            self._seeds.answered(no.sequence)
        self._effects.append(JoinRefused(packet.sender, no.why, no.final))

    def _on_leave(self, now: float, _: Any) -> None:
        self._effects.append(Left())
        self._stop()

    # The common part

    def _notice_stall(self, now: float) -> None:
        deadline = self._timers.next_deadline()
        if deadline is not None and self.tuning.lifeguard:
            slept_s = now - max(deadline, self._awake_at)
            if slept_s > self.tuning.stall_s:
                self.health.record(Evidence.STALLED)
                drained_at = now + self.tuning.probe_timeout_s
                self._view.slept(slept_s, drained_at)
                self._timers.delay(PERIOD, drained_at)
        self._awake_at = now

    def _after(self, now: float) -> None:
        if self._view.displaced_by is not None:
            self._effects.append(Displaced(self._view.displaced_by))
            self._stop()
        elif not self._stopped and self._queue and GOSSIP not in self._timers and self._view.others:
            self._timers.set(GOSSIP, now + self.tuning.gossip_tick_s)

    def _tables(self, prober: Prober) -> tuple[dict[type, OnMessage], dict[str, OnTimer]]:
        """What is done for each message that arrives, and for each timer that is due."""
        return {
            Ping: prober.on_ping,
            Ack: prober.on_ack,
            PingReq: prober.on_ping_req,
            Nack: prober.on_nack,
            Join: self._on_join,
            JoinAck: self._on_join_ack,
            Refused: self._on_refused,
            Exchange: self._on_exchange_message,
        }, {
            "period": prober.on_period,
            "indirect": prober.on_indirect,
            NACK: prober.on_nack_due,
            RELAY: prober.on_relay_end,
            "gossip": self._on_gossip,
            "exchange": self._on_exchange,
            "join": self._on_join_timer,
            "leave": self._on_leave,
            SUSPECT: self._on_suspect_due,
            REAP: self._view.reap,
        }

    def _stop(self) -> None:
        self._stopped = True
        self._timers.clear()
