"""One fsync at a time: where it runs, and who is told.

**Why it exists.** A thread that does nothing but sync costs a hop in each direction, about as much as an fsync on a fast disk,
and beside a busy event loop it can wait long for the GIL. On a slow disk a sync on the loop stops everything else.

**How it works.** The time of a sync is averaged. While it is short the loop itself syncs; else a thread does, and the loop
takes the job back if the thread has not begun within a millisecond.

Read next: `durable.storage.log`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from durable.errors import StoreError
from durable.ports import Store
from durable.world import monotonic_s

FAST_SYNC_S = 0.002
"""A disk that syncs within this is synced on the loop: it stops the loop for less than two thread hops on a busy one."""
STEAL_AFTER_S = 0.001
Done = Callable[[StoreError | None], None]


class Syncer:
    """Makes durable what was written to one store. ``syncs`` counts; ``busy`` while one is under way; ``last_s``: how long the
    last one took.

    ``inline`` says where: True on the loop, False in the thread, None by the time that it takes.
    """

    def __init__(self, store: Store, *, inline: bool | None = None) -> None:
        self._store = store
        self.inline = inline
        self._mean_s = 0.0
        self._flusher = _Flusher(store)
        self.busy = False
        self.syncs = 0
        self.last_s = 0.0

    def start(self, done: Done) -> None:
        """Sync, and call ``done`` on the loop: with the error if it failed. Not while `busy`. It may be done at once."""
        self.busy = True
        if self.inline or (self.inline is None and self._mean_s < FAST_SYNC_S):
            began = monotonic_s()
            error: StoreError | None = None
            try:
                self._store.sync()
            except StoreError as failed:
                error = failed
            self._ended(done, error, monotonic_s() - began)
            return
        loop = asyncio.get_running_loop()
        self._flusher.start(lambda error, took_s: loop.call_soon_threadsafe(self._ended, done, error, took_s))
        loop.call_later(STEAL_AFTER_S, self._flusher.steal)

    def _ended(self, done: Done, error: StoreError | None, took_s: float) -> None:
        self.busy = False
        if error is None:
            self.syncs += 1
            self.last_s = took_s
            self._mean_s += (took_s - self._mean_s) / 16
        done(error)

    def close(self) -> None:
        """End the thread."""
        self._flusher.close()


class _Flusher:
    """One daemon thread that syncs when told, and gives the job back when it is slow to begin."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._job: Callable[[StoreError | None, float], object] | None = None
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, done: Callable[[StoreError | None, float], object]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="durable-sync", daemon=True)
            self._thread.start()
        self._job = done
        self._wake.set()

    def steal(self) -> None:
        """Do the job on this thread, unless the other has begun it."""
        self._do()

    def _do(self) -> None:
        with self._lock:
            done, self._job = self._job, None
        if done is None:
            return
        began = monotonic_s()
        try:
            self._store.sync()
        except StoreError as error:
            done(error, 0.0)
        else:
            done(None, monotonic_s() - began)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            self._do()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
