"""What the roster's owner changes first, and what it gives up: no wish is waited for so long that nobody else is served."""

from __future__ import annotations

import itertools

import pytest
from replicacluster import Cluster, cluster_with_data, copies, entries_of_all, join, moved, settle, write

from durable.copies.messages import AskChange, PlanReady
from durable.copies.tuning import ReplicationTuning
from durable.membership.member import NodeId
from durable.replication.roster import DOUBLINGS_MAX, Planner

PATIENCE_S = ReplicationTuning().planning_patience_s


def leave(cluster: Cluster, name: str) -> None:
    core = cluster.core(name)
    core.hand_over_all(cluster.now)
    core.ask_out(cluster.now)
    cluster[name].turn()


def wipe(cluster: Cluster, name: str, store_id: bytes) -> None:
    cluster[name].stop()
    cluster[name].disk = type(cluster[name].disk)(store_id)
    cluster.start(name)
    cluster.core(name).ask_in(cluster.now)
    cluster[name].turn()


def voters(cluster: Cluster, at: str) -> set[str]:
    roster = cluster.core(at).roster
    assert roster is not None
    return set(roster.voters)


def planner(cluster: Cluster) -> Planner | None:
    """The one that has a plan."""
    found = [host.core._voters.planner for host in cluster.hosts.values() if host.core is not None]
    return next((one for one in found if one.plan is not None), None)


def deaf(cluster: Cluster, name: str) -> None:
    """It is alive and heard, and hears nothing: no copies can be made there."""
    cluster.cuts |= {(other, name) for other in cluster.hosts if other != name}


@pytest.mark.parametrize("asks_after_s", [0.0, 1.5])
def test_who_comes_to_take_the_place_of_another_is_let_in_before_the_other_goes(asks_after_s: float) -> None:
    """Found in the simulator, seed 4002161: two of three voters left while two more nodes waited, and the third was alone."""
    cluster = cluster_with_data("a", "b", "c")
    for name in "ab":
        leave(cluster, name)
    cluster.cut("a", "b")  # what is planned first, if nobody asks in yet, takes a little
    cluster.run(asks_after_s)
    cluster.cuts.clear()
    join(cluster, "d")
    join(cluster, "e")
    least = 3

    def settled() -> bool:
        nonlocal least
        least = min(least, len(voters(cluster, "c")))
        return voters(cluster, "c") == set("cde") and all(moved(cluster, partition) for partition in cluster.owners())

    cluster.run(60, until=settled)
    assert least == 3
    assert entries_of_all(cluster) == {(b"1",)}


def test_a_voter_that_is_dead_does_not_count_among_those_who_remain() -> None:
    cluster = cluster_with_data("a", "b", "c", "d", partitions=32)
    cluster.kill("d")
    cluster.run(3)
    join(cluster, "e")
    leave(cluster, "a")
    seen: list[set[str]] = []

    def exchanged() -> bool:
        seen.append(voters(cluster, "b"))
        return seen[-1] == set("bcde")

    cluster.run(60, until=exchanged)
    assert set("bcd") not in seen, "of three, one is dead"


@pytest.mark.parametrize("names", ["abcde", "bcdea"], ids=["later name", "earlier name"])
def test_who_leaves_without_loss_does_not_wait_for_a_newcomer_that_cannot_be_filled(names: str) -> None:
    *old, new = names
    cluster = cluster_with_data(*old)
    cluster.add(new)
    deaf(cluster, new)
    cluster.core(new).ask_in(cluster.now)
    cluster.run(3)
    leave(cluster, old[0])
    cluster.run(PATIENCE_S, until=lambda: cluster.core(old[0]).may_leave)


def test_a_newcomer_that_cannot_be_filled_holds_a_leave_up_for_a_while_and_the_leaving_one_says_so() -> None:
    cluster = cluster_with_data("a", "b")
    cluster.add("c")
    deaf(cluster, "c")
    cluster.core("c").ask_in(cluster.now)
    cluster.run(3)
    leave(cluster, "a")
    cluster.run(3)
    assert cluster.core("a").leaving == "a roster without it is not decided yet, and before it this one is to be let in: c"
    cluster.run(3 * PATIENCE_S, until=lambda: cluster.core("a").may_leave)
    cluster.kill("a")
    cluster.run(5, until=cluster.all_owned)
    cluster.cuts.clear()
    cluster.run(8 * PATIENCE_S, until=lambda: voters(cluster, "b") == set("bc"))


def test_a_newcomer_that_cannot_be_filled_does_not_keep_a_dead_voter_in() -> None:
    cluster = cluster_with_data("a", "b", "c", "d")
    cluster.add("e")
    deaf(cluster, "e")
    cluster.core("e").ask_in(cluster.now)
    cluster.kill("d")
    cluster.run(ReplicationTuning().replace_after_s + 4 * PATIENCE_S, until=lambda: voters(cluster, "a") == set("abc"))


def test_a_voter_that_comes_back_with_another_disk_comes_before_one_that_leaves() -> None:
    """The leave waits for the copies on the disk that was lost: each would wait for the other, for ever."""
    cluster = cluster_with_data("a", "b", "c")
    cluster.kill("c")
    cluster.run(3)
    leave(cluster, "a")
    cluster.run(3)
    wipe(cluster, "c", b"another disk")
    cluster.run(60, until=lambda: cluster.core("a").may_leave)
    cluster.kill("a")
    cluster.run(10, until=cluster.all_owned)
    assert entries_of_all(cluster) == {(b"1",)}


@pytest.mark.parametrize("old", ["a", "abc"])
def test_a_newcomer_that_is_started_again_with_an_empty_disk_is_let_in_with_that_one(old: str) -> None:
    cluster = cluster_with_data(*old, partitions=16)
    join(cluster, "d")
    deaf(cluster, "d")
    cluster.run(5, until=lambda: planner(cluster) is not None)
    cluster.run(1)
    wipe(cluster, "d", b"another disk")
    cluster.run(20)
    assert voters(cluster, "a") == set(old), "a disk that is no more is not let in"
    assert all(copies(cluster, partition) == set(old) for partition in range(16))
    cluster.cuts.clear()
    settle(cluster, 2)
    assert cluster.core("a").roster.voters[NodeId("d")] == b"another disk"  # type: ignore[union-attr]


def test_a_plan_for_a_disk_that_is_no_more_is_given_up_before_the_next_one_asks() -> None:
    cluster = cluster_with_data("a", "b", "c")
    join(cluster, "d")
    deaf(cluster, "d")
    cluster.run(5, until=lambda: planner(cluster) is not None)
    maker, roster = planner(cluster), cluster.core("a").roster
    assert maker is not None and roster is not None
    maker._home.stores[NodeId("d")] = b"another disk"
    assert maker.beat(roster) is None and maker.plan is None


def test_two_newcomers_that_cannot_be_filled_have_their_turns_each_longer_than_the_last() -> None:
    """A copy that takes longer than a turn is made in a later one."""
    cluster = cluster_with_data("a", "b", "c")
    for name in "de":
        cluster.add(name)
        deaf(cluster, name)
        cluster.core(name).ask_in(cluster.now)
    turns: list[tuple[float, set[str]]] = []

    def five() -> bool:
        maker = planner(cluster)
        if maker is not None and maker.plan is not None:
            new = {str(node) for node in maker.plan.roster.voters} - set("abc")
            if not turns or turns[-1][1] != new:
                turns.append((cluster.now, new))
        return len(turns) == 5

    cluster.run(40 * PATIENCE_S, until=five)
    lengths = [after - before for (before, _), (after, _) in itertools.pairwise(turns)]
    assert [new for _, new in turns] == [{"d"}, {"e"}, {"d"}, {"e"}, {"d"}]
    assert lengths == sorted(lengths) and lengths[0] < 1.5 * PATIENCE_S and lengths[3] > 4 * PATIENCE_S


def test_a_voter_that_loses_its_disk_again_and_again_does_not_keep_the_others_waiting() -> None:
    cluster = cluster_with_data("a", "b", "c", "d", partitions=16)
    for number in range(40):
        wipe(cluster, "d", b"disk %d" % number)
        if number == 2:
            leave(cluster, "a")
            join(cluster, "e")
        cluster.run(2.5)
    assert voters(cluster, "b") == set("bcde")


def test_who_has_asked_out_and_stays_is_not_put_out() -> None:
    cluster = cluster_with_data(*"abcde")
    cluster.cut("e", "abcd")  # alive for the membership: no plan gets ready
    leave(cluster, "b")
    cluster.run(4)
    cluster.kill("b")
    cluster.run(3)
    cluster.start("b")
    cluster.run(10)
    cluster.cuts.clear()
    cluster.run(60)
    assert cluster.version() == 1


def test_a_leave_of_long_ago_is_forgotten_also_where_nobody_could_grant_it() -> None:
    """One who does not own the roster hears it as well, and may own it when that node has merely crashed."""
    cluster = cluster_with_data("a", "b", "c")
    cluster.run(10)
    cluster.cut("a", "bc")
    leave(cluster, "c")
    cluster.run(2)
    cluster.kill("c")
    cluster.run(0.5)
    cluster.cuts.clear()
    cluster.start("c")
    cluster.run(3600)
    cluster.kill("a")
    cluster.run(5)
    cluster.start("a")
    cluster.run(1)
    cluster.kill("c")
    cluster.run(30)
    assert voters(cluster, "b") == set("abc"), "of three voters a dead one is never just dropped"


@pytest.mark.parametrize(("replicas", "founders", "missing"), [(3, "abcde", "de"), (2, "abcd", "d"), (1, "abc", "c")])
def test_what_a_founder_begins_waits_for_one_that_has_not_heard_of_the_birth(replicas: int, founders: str, missing: str) -> None:
    """Its partitions have no owner because they have not begun: they are not lost."""
    cluster = Cluster(*founders, partitions=32, replicas=replicas)
    cluster.birth(*founders)
    cluster.run(10, until=lambda: any(host.core is not None and host.core.roster is not None for host in cluster.hosts.values()))
    for name in missing:
        cluster.kill(name)
    cluster.run(30)
    join(cluster, "x")
    cluster.run(60)
    for name in missing:
        cluster.start(name)
    cluster.run(600, until=cluster.all_owned)


@pytest.mark.parametrize("after_s", [3.5, 3.625, 3.75])
def test_a_newcomer_that_leaves_while_it_is_let_in_does_not_leave_a_dead_voter(after_s: float) -> None:
    cluster = cluster_with_data("a")
    join(cluster, "b")
    cluster.run(after_s)
    leave(cluster, "b")
    cluster.run(30, until=lambda: cluster.core("b").may_leave)
    cluster["b"].stop()
    cluster.notice("b")
    cluster.run(60)
    assert cluster.all_owned()


@pytest.mark.parametrize("leaves", ["a", "w"])
@pytest.mark.parametrize("up_s", [2.25, 2.5, 2.75])
def test_nobody_is_let_out_if_a_majority_of_the_others_is_not_alive(leaves: str, up_s: float) -> None:
    """The copies of the dead one are new enough, and it is not there."""
    cluster = Cluster("a", "b", "w", witnesses=["w"]).born("a", "b", "w")
    cluster.run(1)
    write(cluster, b"1")
    cluster.run(10)
    cluster.kill("b")
    cluster.run(5)
    for _ in range(3):
        cluster.start("b")
        cluster.run(up_s)
        cluster.kill("b")
        cluster.run(3)
    core = cluster.core(leaves)
    core.ask_out(cluster.now)
    cluster[leaves].turn()
    cluster.run(30)
    assert voters(cluster, leaves) == set("abw")


def test_all_may_leave_at_once_and_come_back_to_what_they_had() -> None:
    cluster = cluster_with_data("a", "b", "c")
    for name in "abc":
        leave(cluster, name)
    cluster.run(10, until=lambda: all(cluster.core(name).may_leave for name in "abc"))
    for name in "abc":
        cluster[name].stop()
        cluster.notice(name)
    for name in "abc":
        cluster.start(name)
    cluster.run(30, until=cluster.all_owned)
    assert entries_of_all(cluster) == {(b"1",)}


@pytest.mark.parametrize(("down_s", "up_s"), [(1.5, 1.5), (2, 6), (4, 4)])
@pytest.mark.parametrize("returns", [True, False])
def test_a_voter_that_comes_and_goes_and_a_newcomer_that_cannot_be_filled_do_not_keep_one_from_leaving(
    down_s: float, up_s: float, returns: bool
) -> None:
    cluster = cluster_with_data("a", "b", "c", "d", partitions=16)
    if returns:
        wipe(cluster, "d", b"another disk")
        deaf(cluster, "d")
    else:
        cluster.add("e")
        deaf(cluster, "e")
        cluster.core("e").ask_in(cluster.now)
    cluster.run(3)
    leave(cluster, "a")
    for _ in range(int(200 / (down_s + up_s))):
        for live in (False, True):
            for host in cluster.hosts.values():
                if host.name != "d" and host.core is not None:
                    host.core.seen(cluster.now, NodeId("d"), live)
                    host.turn()
            cluster.run(up_s if live else down_s)
    assert "a" not in voters(cluster, "b")


def test_after_a_day_of_waiting_a_newcomer_that_can_be_filled_at_last_waits_for_minutes() -> None:
    cluster = cluster_with_data("a", "b", "c")
    for name in "de":
        cluster.add(name)
        deaf(cluster, name)
        cluster.core(name).ask_in(cluster.now)
    cluster.run(60)
    maker = planner(cluster)
    assert maker is not None and maker.plan is not None
    maker._put_off = {NodeId("d"): 12, NodeId("e"): 12}  # as it would be after a day
    (waits,) = set("de") - {str(node) for node in maker.plan.roster.voters}
    cluster.cuts = {(one, other) for one, other in cluster.cuts if other != waits}
    cluster.run(2 * PATIENCE_S * 2**DOUBLINGS_MAX, until=lambda: waits in voters(cluster, "a"))


def test_the_last_that_can_own_may_go_stays_a_voter_and_comes_back_to_what_it_had() -> None:
    cluster = Cluster("a", "b", "w", witnesses=["w"]).born("a", "b", "w")
    cluster.run(1)
    write(cluster, b"1")
    cluster.run(2)
    leave(cluster, "a")
    cluster.run(30, until=lambda: cluster.core("a").may_leave)
    cluster.kill("a")
    cluster.run(3)
    leave(cluster, "b")
    assert cluster.core("b").may_leave
    cluster.run(30)
    assert voters(cluster, "w") == set("bw"), "a witness alone could let nobody in"
    cluster.kill("b")
    cluster.run(5)
    cluster.start("b")
    cluster.run(30, until=cluster.all_owned)
    assert entries_of_all(cluster) == {(b"1",)}


def test_partitions_that_lost_their_majority_do_not_keep_the_others_from_being_repaired() -> None:
    cluster = Cluster(*"abcde", partitions=32).born(*"abcde")
    cluster.run(3)
    write(cluster, b"1")
    cluster.run(2)
    cluster.kill("d")
    cluster.kill("e")
    cluster.run(20)
    owned = set(cluster.owners())
    assert 0 < len(owned) < 32
    join(cluster, "f")
    join(cluster, "g")

    def repaired() -> bool:
        there = voters(cluster, "a") == set("abcfg") and owned <= set(cluster.owners())
        return there and all(moved(cluster, partition) for partition in owned)

    cluster.run(600, until=repaired)
    cluster.start("d")  # what was lost is on its disk
    cluster.start("e")
    cluster.run(60, until=cluster.all_owned)
    assert entries_of_all(cluster) == {(b"1",)}


def test_how_many_copies_there_are_to_be_stands_in_the_roster() -> None:
    """All nodes are started again with another number: membership compares them with each other, and finds nothing."""
    cluster = cluster_with_data("a", "b", "c")
    for name in "abc":
        cluster.kill(name)
    cluster.run(2)
    cluster.tuning = ReplicationTuning(partitions=4, gossip_interval_s=1.0, replicas=2)
    for name in "abc":
        cluster.start(name)
    cluster.run(10)
    cluster.kill("b")
    cluster.run(ReplicationTuning().replace_after_s + 30)
    assert voters(cluster, "a") == set("abc"), "of three voters a dead one is never just dropped"


def test_what_is_said_of_one_plan_does_not_count_for_another_of_the_same_version() -> None:
    cluster = cluster_with_data("a", "b", "c")
    join(cluster, "d")
    cluster.run(5, until=lambda: planner(cluster) is not None)
    maker = planner(cluster)
    assert maker is not None and maker.plan is not None
    first = maker.plan
    maker.forget()
    roster = cluster.core("a").roster
    assert roster is not None
    maker.ask(AskChange(NodeId("e"), b"disk-of-e", False))
    maker._home.live[NodeId("e")] = None
    maker._plan(roster, AskChange(NodeId("e"), b"disk-of-e", False))
    maker.report(NodeId("b"), PlanReady(first.roster.version, first.number, [0, 1, 2, 3], [0, 1, 2, 3]))
    assert not maker._is_ready(roster)
