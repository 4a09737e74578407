"""The app of a measured cluster, in nodes that profile themselves: SIGUSR1 begins, and the next one writes what was found.

To ``$BENCH_PROFILE/PROCESS-ID``, first under another name: a file that is there is whole.
"""

from __future__ import annotations

import cProfile
import os
import signal
from pathlib import Path
from types import FrameType

from bench.cluster_workflows import WORKFLOWS

__all__ = ["WORKFLOWS"]

FOLDER = "BENCH_PROFILE"
_profiler = cProfile.Profile()
_runs = False


def _turn(number: int, frame: FrameType | None) -> None:
    global _runs
    if not _runs:
        _runs = True
        _profiler.enable()
        return
    _profiler.disable()
    whole = Path(os.environ[FOLDER]) / str(os.getpid())
    _profiler.dump_stats(whole.with_suffix(".part"))
    whole.with_suffix(".part").rename(whole)


signal.signal(signal.SIGUSR1, _turn)
