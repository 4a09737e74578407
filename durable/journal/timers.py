"""Which timers are due, and when the next one will be.

A timer is a row in the store, so that it survives. Keeping a million of them in memory as well would cost a million
objects; so only the timers of the next few seconds are here. `window_end_ms` says how far this queue has read: a timer
beyond it stays in its row, and is read when the window moves (`TimerQueue.extend`).

A pure core: ``now`` comes in, due timers come out. A timer that was cancelled is not taken out of the heap; whoever gets it
checks whether anybody still waits for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

Timer = tuple[int, str, int, int]
"""``(fire_at_ms, workflow_id, run, sequence_number)``"""


class TimerQueue:
    """The timers of the next few seconds, soonest first.

    >>> queue = TimerQueue(window_ms=10_000)
    >>> queue.extend(0, [])
    >>> queue.add((500, "order-1", 0, 3)), queue.add((60_000, "order-2", 0, 1))     # the second is beyond the window
    (True, False)
    >>> queue.next_deadline_ms()
    500
    >>> queue.due(now_ms=501)
    [(500, 'order-1', 0, 3)]
    """

    def __init__(self, window_ms: int = 10_000) -> None:
        self.window_ms = window_ms
        self.window_end_ms = 0
        self._heap: list[Timer] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, timer: Timer) -> bool:
        """Keep a timer whose row is in the store. False when it lies beyond the window, and its row is enough."""
        if timer[0] >= self.window_end_ms:
            return False
        heapq.heappush(self._heap, timer)
        return True

    def extend(self, now_ms: int, rows: Iterable[Timer]) -> None:
        """Move the window on to ``now_ms + window_ms``; ``rows`` are the store's timers between its old end and the new."""
        self.window_end_ms = max(self.window_end_ms, now_ms + self.window_ms)
        for timer in rows:
            heapq.heappush(self._heap, timer)

    def next_deadline_ms(self) -> int:
        """When to look again: the soonest timer, or half a window before the window ends."""
        half = self.window_end_ms - self.window_ms // 2
        return min(self._heap[0][0], half) if self._heap else half

    def needs_extension(self, now_ms: int) -> bool:
        return now_ms >= self.window_end_ms - self.window_ms // 2

    def due(self, now_ms: int) -> list[Timer]:
        """Take out every timer whose time has come, soonest first. One may come twice: check before use."""
        found: list[Timer] = []
        while self._heap and self._heap[0][0] <= now_ms:
            timer = heapq.heappop(self._heap)
            if not found or found[-1] != timer:
                found.append(timer)
        return found
