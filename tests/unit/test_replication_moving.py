"""Members come, go and are replaced: copies first, then the roster, then each partition's seal, then the next generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from replicacluster import Cluster, cluster_with_data, copies, entries_of_all, join, settle, write

from durable.cluster.founding import Founding
from durable.copies.messages import ZERO, BaseHeld
from durable.copies.rows import applied_key, is_seal, log_key
from durable.errors import NoQuorum
from durable.membership.member import NodeAddress, NodeId
from durable.ports import Batch
from durable.replication import ROSTER
from durable.replication.moving import Move
from durable.replication.transfer import Kind, Transfer


def test_a_newcomer_gets_a_vote_when_it_holds_what_will_be_its_own() -> None:
    cluster = cluster_with_data("a", "b", "c")
    host = join(cluster, "d")
    assert host.core is not None
    cluster.run(60, until=lambda: cluster.version() == 2)
    theirs = [p for p in range(4) if "d" in cluster.core("a").replica_set(p) or "d" in (host.core.replica_set(p))]
    assert theirs and all(host.rows(partition) == [b"1"] for partition in theirs), "the data came before the vote"
    settle(cluster, 2)
    write(cluster, b"2")
    cluster.run(10)
    assert entries_of_all(cluster) == {(b"1", b"2")}


def test_who_is_no_member_any_more_deletes_its_copy_when_a_majority_of_the_new_set_holds_one() -> None:
    cluster = cluster_with_data("a", "b", "c")
    join(cluster, "d")
    settle(cluster, 2)
    cluster.run(10)
    for partition in range(4):
        assert copies(cluster, partition) == set(cluster.core("a").replica_set(partition))


def test_one_node_grows_to_two_and_three_and_what_it_had_before_it_was_a_cluster_goes_along() -> None:
    cluster = Cluster("a", partitions=2)
    for partition in range(2):
        cluster["a"].disk.write((), [(partition.to_bytes(2, "big") + b"old", b"old")])
    cluster.core("a").birth(0.0, (), ())
    cluster["a"].turn()
    cluster.run(2, until=cluster.all_owned)
    join(cluster, "b")
    settle(cluster, 2)
    join(cluster, "c")
    settle(cluster, 3)
    cluster.run(3)
    assert [host.rows(1) for host in cluster.hosts.values()] == [[b"old"]] * 3


def test_a_leaving_node_serves_until_others_hold_what_it_had() -> None:
    cluster = cluster_with_data("a", "b", "c", "d")
    core = cluster.core("a")
    core.hand_over_all(cluster.now)
    core.ask_out(cluster.now)
    settle(cluster, 2)
    cluster.run(10)
    assert "a" not in core.roster.voters and all("a" not in copies(cluster, partition) for partition in range(4))  # type: ignore[union-attr]
    assert entries_of_all(cluster) == {(b"1",)}


def test_three_nodes_can_shrink_to_one_when_asked() -> None:
    cluster = cluster_with_data("a", "b", "c")
    for version, name in ((2, "a"), (3, "b")):
        cluster.core(name).ask_out(cluster.now)
        settle(cluster, version)
        cluster.run(5)
    assert set(cluster.owners().values()) == {"c"} and entries_of_all(cluster) == {(b"1",)}


def test_a_dead_voter_is_replaced_after_five_minutes_if_enough_remain() -> None:
    cluster = cluster_with_data("a", "b", "c", "d")
    cluster.kill("b")
    cluster.run(290)
    assert cluster.version() == 1
    cluster.run(60, until=lambda: cluster.version() == 2)
    settle(cluster, 2)
    cluster.run(10)
    for partition in range(4):
        assert copies(cluster, partition) - {"b"} == {"a", "c", "d"}
    assert entries_of_all(cluster) == {(b"1",)}


def test_of_three_voters_a_dead_one_is_never_just_dropped() -> None:
    """Shrinking to two would make the next failure fatal."""
    cluster = cluster_with_data("a", "b", "c")
    cluster.kill("b")
    cluster.run(1000)
    assert cluster.version() == 1


def test_a_voter_that_was_removed_while_it_was_dead_comes_back_as_a_newcomer() -> None:
    cluster = cluster_with_data("a", "b", "c", "d")
    cluster.kill("b")
    cluster.run(400)
    settle(cluster, 2)
    write(cluster, b"2")
    cluster.run(1)
    cluster.start("b")
    settle(cluster, 3)
    cluster.run(10)
    assert entries_of_all(cluster) == {(b"1", b"2")}
    for partition in range(4):
        assert copies(cluster, partition) == set(cluster.core("b").replica_set(partition))


def test_a_wiped_disk_under_an_old_name_has_no_vote_until_the_roster_knows_it() -> None:
    cluster = cluster_with_data("a", "b", "c")
    cluster["b"].stop()
    cluster["b"].disk = type(cluster["b"].disk)(b"another disk")
    cluster.start("b")
    assert not cluster.core("b").voter
    cluster.run(0.9)
    assert cluster["b"].rows(0) == [], "no traffic for it yet"
    cluster.core("b").ask_in(cluster.now)
    settle(cluster, 2)
    cluster.run(3)
    assert cluster.core("b").voter and [cluster["b"].rows(p) for p in range(4)] == [[b"1"]] * 4


def test_a_voter_whose_disk_is_wiped_while_a_newcomer_waits_comes_back_and_the_newcomer_gets_in() -> None:
    """The newcomer's copies are not to wait for a copy on the disk that is no more, nor its return for the newcomer."""
    for after_s in (0.0, 0.2, 1.2, 3.0):
        cluster = cluster_with_data("a", "b", "c", partitions=16)
        join(cluster, "d")
        settle(cluster, 2)
        join(cluster, "e")
        cluster.run(after_s)
        cluster["c"].stop()
        cluster["c"].disk = type(cluster["c"].disk)(b"another disk")
        cluster.start("c")
        cluster.core("c").ask_in(cluster.now)
        settle(cluster, 4)
        cluster.run(3)
        assert cluster.core("c").voter and cluster.core("e").voter
        assert entries_of_all(cluster) == {(b"1",)}


def test_who_leaves_does_not_wait_for_copies_that_were_made_for_a_plan_that_was_given_up() -> None:
    """Seen once as a leave that took its whole time: such copies lie about for 60 gossip intervals, and nobody needs them."""
    cluster = Cluster(*"abcde", partitions=32).born(*"abcde")
    cluster.run(12)
    cluster.core("b").ask_out(cluster.now)
    cluster["b"].turn()
    cluster.run(1.1)
    cluster.kill("b")
    cluster.run(0.5)
    cluster.start("b")  # it does not ask any more, and stays
    cluster.run(3)
    core = cluster.core("a")
    learned = [replica for replica in core.replicas.values() if replica.ready and not replica.is_member(NodeId("a"))]
    assert core.roster is not None and core.roster.version == 1 and learned
    core.ask_out(cluster.now)
    core.hand_over_all(cluster.now)
    cluster["a"].turn()
    assert cluster.run(12, until=lambda: core.may_leave) < 12
    assert core.leaving is None


def test_who_leaves_says_what_it_waits_for() -> None:
    cluster = Cluster(*"abc", partitions=4).born(*"abc")
    cluster.kill("c")
    cluster.run(3)
    core = cluster.core("a")
    core.ask_out(cluster.now)
    core.hand_over_all(cluster.now)
    cluster["a"].turn()
    cluster.run(60)
    assert not core.may_leave, "of a roster of two, one would be there"
    assert core.leaving == "a roster without it is not decided yet, and these voters are not there to do so: c"
    cluster.start("c")
    cluster.run(20, until=lambda: core.may_leave)


def test_a_wiped_disk_and_one_survivor_decide_nothing() -> None:
    """The wiped node forgot what it promised: its name alone makes no majority."""
    cluster = cluster_with_data("a", "b", "c")
    cluster["b"].stop()
    cluster["b"].disk = type(cluster["b"].disk)(b"another disk")
    cluster.kill("c")
    cluster.start("b")
    cluster.core("b").ask_in(cluster.now)
    cluster.run(60)
    assert cluster.owners() == {} and cluster.version() == 1


def test_a_move_goes_on_when_its_owner_dies_between_the_seal_and_the_next_generation() -> None:
    for after_s in (0.001, 0.003, 0.005, 0.008, 0.012, 0.02):
        cluster = cluster_with_data("a", "b", "c")
        join(cluster, "d")
        cluster.run(60, until=partial(bool_of, sealing_owners, cluster))
        sealing = sealing_owners(cluster)[0]
        cluster.run(after_s)
        cluster.kill(sealing)
        cluster.run(20, until=cluster.all_owned)
        cluster.run(5)
        assert entries_of_all(cluster) == {(b"1",)}
        cluster.start(sealing)
        settle(cluster, 2)
        cluster.run(10)
        assert entries_of_all(cluster) == {(b"1",)}


def test_a_partition_that_lost_its_majority_before_it_moved_is_nobodys_though_its_new_replica_set_is_there() -> None:
    cluster = cluster_with_data("a", "b", "c")
    join(cluster, "d")
    cluster.run(60, until=lambda: cluster.version() == 2)
    for name in "bc":
        cluster.kill(name)
    cluster.run(30)
    sets = {partition: cluster.core("d").replica_set(partition) for partition in range(4)}
    moving = [partition for partition, members in sets.items() if {"a", "d"} < {*members}]
    assert moving and not cluster.owners()
    for partition in moving:
        error = cluster.core("a").error(partition)
        assert isinstance(error, NoQuorum) and (error.have, error.need) == (1, 2), "of a, b and c only a is there"


def sealing_owners(cluster: Cluster) -> list[str]:
    """Who has a seal in a log that it owns."""
    cores = [(host.name, host.core.replicas) for host in cluster.hosts.values() if host.core is not None]
    return [name for name, replicas in cores for p, r in replicas.items() if p != ROSTER and r.owner is not None and r.closed()]


def bool_of(function: Callable[[Cluster], object], cluster: Cluster) -> bool:
    return bool(function(cluster))


def test_a_roster_change_is_decided_by_a_majority_of_the_voters_before_it() -> None:
    cluster = cluster_with_data("a", "b", "c")
    cluster.kill("b")
    cluster.kill("c")
    join(cluster, "d")
    cluster.run(60)
    assert cluster.version() == 1


def test_a_plan_whose_newcomer_dies_is_given_up_and_its_copies_are_deleted() -> None:
    cluster = cluster_with_data("a", "b", "c")
    host = join(cluster, "d")
    cluster.cut(["c"], ["d"])
    cluster.run(2)
    cluster.kill("d")
    cluster.run(30)
    cluster.cuts.clear()
    assert cluster.version() == 1 and cluster.all_owned()
    cluster.start("d")
    cluster.run(100)
    assert cluster.version() == 1 and all(host.rows(partition) == [] for partition in range(4))


def test_a_member_that_never_got_the_beginning_has_it_from_whoever_is_left() -> None:
    """Its generation has had an owner since, so nobody holds the bare beginning any more; and that owner is lost for good."""
    cluster = cluster_with_data("a", "b", "c")
    owner, second, third = cluster.core("a").replica_set(0)
    assert cluster.owners()[0] == owner
    cluster.cut([third], [owner, second])
    cluster.kill(owner)
    core = cluster.core(third)
    core.replicas[0] = core.replica_class(core.home, 0)  # as before anybody offered it anything
    cluster.cuts.clear()
    cluster.run(30, until=lambda: 0 in cluster.owners())
    assert cluster.owners()[0] in (second, third)
    assert cluster[cluster.owners()[0]].rows(0) == [b"1"]
    status = cluster.core(third).status(0)
    assert status is not None and status.members == (owner, second, third)


def test_a_member_without_the_bare_beginning_has_it_from_the_one_that_holds_it() -> None:
    """Nobody has owned the generation yet; who was to offer what it begins with is gone, and the third member's disk is wiped."""
    cluster = cluster_with_data("a", "b", "c")
    join(cluster, "d")
    settle(cluster, 2)
    cluster.run(5)
    partition = next(p for p in range(cluster.tuning.partitions) if "d" in cluster.core("d").replica_set(p))
    wiped, holder, lacking = sorted(cluster.core("d").replica_set(partition), key=lambda node: node != cluster.owners()[partition])
    cluster.cut([lacking], [wiped, holder])
    cluster.kill(wiped)
    cluster.core(holder).replicas[partition].log_epoch = ZERO
    core = cluster.core(lacking)
    core.replicas[partition] = core.replica_class(core.home, partition)
    cluster.cuts.clear()
    cluster.run(30, until=lambda: partition in cluster.owners())
    assert cluster.owners()[partition] in (holder, lacking)
    assert cluster[lacking].rows(partition) == cluster[holder].rows(partition) == [b"1"]


def test_a_copy_is_not_deleted_on_the_word_of_a_disk_that_was_wiped_since() -> None:
    cluster = cluster_with_data("a", "b", "c")
    replica = cluster.core("a").replicas[0]
    stores = replica.home.stores
    members = {NodeId("b"): stores[NodeId("b")], NodeId("c"): stores[NodeId("c")], NodeId("d"): b"the disk of d"}
    replica.next_generation, replica.next_members = 2, members
    replica.move = move = Move(replica, 2, members, replica.log.last, hand_over=False)
    move.on_held(NodeId("b"), BaseHeld(0, 2))
    stores[NodeId("b")] = b"another disk"
    move.on_held(NodeId("c"), BaseHeld(0, 2))
    assert cluster["a"].rows(0) == [b"1"] and replica.move is move
    stores[NodeId("b")] = members[NodeId("b")]
    move.on_held(NodeId("b"), BaseHeld(0, 2))
    assert replica.move is None and replica.log.last == 0


def marked(cluster: Cluster, *names: str) -> None:
    """They come back after a failed fsync, with what they had, each under the id that its mark gives it."""
    for name in names:
        cluster[name].disk.store_id += b"'"
        cluster.start(name)


def test_marked_disks_keep_their_copies_until_somebody_fills_them_or_their_marks_are_deleted() -> None:
    """All at once: one fault of a storage that they share. Nobody votes, and nobody may delete what may be all there is."""
    cluster = cluster_with_data("a", "b", "c")
    for name in "abc":
        cluster.kill(name)
    cluster.run(2)
    marked(cluster, *"abc")
    cluster.run(200)
    assert not cluster.owners()
    assert all(cluster[name].rows(partition) == [b"1"] for name in "abc" for partition in range(4))
    for name in "abc":
        cluster.kill(name)
        cluster[name].disk.store_id = cluster[name].disk.store_id.removesuffix(b"'")
    cluster.run(2)
    for name in "abc":
        cluster.start(name)
    cluster.run(30, until=cluster.all_owned)
    assert entries_of_all(cluster) == {(b"1",)}


def test_a_marked_disk_deletes_its_copies_when_the_partition_has_moved_without_it() -> None:
    cluster = cluster_with_data("a", "b", "c", replace_after_s=10.0)
    join(cluster, "d")
    settle(cluster, 2)
    cluster.kill("b")
    cluster.run(60, until=lambda: cluster.version() == 3)
    settle(cluster, 3)
    marked(cluster, "b")
    had = {partition for partition in range(4) if cluster["b"].rows(partition)}
    cluster.run(30)  # it is let back meanwhile, into other places
    has = {partition for partition in range(4) if "b" in cluster.core("a").replica_set(partition)}
    assert had - has and not any(cluster["b"].rows(partition) for partition in had - has)


def founding_of(cluster: Cluster, name: str) -> Founding:
    log: Any = SimpleNamespace(core=cluster.core(name))
    return Founding(log, NodeAddress("127.0.0.1", 1), ran_alone=False, witness=False)


def test_a_marked_disk_says_what_can_be_done_when_too_few_are_left_to_let_it_back() -> None:
    cluster = cluster_with_data("a", "b")
    cluster.kill("a")
    cluster.run(2)
    marked(cluster, "a")
    cluster.run(20)
    founding = founding_of(cluster, "a")
    why = founding.waits_for({}) or ""
    assert "too few are there" in why and "delete the mark" in why
    cluster = cluster_with_data("a", "b", "c", replace_after_s=1000.0)
    cluster.kill("a")
    cluster.run(2)
    marked(cluster, "a")
    founding = founding_of(cluster, "a")
    cluster.run(0.5)
    assert (founding.waits_for({}) or "").endswith("let it back"), "two of three can decide it"
    cluster = cluster_with_data(*"abcde", replace_after_s=1000.0)
    first, second, _ = cluster.core("a").replica_set(0)
    for name in (first, second):
        cluster.kill(name)
        cluster.run(2)
        marked(cluster, name)
    cluster.run(0.5)
    founding = founding_of(cluster, first)
    assert "delete the mark" in (founding.waits_for({}) or ""), "three of five voters, and one of three copies"


def test_a_copy_gives_up_a_source_whose_disk_is_another_one_and_takes_what_the_third_member_offers() -> None:
    """It was to fetch an owner's log; that owner came back empty: it is alive, and answers no question about it."""
    cluster = cluster_with_data("a", "b", "c")
    owner, holder, lacking = cluster.core("a").replica_set(0)
    cluster.cut([lacking], [owner, holder])
    core, status = cluster.core(lacking), cluster.core(owner).status(0)
    assert status is not None
    replica = core.replicas[0] = core.replica_class(core.home, 0)
    members = cluster.core(holder).replicas[0].members
    cluster[owner].stop()
    cluster[owner].disk = type(cluster[owner].disk)(b"another disk")
    cluster.start(owner)
    cluster.core(owner).ask_in(cluster.now)
    replica.promised = status.epoch
    Transfer(replica, Kind.SYNC, owner, 1, members, status.epoch, status.last).begin()
    cluster.cuts.clear()
    cluster.run(40, until=lambda: 0 in cluster.owners())
    assert cluster.owners()[0] in (holder, lacking)
    assert cluster[lacking].rows(0) == cluster[holder].rows(0) == [b"1"]


def test_a_seal_that_was_applied_without_what_comes_with_it_is_applied_again() -> None:
    """The two are effects one behind the other. Whoever carries them out may stop in between."""

    class PowerCut(Exception):
        pass

    cluster = Cluster("a", partitions=1, replicas=2).born("a")
    cluster.run(1)
    write(cluster, b"1")
    cluster.run(2)
    disk = cluster["a"].disk
    whole = disk.write

    def until_the_seal(clear: Sequence[bytes], rows: Batch) -> None:
        whole(clear, rows)
        applied = dict(rows).get(applied_key(0))
        if applied is not None and is_seal(disk.rows[log_key(0, int.from_bytes(applied, "big"))]):
            raise PowerCut

    disk.write = until_the_seal  # type: ignore[method-assign]
    join(cluster, "b")
    with pytest.raises(PowerCut):
        cluster.run(30)
    disk.write = whole  # type: ignore[method-assign]
    disk.sync()
    cluster["a"].stop()
    cluster.start("a")
    settle(cluster, 2)
    assert entries_of_all(cluster) == {(b"1",)}
