"""Executions, nodes and functions keep out of each other's way, also when one of them ends."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from nodes import Gate, asynchronous, held, open_node, reached, until

from durable import (
    Context,
    FunctionFailed,
    RetryPolicy,
    Status,
    WorkflowCancelled,
    function,
    workflow,
)


@workflow("isolated-call")
async def call(ctx: Context, name: str) -> Any:
    return await ctx.call(name)


@workflow("isolated-caught")
async def caught(ctx: Context, name: str) -> str:
    try:
        return str(await ctx.call(name))
    except Exception as error:
        return type(error).__name__


@asynchronous
async def test_context_variables_of_the_caller_stay_outside_and_those_of_two_workflows_apart() -> None:
    import decimal

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    @workflow("fn-context")
    async def flow(ctx: Context, name: str) -> list[Any]:
        before = variable.get()
        variable.set(name)
        decimal.getcontext().prec = 5
        await ctx.sleep(0.001)
        return [before, variable.get(), decimal.getcontext().prec]

    variable.set("caller")
    with decimal.localcontext() as local:
        local.prec = 3
        async with await open_node() as runtime:
            handles = [await runtime.submit(flow, name) for name in ("a", "b")]
            assert [await handle.result() for handle in handles] == [["none", "a", 5], ["none", "b", 5]]
    assert variable.get() == "caller"


@asynchronous
async def test_no_slot_is_lost_over_retries_timeouts_and_cancels() -> None:
    @function("fn-mixed", timeout=0.01, retry=RetryPolicy(initial_delay=0.001, max_attempts=2))
    async def mixed(n: int) -> int:
        if n % 4 == 0:
            raise ConnectionError
        if n % 4 == 1:
            await asyncio.sleep(1)
        return n

    @workflow("fn-mixes")
    async def mixes(ctx: Context, n: int) -> list[str]:
        return [str(x) for x in await asyncio.gather(*(ctx.call(mixed, n + k) for k in range(4)), return_exceptions=True)]

    async with await open_node(max_concurrent_workflows=2, park_after=0.0) as runtime:
        handles = [await runtime.submit(mixes, n) for n in range(12)]
        for handle in handles[::3]:
            await handle.cancel()
        for handle in handles:
            try:
                await handle.result()
            except WorkflowCancelled:
                pass
        await until(lambda: runtime.counts["running"] == 0, "every slot is free")
        assert runtime.counts["queued"] == 0


@asynchronous
async def test_two_nodes_in_one_process_keep_their_executions_apart() -> None:
    async with await open_node() as one, await open_node() as two:
        @workflow("fn-apart")
        async def apart(ctx: Context, n: int) -> int:
            await ctx.sleep(0.001)
            return n

        first = await one.submit(apart, 1, workflow_id="same")
        second = await two.submit(apart, 2, workflow_id="same")
        assert [await first.result(), await second.result()] == [1, 2]
        assert len(await one.list()) == len(await two.list()) == 1
        assert await first.status() is Status.COMPLETED
        await reached(second, Status.COMPLETED)


@asynchronous
async def test_functions_under_way_at_a_close_run_again_after_it() -> None:
    gate = Gate()

    @function("fn-close")
    async def body() -> int:
        return await gate.wait()

    log = held()
    runtime = await open_node(log=log)
    handle = await runtime.submit(call, "fn-close", workflow_id="cl1")
    waiting = asyncio.ensure_future(handle.result())
    await gate.entered()
    await runtime.close()
    await runtime.close()
    with pytest.raises(Exception, match="closed"):
        await waiting
    with pytest.raises(Exception, match="closed"):
        await runtime.submit(call, "fn-close")
    gate.open()
    async with await open_node(log.survivors()) as again:
        assert await again.handle("cl1").result() == 2
    assert issubclass(FunctionFailed, Exception)


@pytest.mark.parametrize("where", ["loop", "thread"])
@asynchronous
async def test_a_body_that_exits_fails_its_call_and_not_the_node(where: str) -> None:
    if where == "loop":

        @function("fn-exits")
        async def leaves() -> None:
            raise SystemExit(3)
    else:

        @function("fn-exits")
        def leaves_too() -> None:
            raise SystemExit(3)

    async with await open_node() as runtime:
        assert await (await runtime.submit(caught, "fn-exits")).result() == "FunctionFailed"
