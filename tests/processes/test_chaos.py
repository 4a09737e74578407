"""A cluster of real processes under a few faults for twenty seconds, with another seed each day; and the harness that judges it.

`nox -s chaos` does the same with every kind of fault, for as long as it is told. The seed repeats the schedule of the faults, not
every interleaving: a failure prints how to run the same for longer.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

import pytest
from chaos import cluster, control
from stores import LEVELDB, NO_LEVELDB

SECONDS = 20.0
SEED = "CHAOS_SEED"
"""Set it to choose the seed."""


def seed_of_today() -> int:
    return int(os.environ.get(SEED) or datetime.now(UTC).toordinal())


@pytest.mark.slow
@pytest.mark.skipif(LEVELDB is None, reason=NO_LEVELDB)
def test_a_cluster_under_faults_loses_nothing_and_does_nothing_twice() -> None:
    seed = seed_of_today()
    report = asyncio.run(cluster.run(SECONDS, seed=seed, store="mixed"))
    print(report)
    assert report.losses == [], f"{report}\nAgain: {cluster.command('mixed', seed, 1)}"
    assert report.completed == report.accepted > 50
    assert sum(report.faults.values()) >= 2 and report.copies > 0 and report.bodies > 100


@pytest.mark.slow
@pytest.mark.parametrize("sabotaged", [pytest.param(False, id="checked"), pytest.param(True, id="unchecked")])
def test_contradictions_are_found_where_epochs_are_not_checked_and_only_there(sabotaged: bool) -> None:
    seed = seed_of_today()
    report = asyncio.run(control.run(seed, sabotaged=sabotaged))
    assert bool(report.contradictions) is sabotaged, f"{report}\nAgain: nox -s chaos -- --control --seed {seed}"
    assert sabotaged or report.completed > 20, f"{report}\nSo few executions prove nothing"
