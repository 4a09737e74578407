"""The protocol's proof by trying: random worlds over the very core of production, and a bug planted for each rule.

What is committed stays, and is in every later owner's log; an epoch has one owner; a promise that was safe is kept; logs are
prefixes of their owner's; nothing follows a seal in its generation; a generation begins with one base; rows are what the
committed entries make. `tests/replicaworld.py` holds the laws, `tests/replicamutations.py` the broken rules, and
`tests/replicaplots.py` worlds in which the rare ones show.

Longer: ``python tests/simulation/sweep_replication.py moving --seeds 10000``.
"""

from __future__ import annotations

from collections import Counter

import pytest
from replicamutations import world_class
from replicaplots import PLOTS, plotted
from replicaworld import KINDS, ReplicaWorld, Violation

SEEDS = 80

CAUGHT_WITHIN = {
    # mutation: (world or plot, seeds within which it is caught): ten times as many as one takes on average.
    # Behind it: how many of 100 seeds catch it.
    "zombie": ("overlap", 20),  # 50
    "forgetpromise": ("overlap", 70),  # 16
    "nofsync": ("overlap", 150),  # 7
    "longest": ("two_logs", 100),  # 11
    "norecover": ("half_a_log", 20),  # 60
    "nosync": ("two_logs", 300),  # 4
    "piece": ("half_a_log", 400),  # 3
    "oneack": ("two_logs", 10),  # 99
    "resume": ("half_a_log", 40),  # 25
    "amnesia": ("crashing", 100),  # 14
    "forgiven": ("distrusting", 100),  # 11
    "sealopen": ("moving", 30),  # 46
    "earlyinstall": ("moving", 20),  # 91
}


def run(kind: str, seed: int, mutation: str = "") -> ReplicaWorld:
    world_of_it = world_class(mutation)
    if kind in PLOTS:
        world = plotted(world_of_it, kind)(seed, mutation=mutation, **PLOTS[kind])
    else:
        world = world_of_it(seed, mutation=mutation, **KINDS[kind])
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
        assert counts["snapshots"] > SEEDS / 20


@pytest.mark.parametrize("plot", PLOTS)
def test_with_the_rules_whole_no_plot_breaks_a_law(plot: str) -> None:
    commits = [run(plot, seed).counts["commits"] for seed in range(4 * SEEDS)]
    assert sum([count > 0 for count in commits]) > 3 * SEEDS


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
