"""What waits leaves memory and comes back by replay; nothing that happens on the way has an effect."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from nodes import asynchronous, held, open_node, reached, turns, until

from durable import Context, Status, WorkflowCancelled, WorkflowFailed, function, workflow


@function("park-note")
async def note(what: str) -> str:
    NOTED.append(what)
    return what


NOTED: list[str] = []


@workflow("park-finally")
async def with_finally(ctx: Context) -> str:
    async def numbers() -> Any:
        try:
            yield 1
            await ctx.receive("generator")
            yield 2
        finally:
            ctx.state["generator"] = "closed"

    stream = numbers()
    await anext(stream)
    side = asyncio.create_task(ctx.receive("side"))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.receive("in-group"))
            return await ctx.receive("end", str)
    finally:
        ctx.state["ended"] = True
        side.cancel()
        await ctx.call(note, "finally")
        await stream.aclose()


@asynchronous
async def test_finally_blocks_and_generators_have_no_effect_when_it_is_parked() -> None:
    NOTED.clear()
    async with await open_node(park_after=0.0) as runtime:
        handle = await runtime.submit(with_finally, workflow_id="k1")
        for _ in range(5):
            await until(lambda: "k1" not in runtime._engine.live, "parking")
            gc.collect()
            before = [entry.name for entry in await handle.journal()]
            await handle.send("nobody")
            await turns()
        assert NOTED == []
        assert before == [entry.name for entry in await handle.journal()]
        await handle.send("in-group")
        await until(lambda: "k1" not in runtime._engine.live, "parking")
        await handle.send("end", "over")
        assert await handle.result(timeout=5) == "over"
        assert NOTED == ["finally"]


@asynchronous
async def test_beyond_the_bound_those_that_wait_leave_memory_at_once() -> None:
    @workflow("park-many")
    async def many(ctx: Context, n: int) -> int:
        return n + await ctx.receive("add", int)

    async with await open_node(max_waiting_in_memory=5, park_after=60.0) as runtime:
        handles = [await runtime.submit(many, n, workflow_id=f"many-{n}") for n in range(60)]
        await until(lambda: runtime.counts["in_memory"] <= 5, "all but five are parked")
        for handle in handles:
            await handle.send("add", 1000)
        assert [await handle.result(timeout=5) for handle in handles] == [1000 + n for n in range(60)]


@asynchronous
async def test_nothing_is_lost_when_everything_is_parked_all_the_time() -> None:
    @workflow("park-worker")
    async def worker(ctx: Context, n: int) -> int:
        total = 0
        for _ in range(4):
            total += await ctx.receive("n", int)
            await ctx.sleep(0.0)
            total = int(await ctx.call(note, str(total)))
        return total

    @workflow("park-boss")
    async def boss(ctx: Context) -> list[int]:
        children = [ctx.start(worker, n) for n in range(6)]
        for k in range(4):
            for child in children:
                await ctx.send(child.workflow_id, "n", k)
        return await asyncio.gather(*children)

    async with await open_node(max_waiting_in_memory=0, park_after=0.0, max_concurrent_workflows=2) as runtime:
        handles = [await runtime.submit(boss) for _ in range(4)]
        for handle in handles:
            assert await handle.result(timeout=15) == [6] * 6
        await until(lambda: not runtime._engine.live and runtime.counts["running"] == 0, "memory is empty")


@asynchronous
async def test_a_parent_waits_for_attached_children_and_not_for_detached_ones() -> None:
    @workflow("park-child")
    async def child(ctx: Context) -> str:
        return await ctx.receive("end", str)

    @workflow("park-parent")
    async def parent(ctx: Context, detached: bool) -> str:
        ctx.start(child, workflow_id=f"{ctx.workflow_id}-child", detached=detached)
        return "returned"

    async with await open_node(park_after=0.0) as runtime:
        attached = await runtime.submit(parent, False, workflow_id="p-attached")
        detached = await runtime.submit(parent, True, workflow_id="p-detached")
        assert await detached.result(timeout=5) == "returned"
        await until(lambda: "p-attached" not in runtime._engine.live, "the parent is parked, with its code at its end")
        assert await attached.status() is Status.WAITING
        for name in ("p-attached", "p-detached"):
            await reached(runtime.handle(f"{name}-child"), Status.WAITING)
            await runtime.handle(f"{name}-child").send("end", "bye")
        assert await attached.result(timeout=5) == "returned"
        assert await runtime.handle("p-detached-child").result(timeout=5) == "bye"


@asynchronous
async def test_cancelling_a_parent_cancels_its_children_and_waits_for_them() -> None:
    order: list[str] = []

    @workflow("park-leaf")
    async def leaf(ctx: Context) -> None:
        try:
            await ctx.receive("never")
        finally:
            order.append(ctx.workflow_id)

    @workflow("park-branch")
    async def branch(ctx: Context) -> None:
        await ctx.start(leaf, workflow_id=f"{ctx.workflow_id}-leaf")

    @workflow("park-root")
    async def root(ctx: Context) -> None:
        await asyncio.gather(*(ctx.start(branch, workflow_id=f"b{n}") for n in range(2)))

    async with await open_node() as runtime:
        handle = await runtime.submit(root, workflow_id="root")
        await until(lambda: all(runtime._engine.storage.status(f"b{n}-leaf") for n in range(2)), "the leaves began")
        await turns()
        await handle.cancel()
        with pytest.raises(WorkflowCancelled):
            await handle.result(timeout=5)
        for name in ("b0", "b1", "b0-leaf", "b1-leaf"):
            assert await runtime.handle(name).status() is Status.CANCELLED
        assert sorted(order) == ["b0-leaf", "b1-leaf"]


@asynchronous
async def test_a_failing_child_fails_the_await_and_a_taken_id_is_said() -> None:
    @workflow("park-bad-child")
    async def bad(ctx: Context) -> None:
        raise KeyError("what it lacks")

    @workflow("park-bad-parent")
    async def parent(ctx: Context) -> list[str]:
        told = []
        try:
            await ctx.start(bad)
        except WorkflowFailed as error:
            told.append(repr(error.__cause__))
        try:
            await ctx.start(bad, workflow_id="taken")
        except Exception as error:
            told.append(type(error).__name__)
        return told

    async with await open_node() as runtime:
        taken = await runtime.submit(with_finally, workflow_id="taken")
        assert await (await runtime.submit(parent)).result(timeout=5) == ["KeyError('what it lacks')", "WorkflowAlreadyExists"]
        await taken.cancel()


@pytest.mark.parametrize("at", ["before it starts", "in a call", "in a saga", "while parked", "in its compensation"])
@asynchronous
async def test_a_cancel_at_any_point_ends_it_and_undoes_what_was_done(at: str) -> None:
    NOTED.clear()
    hold = asyncio.Event()

    @function("park-slow")
    async def slow(what: str) -> str:
        NOTED.append(f"begin {what}")
        await hold.wait()
        return what

    @workflow("park-saga")
    async def saga(ctx: Context) -> None:
        async with ctx.saga() as steps:
            await ctx.call(note, "done")
            if at == "in its compensation":
                steps.on_rollback(slow, "undo slowly")
            steps.on_rollback(note, "undone")
            if at == "in a call":
                await ctx.call(slow, "body")
            if at == "in its compensation":
                raise ValueError("roll back")
            await ctx.receive("never")

    async with await open_node(park_after=0.0) as runtime:
        handle = await runtime.submit(saga, workflow_id="c1")
        if at == "in a call":
            await until(lambda: "begin body" in NOTED, "the call")
        elif at == "in its compensation":
            await until(lambda: "begin undo slowly" in NOTED, "the compensation")
        elif at == "in a saga":
            await until(lambda: "done" in NOTED, "the first step")
        elif at == "while parked":
            await until(lambda: NOTED and "c1" not in runtime._engine.live, "parking")
        await handle.cancel()
        hold.set()
        with pytest.raises((WorkflowCancelled, WorkflowFailed)):
            await handle.result(timeout=5)
        journal = await handle.journal()
        if journal and journal[0].completed:  # a step that is cancelled under way has nothing to undo that is known
            assert "undone" in NOTED


@asynchronous
async def test_a_run_under_a_slow_log_never_acts_before_it_is_durable() -> None:
    log = held()
    NOTED.clear()

    @workflow("park-effects")
    async def effects(ctx: Context) -> str:
        await ctx.call(note, "one")
        await ctx.send("park-box", "n", 1)
        return str(await ctx.call(note, "two"))

    @workflow("park-box-flow")
    async def box(ctx: Context) -> int:
        return await ctx.receive("n", int)

    async with await open_node(log=log) as runtime:
        receiver = await runtime.submit(box, workflow_id="park-box")
        await reached(receiver, Status.WAITING)
        log.hold()
        submitted = asyncio.ensure_future(runtime.submit(effects, workflow_id="e1"))
        await turns()
        assert not submitted.done(), "a submit was acknowledged before it was durable"
        assert NOTED == [], "a function ran before its command was durable"
        while not (submitted.done() and log.waiting == 0 and "two" in NOTED):
            if log.waiting:
                durable_before = len(log.durable)
                log.step()
                assert len(log.durable) == durable_before + 1
            await turns(3)
        log.release()
        assert await (await submitted).result(timeout=5) == "two"
        assert await receiver.result(timeout=5) == 1
