"""Processes that never outlive the benchmark, whatever happens to it.

A run is a process group of its own (the driver, and what the driver starts). The group is killed when the
run ends, well or not; on Linux each process also asks to be killed when its parent dies, so that a SIGKILL
of the benchmark leaves nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = (
    ctypes.CDLL(None) if sys.platform == "linux" else None
)  # loaded here: nothing may be loaded between fork and exec


def die_with_parent() -> None:
    """Runs in a child between fork and exec."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def allow_many_files() -> None:
    """Ten thousand connections need ten thousand descriptors; the usual soft limit is a tenth of that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def spawn(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str] | None = None,
    *,
    leader: bool = False,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process, its output in ``log``. A leader has its own group, others join their parent's."""
    with log.open("ab") as out:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=leader,
            preexec_fn=die_with_parent,
            user=user,
        )


def adopt_orphans() -> None:
    """Descendants whose parent dies become children of this process, which can then wait for them.

    Without it they are left to process 1, which may be in no hurry, and a zombie looks alive to a signal.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def kill_group(leader: subprocess.Popen[bytes], patience_s: float = 10.0) -> None:
    """Kill the leader's group and wait until it is gone, also those that were never our own children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait(timeout=patience_s)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-leader.pid, os.WNOHANG)  # whom we adopted
        try:
            os.killpg(leader.pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.005)
    raise RuntimeError(f"process group {leader.pid} did not end within {patience_s} s of SIGKILL")


def cpu_seconds() -> float:
    """What the processors did for this process's descendants, or, if it has none, for itself: a driver beside nodes is none."""
    import psutil

    this = psutil.Process()
    used = 0.0
    for process in this.children(recursive=True) or [this]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def resident_bytes() -> int:
    """Resident memory of this process and all its descendants."""
    import psutil

    this = psutil.Process()
    total = 0
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total
