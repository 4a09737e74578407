"""The faults of chaos runs: which come, that they are taken back, what is seen of them, and what a run owes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from chaos.faults import FAULTS, Faults, Hit
from chaos.report import Report, owed
from chaos.watch import FAILOVER_BOUND_S, Failover, PartialCut, cuts_to_choose, sets_of, until_taken, whole_sets

from durable.membership.member import MemberStatus
from durable.replication.standing import Role

INF = float("inf")
ALIVE, DEAD = MemberStatus.ALIVE, MemberStatus.DEAD


class Pretended:
    """As much of a `LocalCluster` as faults need. The first of a replica set that runs, and is not cut off from all others of it,
    owns; every change gives new epochs.
    """

    def __init__(self) -> None:
        self.state = {f"node-{n}": "running" for n in range(1, 6)}
        self.did: list[str] = []
        self.cuts: list[tuple[str, str]] = []
        self.lacking = 0
        self.hasty = False
        self.dead: set[str] = set()
        self._sets: dict[tuple[str, ...], dict[int, tuple[str, ...]]] = {}
        self._epoch = 1
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.state)

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(node for node, state in self.state.items() if state == "running")

    def process_id(self, node: str) -> int:
        return 100 * self._epoch + list(self.state).index(node)

    def sets(self) -> dict[int, tuple[str, ...]]:
        voters = tuple(node for node, state in self.state.items() if state != "left")
        if voters not in self._sets:
            self._sets[voters] = sets_of(voters)
        return self._sets[voters]

    def owners(self) -> dict[int, tuple[str, int]]:
        found = {}
        for partition, members in self.sets().items():
            able = [node for node in members if self.state[node] == "running" and self._reaches(node, members)]
            if able:
                found[partition] = able[0], self._epoch
        return found

    def _reaches(self, node: str, members: tuple[str, ...]) -> bool:
        return any((node, other) not in self.cuts and (other, node) not in self.cuts for other in members if other != node)

    def beliefs_about(self, node: str) -> dict[str, MemberStatus]:
        return {other: DEAD if node in self.dead else ALIVE for other in self.running if other != node}

    async def view(self, node: str) -> Any:
        roles = {name: Role.VOTER for name, state in self.state.items() if state != "left" or self.hasty}
        return SimpleNamespace(roles=roles, copies=SimpleNamespace(lacking=self.lacking))

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed) if changed in self._listeners else None

    async def wait_until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def wait_converged(self, timeout_s: float = 1.0) -> None:
        return None

    async def cut(self, pairs: list[tuple[str, str]], deaf: list[tuple[str, str]]) -> None:
        assert all(one != other for one, other in pairs + deaf)
        self.cuts = pairs + deaf
        self._change()

    async def heal(self) -> None:
        self.cuts = []
        self._change()

    async def disturb(self, node: str, *, loss: float = 0.0, **_: float) -> None:
        self._put("disturb" if loss else "calm", node, self.state[node])

    async def kill(self, node: str) -> None:
        self._put("kill", node, "gone")

    async def wipe(self, node: str) -> None:
        self._put("wipe", node, "gone")

    async def pause(self, node: str) -> None:
        self._put("pause", node, "paused")

    async def resume(self, node: str) -> None:
        assert self.state[node] == "paused"
        self._put("resume", node, "running")

    async def restart(self, node: str) -> None:
        assert self.state[node] == "gone" or (self.hasty and self.state[node] == "left")
        self._put("restart", node, "running")

    async def add(self) -> str:
        name = f"node-{len(self.state) + 1}"
        self._put("add", name, "running")
        return name

    async def leave(self, node: str) -> None:
        self._put("leave", node, "left")

    def _put(self, did: str, node: str, state: str) -> None:
        self.did.append(did)
        self.state[node] = state
        self._change()
        down = [one for one in self.state.values() if one in ("gone", "paused")]
        assert len(down) <= 2 or did in ("kill", "restart"), "more than two are down only when all restart"

    def _change(self) -> None:
        self._epoch += 1
        self._changed.set()
        for changed in list(self._listeners):
            changed()


def pretend(seed: int) -> tuple[Pretended, Faults]:
    """A cluster that is none, and faults in a time that costs nothing."""
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        for _ in range(5):
            await asyncio.sleep(0)

    cluster = Pretended()
    return cluster, Faults(cluster, random.Random(seed), say=lambda _: None, clock=lambda: now, sleep=sleep)


# --- the schedule


def test_a_seed_repeats_the_schedule_and_each_kind_comes_once_before_any_comes_twice() -> None:
    def drawn(seed: int) -> list[str]:
        bag = Faults(None, random.Random(seed)).bag()
        return [next(bag) for _ in range(3 * len(FAULTS))]

    assert drawn(1) == drawn(1) != drawn(2)
    for first in range(0, 3 * len(FAULTS), len(FAULTS)):
        assert sorted(drawn(5)[first : first + len(FAULTS)]) == sorted(FAULTS)


def test_who_left_and_is_still_a_voter_is_started_again_and_no_disk_is_wiped_while_copies_are_missing() -> None:
    async def main() -> None:
        cluster, faults = pretend(1)
        cluster.hasty = True
        await faults._do("grow and shrink", ["node-1"])
        assert cluster.did[-2:] == ["leave", "restart"] and len(cluster.running) == 6 and not faults._left
        cluster.lacking = 1
        wiping = asyncio.create_task(faults._do("wipe", ["node-2"]))
        for _ in range(100):
            await asyncio.sleep(0)
        assert "wipe" not in cluster.did
        cluster.lacking = 0
        await wiping
        assert cluster.did[-2:] == ["wipe", "restart"]

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_to_a_cluster_is_taken_back(seed: int) -> None:
    async def main() -> None:
        cluster, faults = pretend(seed)
        await faults.run(400.0)
        await faults.heal()
        stay = [node for node, state in cluster.state.items() if state != "left"]
        assert len(stay) == 5 and set(cluster.running) == set(stay) and not cluster.cuts
        assert all(hit.began <= hit.ended < INF for hit in faults.hits)
        assert {"kill", "pause", "resume", "restart", "wipe", "add", "leave", "disturb", "calm"} <= set(cluster.did)
        assert cluster.did.count("disturb") == cluster.did.count("calm")
        assert faults.failovers and set(faults.lives.values()) >= set(stay)

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(8))
def test_no_kind_is_left_out_because_too_much_goes_on(seed: int) -> None:
    async def main() -> None:
        _, faults = pretend(seed)
        await faults.run(400.0)
        kinds = [hit.kind for hit in faults.hits]
        rounds = len(kinds) // len(FAULTS)
        assert rounds >= 2
        for first in range(0, rounds * len(FAULTS), len(FAULTS)):
            assert sorted(kinds[first : first + len(FAULTS)]) == sorted(FAULTS)

    asyncio.run(main())


def test_two_cuts_at_once_do_not_take_back_each_other() -> None:
    async def main() -> None:
        cluster, faults = pretend(1)
        seen = []
        faults.sleep = lambda seconds: asyncio.sleep(0)
        long = asyncio.create_task(faults._cut([("node-1", "node-2")], before_heal=lambda: seen.append(list(cluster.cuts))))
        await faults._cut([("node-3", "node-4")], before_heal=lambda: seen.append(list(cluster.cuts)))
        await long
        both = {("node-1", "node-2"), ("node-3", "node-4")}
        assert set(seen[0]) == both and cluster.cuts == []

    asyncio.run(main())


# --- partial cuts


def test_a_partial_cut_hits_an_owner_and_the_others_of_a_replica_set() -> None:
    async def main() -> None:
        cluster, faults = pretend(3)
        faults.kinds = ("partial",)
        await faults.run(60.0)
        assert len(faults.partials) >= 3 and all(cut.shown for cut in faults.partials), [str(cut) for cut in faults.partials]
        for cut in faults.partials:
            for partition in cut.held:
                assert set(cluster.sets()[partition]) == {cut.owner, *cut.companions}

    asyncio.run(main())


def test_only_owners_with_somebody_outside_of_the_set_are_chosen() -> None:
    sets = {1: ("a", "b", "c"), 2: ("b", "a", "c"), 3: ("a", "d", "b"), 4: ("a", "b")}
    owners = {1: ("a", 7), 2: ("a", 9), 3: ("d", 2), 4: ("a", 1)}
    assert cuts_to_choose(sets, owners, "abcd") == {("a", "b", "c"): {1: 7, 2: 9}, ("d", "a", "b"): {3: 2}}
    assert cuts_to_choose(sets, owners, "abc") == {}, "nobody would see the owner"
    assert cuts_to_choose(sets, {}, "abcd") == {}


def test_a_cut_shows_something_only_if_the_owner_is_believed_alive_and_replaced() -> None:
    class Seen:
        def __init__(self, owners: dict[int, tuple[str, int]], **beliefs: MemberStatus) -> None:
            self._owners, self._beliefs = owners, beliefs

        def owners(self) -> dict[int, tuple[str, int]]:
            return self._owners

        def beliefs_about(self, node: str) -> dict[str, MemberStatus]:
            return self._beliefs

    def after(*reports: Seen) -> PartialCut:
        cut = PartialCut("a", ("b", "c"), {1: 7, 2: 7}, ("b", "c", "d"))
        for report in reports:
            cut.look(report)
        return cut

    taken = {1: ("b", 8), 2: ("c", 8)}
    assert after(Seen({1: ("b", 8)}), Seen(taken, b=ALIVE, c=MemberStatus.SUSPECT)).shown
    assert not after(Seen(taken, b=DEAD), Seen(taken, b=ALIVE)).shown, "once held dead is held dead"
    assert not after(Seen({1: ("b", 8)})).shown and not after(Seen({1: ("b", 8), 2: ("a", 9)})).shown
    assert not after(Seen({1: ("b", 7), 2: ("c", 7)})).shown, "not in a higher epoch"
    assert not PartialCut("a", ("b", "c"), {}, ("b",)).shown, "it owned nothing that they keep"
    assert "held dead by b; 2 of the 2" in str(after(Seen(taken, b=DEAD)))


# --- what a run owes


SHOWN = PartialCut("a", ("b", "c"), {1: 7}, ("b",), moved={1})
ALL = [Hit(kind, ("a",), 0.0, 1.0) for kind in FAULTS]


def test_a_long_run_owes_every_kind_and_a_partial_cut_that_shows_something() -> None:
    assert owed(600.0, FAULTS, ALL, [SHOWN]) == []
    assert owed(600.0, FAULTS, [hit for hit in ALL if hit.kind != "wipe"], [SHOWN]) == [
        "the fault 'wipe' never happened in 10 minutes"
    ]
    nothing = PartialCut("a", ("b", "c"), {1: 7}, ("b",))
    (words,) = owed(300.0, FAULTS, [], [nothing])
    assert words.startswith("none of 1 partial cuts in 5 minutes showed an owner") and str(nothing) in words
    assert owed(299.0, FAULTS, [], []) == [] and owed(300.0, ("kill",), [], []) == []
    report = Report("rocksdb", 1, owed=["something"])
    assert not report.good and "OWED something" in str(report) and Report("rocksdb", 1).good


# --- failovers


def test_only_a_kill_that_nothing_overlapped_is_held_against_the_bound() -> None:
    def after(kind: str, took_s: float, alone: bool) -> Failover:
        return Failover(kind, "node-3", 52, 1.0, took_s, alone)

    late = FAILOVER_BOUND_S + 1.0
    slow, others = after("kill", late, True), [after("kill", late, False), after("pause", late, True), after("kill", 3.0, True)]
    assert slow.slow and not any(one.slow for one in others)
    report = Report("rocksdb", 1, failovers=[slow, *others])
    assert report.good, "a time decides nothing"
    assert "SLOW failover: node-3 was killed, and others owned its 52 partitions after 4.00 s" in str(report)
    assert "2 after a kill alone (3 s are promised), longest 4.00 s" in str(report)
    assert "1 after a kill beside other faults, longest 4.00 s; 1 after other faults, longest 4.00 s" in str(report)


def test_what_overlaps_a_failover_is_known() -> None:
    faults = Faults(None, random.Random(1))
    faults.hits = [Hit("kill", ("a",), 10.0, 14.0), Hit("loss", ("b",), 2.0, 9.0), Hit("pause", ("c",), 13.0)]
    assert faults._is_alone(10.0, 2.5)
    assert not faults._is_alone(10.0, 3.5), "the pause began before others owned it all"
    faults.hits[1].ended = 10.5
    assert not faults._is_alone(10.0, 2.5)


def test_a_failover_that_never_comes_is_measured_as_such() -> None:
    class Stuck(Pretended):
        async def wait_until(self, holds: Callable[[], bool], timeout_s: float) -> None:
            assert not holds() and timeout_s == 60.0
            raise TimeoutError

    async def main() -> None:
        cluster = Stuck()
        owned = [partition for partition, held in cluster.owners().items() if held[0] == "node-1"]
        assert await until_taken(cluster, "node-1", lambda: 1.0, 60.0) == (len(owned), INF)

    asyncio.run(main())


# --- whole copies


def test_whole_copies_are_waited_for_and_named_all_the_same() -> None:
    async def main() -> None:
        cluster = Pretended()
        assert await whole_sets(cluster, 60.0) == sets_of(cluster.running)
        cluster.lacking = 1
        waiting = asyncio.create_task(whole_sets(cluster, 60.0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        cluster.lacking = 0
        assert (await waiting).keys() == set(range(256))
        cluster.lacking = 1
        assert await whole_sets(cluster, 0.0) == sets_of(cluster.running), "patience ends"

    asyncio.run(main())


def test_what_came_too_late_is_a_loss_and_no_contradiction() -> None:
    report = Report("rocksdb", 1, losses=["w: Lost: result is still answered by TimeoutError"])
    assert report.contradictions == [] and not report.good
