"""Drivers for three nodes: what replication costs, and how long an owner's death holds up its workflows.

**W8.** The same work on a single node and on three, on the same two processors. Then, with nothing else to do, one
workflow of many steps: the time of a step is one commit, and the least that it can take is one fsync and one round trip to
another process, which are measured beside it. `commit_over_floor` is the ratio. `cpu_us_a_step` is what the processors did in the
nodes alone, in user and system mode together: it tells a slower build from a machine that is busy with something else.

**W9.** A thousand workflows of one owner beat once a second. It is killed. Three moments are taken: *detected*, when every
survivor holds it dead; *fenced*, when all that it owned has an owner of a higher epoch; *resumed*, when the last
of the thousand has beaten in another process.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

from bench.cluster_workflows import BEATS, PERIOD_S
from bench.drive import Driver, Metrics, _all, _opened_and_warm, _timed, latencies
from bench.peer import Peer
from bench.probe import probe
from bench.processes import cpu_seconds
from bench.stats import quantile
from bench.workloads import Size

ALONE_STEPS = 300
ONE_BY_ONE = 100
TRIPS = 500
LONG_BEATS = 10_000
POLL_S = 0.02
ECHO = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := peer.recv(4096):
        peer.sendall(data)
"""


async def replicated(peer: Peer, folder: Path, size: Size) -> Metrics:
    """W8: everything at once; then one commit at a time, beside the disk and the loopback interface."""
    await _opened_and_warm(peer, folder)
    used = cpu_seconds()
    took = await _timed(_all(peer.run("steps", f"fan-{n}", size.steps) for n in range(size.workflows)))
    used = cpu_seconds() - used
    alone = await _timed(peer.run("steps", "alone", ALONE_STEPS))
    submits = [await _timed(peer.run("steps", f"one-{n}", 1)) for n in range(ONE_BY_ONE)]
    fsync_ms, trip_ms = probe(folder)["p50_ms"], round_trip_ms()
    commit_ms = 1e3 * alone / ALONE_STEPS
    return {
        "steps_per_s": size.workflows * size.steps / took,
        "cpu_us_a_step": 1e6 * used / (size.workflows * size.steps),
        "commit_ms": commit_ms,
        "fsync_ms": fsync_ms,
        "round_trip_ms": trip_ms,
        "commit_over_floor": commit_ms / (fsync_ms + trip_ms),
        **{f"submit_{name}": value for name, value in latencies(submits).items()},
    }


def round_trip_ms(trips: int = TRIPS) -> float:
    """Median of a hundred bytes to another process and back, over loopback TCP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = subprocess.Popen([sys.executable, "-c", ECHO, str(server.getsockname()[1])])
        try:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                took = []
                for _ in range(trips):
                    began = time.perf_counter()
                    connection.sendall(bytes(100))
                    left = 100
                    while left:
                        left -= len(connection.recv(left))
                    took.append(time.perf_counter() - began)
        finally:
            other.kill()
            other.wait()
    return 1e3 * quantile(took, 0.5)


async def failover_lan(peer: Any, folder: Path, size: Size) -> Metrics:
    """W9 with the LAN preset."""
    return await _failover(peer, folder, size, "lan")


async def failover_default(peer: Any, folder: Path, size: Size) -> Metrics:
    """W9 with the defaults."""
    return await _failover(peer, folder, size, "default")


async def _failover(peer: Any, folder: Path, size: Size, preset: str) -> Metrics:
    beats = folder / "beats"
    beats.touch()
    os.environ[BEATS] = str(beats)
    peer.preset = preset
    await _opened_and_warm(peer, folder)
    cluster = peer.cluster
    victim = str(cluster.nodes[0])
    ids = owned_by(cluster.owners(), victim, size.workflows)
    await asyncio.gather(*(peer.start("beat", workflow_id, LONG_BEATS) for workflow_id in ids))
    await _until(lambda: len({name for name, *_ in read_beats(beats)}) == len(ids))
    await asyncio.sleep(PERIOD_S)  # all of them are at it
    owners = {partition: held for partition, held in cluster.owners().items() if str(held[0]) == victim}
    process = cluster.process_id(victim)
    killed = time.monotonic()
    await cluster.kill(victim)

    def dead() -> bool:
        return {status.name for status in cluster.beliefs_about(victim).values() if status} == {"DEAD"}

    def fenced() -> bool:
        now = cluster.owners()
        return all(partition in now and now[partition][1] > epoch for partition, (_, epoch) in owners.items())

    detecting = asyncio.create_task(_when(cluster, dead))
    fencing = asyncio.create_task(_when(cluster, fenced))
    resumed = await _resumed(beats, ids, process)
    return {
        "detected_s": await detecting - killed,
        "fenced_s": await fencing - killed,
        "resumed_s": max(resumed.values()) - killed,
        "resumed_half_s": quantile(list(resumed.values()), 0.5) - killed,
        **bodies_again(read_beats(beats)),
    }


def owned_by(owners: dict[int, Any], node: str, wanted: int) -> list[str]:
    """So many ids that fall to this node."""
    from durable.journal.keys import partition_of

    if not any(str(owner) == node for owner, _ in owners.values()):
        raise ValueError(f"{node} owns nothing")
    ids: list[str] = []
    for number in count():
        if len(ids) == wanted:
            break
        if str(owners[partition_of(f"beat-{number}")][0]) == node:
            ids.append(f"beat-{number}")
    return ids


def read_beats(path: Path) -> list[tuple[str, int, int, float]]:
    """Workflow id, number, process and time of every beat so far."""
    lines = path.read_text().split("\n")[:-1]
    return [(name, int(number), int(process), float(at)) for name, number, process, at in map(str.split, lines)]


def bodies_again(beats: Iterable[tuple[str, int, int, float]]) -> Metrics:
    """How many beats ran twice, and how many more often: of those there must be none."""
    runs: dict[tuple[str, int], int] = {}
    for name, number, _, _ in beats:
        runs[name, number] = runs.get((name, number), 0) + 1
    return {"bodies_twice": sum(n == 2 for n in runs.values()), "bodies_more_often": sum(n > 2 for n in runs.values())}


async def _resumed(beats: Path, ids: list[str], before: int) -> dict[str, float]:
    """When each of them first beat in another process."""
    found: dict[str, float] = {}
    wanted = set(ids)

    def done() -> bool:
        for name, _, process, at in read_beats(beats):
            if process != before and name in wanted and name not in found:
                found[name] = at
        return len(found) == len(wanted)

    await _until(done)
    return found


async def _when(cluster: Any, holds: Callable[[], bool]) -> float:
    await cluster.wait_until(holds, 120.0)
    return time.monotonic()


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(POLL_S)


DRIVERS: tuple[Driver, ...] = (replicated, failover_lan, failover_default)
