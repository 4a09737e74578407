"""Five nodes, three copies of everything, clients that do not stop, and one fault after another. Then: what was lost?

``python -m chaos --minutes 30 --seed 1 --store mixed`` runs it (behind the kills of one node, `chaos.kill`).

==================  ==================================================================================================
`chaos.load`        clients, and what they were told
`chaos.history`     the same with real times, for the checker of linearizability
`chaos.faults`      what is done to the cluster
`chaos.watch`       what is seen while a fault lasts
`chaos.judge`       what is held against what at the end
`chaos.report`      what came out, and what the run itself owed
`chaos.control`     with the epoch check switched off, this very harness must find contradictions
==================  ==================================================================================================

**Limits.** Real processes and a real clock: the seed repeats the schedule, not every interleaving. For those that repeat to the
byte there is `durable.sim`.

Read next: `chaos.faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import sabotage as switched_off
from chaos.cluster_app import EFFECTS
from chaos.faults import FAULTS, Faults
from chaos.load import Load
from chaos.report import Report, owed, take_down
from chaos.watch import whole_sets

NODES = 5
CLIENTS = 4
STORES = {
    "rocksdb": ["rocksdb"] * NODES,
    "leveldb": ["leveldb"] * NODES,
    "mixed": ["rocksdb", "leveldb", "rocksdb", "leveldb", "rocksdb"],
}
FINISH_S = 120.0
WHOLE_S = 60.0
"""How long the copies may take to be complete on every node, after all else has come to rest."""
SETTLE_S = 3.0


@dataclass
class Stage:
    """A cluster under load. ``sets`` is where each partition must have a copy at the end; empty: it is not asked."""

    cluster: Any
    clients: dict[str, Any]
    load: Load
    faults: Faults
    loading: asyncio.Task[None]
    sets: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    async def loaded(self) -> None:
        """Return when the last session has ended."""
        await self.loading


async def run(
    seconds: float, *, seed: int = 1, store: str = "rocksdb", kinds: tuple[str, ...] = FAULTS, say: bool = True
) -> Report:
    """One cluster for so long under faults, healed and judged."""
    report = Report(store, seed)

    async def play(stage: Stage) -> None:
        faults, load = stage.faults, stage.load
        faults.kinds = kinds
        faults.say = _teller() if say else lambda _: None
        await faults.run(seconds)
        await faults.heal()
        faults.say("everything is taken back")
        await stage.cluster.wait_converged()
        load.stop(FINISH_S)
        faults.say("the last sessions end")
        await stage.loaded()
        await load.read_again(stage.clients)
        stage.sets = await whole_sets(stage.cluster, WHOLE_S)
        await asyncio.sleep(SETTLE_S)  # the last commits reach every copy with the next digest
        report.owed = owed(seconds, kinds, faults.hits, faults.partials)

    return await perform(report, play)


async def perform(report: Report, play: Callable[[Stage], Awaitable[None]], sabotage: str = "") -> Report:
    """Let ``play`` do what it does to a cluster under load, stop that, and judge what is left. For ``sabotage`` see there."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        effects = folder / "effects"
        effects.touch()
        with _told({EFFECTS: str(effects), switched_off.VARIABLE: sabotage}):
            await _on_a_cluster(report, folder, effects, play)
    return report


@contextlib.contextmanager
def _told(variables: dict[str, str]) -> Iterator[None]:
    """These variables in the environment, which the nodes inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


async def _on_a_cluster(report: Report, folder: Path, effects: Path, play: Callable[[Stage], Awaitable[None]]) -> None:
    from durable.cluster import LocalCluster

    draw = random.Random(f"{report.store}/{report.seed}")
    stores = STORES[report.store]
    async with LocalCluster(NODES, app="chaos.cluster_app", preset="lan", store=stores, data=folder / "data") as cluster:
        urls = {str(node): cluster.store_url(node) for node in cluster.nodes}
        clients = {f"client-{number}": await cluster.client() for number in range(1, CLIENTS + 1)}
        load = Load(clients, random.Random(draw.getrandbits(64)))
        faults = Faults(cluster, draw, say=lambda _: None)
        faults.note_lives()
        loading = asyncio.create_task(load.run())
        stage = Stage(cluster, clients, load, faults, loading)
        try:
            await play(stage)
        except Exception as error:
            load.losses.append(f"the cluster cannot go on: {type(error).__name__}: {error}")
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await asyncio.gather(*(client.close() for client in clients.values()), return_exceptions=True)
        urls |= {str(node): cluster.store_url(node) for node in cluster.nodes}
        processes = list(faults.lives)
    report.losses += [f"process {process} of {faults.lives[process]} was left behind" for process in processes if _runs(process)]
    take_down(report, load, faults, effects, urls, stage.sets)


def _teller() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda what: print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def command(store: str, seed: int, minutes: float) -> str:
    """What repeats a run."""
    return f"nox -s chaos -- --minutes {minutes:g} --seed {seed} --store {store} --rounds 0"


def main(minutes: float, seed: int, store: str) -> bool:
    """Run and print; whether nothing was lost, and the run did what it owed."""
    report = asyncio.run(run(minutes * 60, seed=seed, store=store))
    print(report, flush=True)
    if report.losses:
        print(f"BROKEN with seed {seed}. Again: {command(store, seed, minutes)}", file=sys.stderr, flush=True)
    elif report.owed:
        print(f"seed {seed}: nothing was lost, and the run does not prove it: see OWED", file=sys.stderr, flush=True)
    return report.good
