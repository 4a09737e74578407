"""The tests of the tests, in whole worlds: a rule is broken in a node that is otherwise the one of production, and a law says so.

Each rule of the protocol is broken once, and each of the shell's; the laws are those of every world. `tests/plantedbugs.py` has the
bugs, `tests/aimedstorms.py` the faults that strike where a broken rule shows.

Longer: ``python tests/simulation/sweep_aimed.py "two logs" --planted "the longest log wins"``.
"""

from __future__ import annotations

import pytest
from aimedstorms import PLOTS, play_aimed
from plantedbugs import PLANTED

from durable.trials.runs import Played, play

STORM = "storm"
"""Any faults, at any moment."""

LOST = "every later owner has it", "committed stays", "written once"
"""What is broken when something committed is lost: it depends on who notices first."""

FOUND: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "fsync skipped": (STORM, 1, ("answered means committed",)),
    "answered early": (STORM, 1, ("answered means committed", "executed after committed")),
    "letters early": (STORM, 4, ("sent after committed",)),
    "bodies early": (STORM, 1, ("executed after committed",)),
    "reads unconfirmed": ("stale owner", 12, ("the story adds up",)),
    "one copy is enough": (STORM, 1, ("answered means committed",)),
    "on a log of another epoch": ("old tail", 20, (*LOST, "a prefix of its owner's")),
    "an owner of the past": ("overlap", 3, LOST),
    "promises forgotten": ("overlap", 8, LOST),
    "the longest log wins": ("two logs", 10, LOST),
    "the own log wins": ("two logs", 3, LOST),
    "a piece is enough": ("half a log", 15, LOST),
    "epochs resumed": ("back at once", 2, ("one owner an epoch",)),
    "disks known by name": ("empty voter", 3, LOST),
    "appended behind a seal": ("lone seal", 2, ("nothing behind a seal",)),
    "moved before the seal": ("lone seal", 3, LOST),
    "a roster decided alone": ("lone roster", 4, LOST),
}
"""What is played; so many seeds to find it in, several times as many as one takes on average; and the laws that find it."""


def played(what: str, seed: int) -> Played:
    return play(seed, "workflows") if what == STORM else play_aimed(seed, what)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_broken_rule_breaks_a_law_in_a_whole_world(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what, seeds, laws = FOUND[bug]
    PLANTED[bug](monkeypatch)
    broken = next(filter(None, (played(what, seed).broken for seed in range(2, 2 + seeds))), "")
    assert any(f"'{law}'" in broken for law in laws), broken or f"not found in {seeds} seeds"


@pytest.mark.parametrize("what", [STORM, *PLOTS])
def test_the_same_worlds_hold_when_nothing_is_broken(what: str) -> None:
    for seed in (3, 5):
        found = played(what, seed)
        assert found.broken is None, f"seed {seed} of {what}"
        assert found.faults.total() >= (10 if what == STORM else 1)
