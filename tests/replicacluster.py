"""Replication cores on a well-behaved network, in virtual time: what should happen, and how soon.

A message takes a millisecond, an fsync two, and membership notices a death after a second. Cuts are set by the test. Where
`replicaworld` looks for what must never happen, this shows what does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from replicaworld import Disk

from durable.copies.effects import (
    Apply,
    Committed,
    Confirmed,
    Drop,
    InstallSnapshot,
    Lost,
    Owned,
    Persist,
    Send,
    SendSnapshot,
    SendSynced,
    snapshot_pieces,
)
from durable.copies.messages import decode, encode
from durable.copies.rows import PREFIX
from durable.membership.member import NodeId
from durable.replication import Replication, ReplicationTuning

TRAVEL_S, FSYNC_S, NOTICE_S = 0.001, 0.002, 1.0


class Host:
    """One process: core, disk, and a record of what its engine was told."""

    def __init__(self, cluster: Cluster, name: NodeId, *, witness: bool = False) -> None:
        self.cluster = cluster
        self.name = name
        self.witness = witness
        self.disk = Disk(f"disk-of-{name}".encode())
        self.core: Replication | None = None
        self.life = 0
        self.held: list[SendSynced] = []
        self.syncing = False
        self.mark = 0
        self.owned: dict[int, Any] = {}
        self.committed: dict[int, int] = {}
        self.confirmed: list[tuple[int, int]] = []
        self.lost: list[tuple[float, int, str]] = []
        self.busy: list[int] = []

    def start(self) -> None:
        self.life += 1
        self.core = Replication(
            self.name, self.disk.store_id, tuning=self.cluster.tuning, random=Random(f"{self.name}{self.life}"),
            rows=sorted(row for row in self.disk.rows.items() if row[0].startswith(PREFIX)), witness=self.witness,
            busy=lambda: self.busy, now=self.cluster.now,
        )  # fmt: skip
        self.held, self.syncing, self.mark, self.owned, self.committed = [], False, 0, {}, {}
        self.wake(self.life)

    def stop(self) -> None:
        self.core = None
        self.disk.unsynced.clear()
        self.disk.rows = dict(self.disk.safe)

    def wake(self, life: int) -> None:
        if self.core is not None and life == self.life:
            self.core.tick(self.cluster.now)
            self.turn()
            self.cluster.at(self.core.next_deadline(), lambda: self.wake(life))

    def turn(self) -> None:
        """Carry out the effects; messages of a turn to one peer share a frame, as in production."""
        core = self.core
        assert core is not None
        frames: dict[NodeId, list[Any]] = {}
        for effect in core.effects():
            if isinstance(effect, Send):
                frames.setdefault(effect.to, []).append(effect.message)
            elif isinstance(effect, SendSynced):
                self.held.append(effect)
            elif isinstance(effect, Persist | InstallSnapshot | Drop):
                self.disk.write(getattr(effect, "clear", ()), effect.writes)
                self.mark = effect.mark
            elif isinstance(effect, Apply):
                self.disk.write((), effect.writes)
            elif isinstance(effect, SendSnapshot):
                prefix = effect.partition.to_bytes(2, "big")
                rows = sorted(row for row in self.disk.rows.items() if row[0].startswith(prefix))
                frames.setdefault(effect.to, []).extend(snapshot_pieces(effect, self.disk.rows.get, rows, 500))
            elif isinstance(effect, Owned):
                self.owned[effect.partition] = effect.epoch
            elif isinstance(effect, Lost):
                self.owned.pop(effect.partition)
                self.lost.append((self.cluster.now, effect.partition, effect.why))
            elif isinstance(effect, Committed):
                self.committed[effect.partition] = effect.index
            elif isinstance(effect, Confirmed):
                self.confirmed.append((effect.partition, effect.round))
        for to, messages in frames.items():
            self.cluster.carry(self.name, to, encode([core.hello, *messages]))
        if (self.held or self.disk.unsynced) and not self.syncing:
            self.syncing = True
            held, self.held, mark, life, count = self.held, [], self.mark, self.life, len(self.disk.unsynced)
            self.cluster.at(self.cluster.now + FSYNC_S, lambda: self.synced(life, mark, held, count))

    def synced(self, life: int, mark: int, held: list[SendSynced], count: int) -> None:
        core = self.core
        if core is None or life != self.life:
            return
        self.syncing = False
        done, self.disk.unsynced = self.disk.unsynced[:count], self.disk.unsynced[count:]
        later = self.disk.unsynced
        self.disk.unsynced = done
        self.disk.sync()
        self.disk.unsynced = later
        for send in held:
            self.cluster.carry(self.name, send.to, encode([core.hello, send.message]))
        core.synced(self.cluster.now, mark)
        self.turn()

    def receive(self, sender: NodeId, frame: bytes) -> None:
        if self.core is not None:
            for message in decode(frame):
                self.core.receive(self.cluster.now, sender, message)
            self.turn()

    def append(self, partition: int, value: bytes) -> int:
        core = self.core
        assert core is not None
        index = core.append(self.cluster.now, partition, [(partition.to_bytes(2, "big") + value, value)])
        self.turn()
        return index

    def rows(self, partition: int) -> list[bytes]:
        prefix = partition.to_bytes(2, "big")
        return sorted(value for key, value in self.disk.rows.items() if key.startswith(prefix))


class Cluster:
    """Hosts by name, a clock, and a queue of what will happen."""

    def __init__(self, *names: str, partitions: int = 4, witnesses: Sequence[str] = (), **tuning: Any) -> None:
        self.tuning = ReplicationTuning(partitions=partitions, gossip_interval_s=1.0, **tuning)
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.number = 0
        self.cuts: set[tuple[str, str]] = set()
        self.hosts: dict[NodeId, Host] = {}
        for name in names:
            self.add(name, witness=name in witnesses)

    def add(self, name: str, *, witness: bool = False) -> Host:
        host = self.hosts[NodeId(name)] = Host(self, NodeId(name), witness=witness)
        self.start(name)
        return host

    def __getitem__(self, name: str) -> Host:
        return self.hosts[NodeId(name)]

    def core(self, name: str) -> Replication:
        core = self[name].core
        assert core is not None
        return core

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.queue, (when, self.number, what))

    def carry(self, sender: NodeId, to: NodeId, frame: bytes) -> None:
        host = self.hosts.get(to)
        if host is not None and (sender, to) not in self.cuts:
            self.at(self.now + TRAVEL_S, lambda: host.receive(sender, frame))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float:
        """Let time pass; how much did, if ``until`` came true earlier."""
        begin, end = self.now, self.now + seconds
        while self.queue and self.queue[0][0] <= end:
            self.now, _, what = heapq.heappop(self.queue)
            what()
            if until is not None and until():
                return self.now - begin
        self.now = end
        assert until is None, f"not within {seconds} s"
        return seconds

    def start(self, name: str) -> None:
        host = self[name]
        host.start()
        for other in self.hosts.values():
            if other.core is not None and host.core is not None:
                other.core.seen(self.now, host.name, True)
                host.core.seen(self.now, other.name, True)

    def kill(self, name: str) -> None:
        self[name].stop()
        self.at(self.now + NOTICE_S, lambda: self.notice(name))

    def notice(self, name: str) -> None:
        for host in self.hosts.values():
            if host.core is not None and self[name].core is None:
                host.core.seen(self.now, NodeId(name), False)
                host.turn()

    def cut(self, ones: Sequence[str], others: Sequence[str]) -> None:
        """Nothing passes between them. Membership still holds everybody alive: the hard case."""
        self.cuts |= {pair for a in ones for b in others for pair in ((a, b), (b, a))}

    def birth(self, *names: str) -> None:
        founders = tuple(NodeId(name) for name in names)
        for name in names:
            self.core(name).birth(self.now, tuple(f"{name}:7800" for name in names), founders)
            self[name].turn()

    def owners(self) -> dict[int, str]:
        """Who owns what; at most one each."""
        found: dict[int, str] = {}
        for host in self.hosts.values():
            for partition in host.owned if host.core is not None else ():
                assert partition not in found, f"{partition} is owned by {found[partition]} and {host.name}"
                found[partition] = host.name
        return found

    def all_owned(self) -> bool:
        return len(self.owners()) == self.tuning.partitions

    def born(self, *names: str) -> Cluster:
        self.birth(*names)
        self.run(10, until=self.all_owned)
        return self

    def version(self) -> int:
        cores = [host.core for host in self.hosts.values()]
        return max(core.roster.version for core in cores if core is not None and core.roster is not None)


def cluster_with_data(*names: str, **tuning: object) -> Cluster:
    cluster = Cluster(*names, **tuning).born(*names)  # type: ignore[arg-type]
    cluster.run(1)
    write(cluster, b"1")
    cluster.run(2)
    return cluster


def write(cluster: Cluster, value: bytes) -> None:
    for partition, owner in sorted(cluster.owners().items()):
        cluster[owner].append(partition, value)


def settle(cluster: Cluster, version: int) -> None:
    """Until the roster has that version, and every partition is where it says."""

    def done() -> bool:
        there = cluster.version() == version and cluster.all_owned()
        return there and all(moved(cluster, partition) for partition in range(cluster.tuning.partitions))

    cluster.run(60, until=done)


def moved(cluster: Cluster, partition: int) -> bool:
    owner = cluster[cluster.owners()[partition]]
    assert owner.core is not None
    status = owner.core.status(partition)
    return status is not None and status.members == owner.core.replica_set(partition)


def copies(cluster: Cluster, partition: int) -> set[str]:
    return {host.name for host in cluster.hosts.values() if host.rows(partition)}


def entries_of_all(cluster: Cluster) -> set[tuple[bytes, ...]]:
    return {tuple(cluster[owner].rows(partition)) for partition, owner in cluster.owners().items()}


def join(cluster: Cluster, name: str) -> Host:
    host = cluster.add(name)
    assert host.core is not None
    host.core.ask_in(cluster.now)
    return host
