"""Pausing stops the code of an execution and loses nothing of what goes on meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nodes import Gate, asynchronous, held, open_node, reached, turns, until

from durable import Context, NodeStorage, RetryPolicy, Status, WorkflowCancelled, function, workflow
from durable.journal.entries import CANCEL, Completion
from durable.runtime import batches


@asynchronous
async def test_a_function_that_ends_while_paused_is_recorded_and_not_run_again() -> None:
    gate = Gate()

    @function("pause-gate")
    async def body() -> int:
        return await gate.wait()

    @workflow("pause-one")
    async def one(ctx: Context) -> int:
        return await ctx.call(body)

    async with await open_node() as runtime:
        handle = await runtime.submit(one, workflow_id="p1")
        await gate.entered()
        await handle.pause()
        assert await handle.status() is Status.PAUSED
        gate.open()
        await turns()
        assert (await handle.journal())[0].completed
        assert await handle.status() is Status.PAUSED
        await handle.resume()
        assert await handle.result() == 1
        assert gate.runs == 1


@asynchronous
async def test_a_function_in_flight_over_pause_and_resume_is_run_once() -> None:
    gate = Gate()

    @function("pause-gate-2")
    async def body() -> int:
        return await gate.wait()

    @workflow("pause-two")
    async def two(ctx: Context) -> int:
        return await ctx.call(body)

    async with await open_node() as runtime:
        handle = await runtime.submit(two, workflow_id="p2")
        await gate.entered()
        await handle.pause()
        await handle.resume()
        await reached(handle, Status.RUNNING, Status.WAITING)
        await turns()
        gate.open()
        assert await handle.result() == 1
        assert gate.runs == 1


@asynchronous
async def test_a_once_function_in_flight_over_pause_and_resume_is_not_unknown() -> None:
    gate = Gate()

    @function("pause-once", once=True)
    async def body() -> int:
        return await gate.wait()

    @workflow("pause-three")
    async def three(ctx: Context) -> int:
        return await ctx.call(body)

    async with await open_node() as runtime:
        handle = await runtime.submit(three, workflow_id="p3")
        await gate.entered()
        await handle.pause()
        await handle.resume()
        await turns()
        gate.open()
        assert await handle.result() == 1
        assert gate.runs == 1


@asynchronous
async def test_resuming_while_rows_are_on_their_way_overwrites_none_of_them() -> None:
    """Two functions end around a resume, with a log that takes its time: both results must be in the journal."""
    gates = [Gate(), Gate()]

    @function("pause-pair")
    async def body(index: int) -> int:
        await gates[index].wait()
        return index

    @workflow("pause-four")
    async def four(ctx: Context) -> list[int]:
        return await asyncio.gather(ctx.call(body, 0), ctx.call(body, 1))

    log = held()
    async with await open_node(log=log) as runtime:
        handle = await runtime.submit(four, workflow_id="p4")
        await gates[0].entered()
        await gates[1].entered()
        await handle.pause()
        log.hold()
        gates[0].open()
        await until(lambda: log.waiting, "the first result was handed to the log")
        resumed = asyncio.ensure_future(handle.resume())
        await turns()
        gates[1].open()
        await turns()
        log.release()
        await resumed
        assert await handle.result() == [0, 1]
        entries = await handle.journal()
        assert [entry.output_json for entry in entries] == ["0", "1"]
        assert [gate.runs for gate in gates] == [1, 1]
        assert len(runtime._engine.storage.raw_rows("p4", bytes.fromhex((await handle.metadata()).incarnation), 0)) == 5


@asynchronous
async def test_pausing_while_it_is_being_parked_keeps_it_paused() -> None:
    @workflow("pause-parking")
    async def waits(ctx: Context) -> str:
        return await ctx.receive("go", str)

    log = held()
    async with await open_node(log=log, park_after=0.0) as runtime:
        handle = await runtime.submit(waits, workflow_id="p5")
        await until(lambda: "p5" not in runtime._engine.live, "parking")
        log.hold()
        sent = asyncio.ensure_future(handle.send("other", 1))  # brings it in, and then it is parked again
        await until(lambda: (e := runtime._engine.live.get("p5")) and e.parking, "being parked")
        paused = asyncio.ensure_future(handle.pause())
        await turns()
        log.step()
        while log.waiting:
            await turns(2)
            log.step()
        log.release()
        await asyncio.gather(sent, paused)
        assert await handle.status() is Status.PAUSED
        await handle.send("go", "on")
        await turns()
        assert await handle.status() is Status.PAUSED
        await handle.resume()
        assert await handle.result() == "on"


@asynchronous
async def test_a_paused_execution_stays_paused_over_a_restart_and_keeps_what_arrives() -> None:
    @workflow("pause-child")
    async def child(ctx: Context) -> int:
        await ctx.receive("go", Any)
        return 7

    @workflow("pause-parent")
    async def parent(ctx: Context) -> int:
        return await ctx.start(child, workflow_id="p6-child")

    log = held()
    runtime = await open_node(log=log)
    handle = await runtime.submit(parent, workflow_id="p6")
    await until(lambda: runtime._engine.storage.status("p6-child"), "the child began")
    await handle.pause()
    await runtime.close()
    async with await open_node(log.survivors()) as again:
        await again.handle("p6-child").send("go", None)
        assert await again.handle("p6-child").result() == 7
        assert await again.handle("p6").status() is Status.PAUSED
        await again.handle("p6").resume()
        assert await again.handle("p6").result() == 7


@asynchronous
async def test_a_retry_that_waits_over_pause_and_resume_goes_on() -> None:
    tries: list[int] = []

    @function("pause-retry", retry=RetryPolicy(initial_delay=0.05, jitter=0.0, max_attempts=3))
    async def body() -> int:
        tries.append(1)
        if len(tries) < 2:
            raise ValueError("not yet")
        return len(tries)

    @workflow("pause-seven")
    async def seven(ctx: Context) -> int:
        return await ctx.call(body)

    async with await open_node() as runtime:
        handle = await runtime.submit(seven, workflow_id="p7")
        await until(lambda: tries, "the first attempt")
        await handle.pause()
        await handle.resume()
        assert await handle.result() == 2


@asynchronous
async def test_cancelling_a_paused_execution_runs_none_of_its_functions() -> None:
    gate, after = Gate(), []

    @function("pause-first")
    async def first() -> int:
        return await gate.wait()

    @function("pause-second")
    async def second() -> None:
        after.append(1)

    @workflow("pause-eight")
    async def eight(ctx: Context) -> None:
        await ctx.call(first)
        await ctx.call(second)

    async with await open_node() as runtime:
        handle = await runtime.submit(eight, workflow_id="p8")
        await gate.entered()
        await handle.pause()
        gate.open()
        await turns()
        await handle.cancel()
        await reached(handle, Status.CANCELLED)
        assert after == []


@pytest.mark.parametrize("delay_s", [0.01, 1.0])
@asynchronous
async def test_a_function_that_fails_after_pause_and_resume_is_tried_again(delay_s: float) -> None:
    """Soon, by a timer in memory, or later, by a durable one: each is of the operation that the resume made anew."""
    gate = Gate()

    @function("pause-fails", retry=RetryPolicy(initial_delay=delay_s, jitter=0.0, max_attempts=2))
    async def body() -> int:
        run = await gate.wait()
        if run == 1:
            raise ValueError("not yet")
        return run

    @workflow("pause-nine")
    async def nine(ctx: Context) -> int:
        return await ctx.call(body)

    async with await open_node() as runtime:
        handle = await runtime.submit(nine, workflow_id="p9")
        await gate.entered()
        await handle.pause()
        await handle.resume()
        await until(lambda: runtime._engine.live["p9"].machine, "the resume")
        gate.open()
        assert await handle.result(timeout=5) == 2


@function("pause-hog")
async def hog(index: int) -> None:
    await HOGS[index].wait()


@workflow("pause-hogs")
async def hogs(ctx: Context, index: int) -> None:
    await ctx.call(hog, index)


@workflow("pause-goes")
async def goes(ctx: Context) -> str:
    word = await ctx.receive("go", str)
    await ctx.sleep(3_600)
    return word


HOGS: list[Gate] = []


@asynchronous
async def test_a_cancel_ends_a_pause_in_the_moment_in_which_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is, a node that takes over finds it paused: nothing that was to wait behind the pause runs."""
    monkeypatch.setattr(batches, "PIECE_BYTES", 0)
    HOGS[:] = [Gate()]
    log = held()
    async with await open_node(log=log, max_concurrent_workflows=1) as runtime:
        handle = await runtime.submit(goes, workflow_id="p10")
        await reached(handle, Status.WAITING)
        await handle.pause()
        await handle.send("go", "on")
        await runtime.submit(hogs, 0)
        await HOGS[0].entered()
        cancelled = asyncio.ensure_future(handle.cancel())
        await turns(50)
        assert not cancelled.done(), "no slot is free"
        log.hold()
        HOGS[0].open()
        while not cancelled.done():
            store = NodeStorage.make(log.survivors())
            row = store.status("p10")
            assert row is not None
            rows = store.rows("p10", row.incarnation, 0)
            assert row.paused or any(type(one) is Completion and one.sequence_number == CANCEL for one in rows)
            if log.waiting:
                log.step()
            await turns(2)
        await reached(handle, Status.CANCELLED)
        log.release()


@asynchronous
async def test_what_waits_behind_a_pause_is_not_applied_before_the_cancel() -> None:
    @workflow("pause-kid")
    async def kid(ctx: Context) -> str:
        return await ctx.receive("go", str)

    @workflow("pause-eleven")
    async def eleven(ctx: Context) -> None:
        await ctx.start(kid, workflow_id="p11-kid")
        ctx.send("p11-box", "go", "sent behind the pause")
        await ctx.sleep(3_600)

    async with await open_node() as runtime:
        box = await runtime.submit(kid, workflow_id="p11-box")
        handle = await runtime.submit(eleven, workflow_id="p11")
        await until(lambda: runtime._engine.storage.status("p11-kid"), "the child began")
        await handle.pause()
        await runtime.handle("p11-kid").send("go", "on")
        assert await runtime.handle("p11-kid").result() == "on"
        await turns(50)
        await handle.cancel()
        await reached(handle, Status.CANCELLED)
        await turns(50)
        assert await box.status() is Status.WAITING


@asynchronous
async def test_a_pause_right_behind_a_cancel_does_not_keep_it_waiting() -> None:
    HOGS[:] = [Gate()]
    async with await open_node(max_concurrent_workflows=1) as runtime:
        handle = await runtime.submit(goes, workflow_id="p12")
        await reached(handle, Status.WAITING)
        await runtime.submit(hogs, 0)
        await HOGS[0].entered()
        cancelled = asyncio.ensure_future(handle.cancel())
        await turns(50)
        await handle.pause()
        HOGS[0].open()
        await asyncio.wait_for(cancelled, 5)
        with pytest.raises(WorkflowCancelled):
            await handle.result(timeout=5)
