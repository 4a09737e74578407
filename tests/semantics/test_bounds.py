"""Bad input, and bounds: each with its own error, and nothing half done."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from nodes import asynchronous, held, open_node, turns, until

from durable import (
    Context,
    EncodingError,
    NodeStorage,
    NotRegistered,
    Overloaded,
    Status,
    WorkflowAlreadyExists,
    WorkflowError,
    WorkflowNotFound,
    workflow,
)
from durable.journal.keys import partition_of
from durable.world import SystemClock


@workflow("bound-wait")
async def wait(ctx: Context, n: int) -> int:
    return n + await ctx.receive("end", int)


@workflow("bound-echo")
async def echo(ctx: Context, text: str) -> str:
    return text


@asynchronous
async def test_ten_thousand_submits_past_the_bound_are_refused_whole() -> None:
    async with await open_node(max_pending=500, park_after=60.0, max_waiting_in_memory=10_000) as runtime:
        tried = await asyncio.gather(
            *(runtime.submit(wait, n, workflow_id=f"w{n}") for n in range(10_000)), return_exceptions=True
        )
        refused = [answer for answer in tried if isinstance(answer, Overloaded)]
        accepted = [answer for answer in tried if not isinstance(answer, BaseException)]
        assert len(accepted) == 500
        assert len(refused) == 9_500
        assert "max_pending is 500" in str(refused[0])
        listed = await runtime.list(limit=20_000)
        assert {found.workflow_id for found in listed} == {handle.workflow_id for handle in accepted}
        for handle in accepted:
            await handle.send("end", 1)
        assert sum([await handle.result() for handle in accepted]) == sum(range(500)) + 500
        assert await (await runtime.submit(echo, "there is room again")).result() == "there is room again"


@asynchronous
async def test_an_id_is_one_execution() -> None:
    async with await open_node() as runtime:
        first = await runtime.submit(wait, 1, workflow_id="one")
        again = await runtime.submit(wait, 1, workflow_id="one")
        with pytest.raises(WorkflowAlreadyExists, match="another input"):
            await runtime.submit(wait, 2, workflow_id="one")
        with pytest.raises(WorkflowAlreadyExists, match="bound-wait"):
            await runtime.submit(echo, "x", workflow_id="one")
        await first.send("end", 1)
        assert await again.result() == 2
        assert await (await runtime.submit(wait, 1, workflow_id="one")).result() == 2
        assert await runtime.purge() == ["one"]
        with pytest.raises(WorkflowNotFound):
            await first.status()
        with pytest.raises(WorkflowAlreadyExists, match="purged"):
            await runtime.submit(wait, 1, workflow_id="one")


@asynchronous
async def test_what_cannot_be_submitted_is_refused_before_anything_is_written() -> None:
    async with await open_node(value_bytes_max=2_000_000) as runtime:
        rows = runtime.counts["rows_written"]
        for given, kind in (
            (("nobody", 1), NotRegistered),
            ((wait, lambda: 0), EncodingError),
            ((wait, "text"), EncodingError),
            ((wait,), WorkflowError),
        ):
            with pytest.raises(kind):
                await runtime.submit(*given)
        for name in ("", "nul\0", "x" * 600):
            with pytest.raises(WorkflowError, match="cannot be a workflow id"):
                await runtime.submit(wait, 1, workflow_id=name)
        with pytest.raises(WorkflowNotFound):
            await runtime.handle("nobody").result()
        assert runtime.counts["rows_written"] == rows
        million = "x" * 1_000_000
        assert await (await runtime.submit(echo, million)).result() == million
        with pytest.raises(WorkflowError, match="value_bytes_max"):
            await runtime.submit(echo, million * 3)


class Machine:
    """The clocks of a computer that an operator sets."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.ticks = 10.0

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds

    def clock(self, at_least_ms: int = 0) -> SystemClock:
        return SystemClock(at_least_ms, wall=lambda: self.wall, monotonic=lambda: self.ticks)


@workflow("bound-nap")
async def nap(ctx: Context) -> list[float]:
    began = ctx.now()
    await ctx.sleep(60)
    return [began.timestamp(), ctx.now().timestamp()]


@asynchronous
async def test_a_clock_that_jumps_back_an_hour_delays_no_timer() -> None:
    machine = Machine()
    async with await open_node(clock=machine.clock()) as runtime:
        handle = await runtime.submit(nap, workflow_id="nap")
        await until(lambda: (e := runtime._engine.live.get("nap")) and e.timers, "the timer")
        machine.wall -= 3600
        machine.sleep(61)
        runtime._engine.alarm._ring()
        began, ended = await handle.result(timeout=5)
        assert 60 <= ended - began < 120


@asynchronous
async def test_a_clock_that_jumps_back_over_a_restart_never_goes_behind_what_was_seen() -> None:
    machine = Machine()
    log = held()
    runtime = await open_node(log=log, clock=machine.clock())
    handle = await runtime.submit(nap, workflow_id="nap")
    await until(lambda: (e := runtime._engine.live.get("nap")) and e.timers, "the timer")
    await runtime.close()
    machine.wall -= 3600
    store = log.survivors()
    assert NodeStorage.make(store).clock_ms(partition_of("nap")) >= 1_700_000_000_000
    async with await open_node(store, clock=machine.clock()) as again:
        machine.sleep(61)
        again._engine.alarm._ring()
        began, ended = await again.handle("nap").result(timeout=5)
        assert 60 <= ended - began < 120
        assert ended >= began
    assert handle.workflow_id == "nap"


@asynchronous
async def test_odd_durations_and_moments_are_refused_or_served() -> None:
    @workflow("bound-durations")
    async def durations(ctx: Context) -> list[str]:
        told: list[str] = []
        for wrong in (float("nan"), float("inf"), "soon", None):
            try:
                await ctx.sleep(wrong)  # type: ignore[arg-type]
            except WorkflowError as error:
                told.append(str(error)[:20])
        try:
            await ctx.sleep_until(datetime(2030, 1, 1))
        except WorkflowError as error:
            told.append(str(error)[:20])
        await ctx.sleep(-5)
        await ctx.sleep_until(datetime(1980, 1, 1, tzinfo=UTC))
        winner = await ctx.first(far=ctx.sleep(10**12), now=ctx.sleep(0))
        return [*told, winner.name]

    async with await open_node() as runtime:
        *told, winner = await (await runtime.submit(durations)).result(timeout=5)
        assert len(told) == 5
        assert winner == "now"


@asynchronous
async def test_as_completed_over_coroutines_points_to_first() -> None:
    @workflow("bound-as-completed")
    async def completed(ctx: Context) -> str:
        async def one() -> None:
            await ctx.sleep(0)

        try:
            for done in asyncio.as_completed([one(), one()]):
                await done
        except Exception as error:
            return str(error)
        return "served"

    async with await open_node() as runtime:
        assert "ctx.first" in await (await runtime.submit(completed)).result(timeout=5)


@asynchronous
async def test_a_failing_store_stops_the_node_with_its_error_and_loses_nothing() -> None:
    from stores import FailingStore

    from durable import NodeStorage, StoreFull
    from durable.runtime.runtime import NodeRuntime
    from durable.storage import InMemoryStore

    memory = InMemoryStore.open()
    storage = NodeStorage.make(memory)
    storage._store = FailingStore(memory, "sync", after=6)  # type: ignore[assignment]
    runtime = await NodeRuntime.make(storage)
    acknowledged: list[str] = []
    waiting: list[Any] = []
    with pytest.raises(StoreFull, match="no space left"):
        for n in range(50):
            handle = await runtime.submit(wait, n, workflow_id=f"f{n}")
            acknowledged.append(handle.workflow_id)
            waiting.append(asyncio.ensure_future(handle.result()))
    with pytest.raises(StoreFull):
        await runtime.submit(wait, 99)
    for one in waiting:
        with pytest.raises(StoreFull):
            await one
    await runtime.close()
    assert acknowledged
    async with await open_node(memory) as again:
        for workflow_id in acknowledged:
            await again.handle(workflow_id).send("end", 1)
            await again.handle(workflow_id).result(timeout=5)
        await turns()
        assert await again.handle(acknowledged[0]).status() is Status.COMPLETED
