"""Virtual time: a queue of what happens next, and a clock that jumps from one to the next.

**How it works.** Things that happen at one moment happen in the order in which they were planned. So a run is
a function of its seed.

Read next: `loop`.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush


class EventQueue:
    """What happens when.

    >>> queue, seen = EventQueue(), []
    >>> queue.at(2.0, lambda: seen.append(queue.now))
    >>> queue.run_until(5.0)
    >>> seen, queue.now
    ([2.0], 5.0)
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0

    def at(self, when: float, happen: Callable[[], object]) -> None:
        """Plan something, in seconds; what is planned for the past happens now."""
        self._number += 1
        heappush(self._planned, (when if when > self.now else self.now, self._number, happen))

    def step(self, until: float) -> bool:
        """Let the next thing happen, if it is not after ``until``. False if there is none; the clock is then
        at ``until``.
        """
        if not self._planned or self._planned[0][0] > until:
            self.now = max(self.now, until)
            return False
        self.now, _, happen = heappop(self._planned)
        happen()
        return True

    def run_until(self, until: float) -> None:
        """Let everything happen up to and including ``until``."""
        while self.step(until):
            pass
