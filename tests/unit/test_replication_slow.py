"""Disks that take about as long as the gossip interval, or three times that: somebody comes to own all the same."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import replicacluster
from hypothesis import given, settings
from hypothesis import strategies as st
from replicacluster import Cluster

from durable.copies.messages import DigestAnswer, Message, Prepare, decode
from durable.membership.member import NodeId

FAST_S = 0.002
PARTITIONS = 6


@pytest.fixture(autouse=True)
def _fast_again() -> Iterator[None]:
    yield
    replicacluster.FSYNC_S = FAST_S


def born(count: int, name: str = "n") -> Cluster:
    replicacluster.FSYNC_S = FAST_S
    names = [f"{name}{number}" for number in range(count)]
    cluster = Cluster(*names, partitions=PARTITIONS, replicas=count).born(*names)
    cluster.run(10)
    return cluster


def lossy(cluster: Cluster, share: float, random: Random) -> None:
    carry = cluster.carry

    def carry_most(sender: NodeId, to: NodeId, frame: bytes) -> None:
        if random.random() >= share:
            carry(sender, to, frame)

    cluster.carry = carry_most  # type: ignore[method-assign]


def said(cluster: Cluster, kind: type[Message]) -> list[tuple[float, NodeId, NodeId, Any]]:
    """When, who, to whom, what: all messages of that kind from here on."""
    found: list[tuple[float, NodeId, NodeId, Any]] = []
    carry = cluster.carry

    def carry_and_note(sender: NodeId, to: NodeId, frame: bytes) -> None:
        found.extend((cluster.now, sender, to, message) for message in decode(frame) if isinstance(message, kind))
        carry(sender, to, frame)

    cluster.carry = carry_and_note  # type: ignore[method-assign]
    return found


@given(st.floats(0.5, 3.0), st.sampled_from([3, 5]), st.sampled_from([0.0, 0.05]), st.integers(0, 1_000))
@settings(max_examples=40, deadline=None)
def test_with_a_majority_alive_every_partition_comes_to_an_owner_however_slow_the_disks(
    fsync_s: float, count: int, loss: float, seed: int
) -> None:
    """Promises take two to four fsyncs in a row: a candidacy that has four intervals for them would never come to an end."""
    cluster = born(count, f"n{seed}-")
    replicacluster.FSYNC_S = fsync_s
    lossy(cluster, loss, Random(seed))
    cluster.kill(cluster.owners()[0])
    owned: set[int] = set()

    def each_was_owned() -> bool:
        owned.update(cluster.owners())
        return len(owned) == PARTITIONS

    cluster.run(150, until=each_was_owned)


@pytest.mark.parametrize("name", ["n4-", "n6-"])
def test_who_came_to_office_after_epochs_in_vain_keeps_the_partition_so_much_longer(name: str) -> None:
    """Else it is given away at once, and as many epochs come to nothing before somebody owns it again."""
    cluster = born(5, name)
    replicacluster.FSYNC_S = 3.0
    cluster.kill(cluster.owners()[0])
    cluster.run(60, until=cluster.all_owned)


@pytest.mark.parametrize(("fsync_s", "share"), [(0.5, 0.99), (1.0, 0.97), (1.6, 0.9), (2.1, 0.85), (3.0, 0.8)])
@pytest.mark.parametrize("count", [3, 5])
def test_an_owner_that_comes_back_to_slow_disks_does_not_unsettle_the_others(fsync_s: float, share: float, count: int) -> None:
    """Who gave a partition away leaves the heir more time after each hand-over that came to nothing. Who owned, goes on."""
    cluster = born(count)
    replicacluster.FSYNC_S = fsync_s
    victim = cluster.owners()[0]
    others = [partition for partition, owner in cluster.owners().items() if owner != victim]
    cluster.kill(victim)
    cluster.run(100)
    cluster.start(victim)
    owned = []
    for _ in range(300):
        cluster.run(1)
        owned.append(len(cluster.owners()))
        assert cluster.owners().keys() >= set(others)
    assert sum(owned) / len(owned) / PARTITIONS > share


def test_what_an_heir_with_a_slow_disk_cannot_take_is_given_to_it_again_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = born(3)
    victim = cluster.owners()[0]
    turn = replicacluster.Host.turn

    def turn_slowly(host: replicacluster.Host) -> None:
        replicacluster.FSYNC_S = 5.0 if host.name == victim else FAST_S
        turn(host)

    monkeypatch.setattr(replicacluster.Host, "turn", turn_slowly)
    cluster.kill(victim)
    cluster.run(20)
    cluster.start(victim)
    cluster.run(300)
    epochs = [core.epoch(partition)[0] for core in map(cluster.core, cluster.hosts) for partition in range(PARTITIONS)]
    assert 2 < max(epochs) < 35, "every five intervals: a hundred"


def test_who_waits_for_promises_grants_nobody_else_a_pre_vote() -> None:
    """Else the next of the ring, whose turn comes half an interval later, ends each epoch before its owner could begin."""
    cluster = born(3)
    replicacluster.FSYNC_S = 1.0
    cluster.kill(cluster.owners()[0])
    prepares = said(cluster, Prepare)
    cluster.run(20, until=cluster.all_owned)
    assert len({sender for _, sender, _, _ in prepares}) <= 2
    assert max(cluster.core(host.name).epoch(0)[0] for host in cluster.hosts.values() if host.core) == 2


def test_a_prepare_that_was_lost_is_sent_again_within_an_interval() -> None:
    cluster = born(3)
    victim = cluster.owners()[0]
    dropped: list[NodeId] = []
    carry = cluster.carry

    def lose_the_first(sender: NodeId, to: NodeId, frame: bytes) -> None:
        if not dropped and to != victim and any(isinstance(message, Prepare) for message in decode(frame)):
            dropped.append(sender)
        else:
            carry(sender, to, frame)

    cluster.kill(victim)
    cluster.carry = lose_the_first  # type: ignore[method-assign]
    took_s = cluster.run(20, until=cluster.all_owned)
    assert dropped
    assert took_s <= 1 + 1.5, "it need not give up first"


def test_a_copy_that_knows_other_lines_says_so_before_its_disk_is_done() -> None:
    """Until the owner lists its lines again, that copy does not hear it: three intervals of that, and it would campaign."""
    cluster = born(5)
    cluster.run(30)
    replicacluster.FSYNC_S = 3.0
    cluster["n0"].stop()
    cluster.start("n0")
    answers = said(cluster, DigestAnswer)
    cluster.run(1.5)
    told = {to for _, sender, to, answer in answers if sender == "n0" and not answer.known}
    assert told == set(cluster.owners().values()) - {"n0"}
