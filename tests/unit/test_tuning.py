"""The numbers: what follows from the period, and what is refused."""

from __future__ import annotations

import pytest

from durable.membership.tuning import Tuning


def test_the_defaults_are_these() -> None:
    tuning = Tuning()
    assert (tuning.interval_s, tuning.suspect_timeout_s, tuning.dead_timeout_s) == (1.0, 5.0, 30.0)
    assert (tuning.exchange_interval_s, tuning.helpers, tuning.gossip_fanout) == (30.0, 3, 3)
    assert (tuning.probe_timeout_s, tuning.nack_timeout_s) == (0.5, 0.4)
    assert (tuning.gossip_tick_s, tuning.stall_s) == (0.2, 0.25)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("interval_s", 0.0),
        ("suspect_timeout_s", -1.0),
        ("dead_timeout_s", float("inf")),
        ("exchange_interval_s", float("nan")),
        ("helpers", 0),
        ("gossip_fanout", 0),
        ("members_max", 0),
        ("packet_bytes_max", 100),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Tuning(**{name: value})  # type: ignore[arg-type]
