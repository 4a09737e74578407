"""One execution that stops, or one that cannot be read, is one execution: the others go on, and nobody hangs."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest
from nodes import Gate, asynchronous, held, open_node, reached, turns, until

from durable import (
    Context,
    FunctionFailed,
    JournalCorrupted,
    NonDeterminismError,
    OutcomeUnknown,
    RetryPolicy,
    Status,
    StoreClosed,
    WorkflowCancelled,
    current_call,
    function,
    workflow,
)
from durable.journal import keys
from durable.storage import InMemoryStore
from durable.storage.node import NodeStorage
from durable.world import SystemClock


@workflow("stops-echo")
async def echo(ctx: Context) -> str:
    return await ctx.receive("box", str)


@workflow("stops-courier")
async def courier(ctx: Context, to: list[str]) -> int:
    for one in to:
        ctx.send(one, "box", "hello")
    return await ctx.receive("end", int)


@workflow("stops-nap")
async def nap(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "rested"


def flip(store: InMemoryStore, table: bytes, workflow_id: str, index: int = 0, at: int = -1) -> None:
    """Flip one byte of the value of a row."""
    rows = list(store.scan(keys.of(keys.partition_of(workflow_id), table, workflow_id)))
    key, value = rows[index]
    changed = bytearray(value)
    changed[at] ^= 0x20
    store.write([(key, bytes(changed))])


async def two_parked(log: Any) -> None:
    async with await open_node(log=log, park_after=0.0) as runtime:
        for name in ("c1", "c2"):
            await runtime.submit(echo, workflow_id=name)
        await until(lambda: not runtime._engine.live, "both are parked")


@pytest.mark.parametrize("table", [keys.STATUS, keys.JOURNAL])
@asynchronous
async def test_a_message_to_a_corrupt_execution_leaves_the_others_alone(table: bytes) -> None:
    log = held()
    await two_parked(log)
    store = log.survivors()
    flip(store, table, "c1")
    async with await open_node(store, park_after=0.0) as runtime:
        sender = await runtime.submit(courier, ["c1", "c2"], workflow_id="c-sender")
        assert await runtime.handle("c2").result(timeout=5) == "hello"
        with pytest.raises(JournalCorrupted, match="'c1'"):
            await runtime.handle("c1").result(timeout=5)
        await sender.send("end", 1)
        assert await sender.result(timeout=5) == 1
        fresh = await runtime.submit(nap, 0.001)
        assert await fresh.result(timeout=5) == "rested"
        assert "c2" in {found.workflow_id for found in await runtime.list()}


@asynchronous
async def test_a_timer_of_a_corrupt_execution_leaves_other_timers_alone() -> None:
    log = held()
    async with await open_node(log=log, park_after=0.0) as runtime:
        for name in ("t1", "t2"):
            await runtime.submit(nap, 0.3, workflow_id=name)
        await until(lambda: not runtime._engine.live, "both are parked")
    store = log.survivors()
    flip(store, keys.STATUS, "t1")
    async with await open_node(store, park_after=0.0) as runtime:
        assert await runtime.handle("t2").result(timeout=5) == "rested"
        assert await (await runtime.submit(nap, 0.01)).result(timeout=5) == "rested"


@asynchronous
async def test_a_corrupt_envelope_stops_only_its_sender() -> None:
    log = held()
    async with await open_node(log=log) as runtime:
        await runtime.submit(courier, ["unknown-1"], workflow_id="o1")
        await runtime.submit(nap, 0.001, workflow_id="o2")
    store = log.survivors()
    prefix = keys.of(keys.partition_of("o1"), keys.OUTBOX, "o1")
    store.write([(prefix + b"\0" * 17, b"garbage of an envelope")])
    async with await open_node(store) as runtime:
        assert await runtime.handle("o2").result(timeout=5) == "rested"


@asynchronous
async def test_an_exception_with_text_that_is_no_unicode_is_recorded() -> None:
    @function("stops-surrogate")
    async def bad() -> None:
        raise ValueError("\udcff is half a character")

    @function("stops-surrogate-custom")
    async def worse() -> None:
        raise FunctionFailed("X\udcff", "\ud800")

    @workflow("stops-records")
    async def records(ctx: Context) -> list[str]:
        found = []
        for body in (bad, worse):
            try:
                await ctx.call(body)
            except Exception as error:
                found.append(type(error).__name__)
        return found

    async with await open_node() as runtime:
        handle = await runtime.submit(records, workflow_id="s1")
        assert await handle.result(timeout=5) == ["FunctionFailed", "FunctionFailed"]
        assert "half a character" in (await handle.journal())[0].error.message


class Unprintable(Exception):
    def __init__(self) -> None:
        super().__init__(object())

    def __str__(self) -> str:
        raise RuntimeError("no text")


@asynchronous
async def test_an_exception_that_cannot_be_recorded_as_it_is_comes_as_text_the_first_time_as_on_replay() -> None:
    class Local(Exception):
        pass

    @function("stops-raise")
    async def raises(kind: str) -> None:
        raise {"local": Local("only here"), "unprintable": Unprintable(), "group": ExceptionGroup("two", [ValueError()])}[kind]

    @workflow("stops-kinds")
    async def kinds(ctx: Context) -> list[str]:
        found = []
        for kind in ("local", "unprintable", "group"):
            try:
                await ctx.call(raises, kind)
            except Exception as error:
                found.append(type(error).__name__)
            await ctx.receive("next")
        return found

    async with await open_node(park_after=0.0) as runtime:  # each receive parks it, so each step is a replay
        handle = await runtime.submit(kinds, workflow_id="s2")
        for _ in range(3):
            await until(lambda: "s2" not in runtime._engine.live, "parking")
            await handle.send("next")
            await turns()
        assert await handle.result(timeout=5) == ["FunctionFailed"] * 3


@pytest.mark.parametrize("before", [1, 20], ids=["not recorded", "on its way to the log"])
@asynchronous
async def test_a_cancel_under_way_when_the_node_closes_is_told_so(before: int) -> None:
    log = held()
    runtime = await open_node(log=log)
    handle = await runtime.submit(echo, workflow_id="s3")
    await reached(handle, Status.WAITING)
    log.hold()
    cancel = asyncio.ensure_future(handle.cancel())
    await turns(before)
    closing = asyncio.ensure_future(runtime.close())
    await turns()
    log.release()
    await closing
    done, _ = await asyncio.wait([cancel], timeout=5)
    assert done, "handle.cancel() hangs"
    if cancel.exception() is not None:
        assert isinstance(cancel.exception(), StoreClosed)


@asynchronous
async def test_cancelling_an_execution_that_diverges_in_that_moment_ends_it() -> None:
    variant = ["a"]

    @workflow("stops-variant")
    async def varies(ctx: Context) -> None:
        await ctx.receive(variant[0])

    async with await open_node(park_after=0.0) as runtime:
        handle = await runtime.submit(varies, workflow_id="s4")
        await until(lambda: "s4" not in runtime._engine.live, "parking")
        variant[0] = "b"
        await asyncio.wait_for(handle.cancel(), 5)
        with pytest.raises(WorkflowCancelled):
            await handle.result(timeout=5)


@asynchronous
async def test_a_childs_result_that_finds_its_parent_diverged_is_there_when_the_code_is_put_back() -> None:
    variant = ["a"]

    @workflow("stops-parent")
    async def parent(ctx: Context) -> str:
        child = ctx.start(echo, workflow_id="s5-child")
        await ctx.receive(variant[0])
        return await child

    async with await open_node(park_after=0.0) as runtime:
        handle = await runtime.submit(parent, workflow_id="s5")
        await until(lambda: not runtime._engine.live and runtime._engine.storage.status("s5-child"), "parking")
        variant[0] = "b"
        await runtime.handle("s5-child").send("box", "from the child")  # its result wakes the parent, which diverges
        with pytest.raises(NonDeterminismError, match=r"test_stops\.py"):
            await handle.result(timeout=5)
        assert await handle.status() is Status.DIVERGED
        variant[0] = "a"
        workflow("stops-parent")(parent.body)
        await handle.send("a")
        assert await handle.result(timeout=5) == "from the child"


@asynchronous
async def test_a_result_is_given_only_when_it_is_durable() -> None:
    """The batch that ends the execution can be read already, and its fsync is still under way."""
    log = held(visible=True)
    async with await open_node(log=log) as runtime:
        handle = await runtime.submit(echo, workflow_id="s6")
        await reached(handle, Status.WAITING)
        log.hold()
        sent = asyncio.ensure_future(handle.send("box", "hi"))
        asked = asyncio.ensure_future(handle.status())  # it waits for the message to be durable …
        result = asyncio.ensure_future(handle.result())
        await turns()
        log.step()  # … and meanwhile the execution has received it and ended: visible, not durable
        await turns()
        assert runtime._engine.storage.status("s6").status is Status.COMPLETED
        assert log.waiting
        assert not (asked.done() and asked.result() is Status.COMPLETED), "a status was told that a crash could take back"
        assert not result.done(), "a result was told that a crash could take back"
        log.release()
        assert await result == "hi"
        await sent


@asynchronous
async def test_a_finally_block_that_raises_while_it_is_parked_stops_nothing() -> None:
    ended: list[str] = []

    @workflow("stops-finally")
    async def stubborn(ctx: Context, how: str) -> str:
        try:
            return await ctx.receive("box", str)
        finally:
            if how == "raise":
                raise ZeroDivisionError("in a finally block")
            if how == "exit":
                sys.exit(3)
            if how == "operation":
                await ctx.call("stops-raise", "x")
            if how == "await":
                await asyncio.sleep(0)
                ended.append(how)

    async with await open_node(park_after=0.0) as runtime:
        names = ["raise", "exit", "operation", "await", "none"]
        for how in names:
            await runtime.submit(stubborn, how, workflow_id=f"s7-{how}")
        await until(lambda: not runtime._engine.live, "all are parked")
        await runtime.handle("s7-none").send("box", "fine")
        assert await runtime.handle("s7-none").result(timeout=5) == "fine"
        assert {(await runtime.handle(f"s7-{how}").status()) for how in names[:4]} == {Status.WAITING}


@pytest.mark.parametrize("delay_s", [0.3, 1.1], ids=["a short wait", "a long wait"])
@asynchronous
async def test_a_once_function_that_waits_for_its_next_attempt_is_not_unknown_after_a_crash(delay_s: float) -> None:
    tries: list[int] = []

    @function("stops-once", once=True, retry=RetryPolicy(initial_delay=delay_s, jitter=0.0, max_attempts=3))
    async def body() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("refused, for certain")
        return len(tries)

    @workflow("stops-once-flow")
    async def flow(ctx: Context) -> int:
        return await ctx.call(body)

    log = held()
    runtime = await open_node(log=log, park_after=0.0)
    await runtime.submit(flow, workflow_id="s8")
    partition = keys.partition_of("s8")
    await until(lambda: [*NodeStorage.make(log.survivors()).timers(partition, 0, 2**62)], "the durable wait between attempts")
    store = log.survivors()
    await runtime.close()
    async with await open_node(store) as again:
        assert await again.handle("s8").result(timeout=10) == 2


@pytest.mark.parametrize("delay_s", [0.3, 1.1], ids=["a short wait", "a long wait"])
@asynchronous
async def test_a_once_function_that_began_its_next_attempt_is_unknown_on_a_clock_that_is_behind(delay_s: float) -> None:
    """Whether an attempt has begun is not for the clock to say: another machine's may be behind, or this one's be set back."""
    gate = Gate()

    @function(f"stops-once-behind-{delay_s}", once=True, retry=RetryPolicy(initial_delay=delay_s, jitter=0.0, max_attempts=3))
    async def body() -> int:
        if current_call().attempt == 1:
            raise ValueError("refused, for certain")
        return await gate.wait()

    @workflow(f"stops-once-behind-flow-{delay_s}")
    async def flow(ctx: Context) -> str:
        try:
            return str(await ctx.call(body))
        except OutcomeUnknown:
            return "unknown"

    log = held()
    runtime = await open_node(log=log)
    await runtime.submit(flow, workflow_id="s10")
    await gate.entered()
    store = log.survivors()
    await runtime.close()
    behind = SystemClock(wall=lambda: time.time() - 3600)
    async with await open_node(store, clock=behind) as again:
        assert await again.handle("s10").result(timeout=5) == "unknown"
    assert gate.runs == 1


@asynchronous
async def test_a_once_function_that_a_crash_interrupted_is_unknown() -> None:
    gate = Gate()

    @function("stops-once-crash", once=True)
    async def body() -> int:
        return await gate.wait()

    @workflow("stops-once-crash-flow")
    async def flow(ctx: Context) -> str:
        try:
            return str(await ctx.call(body))
        except OutcomeUnknown:
            return "unknown"

    log = held()
    runtime = await open_node(log=log)
    await runtime.submit(flow, workflow_id="s9")
    await gate.entered()
    store = log.survivors()
    await runtime.close()
    async with await open_node(store) as again:
        assert await again.handle("s9").result(timeout=5) == "unknown"
    assert gate.runs == 1
