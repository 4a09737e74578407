"""What the two disk engines share: refusing after a failure, and letting go at close.

Why it exists: RocksDB and LevelDB differ in how they write, sync and scan, and in nothing else that a user of
the store can see. The rules that must hold whatever the engine are here once:

- **Poisoned after a failure.** When an fsync fails the kernel may drop the very pages it could not write and
  call the next fsync a success. So after the first failed write or sync every later one raises that same
  error, and only opening the store anew, which reads what is really on the disk, clears it. Of a failed fsync
  ``on_sync_failed`` is told at once: unlike a failed write it may have harmed what was durable before.
- **Nothing outlives a close.** A scan or snapshot that someone still holds would keep the engine, and with it
  the lock on the folder, alive. They are tracked, and cut off at close: their next step raises `StoreClosed`.

How it works: `DiskStore` holds the rules and calls the engine through six small methods (``_write``,
``_sync``, ...) that a subclass fills in.

Limits: one thread writes, syncs and closes; any thread reads.

Read next: `durable.storage.rocksdb`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from durable.errors import StoreClosed, StoreError
from durable.ports import Batch
from durable.storage.folder import hold, release, typed_error
from durable.storage.ranges import is_empty, key_range


class Closeable(Protocol):
    """What is cut off when its store closes: a scan's iterator, a snapshot."""

    def close(self) -> None: ...


class DiskStore(ABC):
    """A store in a folder. Made by the ``open`` of a subclass, which has taken the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._live: WeakSet[Closeable] = WeakSet()
        self._closed = False
        self._failure: StoreError | None = None
        self.on_sync_failed: Callable[[StoreError], object] = lambda error: None
        """Called on whichever thread syncs."""
        hold(folder, self)

    def get(self, key: bytes) -> bytes | None:
        if self._closed:
            raise self._closed_error()
        try:
            return self._get(key)
        except Exception as error:
            raise typed_error(error, self.folder, "reading") from error

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As the port says. It shows the store as it was when the scan began; later writes do not show."""
        if self._closed:
            raise self._closed_error()
        low, high = key_range(prefix, start, reverse)
        return iter(()) if is_empty(low, high) else self._scan(low, high, reverse)

    def write(self, batch: Batch) -> None:
        self._refuse_if_unfit()
        writes = self._batch(batch)  # a TypeError from here is the caller's mistake, and no fault of the disk
        try:
            self._write(writes)
        except Exception as error:
            raise self._poisoned(error, "writing") from error

    def sync(self) -> None:
        self._refuse_if_unfit()
        try:
            self._sync()
        except Exception as error:
            failure = self._poisoned(error, "making writes durable")
            self.on_sync_failed(failure)
            raise failure from error

    def snapshot(self) -> DiskSnapshot:
        if self._closed:
            raise self._closed_error()
        try:
            snapshot = self._snapshot()
        except Exception as error:
            raise typed_error(error, self.folder, "taking a snapshot") from error
        self._live.add(snapshot)
        return snapshot

    def close(self) -> None:
        """Sync, then let go of the folder: also when the sync fails, which is raised. Twice is fine."""
        if self._closed:
            return
        try:
            if self._failure is None:
                self.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the folder without syncing. For a store that failed, or a copy that is thrown away."""
        self._closed = True
        for live in list(self._live):
            live.close()
        try:
            self._close()
        except Exception as error:
            if self._failure is None:  # after a failure it is no news, and nothing acknowledged hangs on it
                raise typed_error(error, self.folder, "closing") from error
        finally:
            release(self.folder, self)

    def _refuse_if_unfit(self) -> None:
        if self._closed:
            raise self._closed_error()
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args) from self._failure

    def _poisoned(self, error: Exception, doing: str) -> StoreError:
        self._failure = typed_error(error, self.folder, doing)
        return self._failure

    def _closed_error(self) -> StoreClosed:
        return StoreClosed(f"the store in {self.folder} was closed before this call; open it again.")

    @abstractmethod
    def _get(self, key: bytes) -> bytes | None: ...

    @abstractmethod
    def _scan(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]: ...

    @abstractmethod
    def _batch(self, batch: Batch) -> Any:
        """The batch as the engine takes it. Raises `TypeError` for what is not bytes."""

    @abstractmethod
    def _write(self, writes: Any) -> None: ...

    @abstractmethod
    def _sync(self) -> None: ...

    @abstractmethod
    def _snapshot(self) -> DiskSnapshot: ...

    @abstractmethod
    def _close(self) -> None: ...


class DiskSnapshot(ABC):
    """A store on disk as it was at one instant. `close` it: until then its disk space cannot be reclaimed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        if self._closed:
            raise self._closed_error()
        try:
            return self._get(key)
        except Exception as error:
            raise typed_error(error, self.folder, "reading") from error

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if self._closed:
            raise self._closed_error()
        low, high = key_range(prefix, start, reverse)
        return iter(()) if is_empty(low, high) else self._scan(low, high, reverse)

    def close(self) -> None:
        self._closed = True
        self._release()

    def _closed_error(self) -> StoreClosed:
        return StoreClosed(f"this snapshot of {self.folder}, or its store, was closed; take another one.")

    @abstractmethod
    def _get(self, key: bytes) -> bytes | None: ...

    @abstractmethod
    def _scan(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]: ...

    @abstractmethod
    def _release(self) -> None: ...
