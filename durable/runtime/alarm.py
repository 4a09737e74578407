"""One timer of the event loop for all timers of the node.

`TimerQueue` knows the timers of the next few seconds; this reads them from the store as time goes on, and calls when the
soonest is due. Nothing polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from durable.journal.keys import partition_of
from durable.journal.timers import Timer, TimerQueue


class Alarm:
    """Calls ``fire(*timer)`` for each timer that is due, and then ``done()``.

    ``between(partition, from_ms, until_ms)`` reads timers from the store, and ``here()`` says of which partitions. The time in a
    partition is ``ahead_ms(partition)`` ahead of ``now_ms()``; the queue holds when timers are due by the latter.
    """

    def __init__(
        self,
        now_ms: Callable[[], int],
        ahead_ms: Callable[[int], int],
        between: Callable[[int, int, int], Iterable[Timer]],
        here: Callable[[], Iterable[int]],
        fire: Callable[[int, str, int, int], None],
        done: Callable[[], None],
    ) -> None:
        self._now_ms = now_ms
        self._ahead_ms = ahead_ms
        self._between = between
        self._here = here
        self._fire = fire
        self._done = done
        self._loop = asyncio.get_running_loop()
        self.timers = TimerQueue()
        self._handle: asyncio.TimerHandle | None = None
        self._closed = False

    def adopt(self, partition: int) -> None:
        """Read the first timers of a partition that is run here from now on, those that fell due meanwhile among them."""
        if not self.timers.window_end_ms:
            self.timers.extend(self._now_ms(), ())
        for timer in self._read(partition, 0, self.timers.window_end_ms):
            self.timers.add(timer)
        self._set()

    def add(self, timer: Timer) -> None:
        """A timer whose row is durable."""
        if self.timers.add(_shifted(timer, -self._ahead_ms(partition_of(timer[1])))):
            self._set()

    def close(self) -> None:
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()

    def _set(self) -> None:
        if self._closed:
            return
        when = self._loop.time() + max(0, self.timers.next_deadline_ms() - self._now_ms()) / 1000
        if self._handle is None or self._handle.when() > when + 0.0005:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._handle = None
        now_ms = self._now_ms()
        if self.timers.needs_extension(now_ms):
            self._extend(now_ms)
        for timer in self.timers.due(now_ms):
            self._fire(*_shifted(timer, self._ahead_ms(partition_of(timer[1]))))
        self._done()
        self._set()

    def _extend(self, now_ms: int) -> None:
        begin, end = self.timers.window_end_ms, now_ms + self.timers.window_ms
        self.timers.extend(now_ms, (timer for each in self._here() for timer in self._read(each, begin, end)))

    def _read(self, partition: int, begin_ms: int, end_ms: int) -> Iterable[Timer]:
        ahead_ms = self._ahead_ms(partition)
        timers = self._between(partition, begin_ms + ahead_ms if begin_ms else 0, end_ms + ahead_ms)
        return [_shifted(timer, -ahead_ms) for timer in timers]


def _shifted(timer: Timer, by_ms: int) -> Timer:
    return (timer[0] + by_ms, *timer[1:]) if by_ms else timer
