"""Local health: what moves the score, and its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from durable.membership.health import CHANGES, SCORE_MAX, Evidence, LocalHealth


def test_the_table_holds_a_change_for_each_piece_of_evidence() -> None:
    """Lifeguard, "Local Health Aware Probe": only success lowers the score; trouble of our own raises it by
    one.
    """
    assert set(CHANGES) == set(Evidence)
    assert [evidence for evidence, change in CHANGES.items() if change < 0] == [Evidence.PROBE_ANSWERED]
    assert set(CHANGES.values()) == {-1, 1}


@given(st.lists(st.tuples(st.sampled_from(Evidence), st.integers(0, 4))))
def test_the_score_stays_between_nought_and_eight(events: list[tuple[Evidence, int]]) -> None:
    health = LocalHealth()
    for evidence, times in events:
        health.record(evidence, times)
        assert 0 <= health.score <= SCORE_MAX == 8
        assert health.multiplier == health.score + 1


def test_switched_off_it_stays_well() -> None:
    health = LocalHealth(enabled=False)
    health.record(Evidence.STALLED, times=5)
    assert health.multiplier == 1
