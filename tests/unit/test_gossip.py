"""The queue: a budget of rides, the least travelled first, and only the greatest claim about each."""

from __future__ import annotations

import math

import pytest

from durable.membership.gossip import GossipQueue, rides_max
from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import claim_bytes

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus


def claim(about: str, status: MemberStatus = ALIVE, incarnation: int = 0, origin: str = "z") -> Claim:
    return Claim(NodeId(about), NodeAddress(about), 1, incarnation, status, NodeId(origin))


def queue_of(*claims: Claim) -> GossipQueue:
    queue = GossipQueue()
    for one in claims:
        queue.add(one)
    return queue


@pytest.mark.parametrize("members", [1, 2, 5, 50, 1000])
def test_the_budget_grows_with_the_logarithm(members: int) -> None:
    """SWIM, section 4.1: each update is passed on lambda log n times; here lambda is 3, with the natural
    logarithm.
    """
    assert rides_max(members) == math.ceil(3 * math.log(members + 1))


def test_a_claim_rides_its_budget_and_no_more() -> None:
    queue = queue_of(claim("a"))
    rides = [len(queue.take(1000, rides=4)) for _ in range(9)]
    assert rides == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert len(queue) == 0


def test_the_least_travelled_rides_first_and_the_newest_among_equals() -> None:
    a, b, c = claim("a"), claim("b"), claim("c")
    queue = queue_of(a, b)
    assert queue.take(claim_bytes(a), rides=9) == (b,)
    assert queue.take(claim_bytes(a), rides=9) == (a,)
    queue.add(c)
    assert queue.take(10_000, rides=9) == (c, b, a)


def test_what_does_not_fit_waits() -> None:
    big, small = claim("x" * 60), claim("s")
    queue = queue_of(small, big)
    assert queue.take(claim_bytes(small), rides=1) == (small,)
    assert queue.take(claim_bytes(big) - 1, rides=1) == ()
    assert queue.take(claim_bytes(big), rides=1) == (big,)


def test_what_the_packet_says_already_does_not_ride_again() -> None:
    a = claim("a")
    queue = queue_of(a)
    assert queue.take(1000, rides=1, without=(a,)) == ()
    assert queue.take(1000, rides=1) == (a,)


def test_a_greater_claim_drives_out_the_lesser_and_a_lesser_one_is_not_taken() -> None:
    queue = queue_of(claim("a", SUSPECT), claim("a", ALIVE, 1), claim("a", DEAD))
    assert queue.take(1000, rides=9) == (claim("a", ALIVE, 1),)
    assert NodeId("a") in queue
    assert NodeId("b") not in queue


def test_several_accusers_of_one_member_travel_side_by_side() -> None:
    accusations = [claim("a", SUSPECT, origin=origin) for origin in "xyz"]
    queue = queue_of(*accusations, accusations[0])
    assert sorted(one.origin for one in queue.take(1000, rides=9)) == ["x", "y", "z"]
    queue.add(claim("a", DEAD, origin="x"))
    assert queue.take(1000, rides=9) == (claim("a", DEAD, origin="x"),)


def test_a_claim_of_anything_else_waits_once_whoever_says_it() -> None:
    queue = queue_of(claim("a", DEAD, origin="x"), claim("a", DEAD, origin="y"))
    assert queue.take(1000, rides=9) == (claim("a", DEAD, origin="y"),)
