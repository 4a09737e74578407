"""What one member believes: the list, the tombstones, the suspicions, and its own claim, which only it may
raise.

**Why it exists.** Everything that is heard, by whatever message, passes one gate (`hear`), so that there is
one place where a belief changes.

**How it works.** A claim passes `HEARD` and `SUPERSEDES` (`member`); then by the status that it is entered
with:

==========  ==================================================================================================
entered as  what else happens
==========  ==================================================================================================
ALIVE       a suspicion ends; a newcomer is inserted into the probe order at random
SUSPECT     a suspicion starts with its timer; its end is DEAD. Another accuser confirms it: news as well
DEAD        out of the probe order; out of the list after ``dead_timeout_s``, with a tombstone left behind
LEFT        the same
==========  ==================================================================================================

A claim about this member itself goes by `OWN_NAME`. Every change is gossiped on, and told as a
`MemberChanged`.

**Limits.** A tombstone remembers the last claim about a member that is gone, so that old rumours do not bring
it back, and its address, so that one believed dead can be called again. As many are kept as members may be;
past that the oldest goes, and a rumour of it would be believed until its suspicion times out.

Read next: `joining`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable.membership.effects import Effect, MemberChanged
from durable.membership.health import Evidence, LocalHealth
from durable.membership.member import Claim, Member, MemberStatus, NodeId, as_heard, rank, supersedes
from durable.membership.suspicion import Suspicion, confirmations_wanted

if TYPE_CHECKING:
    from collections import Counter

    from durable.membership.gossip import GossipQueue
    from durable.membership.probe import ProbeOrder
    from durable.membership.timers import Timers
    from durable.membership.tuning import Tuning

LATER_LIFE, THIS_LIFE = "a later boot", "this boot"
HERE, ELSEWHERE = "at my address", "at another address"


class Own(Enum):
    """What a member does about a claim on its own name."""

    REFUTE = "raise the incarnation above the claim's"
    OUTLIVE = "raise the boot number above the claim's"
    GIVE_WAY = "stop: another process runs under this name"


OWN_NAME: dict[tuple[str, str, bool], Own] = {
    # (which life it speaks of, where that one is, whether it is believed live): what to do
    (THIS_LIFE, HERE, True): Own.REFUTE,
    (THIS_LIFE, HERE, False): Own.REFUTE,
    (THIS_LIFE, ELSEWHERE, True): Own.GIVE_WAY,
    (THIS_LIFE, ELSEWHERE, False): Own.OUTLIVE,
    # Our predecessor, by a clock that has since gone back: the boot number is ours to raise.
    (LATER_LIFE, HERE, True): Own.OUTLIVE,
    (LATER_LIFE, HERE, False): Own.OUTLIVE,
    (LATER_LIFE, ELSEWHERE, True): Own.GIVE_WAY,
    (LATER_LIFE, ELSEWHERE, False): Own.OUTLIVE,
}
"""Only claims that outrank our own get this far; lesser ones are old news."""

SUSPECT, REAP = "suspect", "reap"
GOSSIP = ("gossip", "")


class View:
    """The beliefs of ``me``. The timers, the queue, the health and the effects are shared with `Swim`, which
    owns the sending.
    """

    def __init__(
        self,
        me: Claim,
        tuning: Tuning,
        timers: Timers,
        queue: GossipQueue,
        order: ProbeOrder,
        health: LocalHealth,
        effects: list[Effect],
        dropped: Counter[str],
    ) -> None:
        self.me = me
        self.others: dict[NodeId, Member] = {}
        self.changes = 0
        """Grows with every change of ``me`` and ``others``."""
        self.tombstones: dict[NodeId, Member] = {}
        self.live = 1
        self.displaced_by: Claim | None = None
        self._suspicions: dict[NodeId, Suspicion] = {}
        self._tuning = tuning
        self._timers = timers
        self._queue = queue
        self._order = order
        self._health = health
        self._effects = effects
        self._dropped = dropped

    def known(self, node_id: NodeId) -> Member | None:
        """The last belief about another member: in the list, or on its tombstone."""
        return self.others.get(node_id) or self.tombstones.get(node_id)

    def live_members(self) -> list[Member]:
        """The others that are ALIVE or SUSPECT, in the order in which they came."""
        return [member for member in self.others.values() if member.status.is_live]

    def claims(self) -> tuple[Claim, ...]:
        """The whole list as claims, this member first: what a JoinAck or an Exchange carries."""
        return (self.me, *(self.claim_about(member) for member in self.others.values()))

    def claim_about(self, member: Member) -> Claim:
        """The belief about another member as a claim of this one. A suspicion keeps its first accuser:
        hearing is not accusing.
        """
        origin = self.me.node_id
        if member.status is MemberStatus.LEFT:
            origin = member.node_id
        elif member.node_id in self._suspicions:
            origin = self._suspicions[member.node_id].accusers[0]
        return Claim(member.node_id, member.address, member.boot, member.incarnation, member.status, origin)

    def hear(self, now: float, claim: Claim) -> None:
        """Merge what somebody claims: keep the greater."""
        if claim.node_id == self.me.node_id:
            self._hear_of_myself(now, claim)
            return
        entered = as_heard(claim)
        if entered is None:
            return
        known = self.known(claim.node_id)
        if known is None or supersedes(entered, known):
            self._enter(now, entered)
        elif entered.status is MemberStatus.SUSPECT and rank(entered) == rank(known):
            self._confirm(entered)

    def accuse(self, now: float, probed: Member) -> None:
        """This member's own probe failed. ``probed`` is the target as it was at the ping: if it refuted
        since, this is old news.
        """
        self.hear(now, self._about(probed, MemberStatus.SUSPECT))

    def last_call(self, now: float, node_id: NodeId) -> bool:
        """The time is up. True: ask the suspect once more, and wait a gossip tick. False: bury it."""
        suspicion = self._suspicions[node_id]
        if not suspicion.last_call(now + self._tuning.gossip_tick_s):
            return False
        self._timers.set((SUSPECT, node_id), suspicion.deadline)
        return True

    def bury(self, now: float, node_id: NodeId) -> None:
        """The suspicion's time is up: the one way in which a member becomes DEAD here."""
        self._enter(now, self._about(self.others[node_id], MemberStatus.DEAD))

    def reap(self, now: float, node_id: NodeId) -> None:
        """``dead_timeout_s`` after its end: out of the list; a tombstone stays."""
        self.tombstones[node_id] = self.others.pop(node_id)
        self.changes += 1
        while len(self.tombstones) > self._tuning.members_max:
            del self.tombstones[next(iter(self.tombstones))]

    def leave(self) -> None:
        """Claim LEFT for this member itself."""
        self.me = replace(self.me, status=MemberStatus.LEFT)
        self.changes += 1
        self._queue.add(self.me)

    def slept(self, slept_s: float, not_before: float) -> None:
        """This member itself stood still: the time is no evidence against anybody, and no timer fires before
        ``not_before``.
        """
        for node_id, suspicion in self._suspicions.items():
            suspicion.forgive(slept_s, not_before)
            self._timers.set((SUSPECT, node_id), suspicion.deadline)

    def _about(self, member: Member, status: MemberStatus) -> Claim:
        return Claim(member.node_id, member.address, member.boot, member.incarnation, status, self.me.node_id)

    def _enter(self, now: float, claim: Claim) -> None:
        """Believe a claim that superseded what was known."""
        before = self.others.get(claim.node_id)
        if before is None and len(self.others) + 1 >= self._tuning.members_max:
            self._dropped["list full"] += 1
            return
        self._forget_suspicion(claim.node_id)
        self._timers.cancel((REAP, claim.node_id))
        self.tombstones.pop(claim.node_id, None)
        changed = before is None or (before.status, before.boot, before.address) != (
            claim.status,
            claim.boot,
            claim.address,
        )
        since = now if changed or before is None else before.since
        member = Member(claim.node_id, claim.address, claim.status, claim.incarnation, claim.boot, since)
        self.others[claim.node_id] = member
        self.changes += 1
        self._count(before, member)
        if claim.status is MemberStatus.SUSPECT:
            self._suspect(now, claim)
        elif not claim.status.is_live:
            self._timers.set((REAP, claim.node_id), now + self._tuning.dead_timeout_s)
        self._queue.add(claim)
        if changed:
            self._effects.append(MemberChanged(member, before.status if before else None))

    def _count(self, before: Member | None, member: Member) -> None:
        was_live = before is not None and before.status.is_live
        if member.status.is_live and not was_live:
            self.live += 1
            self._order.insert(member.node_id)
        elif was_live and not member.status.is_live:
            self.live -= 1
            self._order.remove(member.node_id)

    def _suspect(self, now: float, claim: Claim) -> None:
        wanted = confirmations_wanted(self.live) if self._tuning.lifeguard else 0
        suspicion = Suspicion(now, claim.origin, wanted, self._tuning.suspect_timeout_s)
        self._suspicions[claim.node_id] = suspicion
        self._timers.set((SUSPECT, claim.node_id), suspicion.deadline)

    def _confirm(self, claim: Claim) -> None:
        suspicion = self._suspicions.get(claim.node_id)
        if suspicion is not None and suspicion.confirm(claim.origin):
            self._timers.set((SUSPECT, claim.node_id), suspicion.deadline)
            self._queue.add(claim)

    def _forget_suspicion(self, node_id: NodeId) -> None:
        if self._suspicions.pop(node_id, None) is not None:
            self._timers.cancel((SUSPECT, node_id))

    def _hear_of_myself(self, now: float, claim: Claim) -> None:
        if not supersedes(claim, self.me) or (
            claim.boot == self.me.boot and self.me.status is MemberStatus.LEFT
        ):
            return
        life = LATER_LIFE if claim.boot > self.me.boot else THIS_LIFE
        where = HERE if claim.address == self.me.address else ELSEWHERE
        match OWN_NAME[life, where, claim.status.is_live]:
            case Own.GIVE_WAY:
                self.displaced_by = claim
                return
            case Own.OUTLIVE:
                self.me = replace(self.me, boot=claim.boot + 1, incarnation=0)
            case Own.REFUTE:
                self.me = replace(self.me, incarnation=claim.incarnation + 1)
                self._health.record(Evidence.REFUTED)
        self.changes += 1
        self._queue.add(self.me)
        # At once: the accuser's timer runs, and may be about to end.
        self._timers.set(GOSSIP, now)
