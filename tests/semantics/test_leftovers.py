"""Tasks that a workflow leaves behind are cancelled, and may clean up before it ends, as under `asyncio.run`."""

from __future__ import annotations

import asyncio

import pytest
from nodes import asynchronous, open_node, until

from durable import Context, Status, WorkflowCancelled, WorkflowFailed, function, workflow
from durable.testing import crash_everywhere

NOTED: list[str] = []


@function("left-note")
async def note(what: str) -> str:
    NOTED.append(what)
    return what


@function("left-confirm")
async def confirm(who: str) -> None:
    NOTED.append(f"confirm {who}")
    if who == "fails":
        raise ValueError("no room")
    if who == "waits":
        await asyncio.Event().wait()


async def book(ctx: Context, who: str) -> str:
    async with ctx.saga() as steps:
        for part in ("room", "seat"):
            await ctx.call(note, f"{part} {who}")
            steps.on_rollback(note, f"no {part} {who}")
        await ctx.call(confirm, who)
    return who


@workflow("left-first")
async def first(ctx: Context) -> str:
    return (await ctx.first(a=book(ctx, "now"), b=book(ctx, "waits"))).name


@workflow("left-gather")
async def gather(ctx: Context) -> None:
    await asyncio.gather(book(ctx, "fails"), book(ctx, "waits"))


@workflow("left-task")
async def task(ctx: Context) -> None:
    left = asyncio.create_task(book(ctx, "waits"))
    await ctx.receive("never")
    await left


@pytest.mark.parametrize("flow", [first, gather, task], ids=["lost a race", "beside a failure", "at a cancel"])
@asynchronous
async def test_a_saga_in_a_task_that_is_left_behind_is_undone(flow: object) -> None:
    NOTED.clear()
    async with await open_node() as runtime:
        handle = await runtime.submit(flow, workflow_id="left")
        if flow is task:
            await until(lambda: "confirm waits" in NOTED, "the last step")
            await handle.cancel()
            with pytest.raises(WorkflowCancelled):
                await handle.result(timeout=5)
        elif flow is gather:
            with pytest.raises(WorkflowFailed):
                await handle.result(timeout=5)
        else:
            assert await handle.result(timeout=5) == "a"
    undone = [noted for noted in NOTED if noted.startswith("no ") and noted.endswith("waits")]
    assert undone == ["no seat waits", "no room waits"]


def test_what_is_left_behind_cleans_up_over_a_crash_anywhere() -> None:
    async def later(ctx: Context) -> None:
        try:
            await ctx.sleep(60)
        finally:
            await ctx.call(note, "swept")

    @workflow("left-crash")
    async def flow(ctx: Context) -> str:
        left = asyncio.create_task(later(ctx))
        await ctx.call(note, "work")
        return f"done {left.done()}"

    report = crash_everywhere(flow).check()
    assert report.ending.status is Status.COMPLETED
    assert [line.name for line in report.steps if line.name == "left-note"] == ["left-note", "left-note"]


@asynchronous
async def test_a_cancel_in_the_middle_of_a_rollback_stops_no_compensation() -> None:
    NOTED.clear()
    hold = asyncio.Event()

    @function("left-slow")
    async def slow(what: str) -> None:
        NOTED.append(f"begin {what}")
        await hold.wait()
        NOTED.append(what)

    @workflow("left-rollback")
    async def flow(ctx: Context) -> None:
        async with ctx.saga() as steps:
            steps.on_rollback(note, "undone last")
            steps.on_rollback(slow, "undone slowly")
            raise ValueError("roll back")

    async with await open_node() as runtime:
        handle = await runtime.submit(flow, workflow_id="rollback")
        await until(lambda: "begin undone slowly" in NOTED, "the compensation")
        await handle.cancel()
        hold.set()
        with pytest.raises(WorkflowCancelled):
            await handle.result(timeout=5)
        assert await handle.status() is Status.CANCELLED
    assert NOTED == ["begin undone slowly", "undone slowly", "undone last"]


@asynchronous
async def test_a_timeout_in_the_middle_of_a_rollback_stops_no_compensation_and_is_still_told() -> None:
    NOTED.clear()

    @workflow("left-timeout")
    async def flow(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.2), ctx.saga() as steps:
                steps.on_rollback(note, "undone last")
                steps.on_rollback(slow, "undone slowly")
                raise ValueError("roll back")
        except TimeoutError:
            return "too late"

    @function("left-slower")
    async def slow(what: str) -> None:
        await asyncio.sleep(0.4)
        NOTED.append(what)

    async with await open_node() as runtime:
        assert await (await runtime.submit(flow)).result(timeout=5) == "too late"
    assert NOTED == ["undone slowly", "undone last"]


@asynchronous
async def test_a_run_goes_on_as_new_from_inside_a_task_group() -> None:
    @workflow("left-group")
    async def flow(ctx: Context, run: int) -> int:
        if run == 0:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.receive("never"))
                ctx.continue_as_new(run + 1)
        return run

    async with await open_node() as runtime:
        assert await (await runtime.submit(flow, 0)).result(timeout=5) == 1
