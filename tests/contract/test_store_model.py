"""Any sequence of operations does to a store what it does to a dict: hypothesis looks for an exception."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from stores import LEVELDB, NO_LEVELDB, open_engine

from durable.ports import Batch, Snapshot, Store
from durable.sim.disk import SimDisk
from durable.storage import memory


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of operations does to a store what it does to a dict."""

    engine = "memory"
    snapshots = Bundle("snapshots")
    keys = st.lists(st.sampled_from(b"\x00a\xfe\xff"), max_size=3).map(bytes)
    batches = st.lists(st.tuples(keys, st.none() | st.binary(max_size=3)), max_size=12)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store: Store = open_engine("memory" if self.engine == "simulated" else self.engine, Path(self.folder.name))
        self.model: dict[bytes, bytes] = {}
        self.open_snapshots: list[Snapshot] = []
        self.page_keys_max, memory.PAGE_KEYS_MAX = memory.PAGE_KEYS_MAX, 4

    @rule(batch=batches)
    def write(self, batch: Batch) -> None:
        self.store.write(batch)
        for key, value in batch:
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.model.get(key)

    @rule(prefix=keys, start=st.none() | keys, reverse=st.booleans())
    def scan(self, prefix: bytes, start: bytes | None, reverse: bool) -> None:
        wanted = _scan_of(self.model, prefix, start, reverse)
        assert list(self.store.scan(prefix, start=start, reverse=reverse)) == wanted

    @rule(target=snapshots)
    def snapshot(self) -> tuple[Snapshot, dict[bytes, bytes]]:
        self.open_snapshots.append(self.store.snapshot())
        return self.open_snapshots[-1], dict(self.model)

    @rule(taken=snapshots, key=keys, prefix=keys, start=st.none() | keys, reverse=st.booleans())
    def read_snapshot(
        self,
        taken: tuple[Snapshot, dict[bytes, bytes]],
        key: bytes,
        prefix: bytes,
        start: bytes | None,
        reverse: bool,
    ) -> None:
        snapshot, model = taken
        if snapshot in self.open_snapshots:
            assert snapshot.get(key) == model.get(key)
            wanted = _scan_of(model, prefix, start, reverse)
            assert list(snapshot.scan(prefix, start=start, reverse=reverse)) == wanted

    @rule(taken=consumes(snapshots))
    def close_snapshot(self, taken: tuple[Snapshot, dict[bytes, bytes]]) -> None:
        taken[0].close()

    @rule()
    def sync_and_reopen(self) -> None:
        self.store.sync()
        if self.engine != "memory":
            self.store.close()
            self.open_snapshots.clear()
            self.store = open_engine(self.engine, Path(self.folder.name))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert list(self.store.scan(b"")) == sorted(self.model.items())

    def teardown(self) -> None:
        memory.PAGE_KEYS_MAX = self.page_keys_max
        self.store.close()
        self.folder.cleanup()


def _scan_of(
    model: dict[bytes, bytes], prefix: bytes, start: bytes | None, reverse: bool
) -> list[tuple[bytes, bytes]]:
    rows = [(key, value) for key, value in sorted(model.items(), reverse=reverse) if key.startswith(prefix)]
    if start is None:
        return rows
    return [(key, value) for key, value in rows if (key <= start if reverse else key >= start)]


class RocksDBMachine(StoreMachine):
    engine = "rocksdb"


class LevelDBMachine(StoreMachine):
    engine = "leveldb"


class SimulatedMachine(StoreMachine):
    """On a simulated disk, whose process is killed after each sync."""

    engine = "simulated"

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimDisk(Random(1))
        self.store = self.disk.open()

    @rule()
    def sync_and_reopen(self) -> None:
        self.store.sync()
        self.disk.crash()
        self.open_snapshots.clear()
        self.store = self.disk.open()


_FEW = settings(
    max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)

TestMemoryAgainstADict = StoreMachine.TestCase
TestMemoryAgainstADict.settings = settings(_FEW, max_examples=100)
TestSimulatedAgainstADict = SimulatedMachine.TestCase
TestSimulatedAgainstADict.settings = settings(_FEW, max_examples=50)
TestRocksDBAgainstADict = RocksDBMachine.TestCase
TestRocksDBAgainstADict.settings = _FEW
TestLevelDBAgainstADict = pytest.mark.skipif(LEVELDB is None, reason=NO_LEVELDB)(LevelDBMachine.TestCase)
TestLevelDBAgainstADict.settings = _FEW
