"""The control: with the epoch check switched off, the harness must find contradictions; with it on, under the same faults, none.

``python -m chaos --control`` runs both, each for seconds: what is not finished after a moment is not waited for. So what counts is
only what no patience would heal (`chaos.losses`), and a cluster in which all is well has nothing of it.

**How it works.** An owner with work under way stands still, or hears nobody, until others own what it owned; then it goes on, and
does not know. With sabotaged copies its appends are taken beside those of its successors. After each fault it is looked whether
the clients have been told what cannot be: then that is the end.

**Limits.** One rule is switched off, R1 for entries. That each of the others is needed is shown by the mutations of the model and
of the simulator.

Read next: `chaos.sabotage`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from chaos import history
from chaos.cluster import Stage, perform
from chaos.faults import Hit
from chaos.load import Load
from chaos.losses import contradictions
from chaos.report import Report
from chaos.watch import until_taken

FAULTS_MAX = 2
TAKEN_S = 5.0
ENDS = 20
AFTER_S = 3.0
"""Before each fault, and after the last, so many executions come to their end, or this time passes: both owners are asked."""
FINISH_S = 4.0
"""How long the executions under way are waited for at the end; then each result told is read again, for as long at most."""


async def run(seed: int = 1, store: str = "rocksdb", *, sabotaged: bool, say: Callable[[str], None] = print) -> Report:
    """One cluster under the faults of the control. It ends at the first contradiction that clients see."""

    async def play(stage: Stage) -> None:
        await stage.load.more_ends(ENDS, AFTER_S)
        for number in range(FAULTS_MAX):
            await mislead(stage, busiest(stage), stand_still=number % 2 == 0, say=say)
            await stage.load.more_ends(ENDS, AFTER_S)
            if seen := evidence(stage.load):
                say(f"seen after {number + 1} faults: {seen[0][:160]}")
                return
        stage.load.stop(FINISH_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * FINISH_S):
                await stage.loaded()
                await stage.load.read_again(stage.clients, finished_only=True)

    return await perform(Report(store, seed), play, sabotage="epochs" if sabotaged else "")


def busiest(stage: Stage) -> str:
    """The owner of most of what was accepted and is not finished; of two, the one that owns more partitions."""
    under_way = [name for name, told in stage.load.told.items() if told.accepted_at and not told.finished_at]
    busy = Counter(map(stage.cluster.owner, under_way))
    owned = Counter(owner for owner, _ in stage.cluster.owners().values())
    return max(stage.cluster.running, key=lambda node: (busy[node], owned[node]))


async def mislead(stage: Stage, node: str, *, stand_still: bool, say: Callable[[str], None]) -> None:
    """Keep an owner from learning that others own what it owned, until they do."""
    cluster, kind = stage.cluster, "pause" if stand_still else "isolate"
    hit = Hit(kind, (node,), time.monotonic())
    stage.faults.hits.append(hit)
    taking = asyncio.create_task(until_taken(cluster, node, time.monotonic, TAKEN_S))
    await asyncio.sleep(0)  # it looks at who owns what before that changes
    if stand_still:
        await cluster.pause(node)
    else:
        await cluster.cut([(node, other) for other in cluster.nodes if other != node])
    partitions, took_s = await taking
    say(f"{kind}: {node}, which owned {partitions} partitions; others own them after {took_s:.2f} s")
    if stand_still:
        await cluster.resume(node)
    else:
        await cluster.heal()
    hit.ended = time.monotonic()


def evidence(load: Load) -> list[str]:
    """What clients were told that cannot be, so far."""
    return [*contradictions(load.losses), *history.judge(load.history)]


def main(seed: int, store: str) -> bool:
    """Both runs; whether the first found nothing, and the second something."""
    good = True
    for sabotaged in (False, True):
        began = time.monotonic()
        report = asyncio.run(run(seed, store, sabotaged=sabotaged))
        found = len(report.contradictions)
        print(report)
        words = "without the epoch check" if sabotaged else "with the epoch check"
        expected = "as must be" if bool(found) is sabotaged else "WHICH MUST NOT BE"
        print(f"control {words}: {found} contradictions in {time.monotonic() - began:.0f} s, {expected}", flush=True)
        good = good and bool(found) is sabotaged
    return good
