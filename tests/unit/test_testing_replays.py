"""`check_replay` lets what matches pass, and says what has drifted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import durable
from durable import Context, NonDeterminismError, NotRegistered, WorkflowError
from durable.testing import check_replay, debug, run
from durable.workflows.definition import REGISTRY

Body = Callable[..., Any]


@durable.function
async def reserve(n: int) -> int:
    return n


@durable.function
async def pay(n: int) -> int:
    if n < 0:
        raise ValueError("negative")
    return n


def as_recorded() -> durable.Workflow[Any, Any]:
    @durable.workflow("replays-order")
    async def order(ctx: Context, n: int) -> int:
        await ctx.call(reserve, n)
        await ctx.sleep(60)
        return await ctx.call(pay, n)

    return order


async def exported(n: int, cut: float | None = None) -> str:
    async with durable.open("memory:") as runtime:
        handle = await runtime.submit(as_recorded(), n, workflow_id="o-1")
        try:
            await handle.result(timeout=cut)
        except (TimeoutError, durable.WorkflowFailed):
            pass
        return await runtime.export("o-1")


@pytest.fixture(scope="module")
def finished() -> str:
    return run(exported(3))


@pytest.fixture(scope="module")
def under_way() -> str:
    return run(exported(3, cut=30.0))


def changed(body: Body) -> durable.Workflow[Any, Any]:
    return durable.workflow("replays-order")(body)


async def swapped(ctx: Context, n: int) -> int:
    await ctx.sleep(60)
    await ctx.call(reserve, n)
    return await ctx.call(pay, n)


async def other_argument(ctx: Context, n: int) -> int:
    await ctx.call(reserve, n + 1)
    await ctx.sleep(60)
    return await ctx.call(pay, n)


async def step_missing(ctx: Context, n: int) -> int:
    await ctx.call(reserve, n)
    return await ctx.call(pay, n)


async def step_added(ctx: Context, n: int) -> int:
    await ctx.call(reserve, n)
    await ctx.sleep(60)
    paid = await ctx.call(pay, n)
    await ctx.sleep(1)
    return paid


async def other_result(ctx: Context, n: int) -> int:
    await ctx.call(reserve, n)
    await ctx.sleep(60)
    return 10 * await ctx.call(pay, n)


async def returns_early(ctx: Context, n: int) -> int:
    await ctx.call(reserve, n)
    return n


async def guarded(ctx: Context, n: int) -> int:
    await ctx.call(reserve, n)
    await ctx.sleep(61 if ctx.patched("longer") else 60)
    return await ctx.call(pay, n)


def test_the_same_code_passes(finished: str, under_way: str) -> None:
    order = as_recorded()
    assert check_replay(order, finished).operations == 3
    assert check_replay(None, finished).workflow == "replays-order"
    assert check_replay("replays-order", under_way).operations == 2


def test_a_recorded_failure_passes_too() -> None:
    assert check_replay(as_recorded(), run(exported(-1))).status is durable.Status.FAILED


def test_a_change_that_is_guarded_passes(finished: str, under_way: str) -> None:
    check_replay(changed(guarded), finished)
    check_replay(changed(guarded), under_way)


@pytest.mark.parametrize("body", [swapped, other_argument, step_missing, returns_early], ids=lambda body: body.__name__)
def test_drift_is_reported_with_both_sides(body: Body, finished: str, under_way: str) -> None:
    for journal in (finished, under_way):
        with pytest.raises(NonDeterminismError, match=r"recorded:.*\n.*attempted:") as caught:
            check_replay(changed(body), journal)
        assert "Likely cause" in str(caught.value)


def test_a_finished_execution_must_also_end_alike_but_one_under_way_may_go_on(finished: str, under_way: str) -> None:
    with pytest.raises(NonDeterminismError, match="a step was added at the end"):
        check_replay(changed(step_added), finished)
    with pytest.raises(NonDeterminismError, match="COMPLETED 3\nattempted: COMPLETED 30"):
        check_replay(changed(other_result), finished)
    check_replay(changed(step_added), under_way)
    check_replay(changed(other_result), under_way)


def test_a_step_that_moved_behind_a_wait_is_drift() -> None:
    @durable.workflow("replays-pair")
    async def at_once(ctx: Context) -> None:
        await asyncio.gather(ctx.call(reserve, 1), ctx.call(pay, 2))

    async def record() -> str:
        async with durable.open("memory:") as runtime:
            await (await runtime.submit(at_once, workflow_id="p-1")).result()
            return await runtime.export("p-1")

    journal = run(record())

    @durable.workflow("replays-pair")
    async def one_after_another(ctx: Context) -> None:
        await ctx.call(reserve, 1)
        await ctx.call(pay, 2)

    with pytest.raises(NonDeterminismError, match="attempted: nothing, before the answer to entry 0 is applied"):
        check_replay(one_after_another, journal)


def test_no_function_runs(finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pay, "body", lambda *_: pytest.fail("a body ran"))
    check_replay(as_recorded(), finished)


def test_what_is_no_journal_of_this_workflow_is_said_so(finished: str) -> None:
    @durable.workflow("replays-other")
    async def other(ctx: Context) -> None: ...

    with pytest.raises(WorkflowError, match="of the workflow 'replays-order', not of 'replays-other'"):
        check_replay(other, finished)
    for text in ("", "{}", "hello", finished.splitlines()[0]):
        with pytest.raises(WorkflowError, match="export"):
            check_replay(other, text)
    as_recorded()
    del REGISTRY.workflows["replays-order"]
    with pytest.raises(NotRegistered, match="replays-order"):
        check_replay(None, finished)


@durable.workflow("replays-echo")
async def echo(ctx: Context, text: str) -> str:
    await ctx.sleep(1)
    await ctx.call(shortened, text)
    return text


@durable.function("replays-shortened")
async def shortened(text: str) -> str:
    return text[:9]


def echoed(text: str) -> str:
    async def record() -> str:
        async with durable.open("memory:") as runtime:
            await (await runtime.submit(echo, text, workflow_id="e-1")).result()
            return await runtime.export("e-1")

    return run(record())


def test_what_only_people_take_for_the_end_of_a_line_is_part_of_a_value() -> None:
    text = "a\u2028b\u2029c\x85d"
    journal = echoed(text)
    assert check_replay(echo, journal).operations == 2
    assert check_replay(echo, journal.replace("\n", "\r\n")).operations == 2  # saved on Windows
    assert debug(journal, at=0).locals["text"] == text


# --- values above the bound of this process


LARGE = durable.NodeConfig(value_bytes_max=64 << 20)


async def large(ctx: Context, size: int) -> str:
    text = "x" * size
    await ctx.call(shortened, text)
    await ctx.sleep(1)
    return text


def recorded_large(size: int, config: durable.NodeConfig | None = None) -> tuple[durable.Workflow[Any, Any], str]:
    workflow = durable.workflow("replays-large")(large)

    async def record() -> str:
        async with durable.open("memory:", config) as runtime:
            handle = await runtime.submit(workflow, size, workflow_id="l-1")
            with suppress(durable.WorkflowFailed):
                await handle.result()
            return await runtime.export("l-1")

    return workflow, run(record())


def test_what_a_node_with_a_larger_bound_recorded_is_replayed_under_that_bound() -> None:
    workflow, journal = recorded_large(20_000_000, LARGE)
    assert check_replay(workflow, journal).status is durable.Status.COMPLETED
    assert debug(journal, at=1).locals["size"] == 20_000_000


def test_what_was_refused_as_too_large_is_refused_again() -> None:
    workflow, journal = recorded_large(20_000_000)
    assert "ValueTooLarge" in journal
    assert check_replay(workflow, journal).status is durable.Status.FAILED
