"""Partitions move between nodes while workflows run in them: everything ends as if they had not, and nothing is written twice."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from twins import Twins

from durable import Context, RetryPolicy, function, workflow
from durable.errors import MailRefused
from durable.journal import keys
from durable.testing import run
from durable.testing.lives import Witness

FAST = RetryPolicy(initial_delay=0.02, max_delay=0.1, jitter=0.0)
RAN: list[str] = []


@function("moves-work", retry=FAST)
async def work(what: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    RAN.append(what)
    return what


@workflow("moves-leaf")
async def leaf(ctx: Context, number: int) -> int:
    await ctx.call(work, f"leaf-{number}", 0.03)
    return number * 10


@workflow("moves-sum")
async def summing(ctx: Context, count: int) -> list[int]:
    """Takes ``count`` numbers from its mailbox."""
    return [await ctx.receive("numbers", int) for _ in range(count)]


@workflow("moves-busy")
async def busy(ctx: Context, number: int) -> list[Any]:
    """Of everything something: calls, sleeps, children, messages, state, a next run."""
    run_number = ctx.state.get("run", 0)
    got: list[Any] = [run_number]
    for step in range(3):
        got.append(await ctx.call(work, f"{number}-{run_number}-{step}", 0.02))
        await ctx.send(f"sum-{number}", "numbers", run_number * 3 + step)
        await ctx.sleep(timedelta(seconds=0.05))
    children = [ctx.start(leaf, number * 10 + place) for place in range(2)]
    got += await asyncio.gather(*children)
    if run_number < 1:
        ctx.state["run"] = run_number + 1
        ctx.continue_as_new(number)
    return got


def watched(twins: Twins, witness: Witness) -> None:
    write = twins.store.write

    def watch(batch: Any) -> None:
        write(batch)
        witness.kept(batch)

    twins.store.write = watch  # type: ignore[method-assign]


async def shuffle(twins: Twins, chance: random.Random) -> None:
    """Move partitions for ever: told or not, with some of what was on its way durable or not."""
    names = list(twins.nodes)
    used = sorted({keys.partition_of(each) for number in range(4) for each in (f"busy-{number}", f"sum-{number}")})
    while True:
        await asyncio.sleep(chance.random() * 0.06)
        partition = chance.choice(used) if chance.random() < 0.7 else chance.randrange(keys.PARTITIONS)
        twins.move(partition, chance.choice(names), told=chance.random() < 0.6, committed=chance.randrange(3))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_moves_every_execution_ends_once_as_it_would_have(seed: int) -> None:
    witness = Witness()

    async def main() -> list[Any]:
        twins = Twins("abc", seed=seed, loss=0.1 if seed % 2 else 0.0, park_after=0.03, max_concurrent_workflows=5)
        watched(twins, witness)
        twins.give("a", "b", "c")
        mover = asyncio.ensure_future(shuffle(twins, random.Random(seed)))
        sums = [await twins.face.submit(summing, 6, workflow_id=f"sum-{number}") for number in range(4)]
        works = [await twins.face.submit(busy, number, workflow_id=f"busy-{number}") for number in range(4)]
        results = await asyncio.wait_for(asyncio.gather(*(each.result() for each in [*works, *sums])), 3_000)
        mover.cancel()
        listed = await twins.face.list(limit=1_000)
        assert {each.status.value for each in listed if each.workflow != "moves-leaf"} == {"COMPLETED"}
        assert [each.workflow_id for each in listed] == sorted(
            (each.workflow_id for each in listed), key=lambda name: (keys.partition_of(name), name)
        )
        for node in twins.nodes.values():
            assert node.engine.failure is None
            await asyncio.sleep(1)
            assert (node.engine.scheduler.running, node.engine.scheduler.queued) == (0, 0)
            assert not node.engine.runner.threads.stuck
        await twins.close()
        return list(results)

    results = run(main(), seed=seed)
    for number in range(4):
        steps = [f"{number}-1-{step}" for step in range(3)]
        assert results[number] == [1, *steps, number * 100, number * 100 + 10]
        assert results[4 + number] == [0, 1, 2, 3, 4, 5]
    assert witness.faults == []


def test_a_refusal_travels_and_a_message_behind_it_is_refused_too() -> None:
    @workflow("moves-refused")
    async def refused(ctx: Context) -> list[str]:
        told = []
        for attempt in [ctx.send("moves-nobody", "box", 1), ctx.send("moves-nobody", "box", 2)]:
            try:
                await attempt
            except MailRefused as error:
                told.append(str(error))
        return told

    async def main() -> list[str]:
        twins = Twins()
        twins.give("a")
        twins.move(keys.partition_of("moves-nobody"), "b")
        handle = await twins.face.submit(refused, workflow_id="moves-refused-1")
        found: list[str] = await handle.result(timeout=60)
        await twins.close()
        return found

    assert keys.partition_of("moves-nobody") != keys.partition_of("moves-refused-1")
    assert ["does not exist" in each for each in run(main())] == [True, True]
