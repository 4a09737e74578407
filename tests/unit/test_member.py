"""Claims: what is entered of them, and which one wins."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.membership.member import (
    HEARD,
    Claim,
    MemberStatus,
    NodeAddress,
    NodeId,
    as_heard,
    rank,
    supersedes,
)

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus
B = NodeId("b")


def claim(
    status: MemberStatus = ALIVE, incarnation: int = 0, boot: int = 1, origin: str = "a", host: str = "b"
) -> Claim:
    return Claim(B, NodeAddress(host), boot, incarnation, status, NodeId(origin))


CLAIMS = st.builds(
    claim,
    status=st.sampled_from(MemberStatus),
    incarnation=st.integers(0, 3),
    boot=st.integers(1, 3),
    origin=st.sampled_from(["a", "b", "c"]),
    host=st.sampled_from(["b", "b2"]),
)


def test_of_one_incarnation_the_worse_status_wins_and_a_new_life_or_incarnation_beats_any() -> None:
    ascending = [
        claim(ALIVE),
        claim(SUSPECT),
        claim(DEAD),
        claim(LEFT),
        claim(ALIVE, incarnation=1),
        claim(DEAD, incarnation=7),
        claim(ALIVE, boot=2),
    ]
    for lesser, greater in pairwise(ascending):
        assert supersedes(greater, lesser)
        assert not supersedes(lesser, greater)


@given(CLAIMS, CLAIMS)
def test_the_order_is_total_whoever_says_it(one: Claim, other: Claim) -> None:
    assert supersedes(one, other) + supersedes(other, one) == (rank(one) != rank(other))


@given(st.lists(CLAIMS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_merging_commutes_is_associative_and_idempotent(claims: list[Claim], random) -> None:  # type: ignore[no-untyped-def]
    """SWIM, section 4.2: whoever hears the same claims, in any order and any number of times, believes the
    same.
    """

    def merge(heard: list[Claim]) -> Claim | None:
        best: Claim | None = None
        for one in heard:
            entered = as_heard(one)
            if entered is not None and (best is None or supersedes(entered, best)):
                best = entered
        return best

    shuffled = random.sample(claims, len(claims)) + random.choices(claims, k=3)
    first, second = merge(claims), merge(shuffled)
    assert (first is None) == (second is None)
    assert first is None or second is None or rank(first) == rank(second)


def test_what_another_calls_dead_is_a_suspicion_here() -> None:
    assert as_heard(claim(DEAD, incarnation=4)) == claim(SUSPECT, incarnation=4)


def test_only_the_member_itself_can_say_that_it_left() -> None:
    assert as_heard(claim(LEFT, origin="a")) is None
    assert as_heard(claim(LEFT, origin="b")) == claim(LEFT, origin="b")


def test_nobody_accuses_itself() -> None:
    assert as_heard(claim(SUSPECT, origin="b")) is None
    assert as_heard(claim(DEAD, origin="b")) is None


def test_the_table_answers_every_case() -> None:
    assert set(HEARD) == {(status, by) for status in MemberStatus for by in (True, False)}


@pytest.mark.parametrize("text", ["10.0.0.7:7800", "[::1]:7801", "node-1.example:1"])
def test_an_address_reads_back_as_written(text: str) -> None:
    assert str(NodeAddress.parse(text)) == text


@pytest.mark.parametrize("text", ["", "host", "host:", ":7800", "host:port", "host:70000"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it as host:port"):
        NodeAddress.parse(text)
