"""Replica sets: few witnesses, always somebody who may own, and no more movement than the ring's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from replicacluster import Cluster, join, moved

from durable.membership.member import NodeId
from durable.replication import voters
from durable.replication.roster import replica_sets
from durable.routing.partitions import first_hash
from durable.routing.placement import place
from durable.routing.ring import HashRing

PARTITIONS = 16
NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=9, unique=True)


def sets_of(owning: list[str], witnesses: list[str], replicas: int) -> tuple[tuple[str, ...], ...]:
    passive = tuple(NodeId(f"w-{name}") for name in witnesses)
    return place((*map(NodeId, owning), *passive), passive, 20, PARTITIONS, replicas)


@given(NAMES, st.lists(st.text("abcd", min_size=1, max_size=2), max_size=6, unique=True), st.integers(1, 6))
def test_a_set_has_a_minority_of_witnesses_if_there_are_enough_others(
    owning: list[str], witnesses: list[str], replicas: int
) -> None:
    wanted = min(replicas, len(owning) + len(witnesses))
    for nodes in sets_of(owning, witnesses, replicas):
        passive = sum(node.startswith("w-") for node in nodes)
        assert len(nodes) == len(set(nodes)) == wanted
        assert wanted - passive >= min(len(owning), replicas - (replicas - 1) // 2), "nobody is passed by who could own"
        if len(owning) >= replicas - (replicas - 1) // 2:
            assert passive <= (replicas - 1) // 2
        for lost in nodes if replicas > 1 and len(owning) > 1 else ():
            assert any(node != lost and not node.startswith("w-") for node in nodes), f"{lost} alone could own"


@given(NAMES, st.lists(st.text("abcd", min_size=1, max_size=2), max_size=6, unique=True), st.integers(1, 6), st.booleans())
def test_who_joins_takes_one_place_in_a_set_at_most_and_moves_nobody_else(
    owning: list[str], witnesses: list[str], replicas: int, joins_as_witness: bool
) -> None:
    before = sets_of(owning, witnesses, replicas)
    new = "w-new" if joins_as_witness else "new"
    after = sets_of(owning, [*witnesses, "new"], replicas) if joins_as_witness else sets_of([*owning, "new"], witnesses, replicas)
    for old, now in zip(before, after, strict=True):
        assert set(now) - set(old) <= {new}
        assert len(set(old) - set(now)) <= 1


@given(NAMES, st.integers(1, 6))
def test_without_witnesses_a_set_is_the_first_of_the_ring(owning: list[str], replicas: int) -> None:
    ring = HashRing(20)
    for name in owning:
        ring.add_node(NodeId(name))
    first = tuple(tuple(ring.nodes_from(first_hash(number, PARTITIONS), replicas)) for number in range(PARTITIONS))
    assert sets_of(owning, [], replicas) == first


def test_witnesses_alone_keep_everything() -> None:
    """So a cluster whose last other voter left loses no copy."""
    assert all(len(nodes) == 2 for nodes in sets_of([], ["a", "b"], 3))
    assert sets_of([], [], 3) == ((),) * PARTITIONS


@pytest.mark.parametrize(("names", "replicas"), [("ab123", 3), ("abc12", 3), ("ab1", 1), ("abcd12", 5)])
def test_a_cluster_with_witnesses_owns_everything_and_goes_on_without_any_one_node(names: str, replicas: int) -> None:
    witnesses = [name for name in names if name.isdigit()]
    cluster = Cluster(*names, partitions=32, witnesses=witnesses, replicas=replicas).born(*names)
    cluster.run(2)
    assert not set(cluster.owners().values()) & set(witnesses)
    if replicas > 1:
        cluster.kill("a")
        cluster.run(20, until=cluster.all_owned)


def test_a_cluster_that_was_placed_by_other_rules_moves_with_its_next_roster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation keeps its members: what an older release decided stays, and nothing is appended to change it."""
    names = ["a", "b", "w1", "w2", "w3"]
    with monkeypatch.context() as older:
        older.setattr(voters, "replica_sets", lambda roster: replica_sets(replace(roster, witnesses=())))
        cluster = Cluster(*names, partitions=8, witnesses=names[2:])
        cluster.birth(*names)
        cluster.run(20)
    for name in names:
        cluster[name].stop()
    for name in names:
        cluster.start(name)
    cluster.run(20)
    logs = {p: cluster.core(owner).replicas[p].log.last for p, owner in cluster.owners().items()}
    assert not all(moved(cluster, p) for p in logs)
    cluster.run(20)
    assert logs == {p: cluster.core(owner).replicas[p].log.last for p, owner in cluster.owners().items()}
    join(cluster, "c")
    cluster.run(60, until=lambda: cluster.version() == 2)
    cluster.run(60, until=lambda: logs.keys() <= cluster.owners().keys() and all(moved(cluster, p) for p in logs))
