"""Reads that are no older than the question: a majority must still know the epoch."""

from __future__ import annotations

import pytest
from replicacluster import Cluster

from durable.errors import NotOwner


def trio() -> Cluster:
    cluster = Cluster("a", "b", "c").born("a", "b", "c")
    cluster.run(1)
    return cluster


def ask(cluster: Cluster, name: str, *partitions: int) -> list[tuple[int, int]]:
    rounds = [(partition, cluster.core(name).confirm(cluster.now, partition)) for partition in partitions]
    cluster[name].turn()
    return rounds


def owned_by(cluster: Cluster, name: str) -> list[int]:
    return sorted(partition for partition, owner in cluster.owners().items() if owner == name)


def test_a_read_takes_one_round_trip_and_no_fsync() -> None:
    cluster = trio()
    owner = cluster.owners()[0]
    asked = ask(cluster, owner, 0)
    assert cluster.run(1, until=lambda: bool(cluster[owner].confirmed)) == pytest.approx(0.002)
    assert cluster[owner].confirmed == asked


def test_all_partitions_and_readers_of_a_turn_share_one_round() -> None:
    cluster = trio()
    owner = max("abc", key=lambda name: len(owned_by(cluster, name)))
    partitions = owned_by(cluster, owner)
    assert len(partitions) > 1
    first, second = ask(cluster, owner, *partitions, *partitions), ask(cluster, owner, partitions[0])
    assert len({number for _, number in first}) == 1 and second[0][1] != first[0][1]
    cluster.run(0.01)
    assert sorted(cluster[owner].confirmed) == sorted({*first, *second})


def test_an_owner_that_is_cut_off_confirms_nothing() -> None:
    cluster = trio()
    owner = cluster.owners()[0]
    cluster.cut([owner], [name for name in "abc" if name != owner])
    ask(cluster, owner, 0)
    cluster.run(30)
    assert cluster[owner].confirmed == []


def test_a_round_whose_messages_were_lost_is_asked_again() -> None:
    cluster = trio()
    owner = cluster.owners()[0]
    cluster.cut([owner], [name for name in "abc" if name != owner])
    asked = ask(cluster, owner, 0)
    cluster.run(0.1)
    cluster.cuts.clear()
    cluster.run(2.5)
    assert cluster[owner].confirmed == asked


def test_who_does_not_own_cannot_ask() -> None:
    cluster = trio()
    other = next(name for name in "abc" if name != cluster.owners()[0])
    with pytest.raises(NotOwner):
        cluster.core(other).confirm(cluster.now, 0)


def test_alone_it_is_confirmed_at_once() -> None:
    cluster = Cluster("a")
    cluster.core("a").bootstrap(0.0)
    cluster["a"].turn()
    cluster.run(2, until=cluster.all_owned)
    asked = ask(cluster, "a", 1)
    assert cluster["a"].confirmed == asked
