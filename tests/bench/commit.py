"""What the time of a commit on three nodes consists of: ``python -m bench.commit RESULT.json`` adds it to a result file.

One workflow, alone, on the three nodes of W8; each of its steps is a commit. The nodes note when it passes where
(`bench.cluster_traced`). Of the two copies the one counts that the owner hears of first.

==========  ============================================================================================================
part        from, to
==========  ============================================================================================================
turn        the owner's log is given the batch; the frame is handed to the links
there       ... ; the copy has it in hand
write       ... ; its fsync begins
copy_fsync  ... ; that has ended
back        ... ; the owner has the acknowledgement in hand: not before its own fsync has ended, which is on its loop too
told        ... ; whoever waits is told
next_step   ... ; the next batch
==========  ============================================================================================================

Their sum is about the time of a step: each is a median for itself, in ms. Beside them lie ``own_fsync``, and ``waits_for_own``: how
much later it ended than the copy's.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.cluster_profiled import FOLDER
from bench.durable_cluster_adapter import NODES
from bench.durable_workflows import steps
from bench.stats import quantile
from durable.cluster import LocalCluster

STEPS = 500
WARM_UP = 100
POLL_S = 0.05
PATIENCE_S = 60.0
PARTS = ("turn", "there", "write", "copy_fsync", "back", "told", "next_step")
BESIDE = ("own_fsync", "waits_for_own")

Lines = Mapping[str, list[float]]
"""By word: when it was noted, in order."""


def read_lines(text: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for word, at in map(str.split, text.splitlines()):
        found.setdefault(word, []).append(float(at))
    return found


def first(times: Sequence[float], after: float, before: float) -> float | None:
    """The first of them in this span."""
    place = bisect_left(times, after)
    return times[place] if place < len(times) and times[place] <= before else None


def last(times: Sequence[float], after: float, before: float) -> float | None:
    place = bisect_right(times, before) - 1
    return times[place] if place >= 0 and times[place] >= after else None


def parts_of(owner: Lines, copies: Sequence[Lines], begin: float, following: float) -> dict[str, float] | None:
    """The parts of the commit that begins there, in seconds. None if it cannot be told: something else went on beside it."""
    committed = first(owner["committed"], begin, following)
    sent = first(owner["sent"], begin, following)
    if committed is None or sent is None:
        return None
    heard = last(owner["heard"], sent, committed)
    ways = [way for copy in copies if (way := _way(copy, sent, committed)) is not None]
    if heard is None or not ways:
        return None
    there, sync, synced = min(ways, key=lambda way: way[2])
    marks = (begin, sent, there, sync, synced, heard, committed, following)
    parts = {name: after - before for name, before, after in zip(PARTS, marks[:-1], marks[1:], strict=True)}
    own, own_end = first(owner["sync"], sent, following), first(owner["synced"], sent, following)
    if own is None or own_end is None:
        return None
    return {**parts, "own_fsync": own_end - own, "waits_for_own": max(0.0, own_end - synced)}


def _way(copy: Lines, sent: float, until: float) -> tuple[float, float, float] | None:
    there = first(copy["heard"], sent, until)
    sync = None if there is None else first(copy["sync"], there, until)
    synced = None if sync is None else first(copy["synced"], sync, until)
    return None if there is None or sync is None or synced is None else (there, sync, synced)


def medians_ms(nodes: Sequence[Lines]) -> dict[str, float]:
    """Medians of all commits that can be told; the owner is the node with most appends."""
    owner = max(nodes, key=lambda lines: len(lines.get("append", ())))
    copies = [lines for lines in nodes if lines is not owner]
    appends = owner["append"]
    found = [parts_of(owner, copies, begin, after) for begin, after in pairwise(appends)]
    told = [parts for parts in found if parts is not None]
    if not told:
        raise ValueError("no commit can be told from what was noted")
    return {name: 1e3 * quantile([one[name] for one in told], 0.5) for name in told[0]}


async def traced(folder: Path) -> dict[str, float]:
    os.environ[FOLDER] = str(folder)
    cluster = LocalCluster(NODES, app="bench.cluster_traced", preset="lan", store="rocksdb", data=folder / "data")
    async with cluster, await cluster.client() as client:
        await (await client.submit(steps, WARM_UP, workflow_id="warm")).result()
        nodes = [cluster.process_id(node) for node in cluster.nodes]
        for node in nodes:
            os.kill(node, signal.SIGUSR1)
        await (await client.submit(steps, STEPS, workflow_id="alone")).result()
        for node in nodes:
            os.kill(node, signal.SIGUSR1)
        files = [folder / str(node) for node in nodes]
        async with asyncio.timeout(PATIENCE_S):
            while not all(file.exists() for file in files):
                await asyncio.sleep(POLL_S)
    return medians_ms([read_lines(file.read_text()) for file in files])


def add(document: dict[str, Any], folder: Path) -> None:
    """Trace, on the disk of this folder, and put it into the document."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        found = asyncio.run(traced(Path(own).absolute()))
    when = {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": round(os.getloadavg()[0], 2)}
    document["commit"] = {**when, "ms": {name: round(value, 4) for name, value in found.items()}}


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m bench.commit RESULT.json")
        return 2
    path = Path(arguments[0])
    document: dict[str, Any] = json.loads(path.read_text())
    add(document, Path())
    path.write_text(json.dumps(document, indent=1) + "\n")
    for name, value in document["commit"]["ms"].items():
        print(f"{name:>14}  {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
