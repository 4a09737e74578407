"""The stores that suites run on: every engine, and a store that fails when it is told to.

``ENGINES`` names them, `open_engine` opens one, `FailingStore` wraps one so that its n-th write or sync
fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import pytest

from durable.errors import StoreError, StoreFull
from durable.ports import Batch, Snapshot, Store
from durable.storage import InMemoryStore, open_store

LEVELDB = find_spec("plyvel")
NO_LEVELDB = "plyvel is not installed here (it has no wheel for Python 3.13 and later)"

DISK_ENGINES = [
    pytest.param("rocksdb", id="rocksdb"),
    pytest.param("leveldb", id="leveldb", marks=pytest.mark.skipif(LEVELDB is None, reason=NO_LEVELDB)),
]
ENGINES = [pytest.param("memory", id="memory"), *DISK_ENGINES]


def open_engine(engine: str, folder: Path) -> Store:
    return InMemoryStore.open() if engine == "memory" else open_store(f"{engine}:{folder}")


class FailingStore:
    """A store whose write or sync fails, with `StoreFull`, once ``after`` of them have worked.

    As a real one after a failure, it refuses every write and sync from then on with the same error, and goes
    on being readable. A write that fails has changed nothing; a sync that fails leaves what was written
    visible.
    """

    def __init__(self, store: Store, fail_on: Literal["write", "sync"], after: int) -> None:
        self.store = store
        self.fail_on = fail_on
        self.left = after
        self.failure: StoreError | None = None

    def write(self, batch: Batch) -> None:
        self._pass("write")
        self.store.write(batch)

    def sync(self) -> None:
        self._pass("sync")
        self.store.sync()

    def _pass(self, operation: str) -> None:
        if operation == self.fail_on and self.failure is None:
            if self.left == 0:
                self.failure = StoreFull(
                    "told to fail: no space left. Nothing that was acknowledged is lost."
                )
                raise self.failure
            self.left -= 1
        if self.failure is not None:
            raise type(self.failure)(*self.failure.args) from self.failure

    def get(self, key: bytes) -> bytes | None:
        return self.store.get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self.store.scan(prefix, start=start, reverse=reverse)

    def snapshot(self) -> Snapshot:
        return self.store.snapshot()

    def close(self) -> None:
        self.store.close()
