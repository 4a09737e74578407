"""A store in LevelDB: the smaller, older engine, for folders and machines that have it.

Why it exists: to show that the journal needs nothing but ordered keys and atomic batches, and that a cluster
may mix engines. It needs the extra: ``pip install 'durable[leveldb]'``.

How it works: ``write`` appends to LevelDB's log without waiting, ``sync`` makes the log durable. LevelDB has
no call for the second, and a write with ``sync=True`` does not stand in for one:

- When its table in memory is full (4 MiB) LevelDB begins another log file, and closes the old one *without*
  syncing it (its issue 193). Until the table has been written out, which is synced, the old file is all there
  is of those writes; and any write of another thread may be the one that begins the next file.
- They wait in one queue with all other writes: a ``write`` on the event loop would wait for the disk.

So `sync` leaves LevelDB alone and syncs its log files itself, the oldest first, and the folder when there is a
new name in it. LevelDB hands every record to the system before a write returns, so an fsync of the file reaches
it, whoever calls it. And what was written before the sync is in a file that is there when the folder is listed,
or in a table: LevelDB syncs a table, and the list of tables, before it deletes the log.

Limits: one process a folder (`StoreLocked`). Checksums are verified on every read, which LevelDB leaves off
by default: a damaged byte would be handed out as data. Damage in the log is `StoreCorrupted`, except that a
log which merely ends too early is cut there. plyvel has no wheel for Python 3.13 and later.

Read next: `durable.storage.beside`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from durable.errors import StoreClosed
from durable.ports import Batch
from durable.storage.engine import DiskSnapshot, DiskStore
from durable.storage.folder import prepare, typed_error

try:
    import plyvel
except ImportError as missing:
    raise ImportError(
        "LevelDB needs the package plyvel, which is not installed here: pip install 'durable[leveldb]'. "
        "Without it, RocksDB is there: durable.storage.RocksDBStore."
    ) from missing

ENGINE = "LevelDB"


class LevelDBStore(DiskStore):
    """An ordered key-value store in a folder, kept by LevelDB. Make one with `open`.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = LevelDBStore.open(folder.name)
    >>> store.write([(b"a", b"1"), (b"b", b"2")])
    >>> store.sync()
    >>> list(store.scan(b"b"))
    [(b'b', b'2')]
    >>> store.close()
    >>> folder.cleanup()
    """

    def __init__(self, folder: Path, db: Any) -> None:
        super().__init__(folder)
        self._db = db
        self._named = 0  # the newest log file whose name in the folder is durable: they are numbered, from 1

    @classmethod
    def open(cls, path: str | Path) -> LevelDBStore:
        """Open the store in the folder, and make both if there is none.

        Raises `StoreLocked`, `StoreReadOnly`, `StoreFull`, `StoreCorrupted`, or `StoreError` when the folder
        is RocksDB's.
        """
        folder = Path(path)
        prepare(folder, ENGINE)
        return cls(folder, _open(folder))

    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key, verify_checksums=True)
        return value

    def _scan(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        return _rows(self._db, low, high, reverse, self.folder, self._closed_error())

    def _batch(self, batch: Batch) -> Any:
        writes = self._db.write_batch()
        for key, value in batch:
            if value is None:
                writes.delete(key)
            else:
                writes.put(key, value)
        return writes

    def _write(self, writes: Any) -> None:
        writes.write()

    def _sync(self) -> None:
        with os.scandir(self.folder) as entries:  # unlike glob it fails when the folder is gone
            logs = sorted((Path(entry) for entry in entries if entry.name.endswith(".log")), key=_number)
        for log in logs:
            try:
                _fsync(log)
            except FileNotFoundError:  # a table by now
                continue
        if logs and (newest := _number(logs[-1])) > self._named:
            _fsync(self.folder)
            self._named = newest

    def _snapshot(self) -> DiskSnapshot:
        return _LevelDBSnapshot(self.folder, self._db.snapshot())

    def _close(self) -> None:
        self._db.close()


def open_files(folder: Path) -> LevelDBStore:
    """A private copy of a store's files, opened to read. LevelDB always writes a little: into the copy."""
    return LevelDBStore(folder, _open(folder))


class _LevelDBSnapshot(DiskSnapshot):
    def __init__(self, folder: Path, snapshot: Any) -> None:
        super().__init__(folder)
        self._snapshot = snapshot

    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._snapshot.get(key, verify_checksums=True)
        return value

    def _scan(self, low: bytes, high: bytes | None, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        return _rows(self._snapshot, low, high, reverse, self.folder, self._closed_error())

    def _release(self) -> None:
        self._snapshot.close()


def _rows(
    source: Any, low: bytes, high: bytes | None, reverse: bool, folder: Path, closed: StoreClosed
) -> Iterator[tuple[bytes, bytes]]:
    """The rows of the range. The iterator is made at once: later writes do not show in it."""
    # Reversed, plyvel (1.5.1) loses the only row of a range with a start: so its end is looked for here.
    first = None if reverse else low
    iterator = source.iterator(start=first, stop=high, reverse=reverse, verify_checksums=True)

    def rows() -> Iterator[tuple[bytes, bytes]]:
        try:
            for row in iterator:
                if row[0] < low:
                    return
                yield row
        except RuntimeError as error:  # plyvel cuts its iterators off at close by itself
            raise closed from error
        except plyvel.Error as error:
            raise typed_error(error, folder, "reading") from error

    return rows()


def _open(folder: Path) -> Any:
    try:
        return plyvel.DB(str(folder), create_if_missing=True, paranoid_checks=True)
    except (plyvel.Error, OSError) as error:
        raise typed_error(error, folder, "opening it") from error


def _number(log: Path) -> int:
    return int(log.stem)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
