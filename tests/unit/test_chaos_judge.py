"""The judge of chaos runs: what must hold holds on a healthy node, and each kind of loss, planted, is found."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos import cluster_app, history, judge
from chaos.faults import FAULTS, Faults, Hit
from chaos.history import ACCEPTED, CREATED, FINISHED, NOT_FOUND, REFUSED, UNFINISHED, History, Operation, Seen
from chaos.judge import Copy
from chaos.load import Load, Told

import durable
from durable.journal import keys
from durable.journal.entries import Status
from durable.storage.memory import InMemoryStore
from durable.storage.node import NodeStorage

INF = float("inf")


def explains(operations: list[Operation], state: Seen, step: Callable[[Seen, Operation], Seen | None]) -> bool:
    """By trying every order: the yardstick, for the few operations of a test."""
    must = [one for one in operations if one.known]
    if not must:
        return True
    first_end = min(one.ended for one in must)
    for one in operations:
        if one.began <= first_end:
            after = step(state, one)
            rest = [other for other in operations if other is not one]
            if after is not None and explains(rest, after, step):
                return True
    return False


def told(*lines: tuple[str, tuple[Any, ...], float, float, Any], target: str = "w") -> History:
    made = History()
    made.operations = [Operation(f"c{n}", what, target, given, *rest) for n, (what, given, *rest) in enumerate(lines)]
    return made


CREATE = ("submit", ("x", 1), 0.0, 1.0, CREATED)
HISTORIES = {
    "a status that goes on": (True, [CREATE, ("status", (), 2, 3, UNFINISHED), ("status", (), 4, 5, FINISHED)]),
    "a status that goes back": (False, [CREATE, ("status", (), 2, 3, FINISHED), ("status", (), 4, 5, UNFINISHED)]),
    "two at the same time may differ": (True, [CREATE, ("status", (), 2, 9, FINISHED), ("status", (), 3, 8, UNFINISHED)]),
    "forgotten after it was accepted": (False, [CREATE, ("status", (), 2, 3, NOT_FOUND)]),
    "not yet there while it is submitted": (True, [CREATE, ("status", (), 0.1, 0.9, NOT_FOUND)]),
    "a submit of which nothing is known": (True, [("submit", ("x", 1), 0, INF, None), ("status", (), 1, 2, NOT_FOUND)]),
    "and which shows later": (True, [("submit", ("x", 1), 0, INF, None), ("status", (), 1, 2, UNFINISHED)]),
    "two results": (False, [CREATE, ("result", (), 2, 3, "[1]"), ("result", (), 2, 3, "[2]")]),
    "the same result twice": (True, [CREATE, ("result", (), 2, 3, "[1]"), ("result", (), 4, 5, "[1]")]),
    "unfinished after its result": (False, [CREATE, ("result", (), 2, 3, "[1]"), ("status", (), 4, 5, UNFINISHED)]),
    "an order against real time": (
        False,
        [
            CREATE, ("send", ("a", "A"), 2, 3, ACCEPTED), ("send", ("b", "B"), 4, 5, ACCEPTED),
            ("send", ("z", "end"), 6, 7, ACCEPTED), ("result", (), 8, 9, "['B', 'A']"),
        ],
    ),
    "either order of two at once": (
        True,
        [
            CREATE, ("send", ("a", "A"), 2, 5, ACCEPTED), ("send", ("b", "B"), 2, 5, ACCEPTED),
            ("send", ("z", "end"), 6, 7, ACCEPTED), ("result", (), 8, 9, "['B', 'A']"),
        ],
    ),
    "a lost word": (
        False,
        [
            CREATE, ("send", ("a", "A"), 2, 3, ACCEPTED), ("send", ("z", "end"), 6, 7, ACCEPTED),
            ("result", (), 8, 9, "[]"),
        ],
    ),
    "a word twice under one key": (
        False,
        [
            CREATE, ("send", ("a", "A"), 2, INF, None), ("send", ("a", "A"), 3, 4, ACCEPTED),
            ("send", ("z", "end"), 6, 7, ACCEPTED), ("result", (), 8, 9, "['A', 'A']"),
        ],
    ),
    "a word of which nothing is known": (
        True,
        [CREATE, ("send", ("a", "A"), 2, INF, None), ("send", ("z", "end"), 6, 7, ACCEPTED), ("result", (), 8, 9, "[]")],
    ),
    "a result before the end was sent": (
        False,
        [CREATE, ("send", ("a", "A"), 2, 3, ACCEPTED), ("result", (), 4, 5, "['A']")],
    ),
    "refused while it listens": (False, [CREATE, ("send", ("a", "A"), 2, 3, REFUSED)]),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_the_model_tells_histories_that_can_be_from_those_that_cannot(name: str) -> None:
    possible, lines = HISTORIES[name]
    wrong = history.judge(told(*lines), explains)
    assert (wrong == []) is possible, wrong
    if not possible:
        assert wrong[0].startswith("w: no order of what its clients did")


@pytest.mark.parametrize("name", HISTORIES)
def test_the_checker_of_the_simulator_agrees(name: str) -> None:
    possible, lines = HISTORIES[name]
    assert (history.judge(told(*lines)) == []) is possible


def test_executions_are_judged_one_by_one() -> None:
    good, bad = HISTORIES["two results"], HISTORIES["the same result twice"]
    both = told(*good[1])
    both.operations += told(*bad[1], target="v").operations
    assert [line.partition(":")[0] for line in history.judge(both, explains)] == ["w"]


def test_an_operation_that_was_not_answered_has_no_end() -> None:
    async def main() -> None:
        made = History(clock=iter([1.0, 2.0, 3.0, 4.0, 5.0]).__next__)

        async def fails(error: Exception) -> None:
            raise error

        with pytest.raises(KeyError):
            await made.call("c", "status", "w", (), fails(KeyError("w")), str, {KeyError: NOT_FOUND})
        with pytest.raises(OSError):
            await made.call("c", "status", "w", (), fails(OSError()), str, {KeyError: NOT_FOUND})
        ends = [(one.began, one.ended, one.answer, one.known) for one in made.operations]
        assert ends == [(1.0, 2.0, NOT_FOUND, True), (3.0, INF, None, False)]

    asyncio.run(main())


# --- a healthy node


class Healthy:
    """What a short load on one healthy node leaves."""

    def __init__(self, load: Load, copy: Copy, effects: list[cluster_app.Effect]) -> None:
        self.load, self.copy, self.effects = load, copy, effects
        self.journals = judge.journals([copy])


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Healthy:
    effects = tmp_path_factory.mktemp("chaos") / "effects"
    effects.touch()

    async def main() -> Healthy:
        store = InMemoryStore.open()
        runtime = await durable.NodeRuntime.make(durable.NodeStorage.make(store), durable.NodeConfig())
        for workflow in cluster_app.WORKFLOWS:
            runtime.register(workflow)
        async with runtime:
            load = Load({"one": runtime, "two": runtime}, random.Random(7), sessions=2)
            loading = asyncio.create_task(load.run())
            while len([one for one in load.told.values() if one.finished_at]) < 12:
                await asyncio.sleep(0.05)
            load.stop(30.0)
            await loading
            await load.read_again({"three": runtime})
            rows = dict(store.scan(b""))
        return Healthy(load, Copy("node-1", 0, 1, 9, {}, rows), judge.read_effects(effects))

    before = os.environ.get(cluster_app.EFFECTS)
    os.environ[cluster_app.EFFECTS] = str(effects)
    try:
        return asyncio.run(main())
    finally:
        os.environ.pop(cluster_app.EFFECTS) if before is None else os.environ.update({cluster_app.EFFECTS: before})


def test_a_healthy_node_loses_nothing(healthy: Healthy) -> None:
    load = healthy.load
    assert load.losses == []
    assert len(load.told) >= 12 and all(one.accepted_at and len(one.results) >= 2 for one in load.told.values())
    assert judge.told_is_recorded(load.told, healthy.journals) == []
    assert healthy.effects and judge.recorded_was_run(healthy.journals, healthy.effects) == []
    assert judge.runs_are_explained(healthy.effects, []) == ([], 0)
    for target in load.history.by_target():
        assert history.judge(told_of(load, target), explains) == []


def told_of(load: Load, target: str) -> History:
    """The history of one execution without most of its status questions, so that trying every order is quick."""
    made = History()
    kept = load.history.of(target)
    asked = [one for one in kept if one.what == "status"][3:]
    made.operations = [one for one in kept if one not in asked]
    return made


def test_an_execution_that_is_gone_or_not_done_or_different_is_found(healthy: Healthy) -> None:
    workflow_id = next(iter(healthy.load.told))
    one = healthy.load.told[workflow_id]
    found = healthy.journals
    without = replace(found, statuses={key: row for key, row in found.statuses.items() if key != workflow_id})
    assert judge.told_is_recorded({workflow_id: one}, without) == [f"{workflow_id} was accepted, and is nowhere"]
    row = found.statuses[workflow_id]
    failed = replace(found, statuses={workflow_id: type(row)(row.workflow, Status.FAILED, row.incarnation, 0, 0, 0, "node-1")})
    assert f"{workflow_id} was accepted, and is FAILED" in judge.told_is_recorded({workflow_id: one}, failed)[0]
    other = replace(one, results=[*one.results, "[4]"])
    assert f"{workflow_id}: [4] was told" in judge.told_is_recorded({workflow_id: other}, found)[0]
    assert judge.told_is_recorded({}, replace(found, leftovers=["a timer of w"])) == ["left over: a timer of w"]


def test_a_journal_that_lacks_its_start_is_found(healthy: Healthy) -> None:
    workflow_id = next(name for name, one in healthy.load.told.items() if one.workflow == "chaos-three")
    journal = keys.of(keys.partition_of(workflow_id), keys.JOURNAL, workflow_id)
    start = min(key for key in healthy.copy.rows if key.startswith(journal))
    rows = {key: value for key, value in healthy.copy.rows.items() if key != start}
    found = judge.journals([replace(healthy.copy, rows=rows)])
    (loss,) = [loss for loss in judge.told_is_recorded({}, found) if "cannot be read" in loss]
    assert loss.startswith(f"{workflow_id} cannot be read: JournalCorrupted")


def test_a_step_that_is_missing_is_found(healthy: Healthy) -> None:
    fewer = replace(healthy.journals, calls={})
    assert any("recorded 0 results of calls" in loss for loss in judge.told_is_recorded(healthy.load.told, fewer))


def test_a_result_that_no_run_gave_and_a_run_without_a_result_are_found(healthy: Healthy) -> None:
    first, *rest = healthy.effects
    (loss,) = judge.recorded_was_run(healthy.journals, [replace_value(first, first.value + 1), *rest])
    assert f"{first.key} has the recorded result {first.value}, which no run of its body gave" in loss
    fewer = replace(healthy.journals, completions={k: v for k, v in healthy.journals.completions.items() if k != first.key})
    assert judge.recorded_was_run(fewer, healthy.effects) == [f"{first.key} ran, and its result is not recorded"]


def replace_value(effect: cluster_app.Effect, value: int) -> cluster_app.Effect:
    return cluster_app.Effect(
        effect.key, effect.workflow, effect.step, effect.attempt, effect.epoch, effect.process, effect.at, value
    )


# --- planted


def effect(at: float, epoch: str = "1", process: int = 1) -> cluster_app.Effect:
    return cluster_app.Effect("k", "w", 0, 1, epoch, process, at, 5)


def test_a_body_runs_again_only_where_a_fault_was_near_and_never_in_the_same_life() -> None:
    hit = Hit("kill", ("node-1",), 10.0, 12.0)
    assert judge.runs_are_explained([effect(9.0), effect(13.0, process=2)], [hit]) == ([], 1)
    losses, again = judge.runs_are_explained([effect(9.0), effect(13.0, epoch="2"), effect(14.0, epoch="3")], [hit])
    assert losses == ["k ran 3 times, and 1 faults were near"] and again == 2
    assert judge.runs_are_explained([effect(40.0), effect(41.0, epoch="2")], [hit])[0] == ["k ran 2 times, and 0 faults were near"]
    assert "k ran twice in one epoch of one process" in judge.runs_are_explained([effect(9.0), effect(9.5)], [hit])[0]


def copy(node: str, applied: int, log: dict[int, bytes], generation: int = 1, **rows: bytes) -> Copy:
    table = keys.table(3, keys.JOURNAL)
    return Copy(node, 3, generation, applied, log, {table + name.encode(): value for name, value in rows.items()})


def test_copies_that_disagree_are_found_and_those_that_lag_are_not() -> None:
    one = copy("a", 2, {1: b"x", 2: b"y", 3: b"uncommitted"}, k=b"1", l=b"2")
    behind = copy("b", 1, {1: b"x", 2: b"y", 3: b"other"}, k=b"1")
    assert judge.copies_agree([one, behind]) == []
    assert judge.copies_agree([one, copy("b", 2, {2: b"z"}, k=b"1", l=b"2")]) == [
        "partition 3: a and b committed different entries 2"
    ]
    assert "differ in 1 rows" in judge.copies_agree([one, copy("b", 2, {2: b"y"}, k=b"1")])[0]
    assert "have different journals: 1 rows" in judge.copies_agree([one, copy("b", 1, {1: b"x"}, k=b"9")])[0]
    assert judge.copies_agree([one]) == ["partition 3 has 1 copies, of 2 at least"]
    older = copy("c", 9, {2: b"z"}, generation=0)
    assert judge.copies_agree([one, behind, older]) == []


def test_a_line_that_a_kill_has_torn_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "effects"
    whole = b'{"key":"k","workflow":"w","step":0,"attempt":1,"epoch":"1","process":1,"at":1.0,"value":5}\n'
    file.write_bytes(whole + whole[:30])
    assert judge.read_effects(file) == [effect(1.0)]


def test_rows_of_a_copy_are_read_as_a_store_is() -> None:
    rows = judge.Rows({b"b2": b"2", b"a": b"0", b"b1": b"1"})
    assert list(rows.scan(b"b")) == [(b"b1", b"1"), (b"b2", b"2")]
    assert list(rows.scan(b"b", b"b2")) == [(b"b2", b"2")] and rows.get(b"a") == b"0" and rows.get(b"c") is None
    assert NodeStorage(rows).status("w") is None  # type: ignore[arg-type]


# --- the schedule


def test_a_seed_repeats_the_schedule_and_each_kind_comes_once_before_any_comes_twice() -> None:
    def drawn(seed: int) -> list[str]:
        bag = Faults(None, random.Random(seed)).bag()
        return [next(bag) for _ in range(3 * len(FAULTS))]

    assert drawn(1) == drawn(1) != drawn(2)
    for first in range(0, 3 * len(FAULTS), len(FAULTS)):
        assert sorted(drawn(5)[first : first + len(FAULTS)]) == sorted(FAULTS)


class Pretended:
    """As much of a `LocalCluster` as faults need. Whoever runs and is joined owns partitions; every change gives new epochs."""

    def __init__(self) -> None:
        self.state = {f"node-{n}": "running" for n in range(1, 6)}
        self.did: list[str] = []
        self.cuts: list[tuple[str, str]] = []
        self._epoch = 1
        self._changed = asyncio.Event()

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.state)

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(node for node, state in self.state.items() if state == "running")

    def process_id(self, node: str) -> int:
        return 100 * self._epoch + list(self.state).index(node)

    def owners(self) -> dict[int, tuple[str, int]]:
        return {partition: (node, self._epoch) for partition, node in enumerate(self.running)}

    async def wait_until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def wait_converged(self, timeout_s: float = 1.0) -> None:
        return None

    async def cut(self, pairs: list[tuple[str, str]], deaf: list[tuple[str, str]]) -> None:
        assert bool(pairs) != bool(deaf) and all(one != other for one, other in pairs + deaf)
        self.cuts = pairs + deaf

    async def heal(self) -> None:
        self.cuts = []

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
        assert self.state[node] == "gone"
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
        self._epoch += 1
        self._changed.set()
        down = [one for one in self.state.values() if one in ("gone", "paused")]
        assert len(down) <= 2 or did in ("kill", "restart"), "more than two are down only when all restart"


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_to_a_cluster_is_taken_back(seed: int) -> None:
    async def main() -> None:
        now = 0.0

        async def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds
            for _ in range(5):
                await asyncio.sleep(0)

        cluster = Pretended()
        faults = Faults(cluster, random.Random(seed), say=lambda _: None, clock=lambda: now, sleep=sleep)
        await faults.run(400.0)
        await faults.heal()
        stay = [node for node, state in cluster.state.items() if state != "left"]
        assert len(stay) == 5 and set(cluster.running) == set(stay) and not cluster.cuts
        assert {hit.kind for hit in faults.hits} == set(FAULTS)
        assert all(hit.began <= hit.ended < INF for hit in faults.hits)
        assert {"kill", "pause", "resume", "restart", "wipe", "add", "leave", "disturb", "calm"} <= set(cluster.did)
        assert cluster.did.count("disturb") == cluster.did.count("calm")
        assert faults.failovers and set(faults.lives.values()) >= set(stay)

    asyncio.run(main())


def test_the_longest_wait_does_not_count_the_time_of_faults() -> None:
    def submit(client: str, target: str, began: float, ended: float, told: str | None = "created") -> history.Operation:
        return history.Operation(client, "submit", target, (), began, ended, told)

    hits = [Hit("kill", ("node-1",), 1.0, 4.0), Hit("pause", ("node-2",), 3.0, 5.0), Hit("loss", ("node-3",), 6.0, 7.0)]
    waits = [
        submit("a", "w", 0.5, INF, None), submit("a", "w", 2.0, 5.5), submit("b", "w", 2.0, 3.0), submit("a", "v", 5.25, 7.25),
        submit("a", "never", 0.0, INF, None),
    ]  # fmt: skip
    assert judge.longest_wait_s(waits, hits) == 1.0  # a waited for w from 0.5 to 5.5, and 4 s of that there was a fault
    assert judge.longest_wait_s(waits, []) == 5.0
    assert judge.longest_wait_s([], hits) == 0.0


def test_told_is_complete_only_with_a_result() -> None:
    losses = judge.told_is_recorded({"w": Told("chaos-three", 1)}, judge.Journals())
    assert losses == [], "what was never accepted may be missing"
