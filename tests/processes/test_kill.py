"""A real process, killed at random instants: a handful of rounds of what ``tests/chaos/kill.py`` does by the hundred."""

from __future__ import annotations

import pytest
from chaos.kill import run
from stores import DISK_ENGINES


@pytest.mark.parametrize("engine", DISK_ENGINES)
def test_nothing_durable_is_lost_or_done_again(engine: str) -> None:
    tally = run(rounds=6, store=engine, seed=7, say=False)
    assert tally.kills >= 6
    assert tally.completions_checked > 0
