"""The real world behind the ports `Clock` and `Entropy`: the only module that asks the operating system for time or chance.

`SystemClock` gives wall time that does not go backwards. An operator, or NTP, may set the machine's clock back by an hour;
timers must not wait an hour longer for it. So the step back is noticed against the monotonic clock and taken out. A step
forward is believed: a laptop that slept did miss that time. Across a restart, the store remembers the latest time seen.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""Of Linux, `prctl(2)`."""

STEP_BACK_MS = 50
"""Differences below this are ordinary correction by NTP, and are ignored."""


def monotonic_s() -> float:
    """Seconds from some moment, never backwards: for measuring how long something took."""
    return time.perf_counter()


def cpu_s() -> float:
    """Seconds that a CPU has worked for this process: for measuring what something cost, however busy the machine is."""
    return time.process_time()


class SystemClock:
    """Milliseconds since 1970, never backwards.

    >>> clock = SystemClock(wall=iter([100.0, 101.0, 41.0]).__next__, monotonic=iter([0.0, 1.0, 2.0]).__next__)
    >>> clock.now_ms(), clock.now_ms()      # the wall clock is set back by a minute; one second has passed
    (101000, 102000)
    """

    def __init__(
        self,
        at_least_ms: int = 0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last_ms = wall() * 1000
        self._last_tick_ms = monotonic() * 1000
        self._offset_ms = 0.0
        self.at_least(at_least_ms)

    def at_least(self, now_ms: int) -> None:
        """Never be behind this moment: what an earlier process has seen."""
        if now_ms > self._last_ms:
            self._offset_ms += now_ms - self._last_ms
            self._last_ms = now_ms

    def now_ms(self) -> int:
        tick_ms = self._monotonic() * 1000
        now_ms = self._wall() * 1000 + self._offset_ms
        expected_ms = self._last_ms + (tick_ms - self._last_tick_ms)
        if now_ms < expected_ms - STEP_BACK_MS:
            self._offset_ms += expected_ms - now_ms
            now_ms = expected_ms
        self._last_tick_ms = tick_ms
        self._last_ms = max(now_ms, self._last_ms)
        return int(self._last_ms)


class SystemEntropy:
    """Random bytes from the operating system."""

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


def process_id() -> int:
    return os.getpid()


def die_with_parent(parent_id: int) -> None:
    """From now on this process is killed when its parent ends, however that ends. Elsewhere than on Linux: nothing.

    ``parent_id`` is who started it: it may have ended before this was called.
    """
    if sys.platform == "linux":
        import ctypes  # only children need it, and every `import durable` would pay for it

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_id:
            os._exit(1)
