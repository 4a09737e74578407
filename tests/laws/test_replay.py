"""The laws of replay, over random workflows: any interleaving that happened once happens again, from any half of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import START_MS, TREES, World, commands_of, start_of, tree

from durable.errors import NonDeterminismError
from durable.journal import failures
from durable.journal.entries import Command, Completion, EntryType, Row, Status
from durable.workflows.machine import WorkflowMachine
from durable.workflows.replaying import replay

LAW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
CANCELS = st.one_of(st.none(), st.integers(0, 6))


def shown(machine: WorkflowMachine) -> tuple[Any, ...]:
    """Everything that a machine is, seen from outside."""
    outcome = machine.outcome
    ended = None if outcome is None else (outcome.status, outcome.output_json, outcome.error and outcome.error.message)
    waits = [(number, machine.pending[number].entry_type) for number in sorted(machine.pending)]
    return ended, waits, machine.now_ms, dict(machine.state), machine.checkpoint, machine.cursor.made


@LAW
@given(TREES, st.integers(0, 2**32), CANCELS)
def test_a_journal_replays_to_the_same_machine_and_asks_for_nothing_new(shape: Any, seed: int, cancel_at: int | None) -> None:
    world = World(shape, seed, cancel_at).run()
    assert world.machine.divergence is None, world.machine.divergence
    again = replay(tree, world.start, world.rows, "tree-1")
    assert again.take_commands() == []
    assert shown(again) == shown(world.machine)


@LAW
@given(TREES, st.integers(0, 2**32), CANCELS, st.data())
def test_half_a_journal_goes_on_as_if_there_had_been_no_crash(
    shape: Any, seed: int, cancel_at: int | None, data: st.DataObject
) -> None:
    """A crash leaves a prefix of the rows. Replaying it and giving the same answers makes the same rows again."""
    world = World(shape, seed, cancel_at).run()
    cut = data.draw(st.integers(1, len(world.rows)), "rows that survive")
    survivors = world.rows[:cut]
    machine = replay(tree, world.start, survivors, "tree-1", now_ms=START_MS)
    rows: list[Row] = [*survivors, *(command for command, _ in machine.take_commands())]
    for row in world.rows[cut:]:
        if isinstance(row, Completion):
            machine.apply(row)
            rows.extend(command for command, _ in machine.take_commands())
    assert commands_of(rows) == commands_of(world.rows)
    assert shown(machine) == shown(world.machine)


@LAW
@given(TREES, st.integers(0, 2**32))
def test_every_operation_has_its_place_and_at_most_one_answer(shape: Any, seed: int) -> None:
    world = World(shape, seed).run()
    made = 0
    answered: set[int] = set()
    for row in world.rows[1:]:
        if isinstance(row, Command):
            made += 1
        elif isinstance(row, Completion) and row.sequence_number >= 0:
            assert row.sequence_number < made
            assert row.sequence_number not in answered
            answered.add(row.sequence_number)
    assert world.machine.cursor.made == made


@LAW
@given(TREES, st.integers(0, 2**32), st.data())
def test_what_the_journal_does_not_say_is_reported_with_both_lines(shape: Any, seed: int, data: st.DataObject) -> None:
    """A command of another type, name or argument in the journal: the replay stops there, whatever the tree."""
    world = World(shape, seed).run()
    places = [index for index, row in enumerate(world.rows) if isinstance(row, Command)]
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    row = world.rows[place]
    assert isinstance(row, Command)
    if row.entry_type is EntryType.PATCH or any(
        isinstance(r, Command) and r.entry_type is EntryType.PATCH for r in world.rows[place:]
    ):
        return  # a marker that is not there means the old path: that is its purpose
    changed = Command(EntryType.CALL, "another", b"[]", row.timestamp, "shop.py:7")
    with pytest.raises(NonDeterminismError) as caught:
        replay(tree, world.start, [*world.rows[:place], changed, *world.rows[place + 1 :]], "tree-1")
    assert "shop.py:7" in str(caught.value)
    assert replay(tree, world.start, world.rows, "tree-1").divergence is None  # put back, it goes on


@LAW
@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=2, max_size=4), st.integers(0, 2**32))
def test_gathered_sequences_replay_in_any_interleaving(sequences: list[list[int]], seed: int) -> None:
    nested = [["seq", [["call", n] for n in numbers]] for numbers in sequences if numbers]
    if not nested:
        return
    shape = ["gather", [*nested, ["seq", [["gather", nested], ["call", 5]]]]]
    world = World(shape, seed).run()
    outcome = world.machine.outcome
    assert outcome is not None
    assert outcome.status in (Status.COMPLETED, Status.FAILED)
    again = replay(tree, world.start, world.rows, "tree-1")
    assert shown(again) == shown(world.machine)


def test_a_dead_machine_takes_no_more_operations() -> None:
    machine = WorkflowMachine(tree, start_of(["finally", ["receive", 0]]), "tree-1")
    machine.begin()
    machine.take_commands()
    machine.close()
    assert machine.take_commands() == []
    assert machine.take_abandoned() == []


def test_tasks_that_a_group_cancels_together_are_cancelled_in_the_same_order_every_time() -> None:
    """asyncio keeps them in a set. Worlds are kept alive, so that each next one has its tasks at other addresses."""
    shape = ["group", [["call", 1], *(["noted", n] for n in range(40))]]
    worlds: list[World] = []
    for _ in range(6):
        world = World(shape, 0)
        world.machine.begin()
        world.collect()
        world.answer(Completion(0, None, START_MS, failures.record(ValueError("the group ends"))))
        worlds.append(world)
    first = commands_of(worlds[0].rows)
    assert len(first) == 81
    assert all(commands_of(world.rows) == first for world in worlds)
    orders = {tuple(sorted(world.machine.pending)) for world in worlds}
    assert len(orders) == 1
