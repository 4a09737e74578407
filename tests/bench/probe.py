"""The raw disk, beside every run: how fast can a small append be made durable here, right now?

A benchmark of fsynced work is first of all a measurement of the disk, and a shared machine's disk has
moods. So each run is accompanied by half a second of the simplest durable thing there is, ``write`` then
``fdatasync`` of one file, on the same file system, just before the run. Rates of peers are only compared
where their probes agree.

Limits: one writer, one file, appended (not preallocated): the pattern of a write-ahead log, not of a
database page.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.stats import quantile

RECORD = b'{"n":1}'.ljust(127) + b"\n"  # as small as a journal row with its key
MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs", "overlay-tmpfs"})


def probe(folder: Path, seconds: float = 0.5) -> dict[str, float]:
    """Append and sync for ``seconds``; returns rate_per_s, p50_ms, p99_ms. Leaves nothing behind."""
    path = folder / "probe.bin"
    flush = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    took: list[float] = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        started = before = time.perf_counter()
        while before - started < seconds:
            os.write(descriptor, RECORD)
            flush(descriptor)
            now = time.perf_counter()
            took.append(now - before)
            before = now
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
    return {
        "rate_per_s": round(len(took) / (before - started), 1),
        "p50_ms": round(1e3 * quantile(took, 0.5), 3),
        "p99_ms": round(1e3 * quantile(took, 0.99), 3),
    }


def filesystem(folder: Path) -> str:
    """The type of the file system that holds ``folder`` ("ext4", "tmpfs", ...), or "unknown" off Linux."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    here = folder.resolve()
    best = ("", "unknown")
    for line in mounts.read_text().splitlines():
        _, point, kind, *_ = line.split()
        if here.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]
