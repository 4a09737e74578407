"""Reading a store that another process holds: copy its files, and read the copy.

Why it exists: both engines allow one process a folder, and yet one wants to look at a journal while its owner
is at work (a command line, a notebook). RocksDB's own answer, a *secondary instance*, writes into the owner's
folder through rocksdict (it rewrites ``rocksdict-config.json``), and LevelDB has none. This works for both,
and for the owner it does not exist.

How it works: nearly all of a store is tables, which never change once written: those are hard-linked into a
temporary folder, in no time. What still grows (the log, the manifest that lists the tables) is copied. The
copy is one instant of the store because

- the manifest is read first and looked at again at the end: the same name and size mean that no table came or
  went, and no log was given up, in between (otherwise, or if a file vanished: again from the start);
- the names are listed once: of the logs among them only the newest can still grow, so whatever the copy of it
  ends with, nothing before that is missing. A record cut in the middle is ignored, as it is after a crash.

**It shows** every write that had returned when `open_read_only` was called, synced or not, perhaps a few that
came while it copied, and none after. Open again to see more.

RocksDB can open such a folder to read only. LevelDB cannot: it always begins new tables, and may pick the
name of one that its owner was just writing, through a link the very same file. So for LevelDB every link is
replaced by a copy before the folder is opened.

Limits: for LevelDB, and where hard links are not possible (another file system, another user's files), it
takes the time and space of a copy of the whole store.

Read next: `durable.runtime`, which keeps its journals in a store.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from durable.errors import StoreCorrupted, StoreError
from durable.storage.engine import DiskStore
from durable.storage.folder import engine_of, typed_error

ATTEMPTS_MAX = 100
"""How often a copy is begun. It takes milliseconds; a busy owner changes its tables about once a second."""


def open_read_only(path: str | Path) -> CopiedStore:
    """Read the store in the folder as it is at this instant, whether or not another process holds it.

    The folder is not written to, and its owner is not slowed. Close the result: that deletes the copy.

    Raises `StoreError` when there is no store, `StoreCorrupted` when its files are damaged, `StoreReadOnly`
    when they may not be read by this user.

    >>> from durable.storage import RocksDBStore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     owner = RocksDBStore.open(folder)
    ...     owner.write([(b"a", b"1")])
    ...     reader = open_read_only(folder)
    ...     print(reader.get(b"a"))
    ...     reader.close()
    ...     owner.close()
    b'1'
    """
    source = Path(path)
    engine = engine_of(source) if source.is_dir() else None
    if engine is None:
        raise StoreError(f"{source} holds no store. Nothing was touched. Check the path.")
    copy = Path(tempfile.mkdtemp(prefix="durable-read-"))
    try:
        _copy(source, copy)
        if engine != "RocksDB":
            _unlink_from_owner(copy)
        return CopiedStore(_open_files(engine, copy), copy)
    except BaseException as error:
        shutil.rmtree(copy, ignore_errors=True)
        if isinstance(error, OSError):
            raise typed_error(error, source, "copying its files to read them") from error
        raise


class CopiedStore:
    """A `Reader` of one instant of another process's store. Made by `open_read_only`."""

    def __init__(self, store: DiskStore, copy: Path) -> None:
        self._store = store
        self._copy = copy

    def get(self, key: bytes) -> bytes | None:
        return self._store.get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._store.scan(prefix, start=start, reverse=reverse)

    def close(self) -> None:
        """Let go of the copy and delete it. Twice is fine."""
        try:
            self._store.abandon()
        finally:
            shutil.rmtree(self._copy, ignore_errors=True)


def _open_files(engine: str, copy: Path) -> DiskStore:
    if engine == "RocksDB":
        from durable.storage import rocksdb

        return rocksdb.open_files(copy)
    from durable.storage import leveldb

    return leveldb.open_files(copy)


def _copy(source: Path, copy: Path) -> None:
    for _ in range(ATTEMPTS_MAX):
        try:
            if _copied_whole(source, copy):
                return
        except FileNotFoundError as vanished:
            if not _manifest(source)[0].exists():
                raise StoreCorrupted(
                    f"{source}: reading it failed: the file CURRENT names a manifest that is missing. "
                    "Nothing was touched. Bring back a backup."
                ) from vanished
        for leftover in copy.iterdir():
            leftover.unlink()
    raise StoreError(
        f"{source}: its owner changed its tables at each of {ATTEMPTS_MAX} attempts to copy them. "
        "Nothing was touched. Try again when it is less busy."
    )


def _copied_whole(source: Path, copy: Path) -> bool:
    """Copy once. False when the owner changed the set of files meanwhile."""
    manifest_before = _manifest(source)
    (copy / "CURRENT").write_text(manifest_before[0].name + "\n")
    for name in sorted(entry.name for entry in source.iterdir()):
        if name.endswith((".sst", ".ldb")):
            _link(source / name, copy / name)
        elif (
            name.endswith(".log")
            or name.startswith("MANIFEST-")
            or name in ("IDENTITY", "rocksdict-config.json")
        ):
            shutil.copyfile(source / name, copy / name)
    return _manifest(source) == manifest_before


def _manifest(source: Path) -> tuple[Path, int]:
    """The manifest in use, and its size."""
    manifest = source / (source / "CURRENT").read_text().strip()
    return manifest, manifest.stat().st_size


def _unlink_from_owner(copy: Path) -> None:
    """Make every file of the copy its own, so that writing to it cannot reach the owner."""
    for linked in [path for path in copy.iterdir() if path.stat().st_nlink > 1]:
        own = linked.with_suffix(".own")
        shutil.copyfile(linked, own)
        own.replace(linked)


def _link(table: Path, copy: Path) -> None:
    try:
        copy.hardlink_to(table)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or a file that this user may read but not link
        shutil.copyfile(table, copy)
