"""One run, in a process of its own: opens a peer on a folder, drives one workload, writes what it measured
as JSON.

The drivers see a peer only through `bench.peer.Peer`: same work, same order, same clock for each. What
warms up (imports, first compilations, connections) happens before the clock starts, on workflows of their
own.

Run as ``python -m bench.drive DRIVER PEER FOLDER WORKFLOWS STEPS``, which `bench.run` does; the result is
FOLDER/DRIVER.json.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from pathlib import Path

from bench.peer import Kind, Peer, adapter
from bench.processes import allow_many_files, resident_bytes
from bench.stats import quantile
from bench.workloads import Size

STARTED_AT = (
    "BENCH_STARTED_AT"  # the monotonic clock of the whole machine, read just before this process was started
)
SUBMITTERS = (
    100  # callers that submit at once: enough to fill a batch, few enough that no peer drowns in connections
)
SETTLE_S = 3.0  # then memory is read: what parks or suspends soon has done so
WARM_UP_STEPS = 30
ARRIVED_POLL_S = 0.05

Metrics = dict[str, float]
Driver = Callable[[Peer, Path, Size], Awaitable[Metrics]]


async def sequence(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W1: one workflow; and how long each step took, from body to body."""
    await _opened_and_warm(peer, folder)
    took = await _timed(peer.run("steps", "sequence", size.steps))
    return {"steps_per_s": size.steps / took, **latencies(gaps(await peer.bodies()))}


async def fan(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W2: all submitted at once, all awaited."""
    await _opened_and_warm(peer, folder)
    took = await _timed(_all(peer.run("steps", f"fan-{n}", size.steps) for n in range(size.workflows)))
    return {"steps_per_s": size.workflows * size.steps / took, "total_s": took}


async def latency(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W3: one at a time, from submit to result."""
    await _opened_and_warm(peer, folder)
    return latencies([await _timed(peer.run("steps", f"one-{n}", size.steps)) for n in range(size.workflows)])


async def sleepers(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W4: all submitted at once; each sleeps ``size.steps`` seconds."""
    await _opened_and_warm(peer, folder)
    return {
        "total_s": await _timed(
            _all(peer.run("sleep", f"sleep-{n}", size.steps) for n in range(size.workflows))
        )
    }


async def waiting(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W5: until the last one has run to its wait; then the memory that all of them hold."""
    await _opened_and_warm(peer, folder)
    before = resident_bytes()
    started = time.perf_counter()
    await submit_many(peer, "wait", (f"wait-{n}" for n in range(size.workflows)))
    accepted = time.perf_counter() - started
    while await peer.arrived() < size.workflows:
        await asyncio.sleep(ARRIVED_POLL_S)
    start_s = time.perf_counter() - started
    await asyncio.sleep(SETTLE_S)
    grown = resident_bytes() - before
    return {
        "start_s": start_s,
        "accepted_s": accepted,
        "started_per_s": size.workflows / start_s,
        "memory_mb": grown / 1e6,
        "bytes_each": grown / size.workflows,
    }


async def until_killed(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W6, first life: ends by SIGKILL, from within a body. Coming back means that it was not killed."""
    await peer.open(folder)
    await submit_many(peer, "steps", _killed_ids(size), size.steps)
    await asyncio.sleep(3_600)
    return {}


async def recovered(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W6, second life: everything that was accepted has its result."""
    opening = time.monotonic()
    await peer.open(folder)
    await peer.finished(list(_killed_ids(size)))
    now = time.monotonic()
    return {"recovery_s": now - float(os.environ[STARTED_AT]), "from_open_s": now - opening}


def _killed_ids(size: Size) -> Iterable[str]:
    return (f"killed-{n}" for n in range(size.workflows))


async def submit_many(peer: Peer, kind: Kind, workflow_ids: Iterable[str], count: int = 1) -> None:
    """By a fixed number of callers, each of which waits for its acceptance before the next."""
    shared = iter(workflow_ids)

    async def caller() -> None:
        for workflow_id in shared:
            await peer.start(kind, workflow_id, count)

    await _all(caller() for _ in range(SUBMITTERS))


async def _opened_and_warm(peer: Peer, folder: Path) -> None:
    await peer.open(folder)
    await peer.run("steps", "warm-up", WARM_UP_STEPS)
    await _all(peer.run("steps", f"warm-up-{n}", 2) for n in range(10))
    await peer.bodies()


async def _timed(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def _all(work: Iterable[Awaitable[object]]) -> None:
    await asyncio.gather(*work)


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(sorted(times))]


def latencies(seconds: list[float]) -> Metrics:
    return {f"p{round(100 * q)}_ms": 1e3 * quantile(seconds, q) for q in (0.5, 0.99)} | {
        "max_ms": 1e3 * max(seconds)
    }


def drivers() -> dict[str, Driver]:
    from bench import drive_cluster, drive_own

    common = (sequence, fan, latency, sleepers, waiting, until_killed, recovered)
    return {driver.__name__: driver for driver in itertools.chain(common, drive_own.DRIVERS, drive_cluster.DRIVERS)}


async def _main(driver: str, name: str, folder: Path, size: Size) -> None:
    peer: Peer = adapter(name).Adapter()
    try:
        metrics = await drivers()[driver](peer, folder, size)
    finally:
        await asyncio.wait_for(peer.close(), timeout=60)
    (folder / f"{driver}.json").write_text(json.dumps(metrics))


def main() -> None:
    driver, name, folder, workflows, steps = sys.argv[1:]
    allow_many_files()
    asyncio.run(_main(driver, name, Path(folder), Size(int(workflows), int(steps))))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # a peer's own threads must not keep a finished run alive
