"""The ends of an execution: purged, exited, endless, diverged and cancelled."""

from __future__ import annotations

import asyncio
import sys

import pytest
from nodes import asynchronous, held, open_node, reached, turns, until

from durable import (
    Context,
    MailRefused,
    Status,
    WorkflowCancelled,
    WorkflowFailed,
    workflow,
)
from durable.journal import keys
from durable.workflows.definition import REGISTRY


@workflow("ends-echo")
async def echo(ctx: Context) -> str:
    return await ctx.receive("box", str)


@workflow("ends-started")
async def started(ctx: Context, child_id: str) -> str:
    return await ctx.start(echo, workflow_id=child_id)


@workflow("ends-nap")
async def nap(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "rested"


@asynchronous
async def test_a_purge_waits_until_the_parent_has_the_result() -> None:
    @workflow("stops-waiting-parent")
    async def parent(ctx: Context) -> str:
        return await ctx.start(echo, workflow_id="s10-child")

    log = held()
    runtime = await open_node(log=log)
    handle = await runtime.submit(parent, workflow_id="s10")
    await until(lambda: runtime._engine.storage.status("s10-child"), "the child began")
    await handle.pause()
    await runtime.handle("s10-child").send("box", "kept")
    assert await runtime.handle("s10-child").result() == "kept"
    assert await runtime.purge() == []
    store = log.survivors()
    await runtime.close()
    async with await open_node(store) as again:
        await again.handle("s10").resume()
        assert await again.handle("s10").result(timeout=5) == "kept"
        assert sorted(await again.purge()) == ["s10", "s10-child"]


@asynchronous
async def test_system_exit_and_an_endless_loop_end_the_workflow_and_not_the_node() -> None:
    @workflow("stops-exit")
    async def leaves(ctx: Context) -> None:
        sys.exit(4)

    @workflow("stops-endless")
    async def endless(ctx: Context) -> None:
        while True:
            await asyncio.sleep(0)

    async with await open_node() as runtime:
        with pytest.raises(WorkflowFailed, match="SystemExit"):
            await (await runtime.submit(leaves)).result(timeout=5)
        with pytest.raises(WorkflowFailed, match="endless loop"):
            await (await runtime.submit(endless)).result(timeout=15)
        assert await (await runtime.submit(nap, 0.0)).result(timeout=5) == "rested"


@asynchronous
async def test_a_diverged_execution_can_be_cancelled_and_takes_its_timers_and_children_along() -> None:
    variant = ["a"]

    @workflow("stops-family")
    async def family(ctx: Context) -> None:
        ctx.start(echo, workflow_id="s11-child")
        ctx.sleep(3600)
        await ctx.receive(variant[0])

    async with await open_node(park_after=0.0) as runtime:
        handle = await runtime.submit(family, workflow_id="s11")
        await until(lambda: not runtime._engine.live and runtime._engine.storage.status("s11-child"), "parking")
        variant[0] = "b"
        await handle.send("b")
        await reached(handle, Status.DIVERGED)
        await handle.cancel()
        with pytest.raises(WorkflowCancelled):
            await runtime.handle("s11-child").result(timeout=5)
        partition = keys.partition_of("s11")
        await runtime._engine.batches.drained()
        assert not [timer for timer in runtime._engine.storage.timers(partition, 0, 2**62) if timer[1] == "s11"]
        with pytest.raises(MailRefused):
            await handle.send("b")


@asynchronous
async def test_cancelling_a_child_whose_id_was_taken_leaves_whoever_has_it_alone() -> None:
    @workflow("ends-gives-up")
    async def gives_up(ctx: Context, other: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(ctx.start(echo, workflow_id=other))

    async def fails() -> None:
        raise ValueError("the other one failed")

    async with await open_node() as runtime:
        submitted = await runtime.submit(echo, workflow_id="s12-submitted")
        parent = await runtime.submit(started, "s12-started", workflow_id="s12")
        await until(lambda: runtime._engine.storage.status("s12-started"), "the child began")
        for other in ("s12-submitted", "s12-started"):
            with pytest.raises(WorkflowFailed):
                await (await runtime.submit(gives_up, other)).result(timeout=5)
            await turns(50)
            assert await runtime.handle(other).status() is Status.WAITING
            await runtime.handle(other).send("box", "alive")
        assert await submitted.result(timeout=5) == await parent.result(timeout=5) == "alive"


@pytest.mark.parametrize("how", ["paused", "diverged", "unregistered"])
@asynchronous
async def test_cancelling_a_parent_ends_a_child_that_does_not_run(how: str) -> None:
    variant = ["a"]

    @workflow("ends-still")
    async def still(ctx: Context) -> None:
        ctx.start(echo, workflow_id="s13-grandchild")
        await ctx.receive(variant[0])

    @workflow("ends-family")
    async def family(ctx: Context) -> None:
        await ctx.start(still, workflow_id="s13-child")

    async with await open_node(park_after=0.0) as runtime:
        handle = await runtime.submit(family, workflow_id="s13")
        await until(lambda: not runtime._engine.live and runtime._engine.storage.status("s13-grandchild"), "parking")
        child = runtime.handle("s13-child")
        if how == "paused":
            await child.pause()
        elif how == "diverged":
            variant[0] = "b"
            await child.send("b")
            await reached(child, Status.DIVERGED)
        else:
            del REGISTRY.workflows["ends-still"]
        await handle.cancel()
        for name in ("s13-grandchild", "s13-child", "s13"):
            with pytest.raises(WorkflowCancelled):
                await runtime.handle(name).result(timeout=5)
