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
from chaos.faults import Hit
from chaos.history import History
from chaos.judge import Copy
from chaos.load import Load, Told
from chaos.losses import Contradiction, contradictions

import durable
from durable.journal import keys
from durable.journal.entries import Status, StatusRow
from durable.storage.memory import InMemoryStore
from durable.storage.node import NodeStorage
from durable.trials.story import ACCEPTED, CREATED, FINISHED, NOT_FOUND, REFUSED, UNFINISHED, Operation, Seen

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
    older = copy("c", 9, {2: b"z"}, generation=0)
    assert judge.copies_agree([one, behind, older]) == []


def test_a_partition_without_a_copy_where_its_roster_has_one_is_named() -> None:
    one, two, three = (copy(node, 2, {1: b"x"}) for node in "abc")
    sets = {3: ("a", "b", "c")}
    assert judge.copies_are_whole([one, two, three], sets) == []
    assert judge.copies_are_whole([one, three], sets) == ["partition 3 has no copy on b, only on a, c"]
    assert judge.copies_are_whole([one, two, replace(three, generation=0)], sets) == ["partition 3 has no copy on c, only on a, b"]
    assert judge.copies_are_whole([one, two, three], {**sets, 4: ("a", "b", "c")}) == ["partition 4 has no copy on any node"]
    assert judge.copies_are_whole([one, two], {3: ("a", "b")}) == [], "a cluster of two has no third"


def test_only_what_no_patience_would_heal_is_a_contradiction(healthy: Healthy) -> None:
    def sorts(losses: list[str]) -> list[bool]:
        return [isinstance(loss, Contradiction) for loss in losses]

    name, found = next(iter(healthy.load.told)), healthy.journals
    one, row, first = healthy.load.told[name], found.statuses[name], healthy.effects[0]
    running = replace_status(row, Status.RUNNING)
    unfinished = {key: replace_status(status, Status.RUNNING) for key, status in found.statuses.items()}
    fewer = replace(found, completions={key: value for key, value in found.completions.items() if key != first.key})
    assert sorts(judge.told_is_recorded({name: one}, replace(found, statuses={}))) == [False]
    assert sorts(judge.told_is_recorded({name: one}, replace(found, statuses={name: running}))) == [False]
    assert sorts(judge.told_is_recorded({name: replace(one, results=["[4]"])}, replace(found, statuses={name: row}))) == [True]
    assert sorts(judge.recorded_was_run(fewer, healthy.effects)) == [True]
    assert sorts(judge.recorded_was_run(replace(fewer, statuses=unfinished), healthy.effects)) == [False], "it is not over yet"
    other = [replace_value(first, first.value + 1), *healthy.effects[1:]]
    assert sorts(judge.recorded_was_run(found, other)) == [True]
    assert sorts(judge.copies_agree([copy("a", 2, {2: b"y"}), copy("b", 2, {2: b"z"}, k=b"1")])) == [True, True]
    assert sorts(judge.copies_are_whole([], {3: ("a",)})) == [False]
    assert sorts(judge.runs_are_explained([effect(1.0), effect(2.0, epoch="2")], [])[0]) == [False]
    assert sorts(judge.runs_are_explained([effect(1.0), effect(2.0)], [Hit("kill", ("a",), 1.0, 2.0)])[0]) == [True]
    assert sorts(history.judge(told(*HISTORIES["two results"][1]))) == [True]


def replace_status(row: StatusRow, status: Status) -> StatusRow:
    return StatusRow(row.workflow, status, row.incarnation, row.run, 0, 0, "node-1")


def test_a_second_result_for_one_execution_is_a_contradiction_and_an_answer_too_late_is_none() -> None:
    class Client:
        def __init__(self, *answers: Any) -> None:
            self.answers = list(answers)

        def handle(self, workflow_id: str) -> Client:
            return self

        async def result(self, timeout: float) -> Any:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def main() -> None:
        load = Load({}, random.Random(1))
        load.told = {"w": Told("chaos-three", 1, accepted_at=1.0)}
        load.stop(-1.0)
        await load.read_again({"one": Client([1]), "two": Client([2])})
        await load.read_again({"three": Client(TimeoutError("not yet"))})
        assert load.losses == [
            "w: two was told [2], and before that [1] had been told",
            "w: read again by three: Lost: result is still answered by TimeoutError: not yet",
        ]
        assert contradictions(load.losses) == load.losses[:1]

    asyncio.run(main())


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
