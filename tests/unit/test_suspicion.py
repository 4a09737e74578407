"""Suspicion: shorter with every accuser, never shorter than the minimum."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.membership.member import NodeId
from durable.membership.suspicion import Suspicion, confirmations_wanted, timeout_s


@pytest.mark.parametrize(("members", "wanted"), [(2, 0), (3, 0), (4, 0), (5, 3), (50, 3)])
def test_up_to_four_members_nobody_waits_for_confirmation(members: int, wanted: int) -> None:
    """Lifeguard, "Local Health Aware Suspicion": with fewer others than confirmations wanted, the timeout is
    the minimum.
    """
    assert confirmations_wanted(members) == wanted


def test_the_timeout_falls_from_three_times_the_minimum_with_the_logarithm_of_the_confirmations() -> None:
    """Lifeguard's formula: max - (max - min) log(C + 1) / log(K + 1)."""
    for confirmations in range(4):
        expected = 15 - 10 * math.log(confirmations + 1) / math.log(4)
        assert timeout_s(confirmations, 3, 5.0) == pytest.approx(expected)
    assert timeout_s(0, 0, 5.0) == 5.0
    assert timeout_s(9, 3, 5.0) == 5.0


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.floats(0.1, 10))
def test_the_deadline_only_comes_nearer_and_each_accuser_counts_once(
    accusers: list[str], minimum_s: float
) -> None:
    suspicion = Suspicion(100.0, NodeId("first"), 3, minimum_s)
    assert suspicion.deadline == pytest.approx(100.0 + 3 * minimum_s)
    before = suspicion.deadline
    for accuser in accusers:
        counted = suspicion.confirm(NodeId(accuser))
        assert counted == (suspicion.deadline < before)
        assert 100.0 + minimum_s - 1e-9 <= suspicion.deadline <= before
        before = suspicion.deadline
    assert len(suspicion.accusers) == min(4, 1 + len(set(accusers)))


def test_the_first_accuser_does_not_confirm_itself() -> None:
    suspicion = Suspicion(0.0, NodeId("a"), 3, 5.0)
    assert not suspicion.confirm(NodeId("a"))
    assert suspicion.confirm(NodeId("b"))


def test_time_slept_does_not_count_and_there_is_time_to_read_what_waits() -> None:
    suspicion = Suspicion(0.0, NodeId("a"), 0, 5.0)
    suspicion.forgive(slept_s=4.0, not_before=4.5)
    assert suspicion.deadline == 9.0
    suspicion.forgive(slept_s=0.0, not_before=20.0)
    assert suspicion.deadline == 20.0


def test_the_last_call_comes_once_and_no_confirmation_cuts_it_short() -> None:
    suspicion = Suspicion(0.0, NodeId("a"), 3, 5.0)
    assert suspicion.last_call(until=15.2)
    assert suspicion.deadline == 15.2
    suspicion.confirm(NodeId("b"))
    assert suspicion.deadline == 15.2
    assert not suspicion.last_call(until=99.0)
    assert suspicion.deadline == 15.2
