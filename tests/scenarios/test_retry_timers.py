"""A durable wait leaves nothing behind, and what is left behind wakes nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import durable
from durable import Context, RetryPolicy, current_call
from durable.journal import keys
from durable.storage import InMemoryStore
from durable.testing import run
from durable.testing.virtual import START


@durable.function(retry=RetryPolicy(max_attempts=2, initial_delay=60.0, jitter=0.0))
async def second_time() -> int:
    if current_call().attempt == 1:
        raise ConnectionError
    return 1


@durable.workflow("retry-timers")
async def retries(ctx: Context) -> int:
    return await ctx.call(second_time)


def test_the_timer_row_of_a_wait_between_attempts_goes_although_the_execution_was_parked_meanwhile() -> None:
    store = InMemoryStore.open()

    async def main() -> int:
        runtime = await durable.NodeRuntime.make(durable.NodeStorage.make(store))
        async with runtime:
            result = await (await runtime.submit(retries, workflow_id="r")).result()
            await asyncio.sleep(1)
            return result

    assert run(main()) == 1
    assert [key for key, _ in store.scan(b"") if key[2:3] == keys.TIMER] == []


GATE: list[asyncio.Event] = []


@durable.function
async def gated() -> int:
    await GATE[-1].wait()
    return 1


@durable.function(retry=RetryPolicy(max_attempts=2, initial_delay=3 * 3600.0, max_delay=3 * 3600.0, jitter=0.0))
async def again_in_three_hours() -> int:
    raise ConnectionError


@durable.workflow("timers-daily")
async def daily(ctx: Context) -> str:
    began = ctx.now()
    try:
        await asyncio.wait_for(ctx.call(gated), 3 * 3600)
    except TimeoutError:
        return f"gave up after {ctx.now() - began}"
    return "done"


@durable.workflow("timers-first")
async def whichever(ctx: Context) -> str:
    return (await ctx.first(slow=ctx.call(again_in_three_hours), quick=ctx.call(gated))).name


def timer_rows(store: InMemoryStore) -> list[bytes]:
    return [key for key, _ in store.scan(b"") if key[2:3] == keys.TIMER]


@pytest.mark.parametrize(("code", "result"), [(daily, "done"), (whichever, "quick")])
def test_the_timer_row_of_a_wait_that_ended_while_it_was_paused_goes_when_it_is_resumed(code: Any, result: str) -> None:
    store = InMemoryStore.open()

    async def main() -> None:
        GATE.append(asyncio.Event())
        async with await durable.NodeRuntime.make(durable.NodeStorage.make(store)) as runtime:
            handle = await runtime.submit(code, workflow_id="paused")
            await asyncio.sleep(1)
            assert len(timer_rows(store)) == 1
            await handle.pause()
            GATE[-1].set()
            await asyncio.sleep(1)
            await handle.resume()
            assert await handle.result() == result
            assert timer_rows(store) == []

    run(main())


@pytest.mark.parametrize("due_s", [60, 10_700])
def test_a_timer_that_an_earlier_execution_left_wakes_no_later_one_of_its_id(due_s: int) -> None:
    store = InMemoryStore.open()

    async def main() -> None:
        GATE.append(asyncio.Event())
        fire_at_ms = round(START.timestamp() + due_s) * 1000
        store.write([(keys.timer(keys.partition_of("daily"), fire_at_ms, "daily", 0, 1), b"")])
        async with await durable.NodeRuntime.make(durable.NodeStorage.make(store)) as runtime:
            handle = await runtime.submit(daily, workflow_id="daily")
            assert await handle.result() == "gave up after 3:00:00"
            assert timer_rows(store) == []

    run(main())
