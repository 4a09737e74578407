"""Named deadlines: a core that has no clock says here when it wants to be woken.

**How it works.** A timer is a (kind, subject) pair with a time; setting it again moves it. `due` hands out
what has come due, earliest first, and in the order in which they were set where times are equal: the order is
the same in every run. Moved and cancelled entries stay in the heap and are skipped when they surface.

Read next: `view`.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TypeAlias

Timer: TypeAlias = tuple[str, str | int]


class Timers:
    """Deadlines by name.

    >>> timers = Timers()
    >>> timers.set(("suspect", "b"), 2.0); timers.set(("gossip", ""), 1.0); timers.set(("suspect", "b"), 0.5)
    >>> timers.next_deadline(), timers.due(1.0), timers.due(0.7)
    (0.5, ('suspect', 'b'), None)
    """

    def __init__(self) -> None:
        self._at: dict[Timer, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = 0

    def __contains__(self, timer: Timer) -> bool:
        return timer in self._at

    def set(self, timer: Timer, at: float) -> None:
        """Wake at ``at``; an earlier setting of the same timer is forgotten."""
        self._number += 1
        self._at[timer] = (at, self._number)
        heappush(self._heap, (at, self._number, timer))
        if len(self._heap) > 64 + 4 * len(self._at):
            self._heap = [(at, number, key) for key, (at, number) in self._at.items()]
            heapify(self._heap)

    def delay(self, timer: Timer, not_before: float) -> None:
        """Move a timer that is set to fire earlier than ``not_before``."""
        if timer in self._at and self._at[timer][0] < not_before:
            self.set(timer, not_before)

    def cancel(self, timer: Timer) -> None:
        """Forget a timer. It need not be set."""
        self._at.pop(timer, None)

    def clear(self) -> None:
        """Forget all."""
        self._at.clear()
        self._heap.clear()

    def next_deadline(self) -> float | None:
        """The earliest time set, or None."""
        heap = self._heap
        while heap and self._at.get(heap[0][2]) != heap[0][:2]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Timer | None:
        """Take the earliest timer that is due, or None."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        timer = heappop(self._heap)[2]
        del self._at[timer]
        return timer
