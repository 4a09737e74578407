"""One run of one peer: a fresh folder, a fresh process group, a bound on its time, and a record of what
came of it.

Peers never run beside each other: each run's processes are gone before the next one's start. A run that
fails or takes too long is a record with an ``error``, not an exception: the other peers' figures are still
worth having.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.bodies import BODIES_FILE, KILL_AT
from bench.drive import STARTED_AT
from bench.drive_own import RECORDED
from bench.peer import adapter
from bench.probe import probe
from bench.processes import kill_group, spawn
from bench.workloads import Workload

LOG_LINES_KEPT = 5


class RunFailed(Exception):
    """The peer did not finish its workload; says how, with the end of its log."""


def run_once(workload: Workload, peer: str, number: int, root: Path) -> dict[str, Any]:
    """Probe the disk, run all phases, and return the record (keys: see `bench.stats.faults`)."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{workload.name}-{peer}-", dir=root))
    record: dict[str, Any] = {
        "workload": workload.name,
        "peer": peer,
        "round": number,
        "workflows": workload.size.workflows,
        "steps": workload.size.steps,
        "load": round(os.getloadavg()[0], 2),
        "probe": probe(folder),
        "metrics": {},
    }
    try:
        record["metrics"] = {key: round(value, 6) for key, value in _phases(workload, peer, folder).items()}
    except (RunFailed, OSError) as error:
        record["error"] = str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def _phases(workload: Workload, peer: str, folder: Path) -> dict[str, float]:
    deadline = time.monotonic() + workload.limit_s
    if workload.second_driver is None:
        return _phase(workload, workload.driver, peer, folder, deadline)
    if not workload.size.kill_at:
        first = _phase(workload, workload.driver, peer, folder, deadline)
        return {**first, **_phase(workload, workload.second_driver, peer, folder, deadline)}
    bodies = folder / "bodies.txt"
    env = {BODIES_FILE: str(bodies.resolve()), KILL_AT: str(workload.size.kill_at)}
    _phase(workload, workload.driver, peer, folder, deadline, env)
    witness: str | None = getattr(adapter(peer), "WITNESS", None)
    if witness:
        _phase(workload, witness, peer, folder, deadline)
    before = bodies.read_text().splitlines()
    metrics = _phase(workload, workload.second_driver, peer, folder, deadline, {**env, KILL_AT: "0"})
    after = bodies.read_text().splitlines()[len(before) :]
    recorded = (folder / RECORDED).read_text().splitlines() if witness else None
    return {**metrics, **counted(before, after, recorded, workload.size.workflows * workload.size.steps)}


def _phase(
    workload: Workload,
    driver: str,
    peer: str,
    folder: Path,
    deadline: float,
    env: dict[str, str] | None = None,
) -> dict[str, float]:
    """Run one driver. A phase that is to be killed returns nothing, and must have died by that SIGKILL."""
    size = workload.size
    command = [
        sys.executable,
        "-m",
        "bench.drive",
        driver,
        peer,
        str(folder),
        str(size.workflows),
        str(size.steps),
    ]
    log = folder / f"{driver}.log"
    environment = {**(env or {}), STARTED_AT: str(time.monotonic()), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = spawn(command, log, environment, leader=True)
    try:
        code = process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise RunFailed(f"not done within {workload.limit_s:g} s ({driver})") from None
    finally:
        kill_group(process)
    result = folder / f"{driver}.json"
    if code == 0 and result.exists():
        return dict(json.loads(result.read_text()))
    if code == -signal.SIGKILL and (env or {}).get(KILL_AT, "0") != "0":
        return {}
    raise RunFailed(f"{driver} ended with {code}: {_tail(log)}")


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-LOG_LINES_KEPT:]) or "its log is empty"


def counted(before: list[str], after: list[str], recorded: list[str] | None, steps: int) -> dict[str, float]:
    """What a kill cost, from the bodies that ran before and after it (a line each) and what the store held.

    ``bodies_twice`` may be some: a body whose completion was not recorded must run again. ``bodies_missing``
    and ``recorded_ran_again`` must be none.
    """
    ran = [*before, *after]
    result: dict[str, float] = {
        "bodies_twice": len(ran) - len(set(ran)),
        "bodies_missing": steps - len(set(ran)),
    }
    if recorded is not None:
        result["recorded_at_kill"] = len(recorded)
        result["recorded_ran_again"] = len(set(recorded) & set(after))
    return result
