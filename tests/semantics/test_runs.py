"""Continue-as-new: a run leaves nothing of its own behind, and takes mail, state and cancels along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nodes import Gate, asynchronous, held, open_node, reached, turns, until

import durable
from durable import Context, Status, WorkflowCancelled, function, workflow


@asynchronous
async def test_an_answer_for_the_old_run_is_not_given_to_the_new_one() -> None:
    """Two calls of run 0 end in one moment; the first of them ends the run. The second's result must not be taken for
    the result of the call with the same number in run 1."""
    gates = {0: Gate(), 1: Gate()}
    finish = Gate()
    log: list[tuple[int, str]] = []

    @function("runs-old")
    async def body(run: int, name: str) -> str:
        log.append((run, name))
        if run == 0:
            await gates[0].wait()
        elif name == "b":
            await finish.wait()
        return f"{name}{run}"

    @workflow("runs-two")
    async def two(ctx: Context, run: int = 0) -> list[str]:
        a = ctx.call(body, run, "a")
        b = ctx.call(body, run, "b")
        first = await a
        if run == 0:
            ctx.continue_as_new(1)
        return [first, await b]

    async with await open_node() as runtime:
        handle = await runtime.submit(two, workflow_id="r1")
        await gates[0].entered(2)
        gates[0].open()
        await finish.entered()
        finish.open()
        assert await handle.result(timeout=5) == ["a1", "b1"]


@asynchronous
async def test_a_timer_of_the_old_run_does_not_fire_in_the_new_one() -> None:
    class Clock:
        now = 1_000_000

        def now_ms(self) -> int:
            return self.now

        def at_least(self, now_ms: int) -> None:
            self.now = max(self.now, now_ms)

    @workflow("runs-timers")
    async def timers(ctx: Context, run: int = 0) -> float:
        began = ctx.now()
        short = asyncio.ensure_future(ctx.sleep(1))
        long = asyncio.ensure_future(ctx.sleep(1 if run == 0 else 1000))
        await short
        if run == 0:
            ctx.continue_as_new(1)
        await long
        return (ctx.now() - began).total_seconds()

    clock = Clock()
    async with await open_node(clock=clock) as runtime:
        handle = await runtime.submit(timers, workflow_id="r2")
        await reached(handle, Status.WAITING)
        for _ in range(3):
            clock.now += 1_001
            runtime._engine.alarm._ring()
            await turns()
        assert await handle.status() is Status.WAITING
        clock.now += 1_000_000
        runtime._engine.alarm._ring()
        assert await handle.result(timeout=5) >= 1000


@asynchronous
async def test_a_cancel_while_the_old_run_waits_for_its_children_is_not_lost() -> None:
    @workflow("runs-child")
    async def child(ctx: Context) -> None:
        try:
            await ctx.receive("never")
        except asyncio.CancelledError:
            await ctx.receive("may-end")
            raise

    runs: list[int] = []

    @workflow("runs-parent")
    async def parent(ctx: Context, run: int = 0) -> None:
        runs.append(run)
        if run == 0:
            ctx.start(child, workflow_id="r3-child")
            ctx.continue_as_new(1)
        await ctx.receive("never")

    async with await open_node() as runtime:
        handle = await runtime.submit(parent, workflow_id="r3")
        await until(lambda: runtime._engine.storage.status("r3-child"), "the child began")
        await handle.cancel()
        await runtime.handle("r3-child").send("may-end")
        with pytest.raises(WorkflowCancelled):
            await handle.result(timeout=5)


@asynchronous
async def test_state_and_checkpoint_are_carried_over_and_the_old_rows_are_gone() -> None:
    @workflow("runs-state")
    async def state(ctx: Context, run: int = 0) -> list[Any]:
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        ctx.checkpoint({"run": run})
        if run < 3:
            await ctx.sleep(0)
            ctx.continue_as_new(run + 1)
        return [ctx.state["n"], ctx.last_checkpoint()]

    log = held()
    async with await open_node(log=log) as runtime:
        handle = await runtime.submit(state, workflow_id="r4")
        assert await handle.result() == [4, {"run": 3}]
        row = runtime._engine.storage.status("r4")
        assert row is not None
        assert [len(runtime._engine.storage.raw_rows("r4", row.incarnation, run)) for run in range(4)] == [0, 0, 0, 3]


@asynchronous
async def test_each_run_draws_its_own_random_numbers_keys_and_child_ids() -> None:
    seen: list[Any] = []

    @function("runs-key")
    async def key() -> str:
        from durable import current_call

        return current_call().idempotency_key

    @workflow("runs-leaf")
    async def leaf(ctx: Context) -> str:
        return ctx.workflow_id

    @workflow("runs-identity")
    async def identity(ctx: Context, run: int = 0) -> None:
        found = (ctx.random.random(), str(ctx.uuid4()), await ctx.call(key), await ctx.start(leaf))
        if not ctx.is_replaying:
            seen.append(found)
        if run == 0:
            ctx.continue_as_new(1)

    async with await open_node() as runtime:
        await (await runtime.submit(identity, workflow_id="r5")).result()
    first, second = seen
    assert all(a != b for a, b in zip(first, second, strict=True))


@asynchronous
async def test_calls_that_a_run_leaves_behind_hold_no_slot() -> None:
    @function("runs-left")
    async def left(run: int) -> int:
        return run

    @workflow("runs-leaver")
    async def leaver(ctx: Context, run: int = 0) -> int:
        ctx.call(left, run)
        if run < 5:
            ctx.continue_as_new(run + 1)
        return await ctx.receive("end", int)

    async with await open_node(max_concurrent_workflows=1) as runtime:
        first = await runtime.submit(leaver, workflow_id="r6")
        await until(lambda: (e := runtime._engine.live.get("r6")) and e.run == 5 and not e.calls, "the last run")
        await turns()
        assert runtime.counts["running"] == 0
        second = await runtime.submit(leaver, 5, workflow_id="r7")
        await second.send("end", 2)
        assert await second.result(timeout=5) == 2
        await first.send("end", 1)
        assert await first.result(timeout=5) == 1


@asynchronous
async def test_a_timer_that_a_run_leaves_behind_does_not_wake_the_next() -> None:
    class Clock:
        now = 1_000_000

        def now_ms(self) -> int:
            return self.now

        def at_least(self, now_ms: int) -> None:
            self.now = max(self.now, now_ms)

    @workflow("runs-left-timer")
    async def leaver(ctx: Context, run: int = 0) -> float:
        began = ctx.now()
        if run == 0:
            ctx.sleep(1)
            ctx.continue_as_new(1)
        await ctx.sleep(5)
        return (ctx.now() - began).total_seconds()

    clock = Clock()
    async with await open_node(clock=clock) as runtime:
        handle = await runtime.submit(leaver, workflow_id="r8")
        await until(lambda: runtime._engine.live["r8"].run == 1, "the second run")
        await turns()
        for _ in range(6):
            clock.now += 1_001
            runtime._engine.alarm._ring()
            await turns()
        assert await handle.result(timeout=5) >= 5


@asynchronous
async def test_the_result_of_an_old_runs_child_is_not_taken_for_that_of_the_new_run() -> None:
    @workflow("runs-named-child")
    async def child(ctx: Context) -> str:
        return await ctx.receive("say", str)

    @workflow("runs-child-parent")
    async def parent(ctx: Context, run: int = 0) -> str:
        started = ctx.start(child, workflow_id=f"r9-child-{run}", detached=run == 0)
        if run == 0:
            ctx.continue_as_new(1)
        return await started

    async with await open_node() as runtime:
        handle = await runtime.submit(parent, workflow_id="r9")
        for run in (0, 1):
            await until(lambda: runtime._engine.storage.status(f"r9-child-{run}"), "the child began")  # noqa: B023
        await runtime.handle("r9-child-0").send("say", "old")
        assert await runtime.handle("r9-child-0").result(timeout=5) == "old"
        await turns()
        assert await handle.status() is Status.WAITING
        await runtime.handle("r9-child-1").send("say", "new")
        assert await handle.result(timeout=5) == "new"


@asynchronous
async def test_cancelling_twice_is_one_request_in_the_journal() -> None:
    @workflow("runs-cleanup")
    async def cleanup(ctx: Context) -> None:
        try:
            await ctx.receive("never")
        finally:
            await ctx.receive("cleaned")

    async with await open_node() as runtime:
        handle = await runtime.submit(cleanup, workflow_id="r10")
        await reached(handle, Status.WAITING)
        await handle.cancel()
        await handle.cancel()
        assert [entry.entry_type.name for entry in await handle.journal()] == ["RECEIVE", "CANCEL", "RECEIVE"]
        await handle.send("cleaned")
        with pytest.raises(WorkflowCancelled):
            await handle.result(timeout=5)


def test_a_workflow_that_only_continues_as_new_does_not_hold_up_others() -> None:
    @workflow("runs-spinner")
    async def spinner(ctx: Context, n: int) -> None:
        ctx.continue_as_new(n + 1)

    @workflow("runs-bystander")
    async def bystander(ctx: Context) -> str:
        await ctx.sleep(0.01)
        return "seen"

    async def main() -> str:
        async with durable.open("memory:") as runtime:
            spinning = await runtime.submit(spinner, 0, workflow_id="spinner")
            result = await (await runtime.submit(bystander)).result(timeout=10)
            await spinning.cancel()
            return result

    assert asyncio.run(main()) == "seen"
