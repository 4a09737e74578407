"""Five nodes, three copies of everything, clients that do not stop, and one fault after another. Then: what was lost?

``python -m chaos --minutes 30 --seed 1 --store mixed`` runs it (behind the kills of one node, `chaos.kill`).

==================  ==================================================================================================
`chaos.load`        clients, and what they were told
`chaos.history`     the same with real times, for the checker of linearizability
`chaos.faults`      what is done to the cluster
`chaos.judge`       what is held against what at the end
`chaos.sabotage`    the control: with the epoch check switched off, this very harness must report losses
==================  ==================================================================================================

**Limits.** Real processes and a real clock: the seed repeats the schedule, not every interleaving. For those that repeat to the
byte there is `durable.sim`.

Read next: `chaos.faults`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos import history, judge, sabotage
from chaos.cluster_app import EFFECTS
from chaos.faults import FAULTS, Faults
from chaos.load import Load

NODES = 5
CLIENTS = 4
CONTROL = ("pause", "isolate", "pause", "partition")
"""What makes owners that do not know yet that they were replaced: the faults of the control."""
STORES = {
    "rocksdb": ["rocksdb"] * NODES,
    "leveldb": ["leveldb"] * NODES,
    "mixed": ["rocksdb", "leveldb", "rocksdb", "leveldb", "rocksdb"],
}
FINISH_S = 120.0
CONTROL_FINISH_S = 10.0
"""With the control much never ends: it is waited for no longer than it takes to know."""
SETTLE_S = 3.0
SHOWN_MAX = 20


@dataclass
class Report:
    """What came out."""

    store: str
    seed: int
    losses: list[str] = field(default_factory=list)
    accepted: int = 0
    completed: int = 0
    operations: int = 0
    unknown: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    bodies: int = 0
    bodies_again: int = 0
    copies: int = 0
    longest_gap_s: float = 0.0
    longest_wait_s: float = 0.0
    failovers: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        answers = ", ".join(f"{count} {kind}" for kind, count in sorted(self.refusals.items()))
        times = sorted(self.failovers)
        failovers = (
            f"{len(times)} failovers watched, median {times[len(times) // 2]:.2f} s, longest {times[-1]:.2f} s"
            if times
            else "no failover watched"
        )
        return "\n".join(
            (
                f"{self.store}, seed {self.seed}: {self.accepted} accepted, {self.completed} completed, {len(self.losses)} losses",
                f"  faults: {sum(self.faults.values())} ({faults})",
                f"  clients: {self.operations} operations, {self.unknown} with an unknown end; tried again after: {answers or '-'}",
                f"  bodies: {self.bodies} runs, {self.bodies_again} of them again; {self.copies} copies of partitions compared",
                f"  longest time without any answer to anybody {self.longest_gap_s:.2f} s; longest wait of a submit, without the "
                f"time of faults, {self.longest_wait_s:.2f} s; {failovers}",
                *(f"  LOST {loss}" for loss in self.losses[:SHOWN_MAX]),
                *([f"  ... and {len(self.losses) - SHOWN_MAX} more"] if len(self.losses) > SHOWN_MAX else []),
            )
        )


async def run(
    seconds: float,
    *,
    seed: int = 1,
    store: str = "rocksdb",
    control: bool = False,
    kinds: tuple[str, ...] = FAULTS,
    say: bool = True,
) -> Report:
    """One cluster for so long, healed and judged. ``control`` switches the epoch checks of its nodes off."""
    report = Report(store, seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        effects = folder / "effects"
        effects.touch()
        told = {EFFECTS: str(effects), sabotage.VARIABLE: "epochs" if control else ""}
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)  # the nodes inherit them
        try:
            await _on_a_cluster(report, folder, seconds, kinds, CONTROL_FINISH_S if control else FINISH_S, say)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
    return report


async def _on_a_cluster(
    report: Report, folder: Path, seconds: float, kinds: tuple[str, ...], finish_s: float, say: bool
) -> None:
    from durable.cluster import LocalCluster

    draw = random.Random(f"{report.store}/{report.seed}")
    stores = STORES[report.store]
    async with LocalCluster(NODES, app="chaos.cluster_app", preset="lan", store=stores, data=folder / "data") as cluster:
        urls = {str(node): cluster.store_url(node) for node in cluster.nodes}
        clients = {f"client-{number}": await cluster.client() for number in range(1, CLIENTS + 1)}
        load = Load(clients, random.Random(draw.getrandbits(64)))
        faults = Faults(cluster, draw, kinds, say=_teller() if say else lambda _: None)
        loading = asyncio.create_task(load.run())
        try:
            await faults.run(seconds)
            await faults.heal()
            faults.say("everything is taken back")
            await cluster.wait_converged()
            load.stop(finish_s)
            faults.say("the last sessions end")
            await loading
            await load.read_again(clients)
            await asyncio.sleep(SETTLE_S)  # the last commits reach every copy with the next digest
        except Exception as error:
            load.losses.append(f"the cluster cannot go on: {type(error).__name__}: {error}")
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await asyncio.gather(*(client.close() for client in clients.values()), return_exceptions=True)
        urls |= {str(node): cluster.store_url(node) for node in cluster.nodes}
        processes = list(faults.lives)
    report.losses += load.losses
    report.losses += [f"process {process} of {faults.lives[process]} was left behind" for process in processes if _runs(process)]
    _judge(report, load, faults, folder / "effects", urls)


def _teller() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda what: print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)


def _judge(report: Report, load: Load, faults: Faults, effects_file: Path, urls: dict[str, str]) -> None:
    copies = [copy for node, url in urls.items() if Path(url.partition(":")[2]).exists() for copy in judge.read_copies(node, url)]
    effects = judge.read_effects(effects_file)
    found = judge.journals(copies)
    explained, report.bodies_again = judge.runs_are_explained(effects, faults.hits)
    report.losses += judge.copies_agree(copies)
    report.losses += judge.told_is_recorded(load.told, found)
    report.losses += judge.recorded_was_run(found, effects)
    report.losses += explained
    report.losses += history.judge(load.history)
    operations = load.history.operations
    report.accepted = sum(1 for told in load.told.values() if told.accepted_at)
    report.completed = sum(1 for told in load.told.values() if told.finished_at)
    report.operations, report.unknown = len(operations), sum(not one.known for one in operations)
    report.faults, report.refusals = Counter(hit.kind for hit in faults.hits), load.refusals
    report.bodies, report.copies = len(effects), len(copies)
    report.longest_gap_s, report.failovers = load.longest_gap_s, faults.failovers
    report.longest_wait_s = judge.longest_wait_s(operations, faults.hits)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def command(store: str, seed: int, minutes: float, control: bool = False) -> str:
    """What repeats a run."""
    more = " --control" if control else ""
    return f"nox -s chaos -- --minutes {minutes:g} --seed {seed} --store {store} --rounds 0{more}"


def main(minutes: float, seed: int, store: str, control: bool) -> bool:
    """Run and print; whether it is as it must be: no loss, and with ``control`` at least one."""
    kinds = CONTROL if control else FAULTS
    report = asyncio.run(run(minutes * 60, seed=seed, store=store, control=control, kinds=kinds))
    print(report, flush=True)
    if control:
        print("control: " + (f"{len(report.losses)} losses seen, as must be" if report.losses else "NO LOSS was seen"), flush=True)
        return bool(report.losses)
    if report.losses:
        print(f"BROKEN with seed {seed}. Again: {command(store, seed, minutes)}", file=sys.stderr, flush=True)
    return not report.losses
