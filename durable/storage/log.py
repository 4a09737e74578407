"""Group commit: many batches, one fsync.

``append`` puts a batch with the others of the moment; they are written together and made durable by one ``sync``, and then
everybody who waits goes on. While a sync is under way the next group collects. So the cost of an fsync is shared by every
workflow that is ready, and the busier the node, the cheaper a step.

Where does the sync run? A thread that does nothing else costs a hop in each direction, about as much as an fsync on a
fast disk, and on a busy event loop it can wait long for the GIL. So: on a fast disk the loop itself syncs; on a slow one
a thread does, and the loop takes the job back if the thread has not begun within a millisecond.

``LocalLog`` is the `Log` of one node; a replicated log has the same port and another meaning of "durable".
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from durable.errors import DurableError, StoreError
from durable.ports import Batch, Store, Write
from durable.world import monotonic_s

FAST_SYNC_S = 0.002
"""A disk that syncs within this is synced on the loop: it stops the loop for less than two thread hops on a busy one."""
STEAL_AFTER_S = 0.001


class LocalLog:
    """Makes batches durable in one store. ``syncs`` counts the fsyncs, ``batches`` what they covered."""

    def __init__(self, store: Store, *, inline: bool | None = None) -> None:
        self._store = store
        self._inline = inline
        self._writes: list[Write] = []
        self._group: asyncio.Future[None] | None = None
        self._syncing = False
        self._sync_s = 0.0
        self._failure: DurableError | None = None
        self._confirmed: asyncio.Future[None] | None = None
        self._flusher = _Flusher(store)
        self.syncs = 0
        self.batches = 0

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]:
        """Done when the batch is durable. Every append of one moment gets the same future."""
        group = self._group
        if group is None:
            loop = asyncio.get_running_loop()
            group = self._group = loop.create_future()
            if self._failure is not None:
                self._group = None
                group.set_exception(self._failure)
                return group
            if not self._syncing:
                loop.call_soon(self._flush)
        self._writes.extend(batch)
        self.batches += 1
        return group

    def confirm(self, partition: int) -> asyncio.Future[None]:
        """Done at once: no other process can have this store."""
        if self._confirmed is None:
            self._confirmed = asyncio.get_running_loop().create_future()
            self._confirmed.set_result(None)
        return self._confirmed

    def _flush(self) -> None:
        group, writes = self._group, self._writes
        if group is None:
            return
        self._group, self._writes = None, []
        try:
            self._store.write(writes)
        except StoreError as error:
            self._fail(group, error)
            return
        if self._inline or (self._inline is None and self._sync_s < FAST_SYNC_S):
            self._sync_here(group)
        else:
            self._syncing = True
            loop = asyncio.get_running_loop()
            self._flusher.start(lambda error, took: loop.call_soon_threadsafe(self._synced, group, error, took))
            loop.call_later(STEAL_AFTER_S, self._flusher.steal)

    def _sync_here(self, group: asyncio.Future[None]) -> None:
        began = monotonic_s()
        try:
            self._store.sync()
        except StoreError as error:
            self._fail(group, error)
            return
        self._learn(monotonic_s() - began)
        if not group.done():
            group.set_result(None)

    def _synced(self, group: asyncio.Future[None], error: StoreError | None, took_s: float) -> None:
        self._syncing = False
        if error is not None:
            self._fail(group, error)
            return
        self._learn(took_s)
        if not group.done():
            group.set_result(None)
        if self._group is not None:
            self._flush()

    def _learn(self, took_s: float) -> None:
        self.syncs += 1
        self._sync_s += (took_s - self._sync_s) / 16

    def _fail(self, group: asyncio.Future[None], error: DurableError) -> None:
        """Nothing is acknowledged any more: after a failed fsync nobody knows what the disk has."""
        self._failure = error
        for waiting in (group, self._group):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        self._group, self._writes = None, []

    def close(self) -> None:
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
