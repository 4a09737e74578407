"""Threads for functions that are not async: daemons, and bounded.

The threads of `concurrent.futures` are joined when the interpreter exits, so one stuck function would keep the process from
ending. These are not. A function that passes its timeout cannot be stopped, because no thread can: its outcome is unknown,
it keeps its thread until it ends by itself, and ``stuck`` counts it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

Job = tuple[Callable[[], Any], Context, asyncio.AbstractEventLoop, Callable[[Any, BaseException | None], None]]


class ThreadPool:
    """At most ``max_threads`` daemon threads, started as they are needed."""

    def __init__(self, max_threads: int) -> None:
        self.max_threads = max_threads
        self.stuck = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._waiting = 0

    def submit(self, body: Callable[[], Any], context: Context, done: Callable[[Any, BaseException | None], None]) -> None:
        """Run ``body()`` in a thread, in that context; ``done(result, error)`` is called on this event loop."""
        self._waiting += 1
        self._jobs.put((body, context, asyncio.get_running_loop(), done))
        if self._waiting > 0 and self._threads < self.max_threads:
            self._threads += 1
            threading.Thread(target=self._run, name="durable-function", daemon=True).start()

    def close(self) -> None:
        """Let idle threads end. Busy ones end with their function, or with the process."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            body, context, loop, done = job
            result, error = None, None
            try:
                result = context.run(body)
            except BaseException as raised:
                error = raised
            self._waiting -= 1
            try:
                loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:
                return  # the event loop is closed: the node is gone, and nobody waits for this any more
