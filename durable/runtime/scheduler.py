"""Which execution runs next, and which leaves memory.

An execution *runs* while its code or one of its functions does; then it holds one of ``max_concurrent_workflows`` slots.
One that waits for a timer, a message or another workflow holds none. Who is woken without a free slot queues, first come,
first served. Nothing polls: `wake` is called by whatever happened, and the work is done in the next turn of the event loop.

An execution that waits for longer than ``park_after`` is parked: its coroutines are dropped, and its rows are all that is
left of it. Beyond ``max_waiting_in_memory`` the one that has waited longest is parked at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from durable.runtime.config import NodeConfig
from durable.runtime.execution import Execution

TURN_S = 0.05
"""How long executions are driven in one turn of the event loop: sockets and gossip wait meanwhile. A long journal that is replayed
takes as long as it takes, but the next one waits for the next turn."""
TURN_MAX = 512
"""And how many: what they have recorded is sent and synced at the end of the turn."""


class Scheduler:
    """Slots, the queue for them, and the executions that wait in memory.

    ``drive(execution)`` runs one; ``flush()`` ends a turn; ``park(execution)`` takes one out of memory, unless it has a timer
    that is due ``soon(execution)``.
    """

    def __init__(
        self,
        config: NodeConfig,
        drive: Callable[[Execution], None],
        flush: Callable[[], None],
        park: Callable[[Execution], None],
        soon: Callable[[Execution], bool],
    ) -> None:
        self._config = config
        self._drive = drive
        self._flush = flush
        self._park = park
        self._soon = soon
        self._loop = asyncio.get_running_loop()
        self._slots = config.max_concurrent_workflows
        self._queue: deque[Execution] = deque()
        self._ready: deque[Execution] = deque()
        self._waiting: dict[str, Execution] = {}
        self._turn_scheduled = False
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def running(self) -> int:
        """Executions that hold a slot."""
        return self._config.max_concurrent_workflows - self._slots

    @property
    def queued(self) -> int:
        return len(self._queue)

    def wake(self, execution: Execution) -> None:
        """Something happened for this execution: run it as soon as there is a slot."""
        if execution.ready or execution.queued or execution.parking or self._closed:
            return
        self._waiting.pop(execution.workflow_id, None)
        if execution.has_slot:
            self._make_ready(execution)
        elif self._slots > 0:
            self._slots -= 1
            execution.has_slot = True
            self._make_ready(execution)
        else:
            execution.queued = True
            self._queue.append(execution)

    def release(self, execution: Execution) -> None:
        """The execution runs no more, for now or for ever."""
        if not execution.has_slot:
            return
        execution.has_slot = False
        if self._queue:
            following = self._queue.popleft()
            following.queued = False
            following.has_slot = True
            self._make_ready(following)
        else:
            self._slots += 1

    def waits(self, execution: Execution) -> None:
        """The execution waits: it may stay in memory for a while."""
        execution.idle_since_s = self._loop.time()
        self._waiting[execution.workflow_id] = execution
        if len(self._waiting) > self._config.max_waiting_in_memory:
            longest = next(iter(self._waiting))
            self._park(self._waiting.pop(longest))
        elif self._sweep is None:
            self._sweep = self._loop.call_later(self._config.park_after, self._park_old)

    def forget(self, execution: Execution) -> None:
        self._waiting.pop(execution.workflow_id, None)

    def drop(self, partition: int) -> None:
        """The executions of this partition are run elsewhere: none of them is driven here any more. Their slots are released
        one by one, by whoever drops them.
        """
        self._queue = deque(each for each in self._queue if each.partition != partition)
        self._ready = deque(each for each in self._ready if each.partition != partition)
        self._waiting = {each.workflow_id: each for each in self._waiting.values() if each.partition != partition}

    def close(self) -> None:
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()

    def _make_ready(self, execution: Execution) -> None:
        execution.ready = True
        self._ready.append(execution)
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._closed:
            return
        ends = self._loop.time() + TURN_S
        for _ in range(TURN_MAX):
            if not self._ready or self._loop.time() > ends:
                break
            execution = self._ready.popleft()
            execution.ready = False
            self._drive(execution)
        self._flush()
        if self._ready and not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _park_old(self) -> None:
        self._sweep = None
        if self._closed:
            return
        now_s = self._loop.time()
        for workflow_id in list(self._waiting):
            execution = self._waiting[workflow_id]
            if execution.idle_since_s + self._config.park_after > now_s:
                break
            del self._waiting[workflow_id]
            if self._soon(execution):  # it would be back at once
                execution.idle_since_s = now_s
                self._waiting[workflow_id] = execution
            else:
                self._park(execution)
        if self._waiting:
            longest = next(iter(self._waiting.values()))
            self._sweep = self._loop.call_at(longest.idle_since_s + self._config.park_after, self._park_old)
        self._flush()
