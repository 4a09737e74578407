"""Taking over, and not taking over: who is dead, who is only cut off, who comes back, and what two nodes cannot do."""

from __future__ import annotations

from collections import defaultdict

import pytest
from replicacluster import Cluster

from durable.copies.messages import SnapshotPiece, decode, encode
from durable.errors import NoQuorum, NotOwner, Overloaded
from durable.membership.member import NodeId


def trio(**tuning: object) -> Cluster:
    cluster = Cluster("a", "b", "c", **tuning).born("a", "b", "c")  # type: ignore[arg-type]
    cluster.run(1)
    return cluster


def owner_of(cluster: Cluster, partition: int = 0) -> str:
    return cluster.owners()[partition]


def test_what_was_committed_is_at_every_replica_within_a_gossip_interval() -> None:
    cluster = trio()
    owner = owner_of(cluster)
    cluster[owner].append(0, b"x")
    cluster.run(0.006)
    assert cluster[owner].committed == {0: 1}, "one fsync of each, and a round trip, in parallel"
    cluster.run(1.1)
    assert [host.rows(0) for host in cluster.hosts.values()] == [[b"x"]] * 3


def test_a_commit_takes_one_round_trip_and_one_fsync_because_they_run_in_parallel() -> None:
    cluster = trio()
    owner = owner_of(cluster)
    cluster[owner].append(0, b"x")
    assert cluster.run(1, until=lambda: 0 in cluster[owner].committed) == pytest.approx(0.004)


def test_the_appends_of_a_turn_travel_in_one_message() -> None:
    cluster = trio()
    owner = owner_of(cluster)
    core = cluster.core(owner)
    for number in range(50):
        core.append(cluster.now, 0, [(b"\0\0%d" % number, b"")])
    effects = core.effects()
    appends = [effect for effect in effects if type(getattr(effect, "message", None)).__name__ == "Append"]
    assert len(appends) == 2 and [len(effect.message.entries) for effect in appends] == [50, 50]  # type: ignore[union-attr]


def test_when_an_owner_dies_the_next_of_the_ring_owns_a_quarter_interval_after_it_is_noticed() -> None:
    cluster = trio()
    dead, second = cluster.core("a").replica_set(0)[:2]
    cluster[dead].append(0, b"x")
    cluster.run(0.1)
    cluster.kill(dead)
    cluster.run(1)
    assert cluster.run(5, until=cluster.all_owned) < 0.3
    assert owner_of(cluster) == second and cluster[second].rows(0) == [b"x"]


def test_an_owner_that_comes_back_does_not_unseat_the_one_in_office_but_is_handed_its_partition_when_it_holds_all() -> None:
    cluster = trio()
    first, second = cluster.core("a").replica_set(0)[:2]
    cluster.kill(first)
    cluster.run(1.5)
    cluster.run(5, until=cluster.all_owned)
    for number in range(20):
        cluster[second].append(0, b"%02d" % number)
    cluster.run(1)
    cluster.start(first)
    cluster.run(1)
    assert owner_of(cluster) == second
    cluster.run(10, until=lambda: cluster.owners().get(0) == first)
    assert len(cluster[first].rows(0)) == 20
    assert [why for _, partition, why in cluster[second].lost if partition == 0] == [f"handed over to {first}"]


def test_a_hand_over_leaves_a_partition_without_an_owner_for_less_than_twenty_milliseconds() -> None:
    cluster = trio()
    first = cluster.core("a").replica_set(0)[0]
    cluster.kill(first)
    cluster.run(3)
    cluster.start(first)
    cluster.run(10, until=lambda: len(cluster.owners()) < 4)
    assert cluster.run(1, until=cluster.all_owned) < 0.02


@pytest.mark.parametrize(("done_after_s", "given_after_s"), [(2.0, 2.0), (100.0, 6.0)])
def test_a_partition_with_something_under_way_is_handed_over_when_that_is_done_or_at_last_anyway(
    done_after_s: float, given_after_s: float
) -> None:
    cluster = trio(rpc_timeout_s=60.0)
    first, second = cluster.core("a").replica_set(0)[:2]
    cluster.kill(first)
    cluster.run(3)
    cluster[second].busy = [0]
    cluster.start(first)
    owner = cluster.core(second).replicas[0].owner
    assert owner is not None
    cluster.run(20, until=lambda: owner.put_off_at is not None)
    began = cluster.now
    cluster.at(began + done_after_s, lambda: cluster[second].busy.clear())
    cluster.run(20, until=lambda: cluster.owners().get(0) == first)
    assert given_after_s <= cluster.now - began < given_after_s + 1.5


def test_an_owner_that_is_cut_off_from_its_replicas_resigns_and_another_owns_though_membership_holds_it_alive() -> None:
    """Three digests missed are enough for a pre-vote: an owner that others see, but its replicas do not, holds nothing for ever."""
    cluster = trio(rpc_timeout_s=12.0)
    first, second = cluster.core("a").replica_set(0)[:2]
    others = [name for name in "abc" if name != first]
    cluster.cut([first], others)
    index = cluster[first].append(0, b"never")
    cluster.run(10)
    assert 0 not in cluster[first].owned and owner_of(cluster) == second
    assert [why for _, partition, why in cluster[first].lost if partition == 0] == ["1 of its 2 copies can be reached"]
    cluster[second].append(0, b"x")
    cluster.cuts.clear()
    cluster.run(10)
    assert [host.rows(0) for host in cluster.hosts.values()] == [[b"x"]] * 3
    assert index == 1, "its entry gave way"


def test_a_cut_off_owner_takes_nothing_in_once_three_digests_were_not_answered() -> None:
    cluster = trio()
    first = cluster.core("a").replica_set(0)[0]
    cluster.cut([first], [name for name in "abc" if name != first])
    cluster.run(5)
    with pytest.raises(NoQuorum) as caught:
        cluster.core(first).check(0)
    assert (caught.value.have, caught.value.need, caught.value.retry_after_s) == (1, 2, 1.0)
    cluster[first].append(0, b"x")  # what runs already goes on until the owner resigns


def test_a_node_that_was_cut_off_and_comes_back_ends_no_epoch() -> None:
    """The pre-vote: while it was away it found no majority, so it promised itself nothing."""
    cluster = trio()
    before = {partition: cluster.core("a").epoch(partition) for partition in range(4)}
    third = cluster.core("a").replica_set(0)[2]
    cluster.cut([third], [name for name in "abc" if name != third])
    owned_elsewhere = [partition for partition, owner in cluster.owners().items() if owner != third]
    cluster.run(60)
    cluster.cuts.clear()
    cluster.run(5)
    for partition in owned_elsewhere:
        assert cluster.core(third).epoch(partition) == before[partition]


def test_two_nodes_lose_nothing_and_stop_when_one_is_gone() -> None:
    cluster = Cluster("a", "b").born("a", "b")
    owner = owner_of(cluster)
    cluster[owner].append(0, b"x")
    cluster.run(2)
    cluster.kill("a" if owner == "b" else "b")
    cluster.run(30)
    assert cluster.owners() == {}
    with pytest.raises(NoQuorum) as caught:
        cluster[owner].append(0, b"y")
    assert (caught.value.have, caught.value.need) == (1, 2)
    cluster.start("a" if owner == "b" else "b")
    cluster.run(5, until=cluster.all_owned)
    assert cluster["a"].rows(0) == cluster["b"].rows(0) == [b"x"]


def test_two_nodes_and_a_witness_fail_over_and_the_witness_owns_nothing() -> None:
    cluster = Cluster("a", "b", "w", witnesses=["w"]).born("a", "b", "w")
    assert set(cluster.owners().values()) == {"a", "b"}
    for partition, owner in cluster.owners().items():
        cluster[owner].append(partition, b"x")
    cluster.run(1)
    cluster.kill("a")
    cluster.run(1)
    cluster.run(5, until=cluster.all_owned)
    assert set(cluster.owners().values()) == {"b"}
    assert cluster["b"].rows(0) == [b"x"]


def test_a_restart_of_everybody_brings_everything_back_in_a_new_epoch() -> None:
    """R6: the owner of before campaigns like anybody else."""
    cluster = trio()
    before = dict(cluster.hosts[owner_of(cluster)].owned)  # type: ignore[index]
    cluster[owner_of(cluster)].append(0, b"x")
    cluster.run(0.1)
    for name in "abc":
        cluster[name].stop()
    for name in "abc":
        cluster.start(name)
    cluster.run(10, until=cluster.all_owned)
    owner = owner_of(cluster)
    assert cluster[owner].owned[0] > before[0] and cluster[owner].rows(0) == [b"x"]


def test_a_node_that_does_not_own_a_partition_names_the_one_that_does() -> None:
    cluster = trio()
    owner = owner_of(cluster)
    other = "a" if owner != "a" else "b"
    with pytest.raises(NotOwner) as caught:
        cluster[other].append(0, b"x")
    assert (caught.value.owner, caught.value.epoch) == (owner, cluster.core(owner).epoch(0)[0])


def test_entries_under_way_are_bounded() -> None:
    cluster = trio(in_flight_entries_max=10)
    owner = owner_of(cluster)
    for number in range(10):
        cluster[owner].append(0, b"%d" % number)
    with pytest.raises(Overloaded, match="10 entries under way"):
        cluster[owner].append(0, b"one more")
    cluster.run(0.1)
    cluster[owner].append(0, b"one more")


def test_a_node_whose_disk_is_suspect_owns_nothing_votes_for_nobody_and_campaigns_no_more() -> None:
    cluster = trio()
    owner = owner_of(cluster)
    cluster.core(owner).distrust(cluster.now, "an fsync failed")
    cluster[owner].turn()
    assert cluster[owner].owned == {}
    cluster.run(10, until=cluster.all_owned)
    assert owner not in cluster.owners().values()
    cluster.kill(owner_of(cluster))
    cluster.run(20)
    assert cluster.owners() == {}, "of three, one is dead and one may not vote"


def test_a_replica_that_missed_messages_fetches_them_when_the_digest_tells() -> None:
    cluster = trio()
    owner, _, third = cluster.core("a").replica_set(0)
    cluster.cut([owner], [third])
    for number in range(5):
        cluster[owner].append(0, b"%d" % number)
    cluster.run(0.5)
    cluster.cuts.clear()
    cluster.run(2.2)
    assert cluster[third].rows(0) == cluster[owner].rows(0) != []


def test_a_replica_that_missed_more_than_the_tail_gets_a_snapshot() -> None:
    cluster = trio(tail_entries=4, piece_bytes=200)
    owner, _, third = cluster.core("a").replica_set(0)
    cluster.kill(third)
    for number in range(300):
        cluster[owner].append(0, b"%03d" % number)
        cluster.run(0.01)
    status = cluster.core(owner).replicas[0].log
    assert len(status.entries) <= 9, "the log was truncated"
    cluster.start(third)
    cluster.run(5)
    assert cluster[third].rows(0) == cluster[owner].rows(0)
    cluster.run(20)
    assert len(cluster[third].rows(0)) == 300


def test_handing_over_everything_leaves_a_node_without_partitions() -> None:
    cluster = trio()
    cluster.core("a").hand_over_all(cluster.now)
    cluster["a"].turn()
    cluster.run(2, until=lambda: cluster.core("a").owned == () and cluster.all_owned())
    cluster.run(30)
    assert "a" not in cluster.owners().values() and cluster.all_owned()


class SlowLink(Cluster):
    """Pieces of a snapshot take 50 ms each, one behind the other; everything else passes them."""

    def carry(self, sender: NodeId, to: NodeId, frame: bytes) -> None:
        hello, *messages = decode(frame)
        free = self.__dict__.setdefault("free", defaultdict(float))
        for piece in [one for one in messages if isinstance(one, SnapshotPiece)]:
            free[sender, to] = max(free[sender, to], self.now) + 0.05
            part = encode([hello, piece])
            self.at(free[sender, to], lambda part=part: self.hosts[to].receive(sender, part))  # type: ignore[misc]
        rest = [one for one in messages if not isinstance(one, SnapshotPiece)]
        if rest:
            super().carry(sender, to, encode([hello, *rest]))


@pytest.mark.parametrize("why", ["witness", "leaving"])
def test_a_candidate_waits_for_a_snapshot_as_long_as_pieces_come(why: str) -> None:
    """Nobody else may own, and the snapshot takes longer than an election without news would be waited for."""
    cluster = SlowLink("a", "b", "c", partitions=1, witnesses=["c"] if why == "witness" else [], tail_entries=2).born("a", "b", "c")
    cluster.run(8)
    owner = owner_of(cluster)
    behind, third = [name for name in "abc" if name != owner]
    cluster.kill(behind)
    cluster.run(2)
    for number in range(300):
        cluster[owner].append(0, b"%03d" % number + bytes(60))
        cluster.run(0.01)
    cluster.run(2)
    if why == "leaving":
        cluster.core(third).hand_over_all(cluster.now)
    cluster.kill(owner)
    cluster.start(behind)
    cluster.run(20, until=cluster.all_owned)
    assert cluster.owners() == {0: behind} and len(cluster[behind].rows(0)) == 300


def test_a_copy_that_lags_catches_up_although_its_partition_is_written_all_the_time() -> None:
    """More is written while the snapshot travels than a tail holds. If that were truncated, the next snapshot would follow."""
    cluster = SlowLink("a", "b", "c", partitions=1, tail_entries=8).born("a", "b", "c")
    cluster.run(8)
    owner = owner_of(cluster)
    behind = next(name for name in "abc" if name != owner)
    cluster.kill(behind)
    cluster.run(2)

    def write_for(seconds: float) -> None:
        for number in range(int(seconds * 20)):
            cluster[owner].append(0, b"%03d" % (number % 300) + bytes(60))
            cluster.run(0.05)

    write_for(20)
    cluster.start(behind)
    write_for(20)
    last = cluster.core(owner).status(0).last  # type: ignore[union-attr]
    assert cluster.core(behind).status(0).last >= last - 1  # type: ignore[union-attr]
