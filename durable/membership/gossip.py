"""The gossip queue: news waits here for a packet to ride on, and each item rides a bounded number of times.

**Why it exists.** Telling everyone directly costs n messages from one member. Handing news on like a rumour
costs each member a few passengers on packets that it sends anyway, and reaches all in O(log n) rounds.

**How it works.** ``take`` fills a packet with the claims that have travelled least, newest first among
equals. A claim leaves when it has ridden `rides_max` times, or when a greater claim about the same member
comes in. Suspicions of one member by several accusers are kept apart: each is a confirmation (`suspicion`)
and must get through.

**Limits.** The spread is probable, not certain: with ``3 ln(n + 1)`` rides a rumour misses some member about
once in n**2 times, and the 30 s exchange of whole lists repairs that. At most one claim per member and
accuser waits, so the queue is bounded by the members (and four accusers each).

Source: SWIM, section 4.1 (piggyback, lambda log n, prefer the less gossiped). Read next: `suspicion`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

from durable.membership.member import Claim, MemberStatus, NodeId, rank
from durable.membership.messages import claim_bytes

RIDES_FACTOR = 3
"""The paper's lambda. A member hears a rumour about as often as each member passes it on, so it misses it
with a probability of
about exp(-3 ln n) = n**-3, and anybody does with n**-2."""


def rides_max(members: int) -> int:
    """How often one claim may ride from one member: 3 ln(n + 1), in a cluster of ``members`` (itself
    included, at least 1).

    >>> [rides_max(n) for n in (1, 5, 50, 1000)]
    [3, 6, 12, 21]
    """
    return ceil(RIDES_FACTOR * log(members + 1))


@dataclass(slots=True)
class _Passenger:
    claim: Claim
    size_bytes: int
    number: int
    rides: int = 0


class GossipQueue:
    """Claims waiting for a ride, by member and then by accuser: a list of a thousand is merged in a thousand
    steps, not a million.
    """

    def __init__(self) -> None:
        self._waiting: dict[NodeId, dict[NodeId, _Passenger]] = {}
        self._number = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, node_id: NodeId) -> bool:
        """Whether a claim about this member still waits."""
        return node_id in self._waiting

    def add(self, claim: Claim) -> None:
        """Queue a claim. Lesser claims about the same member leave; a claim that is lesser itself is not
        taken.
        """
        about = self._waiting.setdefault(claim.node_id, {})
        # All that wait about one member are of one rank: a greater one clears out the lesser.
        for passenger in list(about.values())[:1]:
            if rank(passenger.claim) > rank(claim):
                return
            if rank(passenger.claim) < rank(claim):
                about.clear()
        self._number += 1
        # Only suspicions of several accusers travel side by side; any other claim says the same whoever says
        # it.
        accuser = claim.origin if claim.status is MemberStatus.SUSPECT else claim.node_id
        about[accuser] = _Passenger(claim, claim_bytes(claim), self._number)

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()

    def take(self, room_bytes: int, rides: int, without: tuple[Claim, ...] = ()) -> tuple[Claim, ...]:
        """The claims for one packet, least travelled first, within ``room_bytes``. Each counts as one ride of
        at most ``rides``.
        """
        if not self._waiting:
            return ()
        taken: list[Claim] = []
        waiting = [
            (node_id, accuser, passenger)
            for node_id, about in self._waiting.items()
            for accuser, passenger in about.items()
        ]
        for node_id, accuser, passenger in sorted(waiting, key=_least_travelled):
            if passenger.size_bytes > room_bytes or passenger.claim in without:
                continue
            room_bytes -= passenger.size_bytes
            taken.append(passenger.claim)
            passenger.rides += 1
            if passenger.rides >= rides:
                about = self._waiting[node_id]
                del about[accuser]
                if not about:
                    del self._waiting[node_id]
        return tuple(taken)


def _least_travelled(item: tuple[NodeId, NodeId, _Passenger]) -> tuple[int, int]:
    return item[2].rides, -item[2].number
