"""A cluster of real processes under a few faults for twenty seconds, with another seed each day.

`nox -s chaos` does the same with every kind of fault, for as long as it is told. The seed repeats the schedule of the faults, not
every interleaving: a failure prints how to run the same for longer.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

import pytest
from chaos import cluster

SECONDS = 20.0
SEED = "CHAOS_SEED"
"""Set it to choose the seed."""


@pytest.mark.slow
def test_a_cluster_under_faults_loses_nothing_and_does_nothing_twice() -> None:
    seed = int(os.environ.get(SEED) or datetime.now(UTC).toordinal())
    report = asyncio.run(cluster.run(SECONDS, seed=seed, store="mixed"))
    print(report)
    assert report.losses == [], f"{report}\nAgain: {cluster.command('mixed', seed, 1)}"
    assert report.completed == report.accepted > 50
    assert sum(report.faults.values()) >= 2 and report.copies > 0 and report.bodies > 100
