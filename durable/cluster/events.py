"""`EventStream`: what a node tells, one thing after the other, for ``async for``.

**Limits.** A listener that falls behind by `EVENTS_MAX` changes gets what it had, and then a `ClusterError`: it is to read the
list anew. A node's memory does not grow because somebody forgot to listen.

Read next: `durable.cluster.local`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from durable.errors import ClusterError

T = TypeVar("T")
EVENTS_MAX = 10_000


class EventStream(Generic[T]):
    """Begins with the call that made it. ``listeners`` is the list that it is on while it is open."""

    def __init__(self, listeners: list[EventStream[T]]) -> None:
        self._listeners = listeners
        self._waiting: deque[T] = deque()
        self._woken = asyncio.Event()
        self._ended = self._overrun = False
        listeners.append(self)

    def put(self, change: T) -> None:
        """Hand one to the listener."""
        if len(self._waiting) >= EVENTS_MAX:
            self._overrun = True
            self.end()
        else:
            self._waiting.append(change)
            self._woken.set()

    def put_latest(self, state: T) -> None:
        """Hand over how things are: what the listener has not read of how they were is not worth reading any more."""
        self._waiting.clear()
        self._waiting.append(state)
        self._woken.set()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._woken.set()
        if self in self._listeners:
            self._listeners.remove(self)

    def __aiter__(self) -> EventStream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            if self._overrun:
                raise ClusterError(f"more than {EVENTS_MAX:,} changes waited to be read; read members() and listen anew")
            if self._ended:
                raise StopAsyncIteration
            self._woken.clear()
            await self._woken.wait()
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Listen no more."""
        self.end()
