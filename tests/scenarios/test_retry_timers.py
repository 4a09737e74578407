"""A durable wait between two attempts leaves nothing behind."""

from __future__ import annotations

import asyncio

import durable
from durable import Context, RetryPolicy, current_call
from durable.journal import keys
from durable.storage import InMemoryStore
from durable.testing import run


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
