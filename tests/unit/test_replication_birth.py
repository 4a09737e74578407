"""A cluster is born once, by all of its founders: whoever is missing, not empty, or told otherwise holds it up."""

from __future__ import annotations

import pytest
from replicacluster import Cluster, Disk

from durable.copies.messages import Accepted, decode
from durable.membership.member import NodeId


def rosters(cluster: Cluster) -> list[object]:
    return [host.core.roster for host in cluster.hosts.values() if host.core is not None]


def test_three_empty_nodes_that_were_told_the_same_found_one_cluster() -> None:
    cluster = Cluster("a", "b", "c").born("a", "b", "c")
    first = cluster.core("a").roster
    assert first is not None and first.version == 1 and list(first.voters) == ["a", "b", "c"]
    assert rosters(cluster) == [first] * 3


def test_every_partition_is_owned_by_the_first_of_its_ring_within_a_third_of_a_second() -> None:
    cluster = Cluster("a", "b", "c", partitions=16)
    cluster.birth("a", "b", "c")
    assert cluster.run(5, until=cluster.all_owned) < 0.34
    assert all(cluster.core("a").replica_set(partition)[0] == owner for partition, owner in cluster.owners().items())


def test_while_a_founder_is_missing_nobody_founds_anything() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.cut(["c"], ["a", "b"])
    cluster.birth("a", "b", "c")
    cluster.run(60)
    assert rosters(cluster) == [None] * 3
    cluster.cuts.clear()
    cluster.run(3, until=lambda: None not in rosters(cluster))


def test_nodes_that_were_told_different_seeds_do_not_found_a_cluster() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.core("a").birth(0.0, ("a:1", "b:1"), (NodeId("a"), NodeId("b")))
    cluster.core("b").birth(0.0, ("a:1", "b:1", "c:1"), (NodeId("a"), NodeId("b"), NodeId("c")))
    cluster.core("c").birth(0.0, ("a:1", "b:1", "c:1"), (NodeId("a"), NodeId("b"), NodeId("c")))
    cluster.run(30)
    assert rosters(cluster) == [None] * 3
    assert cluster.core("b").dropped["another birth"] > 0


def test_who_has_accepted_one_list_accepts_no_other_even_after_a_restart() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.cut(["c"], ["a"])
    cluster.birth("a", "b", "c")
    cluster.run(2)
    cluster["b"].stop()
    cluster.start("b")
    pair = (NodeId("a"), NodeId("b"))
    for name in pair:
        cluster.core(name).birth(cluster.now, ("a:1", "b:1"), pair)
        cluster[name].turn()
    cluster.run(10)
    assert rosters(cluster) == [None] * 3


def test_a_founder_that_crashes_with_its_word_given_lets_the_birth_go_on_when_it_is_back() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.birth("a", "b", "c")
    cluster.run(0.003)
    for name in ("a", "b"):
        cluster[name].stop()
    cluster.run(1)
    for name in ("a", "b"):
        cluster.start(name)
    cluster.birth("a", "b", "c")
    cluster.run(10, until=cluster.all_owned)


def test_a_node_that_knows_a_cluster_vetoes_another_birth() -> None:
    cluster = Cluster("b", "c")
    cluster.core("b").bootstrap(0.0)
    cluster["b"].turn()
    cluster.run(1)
    cluster.add("a")
    cluster.core("a").birth(cluster.now, ("a:1", "b:1"), (NodeId("a"), NodeId("b")))
    cluster.run(3)
    assert cluster.core("a").roster == cluster.core("b").roster
    assert not cluster.core("a").voter


def test_a_word_that_was_given_to_a_disk_since_lost_founds_no_second_cluster() -> None:
    """The first founder, its disk wiped, asks anew; an answer to its first question, late or doubled, is not one to the second."""
    cluster, late = Cluster("a", "b", "c", partitions=2), list[bytes]()
    carry = cluster.carry

    def keep(sender: NodeId, to: NodeId, frame: bytes) -> None:
        if (sender, to) == ("b", "a") and any(isinstance(message, Accepted) for message in decode(frame)):
            late.append(frame)
        carry(sender, to, frame)

    cluster.carry = keep  # type: ignore[method-assign]
    cluster.birth("a", "b", "c")
    cluster.run(5, until=lambda: cluster.core("a").roster is not None)
    cluster.cut("c", "ab")
    cluster.run(10, until=cluster.all_owned)
    first = cluster.core("b").roster
    cluster["a"].stop()
    cluster["a"].disk = Disk(b"another disk of a")
    cluster.cuts.clear()
    cluster.cut("b", "ac")
    cluster.start("a")
    cluster.birth("a", "b", "c")
    cluster["a"].receive(NodeId("b"), late[0])
    cluster.run(20)
    assert rosters(cluster) == [None, first, None]
    cluster.cuts.clear()
    cluster.run(60, until=lambda: rosters(cluster) == [first] * 3)


@pytest.mark.parametrize("how", ["birth", "bootstrap"])
def test_without_seeds_or_by_an_operators_word_one_node_is_a_cluster(how: str) -> None:
    cluster = Cluster("a")
    core = cluster.core("a")
    if how == "birth":
        core.birth(0.0, (), ())
    else:
        core.bootstrap(0.0)
    cluster["a"].turn()
    cluster.run(2, until=cluster.all_owned)
    cluster["a"].append(0, b"x")
    cluster.run(0.01)
    assert cluster["a"].committed == {0: 2}


def test_two_clusters_of_one_do_not_mix() -> None:
    cluster = Cluster("a", "b")
    for name in ("a", "b"):
        cluster.core(name).bootstrap(0.0)
        cluster[name].turn()
    cluster.core("b").ask_in(0.0)
    cluster.run(20)
    first, second = rosters(cluster)
    assert first != second and list(cluster.core("a").roster.voters) == ["a"]  # type: ignore[union-attr]
    assert cluster.core("a").dropped["stranger"] > 0
