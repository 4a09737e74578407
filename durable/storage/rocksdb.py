"""A store in RocksDB: the default, as its wheel installs everywhere and its log can be synced on its own.

Why it exists: one workflow's next step waits for one fsync, so a store is as fast as its log. RocksDB appends
to that log at the rate of the disk itself: two rows of 150 bytes and a sync took as long as a raw ``write``
and ``fdatasync`` of as many bytes in the same folder.

How it works: ``write`` appends the batch to the log (the file ``*.log``) and to a sorted table in memory,
without waiting; ``sync`` is ``flush_wal(True)``, which waits for the disk with the GIL released (a write with
``sync=True`` would hold it, and stop the event loop for the fsync). Full tables in memory are written out as
sorted files ``*.sst`` by RocksDB's own threads.

Options. Each was measured against its default, five rounds interleaved; these made no difference beyond the
noise to appends or to reads, and are left alone: recycling and size of the log, ``wal_bytes_per_sync``,
concurrent memtable writes, bloom filters, a larger block cache, another compression library. What is set is
set for safety and tidiness:

- ``tolerate_corrupted_tail_records``: the default would open a log with a damaged record in the middle and
  drop, without a word, everything after it, synced or not. This way a log that merely ends too early (a crash
  in mid-append) is cut there, and any other damage is `StoreCorrupted`.
- ``keep_log_file_num``: each opening leaves RocksDB's diary (``LOG.old.*``) behind; the default keeps a
  thousand.

Limits: one process a folder (`StoreLocked`; to read beside it, `durable.storage.beside`). An iterator of
rocksdict ends *quietly* at a damaged block: only ``status()`` tells, and so every scan here ends by asking
it. A power cut that leaves garbage (not merely nothing) at the very end of the log is indistinguishable from
damage, and is refused too.

Read next: `durable.storage.leveldb`, the same with another engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rocksdict import AccessType, DBRecoveryMode, Options, Rdict, ReadOptions, WriteBatch

from durable.errors import StoreClosed
from durable.ports import Batch
from durable.storage.engine import DiskSnapshot, DiskStore
from durable.storage.folder import prepare, typed_error

ENGINE = "RocksDB"

HANDFUL_ROWS_MAX = 256
"""How many rows a scan of a snapshot takes at a time: enough for the seeks in between not to show."""


class RocksDBStore(DiskStore):
    """An ordered key-value store in a folder, kept by RocksDB. Make one with `open`.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = RocksDBStore.open(folder.name)
    >>> store.write([(b"a", b"1"), (b"b", b"2")])
    >>> store.sync()
    >>> list(store.scan(b"", reverse=True))
    [(b'b', b'2'), (b'a', b'1')]
    >>> store.close()
    >>> folder.cleanup()
    """

    def __init__(self, folder: Path, db: Rdict) -> None:
        super().__init__(folder)
        self._db = db

    @classmethod
    def open(cls, path: str | Path) -> RocksDBStore:
        """Open the store in the folder, and make both if there is none.

        Raises `StoreLocked`, `StoreReadOnly`, `StoreFull`, `StoreCorrupted`, or `StoreError` when the folder
        is LevelDB's.
        """
        folder = Path(path)
        prepare(folder, ENGINE)
        try:
            return cls(folder, Rdict(str(folder), _options()))
        except Exception as error:
            raise typed_error(error, folder, "opening it") from error

    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def _scan(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        bound = _below(high)
        cursor = _Cursor(self._db.iter(bound), bound, self._closed_error())
        self._live.add(cursor)
        return _rows(cursor, low, high, reverse, self.folder)

    def _batch(self, batch: Batch) -> WriteBatch:
        writes = WriteBatch(raw_mode=True)
        try:
            for key, value in batch:
                if value is None:
                    writes.delete(key)
                else:
                    writes.put(key, value)
        except ValueError as error:
            raise TypeError(f"a store takes bytes: {error}") from error
        return writes

    def _write(self, writes: WriteBatch) -> None:
        self._db.write(writes)

    def _sync(self) -> None:
        self._db.flush_wal(True)

    def _snapshot(self) -> DiskSnapshot:
        return _RocksDBSnapshot(self.folder, self._db.iter())

    def _close(self) -> None:
        self._db.close()


def open_files(folder: Path) -> RocksDBStore:
    """A private copy of a store's files, opened to read: no lock is taken, no table written."""
    try:
        return RocksDBStore(folder, Rdict(str(folder), _options(), access_type=AccessType.read_only(False)))
    except Exception as error:
        raise typed_error(error, folder, "opening a copy to read") from error


class _RocksDBSnapshot(DiskSnapshot):
    """One iterator, moved about: an iterator shows the instant at which it was made.

    rocksdict's own ``Snapshot`` would not do: its ``get`` is of one instant, its iterators (0.3.29) are of
    the live store. Scans share the iterator by taking rows from it a handful at a time, so a snapshot is for
    one thread.
    """

    def __init__(self, folder: Path, iterator: Any) -> None:
        super().__init__(folder)
        self._cursor = _Cursor(iterator, None, self._closed_error())

    def _get(self, key: bytes) -> bytes | None:
        iterator = self._cursor.iterator
        iterator.seek(key)
        if iterator.valid():
            value: bytes | None = iterator.value() if iterator.key() == key else None
            return value
        iterator.status()
        return None

    def _scan(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        count = 4
        while True:
            taken = list(islice(_rows(self._cursor, low, high, reverse, self.folder), count))
            yield from taken
            if len(taken) < count:
                return
            if reverse:
                high = taken[-1][0]
            else:
                low = taken[-1][0] + b"\0"
            count = HANDFUL_ROWS_MAX

    def _release(self) -> None:
        self._cursor.close()


class _Cursor:
    """Holds the iterator of one scan, so that closing the store can take it away."""

    def __init__(self, iterator: Any, bound: ReadOptions | None, closed: StoreClosed) -> None:
        self.iterator = iterator
        self.bound = bound  # kept alive: the iterator points to its bytes and does not own them
        self.closed = closed

    def close(self) -> None:
        self.iterator = _Ended(self.closed)


class _Ended:
    """Stands in for an iterator whose store was closed: whatever is asked of it raises."""

    def __init__(self, closed: StoreClosed) -> None:
        self.closed = closed

    def __getattr__(self, name: str) -> Any:
        raise self.closed


def _rows(
    cursor: _Cursor, low: bytes, high: bytes | None, reverse: bool, folder: Path
) -> Iterator[tuple[bytes, bytes]]:
    """The rows of the range.

    The iterator is looked up at every step, because `close` may have replaced it while the reader held a row.
    """
    if reverse:
        _seek_below(cursor.iterator, high)
        while cursor.iterator.valid() and (key := cursor.iterator.key()) >= low:
            yield key, cursor.iterator.value()
            cursor.iterator.prev()
    else:
        cursor.iterator.seek(low)
        while cursor.iterator.valid() and (high is None or cursor.iterator.key() < high):
            yield cursor.iterator.key(), cursor.iterator.value()
            cursor.iterator.next()
    try:
        cursor.iterator.status()
    except Exception as error:
        raise typed_error(error, folder, "reading") from error


def _seek_below(iterator: Any, high: bytes | None) -> None:
    """Go to the last key below ``high``."""
    if high is None:
        iterator.seek_to_last()
        return
    iterator.seek_for_prev(high)
    if iterator.valid() and iterator.key() == high:
        iterator.prev()


def _below(high: bytes | None) -> ReadOptions | None:
    """Options that end an iterator at ``high``, before whatever was deleted beyond it.

    Without them it steps over all of that to find the next key: ten milliseconds for 200,000 deleted keys,
    against one microsecond. Never set a lower bound: rocksdict (0.3.29) takes it for the upper one.
    """
    if high is None:
        return None
    options = ReadOptions()
    options.set_iterate_upper_bound(high)
    return options


def _options() -> Options:
    options = Options(raw_mode=True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_keep_log_file_num(4)
    return options
