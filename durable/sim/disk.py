"""A disk under a seed: what was not synced when the machine died is gone, but for as much as the disk happened to have.

**Why it exists.** What a node promises it has fsynced before. Whether it really has is seen only when the power goes at the worst
moment, on a disk that is slow, full of surprises, and once in a while broken.

**How it works.** A `SimDisk` outlives the processes that use it; a `SimStore` is one process's open store on it, and knows
the disk no more once that process is dead. Batches are visible at once (in a store in memory) and *durable* after a sync. The
disk remembers of each batch that is not yet durable what it has overwritten, and takes it back at a crash.

================  ==========================================================================================================
fault             what happens
================  ==========================================================================================================
crash             of the batches not yet synced a prefix survives, cut at a random *byte*: a batch that the cut falls into is a
                  torn tail, and is dropped whole, as the checksum of a write-ahead log does it
slow fsync        a sync takes ``sync_s`` seconds. `SimStore.sync` stops the process's event loop for as long, as a real one does;
                  `SimStore.begin_sync` is one on a thread
failing fsync     it raises `StoreError`, and from then on the store takes nothing more until it is opened anew. What was not
                  synced may be gone after that, though it could be read
wiped disk        everything is gone, durable or not
================  ==========================================================================================================

**Limits.** What was synced is never damaged: nothing here is a disk that lies.

Read next: `durable.sim.process`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from durable.errors import StoreClosed, StoreError
from durable.ports import Batch, Snapshot, Write
from durable.storage.memory import InMemoryStore

SYNC_S = (0.0002, 0.001)


class SimDisk:
    """What outlives a process.

    >>> disk = SimDisk(Random(1))
    >>> store = disk.open()
    >>> store.write([(b"a", b"1")]); store.sync(); store.write([(b"a", b"2"), (b"b", b"2")])
    >>> disk.crash()
    >>> dict(disk.open().scan(b""))
    {b'a': b'1'}
    """

    def __init__(self, random: Random) -> None:
        self.sync_s = SYNC_S
        """How long a sync takes, from and to; drawn anew each time."""
        self.failing_syncs = 0
        """So many of the next syncs fail."""
        self.on_write: Callable[[Batch], object] | None = None
        """Called before each batch takes effect: for a judge."""
        self.torn = 0
        self.lost_batches = 0
        self.wiped: dict[bytes, bytes] = {}
        """What was durable when a disk was replaced by an empty one: for a judge."""
        self._random = random
        self._rows = InMemoryStore.open()
        self._unsynced: list[tuple[int, list[Write]]] = []  # bytes of a batch; what undoes it
        self._durable = 0
        self._store: SimStore | None = None

    def open(self, blocks: Callable[[float], object] = lambda seconds: None) -> SimStore:
        """The store of a process. ``blocks`` is told how long the process stands still for a sync."""
        if self._store is not None:
            if self._store.failed:
                self.lose_unsynced()
            self._store.forget()
        self._store = SimStore(self, self._rows, blocks)
        return self._store

    def crash(self) -> None:
        """The machine dies. The store that was open knows its disk no more."""
        if self._store is not None:
            self._store.forget()
        self.lose_unsynced()

    def wipe(self) -> None:
        """Put an empty disk in its place."""
        self.wiped |= self.durable()
        self.crash()
        self._rows = InMemoryStore.open()

    def get(self, key: bytes) -> bytes | None:
        """What can be read now, whether durable or not: for a judge."""
        return self._rows.get(key)

    def rows(self, prefix: bytes = b"") -> dict[bytes, bytes]:
        """All that can be read now, whether durable or not."""
        return dict(self._rows.scan(prefix))

    def durable(self, prefix: bytes = b"") -> dict[bytes, bytes]:
        """What would be there if the machine died now, at the very least."""
        rows = self.rows(prefix)
        for _, undo in reversed(self._unsynced):
            for key, value in undo:
                if not key.startswith(prefix):
                    continue
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
        return rows

    # What the open store asks of it

    def wrote(self, size: int, undo: list[Write]) -> None:
        self._unsynced.append((size, undo))

    @property
    def written(self) -> int:
        """How many batches were written since it was new: what a sync that begins now will cover."""
        return self._durable + len(self._unsynced)

    def synced(self, written: int) -> None:
        """So many batches are durable."""
        done = max(0, written - self._durable)
        del self._unsynced[:done]
        self._durable += done

    def take_s(self) -> float:
        low, high = self.sync_s
        return low + (high - low) * self._random.random()

    def lose_unsynced(self) -> None:
        """Take back what the disk did not happen to have."""
        have = self._random.randint(0, sum(size for size, _ in self._unsynced)) if self._unsynced else 0
        kept = 0
        for size, _ in self._unsynced:
            if have < size:
                break
            have -= size
            kept += 1
        lost = self._unsynced[kept:]
        self.torn += bool(lost and have)
        self.lost_batches += len(lost)
        for _, undo in reversed(lost):
            self._rows.write(undo)
        self._durable += kept
        self._unsynced.clear()


class SimStore:
    """One process's store on a `SimDisk`. Implements `durable.ports.Store`. Made by `SimDisk.open`."""

    def __init__(self, disk: SimDisk, rows: InMemoryStore, blocks: Callable[[float], object]) -> None:
        self._disk: SimDisk | None = disk
        self._rows = rows
        self._blocks = blocks
        self._failure: str | None = None

    @property
    def failed(self) -> bool:
        """Whether a sync has failed."""
        return self._failure is not None

    def get(self, key: bytes) -> bytes | None:
        self._opened()
        return self._rows.get(key)

    def scan(self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self._opened()
        return self._rows.scan(prefix, start=start, reverse=reverse)

    def snapshot(self) -> Snapshot:
        self._opened()
        return self._rows.snapshot()

    def write(self, batch: Batch) -> None:
        disk = self._working()
        if disk.on_write is not None:
            disk.on_write(batch)
        undo = [(key, self._rows.get(key)) for key, _ in reversed(batch) if isinstance(key, bytes)]
        self._rows.write(batch)
        disk.wrote(sum(len(key) + len(value or b"") + 8 for key, value in batch), undo)

    def sync(self) -> None:
        disk = self._working()
        self._blocks(disk.take_s())
        self._end_sync(disk, disk.written)

    def begin_sync(self) -> tuple[float, Callable[[], StoreError | None]]:
        """A sync beside the process, as by a thread: how long it takes, and what to call at its end; it gives the error."""
        disk = self._working()
        written = disk.written

        def end() -> StoreError | None:
            try:
                self._end_sync(self._working(), written)
            except StoreError as error:
                return error
            return None

        return disk.take_s(), end

    def _end_sync(self, disk: SimDisk, written: int) -> None:
        if disk.failing_syncs:
            disk.failing_syncs -= 1
            self._failure = "the fsync failed (input/output error). What it was to make durable was not acknowledged"
            raise StoreError(self._failure)
        disk.synced(written)

    def close(self) -> None:
        """Sync, unless a sync has failed, and let go of the disk."""
        if self._disk is not None and self._failure is None:
            self._disk.synced(self._disk.written)
        self.forget()

    def forget(self) -> None:
        """Know the disk no more: the process is dead, and its last words are not written."""
        self._disk = None

    def _opened(self) -> SimDisk:
        if self._disk is None:
            raise StoreClosed("this store was closed, or its process is dead; open the disk anew")
        return self._disk

    def _working(self) -> SimDisk:
        disk = self._opened()
        if self._failure is not None:
            raise StoreError(f"{self._failure}; since then this store takes nothing: open it anew")
        return disk
