"""The app of a measured cluster, in nodes that note when a commit passes where: SIGUSR1 begins, and the next one writes it down.

To ``$BENCH_PROFILE/PROCESS-ID``, first under another name: a file that is there is whole. A line is a word and the monotonic clock,
which is that of the whole machine, so that lines of several processes compare:

=========  =============================================================================================================
append     the log is given a batch
sent       what may leave at once was handed to the links
sync       an fsync begins
synced     it has ended, and this process goes on
heard      a frame of another node is in hand
committed  whoever waits for an append is about to be told
=========  =============================================================================================================
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from bench.cluster_profiled import FOLDER
from bench.cluster_workflows import WORKFLOWS
from durable.cluster.replicated import ReplicatedLog
from durable.storage.syncer import Syncer

__all__ = ["WORKFLOWS"]

_lines: list[tuple[str, float]] = []
_runs = False


def _noted(owner: type, method: str, before: str = "", after: str = "") -> None:
    """Note when this method is called, and when it returns."""
    call: Callable[..., Any] = getattr(owner, method)

    def noted(*arguments: Any, **named: Any) -> Any:
        if not _runs:
            return call(*arguments, **named)
        if before:
            _lines.append((before, time.monotonic()))
        found = call(*arguments, **named)
        if after:
            _lines.append((after, time.monotonic()))
        return found

    setattr(owner, method, noted)


def _turn(number: int, frame: FrameType | None) -> None:
    global _runs
    _runs = not _runs
    if not _runs:
        whole = Path(os.environ[FOLDER]) / str(os.getpid())
        whole.with_suffix(".part").write_text("".join(f"{word} {at:.7f}\n" for word, at in _lines))
        whole.with_suffix(".part").rename(whole)


_noted(ReplicatedLog, "append", before="append")
_noted(ReplicatedLog, "_send", after="sent")
_noted(ReplicatedLog, "receive", before="heard")
_noted(ReplicatedLog, "_on_disk", before="synced")
_noted(ReplicatedLog, "_committed", before="committed")
_noted(Syncer, "start", before="sync")
signal.signal(signal.SIGUSR1, _turn)
