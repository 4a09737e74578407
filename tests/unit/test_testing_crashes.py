"""`crash_everywhere` tells workflows that survive from those that do not, and says why."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

import durable
from durable import Context, EntryType, WorkflowError
from durable.journal import keys
from durable.journal.codec import ANY, unpack_row
from durable.journal.entries import Completion
from durable.journal.retry import NO_RETRY
from durable.ports import Batch, Write
from durable.runtime.execution import Execution
from durable.runtime.operations import BEGIN, begin_call
from durable.storage import InMemoryStore
from durable.testing import Send, crash_everywhere, crash_everywhere_async
from durable.testing.lives import MortalLog, Plan, Witness, live
from durable.workflows.context import CallWork

world: dict[str, int] = {}


@durable.function
async def charge(amount: int) -> int:
    world["charged"] = world.get("charged", 0) + amount
    return amount


counter = itertools.count()


@durable.function
async def another_answer_each_time() -> int:
    return next(counter)


@durable.workflow("crashes-order")
async def order(ctx: Context, amount: int) -> int:
    paid = await ctx.call(charge, amount)
    await ctx.sleep(86_400)
    return paid + await ctx.side_effect("tip", lambda: 1, int)


@durable.workflow("crashes-approval")
async def approval(ctx: Context) -> str:
    return str(await ctx.receive("approved", str))


@durable.workflow("crashes-unstable")
async def unstable(ctx: Context) -> int:
    return await ctx.call(another_answer_each_time)


@durable.workflow("crashes-cancelled")
async def cancelled(ctx: Context) -> None:
    await ctx.sleep(3600)


def test_the_table_says_how_often_each_body_ran() -> None:
    report = crash_everywhere(order, 5)
    assert report.ok
    assert [(line.name, line.runs_undisturbed, line.runs_max, line.same) for line in report.steps] == [
        ("charge", 1, 2, True),
        ("delay_ms", None, None, True),
        ("tip", 1, 2, True),
    ]
    assert report.crashes == 2 * report.writes + 1
    assert "CALL charge" in str(report)
    assert "1 to 2" in str(report)
    assert "Every run ended alike: COMPLETED 6" in str(report)
    assert report.check() is report


def test_its_html_escapes_and_has_no_colours_of_its_own() -> None:
    html = crash_everywhere(order, 5)._repr_html_()
    assert "<table>" in html
    assert "CALL charge" in html
    assert "color" not in html


def test_it_says_where_the_result_differs() -> None:
    report = crash_everywhere(unstable)
    assert not report.ok
    with pytest.raises(AssertionError, match="ended as COMPLETED"):
        report.check()
    assert [line.same for line in report.steps] == [False]
    assert "NO" in str(report)


def test_the_user_may_say_what_counts_as_the_same() -> None:
    assert crash_everywhere(unstable, same=lambda expected, got: isinstance(got, int)).ok


def test_reset_makes_the_world_new_before_each_run() -> None:
    totals = []

    def reset() -> None:
        totals.append(world.pop("charged", None))

    report = crash_everywhere(order, 5, reset=reset).check()
    assert len(totals) == report.crashes + 1
    assert set(totals[1:]) == {5, 10}


def test_messages_and_a_cancel_from_outside() -> None:
    assert crash_everywhere(approval, sends=[("approved", "yes")]).check().ending.output_json == b'"yes"'
    assert crash_everywhere(approval, sends=[Send("approved", "late", after=60.0)]).ok
    assert crash_everywhere(cancelled, cancel_after=60.0).check().ending.status is durable.Status.CANCELLED


def test_a_workflow_that_never_ends_is_refused_with_what_it_waits_for() -> None:
    with pytest.raises(WorkflowError, match="waits for RECEIVE approved"):
        crash_everywhere(approval)


def test_a_life_that_goes_round_in_circles_is_ended() -> None:
    @durable.workflow("crashes-endless")
    async def endless(ctx: Context) -> None:
        while True:
            await ctx.sleep(60)

    witness, store = Witness(), InMemoryStore.open()
    life = live(Plan(endless, (), "e"), store, witness, writes_max=50)
    assert life.endings is not None
    assert not life.endings["e"].status.finished
    assert witness.faults == ["it came to no end within 50 journal writes"]


def test_in_a_notebook_it_works_both_ways() -> None:
    async def cell() -> tuple[bool, bool]:
        return crash_everywhere(order, 1).ok, (await crash_everywhere_async(order, 1)).ok

    assert asyncio.run(cell()) == (True, True)


# --- broken on purpose: the test of the test --------------------------------------------------------------------------


def test_it_notices_an_engine_that_does_not_write_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = MortalLog._keep

    def forgetful(self: MortalLog, batch: Batch) -> None:
        keep(self, [write for write in batch if not is_completion(write)])

    def is_completion(write: Write) -> bool:
        key, value = write
        return key[2:3] == keys.JOURNAL and value is not None and isinstance(unpack_row(value), Completion)

    monkeypatch.setattr(MortalLog, "_keep", forgetful)
    with pytest.raises((AssertionError, WorkflowError)):
        crash_everywhere(order, 5).check()


def test_it_notices_a_body_that_runs_again_although_its_answer_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Execution.load

    def runs_the_first_call_again(self: Execution, *args: Any) -> None:
        load(self, *args)
        work = CallWork(charge, NO_RETRY, None)
        operation = SimpleNamespace(sequence_number=0, payload=work, input_json=b"[5]", result_type=ANY, name="charge")
        self.node.runner.start(self, operation)  # type: ignore[attr-defined]

    monkeypatch.setattr(Execution, "load", runs_the_first_call_again)
    report = crash_everywhere(order, 5)
    assert any("entry 0 of 'under-test' ran again although its answer was recorded" in text for text in report.problems)


def test_it_notices_a_node_that_acts_before_it_has_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = begin_call

    def hasty(self: Execution, command: Any, pending: Any, batch: Any) -> None:
        begin(self, command, pending, batch)
        effect = batch.effects.pop()
        asyncio.get_running_loop().call_soon(*effect)

    monkeypatch.setitem(BEGIN, EntryType.CALL, hasty)
    report = crash_everywhere(order, 5)
    assert any("ran before its command was recorded" in problem for problem in report.problems), report
