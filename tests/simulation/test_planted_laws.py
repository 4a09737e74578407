"""The tests of the tests, law by law: those that `test_planted_in_worlds` does not come to are each broken by a bug of their own.

`tests/plantedlaws.py` has the bugs. A bug breaks the law that it is named by before it breaks any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from plantedlaws import PLANTED

from durable.sim.faults import FAULTS
from durable.trials.clients import STEERED_EVERY
from durable.trials.runs import SCENES, Played, play
from durable.trials.workloads import WITNESSED_EVERY

WORKFLOWS = SCENES["workflows"]
LATE = replace(WORKFLOWS, kinds={kind: FAULTS[kind] for kind in ("delay", "one-way cut", "pause")})
"""Answers come late, or not at all: whoever asked asks again."""


def storm(seed: int) -> Played:
    return play(seed, WORKFLOWS)


def breeze(seed: int) -> Played:
    """Most partitions keep their owner, so what runs twice has no failover for an excuse."""
    return play(seed, WORKFLOWS, seconds=20.0, faults=2)


def late(seed: int) -> Played:
    return play(seed, LATE)


def steered(seed: int) -> Played:
    """The clients pause and cancel."""
    return play(STEERED_EVERY * seed - 3)


def witnessed(seed: int) -> Played:
    return play(WITNESSED_EVERY * seed - 4)


FOUND: dict[str, tuple[Callable[[int], Played], int]] = {
    "nothing twice": (breeze, 4),
    "one result": (breeze, 2),
    "the story adds up": (late, 12),
    "the story adds up, of pauses": (steered, 4),
    "the story adds up, of cancels": (steered, 4),
    "equal replicas": (storm, 2),
    "a witness owns nothing": (witnessed, 2),
    "a promise never falls": (storm, 2),
    "what is done stays so": (storm, 2),
}
"""What is played, and within how many seeds from seed 1 it is found."""


@pytest.mark.parametrize("law", PLANTED)
def test_a_bug_breaks_the_law_that_is_there_for_it_and_no_other(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played, seeds = FOUND[law]
    PLANTED[law](monkeypatch)
    broken = next(filter(None, (played(seed).broken for seed in range(1, 1 + seeds))), f"not found in {seeds} seeds")
    assert broken.startswith(f"the law '{law.partition(',')[0]}' is broken"), broken


@pytest.mark.parametrize("played", [breeze, late])
def test_the_same_worlds_hold_when_nothing_is_broken(played: Callable[[int], Played]) -> None:
    for seed in (2, 3):
        found = played(seed)
        assert found.broken is None
        assert found.faults.total() >= 2
