"""A suspicion: how long a member may stay silent before it is called dead, shorter the more accusers agree.

**Why it exists.** One accuser may be the sick one: its own loop is slow, its acks lie unread in a buffer. So
it waits three times as long as it would have to, unless others, who probed by themselves, come to the same
result.

**How it works.** With C confirmations beyond the first accuser, of K needed:

    timeout = maximum - (maximum - minimum) * log(C + 1) / log(K + 1),  maximum = 3 * minimum,  K = 3

    =====================  =======  =======  =======  =======
    confirmations C        0        1        2        3
    timeout, minimum 5 s   15.0 s   10.0 s   7.1 s    5.0 s
    =====================  =======  =======  =======  =======

**The last call** is ours: when the time is up, the suspect is pinged once more, with the accusation, and has
one gossip tick to refute. Who was only waiting in its own sockets answers within milliseconds; so a pause of
exactly one period and the timeout costs nobody its life, nor does a refutation that gossip lost.

**Limits.** With fewer than three others who could confirm (n <= 4) nobody waits for them: the timeout is the
minimum.

Source: Lifeguard, "Local Health Aware Suspicion". Read next: `health`.
"""

from __future__ import annotations

from math import log

from durable.membership.member import NodeId

CONFIRMATIONS_WANTED = 3
MAXIMUM_FACTOR = 3


def confirmations_wanted(members: int) -> int:
    """K, in a cluster of ``members``: this one and the suspect included. 0 where there are too few to wait
    for.
    """
    return CONFIRMATIONS_WANTED if members - 2 >= CONFIRMATIONS_WANTED else 0


def timeout_s(confirmations: int, wanted: int, minimum_s: float) -> float:
    """Seconds from the start of a suspicion to death.

    >>> [round(timeout_s(c, 3, 5.0), 1) for c in range(4)]
    [15.0, 10.0, 7.1, 5.0]
    """
    if confirmations >= wanted:
        return minimum_s
    maximum_s = MAXIMUM_FACTOR * minimum_s
    return maximum_s - (maximum_s - minimum_s) * log(confirmations + 1) / log(wanted + 1)


class Suspicion:
    """One member under suspicion: who accuses it, and when the time is up."""

    def __init__(self, now: float, accuser: NodeId, wanted: int, minimum_s: float) -> None:
        self.accusers = [accuser]
        self._started_at = now
        self._not_before = now
        self._called = False
        self._wanted = wanted
        self._minimum_s = minimum_s

    def confirm(self, accuser: NodeId) -> bool:
        """Count another accuser. False if it said so before, or no more are wanted: then there is no news in
        it.
        """
        if accuser in self.accusers or len(self.accusers) > self._wanted:
            return False
        self.accusers.append(accuser)
        return True

    def forgive(self, slept_s: float, not_before: float) -> None:
        """Take out the time for which this node itself slept, and wait at least until ``not_before``."""
        self._started_at += slept_s
        self._not_before = not_before

    def last_call(self, until: float) -> bool:
        """Whether the suspect is still to be asked a last time; if so, it has until then to answer."""
        first, self._called = not self._called, True
        if first:
            self._not_before = until
        return first

    @property
    def deadline(self) -> float:
        """When the member is called dead, if it has not refuted by then."""
        timeout = timeout_s(len(self.accusers) - 1, self._wanted, self._minimum_s)
        return max(self._started_at + timeout, self._not_before)
