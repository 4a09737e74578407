"""Drivers for `durable` alone: a long journal replayed, a full store opened, and a busy loop beside the
flush.

The busy loop is the watch kept on a real fault: a thread that only flushes needs the GIL
after each fsync, and a loop that is always runnable gives it up only every switch interval (5 ms), so that
a step takes 5 ms instead of 0.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from bench.drive import Driver, Metrics, gaps, latencies
from bench.peer import Peer
from bench.stats import quantile
from bench.workloads import Size

LAG_TICK_S = 0.002
RECORDED = "recorded.txt"  # a line a step recorded as done, as in the file of bodies


async def long_journal(peer: Any, folder: Path, size: Size) -> Metrics:
    """W7, first life: write the journal, reach the wait, close."""
    await peer.open(folder)
    started = time.perf_counter()
    await peer.submit("long", "long", size.steps)
    written = 0
    while written < size.steps:
        await asyncio.sleep(0.1)
        written += len(await peer.bodies())
    await asyncio.sleep(
        0.5
    )  # the last bodies have run, but may not be recorded yet: replay would run them again
    return {"write_s": time.perf_counter() - started}


async def replayed(peer: Any, folder: Path, size: Size) -> Metrics:
    """W7, second life: from opening to the result of the woken workflow. Rows: commands and completions."""
    started = time.perf_counter()
    await peer.open(folder)
    handle = peer.runtime.handle("long")
    await handle.send("go", 1)
    await handle.result()
    took = time.perf_counter() - started
    again = len(await peer.bodies())
    return {
        "rows_per_s": 2 * size.steps / took,
        "entries_per_s": size.steps / took,
        "total_s": took,
        "bodies_again": again,
    }


async def recorded(peer: Any, folder: Path, size: Size) -> Metrics:
    """W6, between the lives: which steps' completions the killed process left in its store.

    Read from a copy: opening the store itself would already do a part of the recovery that is to be timed.
    A SIGKILL leaves what was written, synced or not, so that this is never less than what was durable.
    """
    from durable.journal.entries import Completion
    from durable.storage.node import NodeStorage
    from durable.storage.rocksdb import RocksDBStore

    copy = folder / "copy"
    shutil.copytree(folder / "durable", copy)
    store = RocksDBStore.open(str(copy))
    storage = NodeStorage(store)
    lines = []
    for workflow_id in (f"killed-{n}" for n in range(size.workflows)):
        status = storage.status(workflow_id)
        if status is not None:
            for row in storage.rows(workflow_id, status.incarnation, status.run):
                if isinstance(row, Completion):
                    lines.append(f"{workflow_id} {row.sequence_number}")
    store.close()
    (folder / RECORDED).write_text("\n".join(lines))
    return {}


async def opened(peer: Peer, folder: Path, size: Size) -> Metrics:
    """OPEN, second life: how long what is in the store keeps a newcomer waiting."""
    started = time.perf_counter()
    await peer.open(folder)
    ready = time.perf_counter() - started
    await peer.run("steps", "newcomer", 1)
    return {"open_s": time.perf_counter() - started, "ready_s": ready}


async def beside_busy_loop(peer: Peer, folder: Path, size: Size) -> Metrics:
    """Steps while a task keeps the loop busy; and, without it, how long an fsync holds up the loop."""
    await peer.open(folder)
    await peer.run("steps", "warm-up", 30)
    lags: list[float] = []
    watcher = asyncio.create_task(_watch_lag(lags))
    await peer.run("steps", "quiet", size.steps)
    await _stop(watcher)
    await peer.bodies()
    busy = asyncio.create_task(_always_runnable())
    started = time.perf_counter()
    await peer.run("steps", "busy", size.steps)
    took = time.perf_counter() - started
    await _stop(busy)
    lag = {"loop_lag_p50_ms": 1e3 * quantile(lags, 0.5), "loop_lag_p99_ms": 1e3 * quantile(lags, 0.99)}
    return {**latencies(gaps(await peer.bodies())), "steps_per_s": size.steps / took, **lag}


async def _always_runnable() -> None:
    while True:
        until = (
            time.perf_counter() + 50e-6
        )  # some work of its own each turn, so that the loop is never in select()
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def _watch_lag(lags: list[float]) -> None:
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(LAG_TICK_S)
        lags.append(time.perf_counter() - asked - LAG_TICK_S)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


DRIVERS: tuple[Driver, ...] = (long_journal, replayed, recorded, opened, beside_busy_loop)
