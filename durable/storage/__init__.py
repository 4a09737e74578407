"""The storage room: where the journal is kept, whatever keeps it.

A store is an ordered set of keys with atomic batches (the port `durable.ports.Store`). Three engines offer
it: memory, RocksDB and LevelDB, and one contract suite runs on all three, so that the rest of the library
cannot tell them apart. Two things matter about a store and both are in the port: a batch is taken whole or
not at all, and *visible* is not *durable*. ``write`` makes a batch visible, ``sync`` makes everything written
so far durable, and the pair lets one wait for the disk carry the work of every workflow that is ready (group
commit).

=============  ======================================================================
module         what it holds
=============  ======================================================================
`memory`       the reference: read this one first
`ranges`       which keys a scan covers
`folder`       what is true of any folder on a disk: who holds it, which engine wrote it, what its errors mean
`engine`       what both disk engines share: refusing after a failure, letting go at close
`rocksdb`      RocksDB, the default
`leveldb`      LevelDB (extra ``leveldb``)
`beside`       reading a folder that another process holds
`syncer`       one fsync at a time: on the loop or in a thread
`log`          group commit: many batches, one fsync
`node`         what a node keeps in a store, and how it is read back
`recovery`     what is left of a cluster that lost a majority, made into one store
=============  ======================================================================

Importing this room imports neither engine: each is imported when a name that needs it is first used.

Read next: `durable.storage.memory`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.ports import Store
    from durable.storage.beside import open_read_only
    from durable.storage.leveldb import LevelDBStore
    from durable.storage.memory import InMemoryStore
    from durable.storage.rocksdb import RocksDBStore

__all__ = ["InMemoryStore", "LevelDBStore", "RocksDBStore", "open_read_only", "open_store"]

_HOMES = {
    "InMemoryStore": "memory",
    "RocksDBStore": "rocksdb",
    "LevelDBStore": "leveldb",
    "open_read_only": "beside",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def open_store(url_or_path: str | Path) -> Store:
    """Open the store that a URL or a path names.

    ``"memory:"`` is a fresh store in memory, ``"rocksdb:path"`` and ``"leveldb:path"`` name the engine, and a
    bare path is RocksDB. A path is relative to the working directory; ``rocksdb:///var/data`` and
    ``rocksdb:/var/data`` are the same absolute path. The folder is made if it is missing.

    Raises `StoreError` (its subclasses say why) when the folder cannot be opened, `ValueError` for
    ``memory:`` with a path.

    >>> store = open_store("memory:")
    >>> store.write([(b"key", b"value")])
    >>> store.get(b"key")
    b'value'
    >>> store.close()
    """
    from durable.storage.memory import InMemoryStore

    engine, path = engine_and_path(url_or_path)
    if engine == "memory":
        if path:
            raise ValueError(f"{str(url_or_path)!r}: a store in memory has no path; write 'memory:'")
        return InMemoryStore.open()
    if engine == "leveldb":
        from durable.storage.leveldb import LevelDBStore

        return LevelDBStore.open(path)
    from durable.storage.rocksdb import RocksDBStore

    return RocksDBStore.open(path)


def engine_and_path(url_or_path: str | Path) -> tuple[str, str]:
    """Which engine a URL names, or none; and which path.

    >>> engine_and_path("leveldb:///var/data"), engine_and_path("orders.db"), engine_and_path("memory:")
    (('leveldb', '/var/data'), ('', 'orders.db'), ('memory', ''))
    """
    text = str(url_or_path)
    scheme, colon, rest = text.partition(":")
    return (scheme, rest.removeprefix("//")) if colon and scheme in ("memory", "rocksdb", "leveldb") else ("", text)
