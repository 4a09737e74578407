"""The protocol's proof by trying: random worlds over the very core of production, and a bug planted for each rule.

What is committed stays, and is in every later owner's log; an epoch has one owner; a promise that was safe is kept; logs are
prefixes of their owner's; nothing follows a seal in its generation; a generation begins with one base; rows are what the
committed entries make. `tests/replicaworld.py` holds the laws, `tests/replicamutations.py` the broken rules.

Longer: ``python tests/simulation/sweep_replication.py moving --seeds 10000``.
"""

from __future__ import annotations

from collections import Counter

import pytest
from replicamutations import world_class
from replicaworld import KINDS, ReplicaWorld, Violation

SEEDS = 80

CAUGHT_WITHIN = {
    # mutation: (world, seeds within which it is caught). Measured: the first that catches it, and how many of 1,000 do.
    "zombie": ("crashing", 600),  # 144, 6
    "forgetpromise": ("crashing", 600),  # 85, 1
    "nofsync": ("cruel", 600),  # 148, 2
    "longest": ("cruel", 600),  # 258, 4
    "norecover": ("crashing", 50),
    "nosync": ("crashing", 100),  # 3, 19
    "piece": ("cruel", 600),  # 431, 3
    "oneack": ("crashing", 50),
    "resume": ("crashing", 100),
    "amnesia": ("crashing", 50),
    "sealopen": ("moving", 50),
    "earlyinstall": ("moving", 50),
}


def run(kind: str, seed: int, mutation: str = "") -> ReplicaWorld:
    world = world_class(mutation)(seed, mutation=mutation, **KINDS[kind])
    try:
        world.run()
    except Violation as violation:
        violation.add_note(f"replay it: python tests/simulation/sweep_replication.py {kind} --first {seed} --seeds 1")
        raise
    return world


@pytest.mark.parametrize("kind", KINDS)
def test_no_law_is_broken_and_work_is_done(kind: str) -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        counts.update(run(kind, seed).counts)
    done = min(counts["commits"], counts["owned"], 2 * counts["reads"])
    assert done > SEEDS / 2, f"a world in which little happens shows little: {counts}"
    if kind in ("truncating", "moving"):
        assert counts["snapshots"] > SEEDS / 10


@pytest.mark.parametrize("mutation", CAUGHT_WITHIN)
def test_each_rule_is_needed(mutation: str) -> None:
    """With the rule switched off, a law is broken within so many seeds: the laws look where they must."""
    kind, seeds = CAUGHT_WITHIN[mutation]
    for seed in range(seeds):
        try:
            run(kind, seed, mutation)
        except Violation:
            return
    pytest.fail(f"{mutation} broke no law in {seeds} seeds")


def test_a_seed_replays_to_the_byte() -> None:
    first, again = run("moving", 7), run("moving", 7)
    assert first.laws.committed == again.laws.committed
    assert [node.disk.rows for node in first.nodes] == [node.disk.rows for node in again.nodes]
    assert first.random.random() == again.random.random()
