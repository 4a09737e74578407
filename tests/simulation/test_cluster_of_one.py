"""A cluster of one node pays for an fsync, and for nothing else that takes time: no message, no second fsync, no later turn.

An append is two batches for the store: the entry of the log, which the fsync is for, and, when that is committed, the rows that
it stands for. These need none of their own: after a crash they are made from the entry again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from replicacluster import FSYNC_S, Cluster

from durable.cluster.host import Host
from durable.copies.rows import applied_key, log_key
from durable.ports import Batch
from durable.sim.process import SimProcess
from durable.sim.world import SimWorld
from durable.trials.workloads import FEW, make_runner

PARTITION = 3
SYNC_S = 2.0


class Alone:
    """A node that has founded a cluster of its own, on a disk that takes `SYNC_S`; and all that it writes and says from now on."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        self.process: SimProcess = world.start("node-1")
        self.until_it_owns_all()
        world.run(5.0)
        self.batches: list[tuple[float, list[bytes]]] = []
        self.said = 0
        self.disk = self.process.machine.disk
        self.disk.sync_s = (SYNC_S, SYNC_S)
        self.disk.on_write = self._written
        for name in ("send", "ask", "connect"):
            self._count(name)
        self.syncs_before = self.process.syncer.syncs

    def until_it_owns_all(self) -> None:
        process = self.world.machine("node-1").process
        assert process is not None
        assert self.world.run_until(lambda: process.node._host is not None and len(process.node._host.owned_now) == FEW, 60.0)
        self.host: Host = process.node._host

    def _written(self, batch: Batch) -> None:
        self.batches.append((self.world.now, [key for key, _ in batch]))

    def _count(self, name: str) -> None:
        call = getattr(self.process.transport, name)

        def counted(*arguments: object) -> object:
            self.said += 1
            return call(*arguments)

        setattr(self.process.transport, name, counted)

    @property
    def syncs(self) -> int:
        return self.process.syncer.syncs - self.syncs_before

    def append(self, *values: bytes) -> list[float]:
        """All in one turn; when each was confirmed."""
        confirmed: list[float] = []

        async def all_at_once() -> None:
            asked = [self.host.log.append(PARTITION, [(key_of(value), value)]) for value in values]
            for one in asked:
                one.add_done_callback(lambda _: confirmed.append(self.world.now))
            await asyncio.gather(*asked)

        self.world.call("node-1", all_at_once())
        return confirmed


def key_of(value: bytes) -> bytes:
    return PARTITION.to_bytes(2, "big") + b"\xf0" + value


@pytest.fixture
def alone() -> Iterator[Alone]:
    with SimWorld(1, make_node=make_runner, seeds=("node-1",)) as world:
        yield Alone(world)


def test_an_append_is_one_fsync_of_one_batch_and_is_confirmed_when_that_ends(alone: Alone) -> None:
    began = alone.world.now
    assert alone.append(b"v") == [began + SYNC_S]
    entry, rows = alone.batches
    last = alone.host.core.replicas[PARTITION].log.last
    assert entry == (began, [log_key(PARTITION, last)])
    assert rows == (began + SYNC_S, [key_of(b"v"), applied_key(PARTITION)])
    alone.world.run(10 * SYNC_S)
    assert (alone.syncs, len(alone.batches), alone.said) == (1, 2, 0)


def test_appends_of_one_moment_share_the_batch_and_the_fsync(alone: Alone) -> None:
    began = alone.world.now
    values = [b"%d" % number for number in range(20)]
    assert alone.append(*values) == [began + SYNC_S] * 20
    assert [(at, len(keys)) for at, keys in alone.batches] == [(began, 20), (began + SYNC_S, 20 + 1)]
    assert (alone.syncs, alone.said) == (1, 0)


def test_what_was_confirmed_is_there_after_a_loss_of_power_though_its_rows_were_never_synced(alone: Alone) -> None:
    alone.append(b"v")
    assert key_of(b"v") not in alone.disk.durable()
    alone.world.crash("node-1", power=True)
    alone.world.start("node-1")
    alone.until_it_owns_all()
    assert alone.disk.get(key_of(b"v")) == b"v"


def test_the_core_of_one_says_nothing_and_commits_at_the_end_of_its_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("a").born("a")
    cluster.run(1)
    said: list[object] = []
    monkeypatch.setattr(cluster, "carry", lambda *frame: said.append(frame))
    host, began = cluster["a"], cluster.now
    index = host.append(0, b"v")
    assert len(host.disk.unsynced) == 1
    waited_s = cluster.run(1, until=lambda: host.committed.get(0, 0) >= index)
    assert (cluster.now, waited_s) == (began + FSYNC_S, pytest.approx(FSYNC_S))
    assert host.rows(0) == [b"v"]
    cluster.run(3)
    assert said == []
