"""The body of a step: the same few lines for every peer, run in whichever process the peer runs its
functions.

It returns its argument (a small JSON value), notes the time, and, when a file is given by the environment,
appends one line to it with a plain ``write``: that survives the SIGKILL of the process, and so counts the
bodies that ran twice. At the body numbered ``BENCH_KILL_AT`` it kills its whole process group, which is
every process of the peer, driver included: as a machine that loses power would, only that the disk keeps
what was written.
"""

from __future__ import annotations

import os
import signal
import time

BODIES_FILE = "BENCH_BODIES"
KILL_AT = "BENCH_KILL_AT"

_times: list[float] = []
_arrived = 0
_path = os.environ.get(BODIES_FILE)
_kill_at = int(os.environ.get(KILL_AT, "0"))
_descriptor = os.open(_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600) if _path else None
_count = 0


def body(workflow_id: str, number: int) -> int:
    """One step of ``workflow_id``."""
    global _count
    _times.append(time.perf_counter())
    _count += 1
    if _descriptor is not None:
        os.write(_descriptor, f"{workflow_id} {number}\n".encode())
        if _count == _kill_at:
            os.killpg(0, signal.SIGKILL)
    return number


def arrive() -> None:
    """A ``wait`` workflow is about to wait. Counted only: a million ids would be in the memory measured."""
    global _arrived
    _arrived += 1


def taken_times() -> list[float]:
    """The times noted since the last call."""
    taken = _times[:]
    _times.clear()
    return taken


def arrived() -> int:
    return _arrived
