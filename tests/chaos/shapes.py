"""Workflows like those of the demonstrations, for processes that are killed at random.

Every body notes its end in a file beside the journal: one line a run, ``idempotency key`` and value, appended with one
write, which survives the death of the process. After the last round that file is held against the journal.
"""

from __future__ import annotations

import asyncio
import os
import random
from datetime import timedelta
from typing import Any

from durable import Context, RetryPolicy, current_call, function, workflow

EFFECTS = ""
"""The side-effect file; set by the child process."""


def note(value: Any) -> Any:
    """One line for this run of a body."""
    call = current_call()
    line = f"{call.idempotency_key} {call.attempt} {value}\n".encode()
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    return value


@function("chaos-draw")
async def draw(label: str) -> int:
    """Another value each time it runs: a second run would show."""
    await asyncio.sleep(random.random() * 0.003)
    return int(note(random.getrandbits(40)))


@function("chaos-thread")
def draw_in_thread(label: str) -> int:
    return int(note(random.getrandbits(40)))


@function("chaos-flaky", retry=RetryPolicy(initial_delay=0.002, max_delay=0.01, max_attempts=50))
async def flaky(label: str) -> int:
    if random.random() < 0.6:
        raise ConnectionError(f"{label} is away")
    return int(note(random.getrandbits(40)))


@function("chaos-fail")
async def fail(label: str) -> int:
    raise ValueError(f"{label} is refused")


@workflow("chaos-counter")
async def counter(ctx: Context, count: int) -> list[int]:
    drawn = []
    for n in range(count):
        drawn.append(await ctx.call(draw, f"n{n}"))
        ctx.state["count"] = n + 1
    assert ctx.state["count"] == count
    return drawn


@workflow("chaos-saga")
async def saga(ctx: Context, fail_at: int) -> list[int]:
    done: list[int] = []
    undone: list[int] = []
    try:
        async with ctx.saga() as steps:
            for n in range(4):
                if n == fail_at:
                    await ctx.call(fail, f"step {n}")
                done.append(await ctx.call(draw, f"do {n}"))
                steps.on_rollback(draw_in_thread, f"undo {n}")
    except ValueError:
        undone = [fail_at]
    return done + undone


@workflow("chaos-fan-out")
async def fan_out(ctx: Context, width: int) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_worker(ctx, n)) for n in range(width)]
    return [task.result() for task in tasks]


async def _worker(ctx: Context, n: int) -> int:
    first = await ctx.call(draw, f"first {n}")
    second = await ctx.call(draw_in_thread, f"second {n}")
    return (first + second) % 1_000_003


@workflow("chaos-ping")
async def ping(ctx: Context, rounds: int) -> list[int]:
    pong_id = f"{ctx.workflow_id}-pong"
    child = ctx.start(pong, rounds, workflow_id=pong_id)
    heard = []
    for n in range(rounds):
        await ctx.send(pong_id, "ping", [ctx.workflow_id, n])
        heard.append(await ctx.receive("pong", int))
    assert await child == rounds
    return heard


@workflow("chaos-pong")
async def pong(ctx: Context, rounds: int) -> int:
    for expected in range(rounds):
        sender, n = await ctx.receive("ping")
        assert n == expected, f"message {n} came in the place of {expected}"
        await ctx.send(sender, "pong", n * n)
    return rounds


@workflow("chaos-timer")
async def timer(ctx: Context, count: int) -> int:
    began = ctx.now()
    for _ in range(count):
        await ctx.sleep(timedelta(milliseconds=15))
    try:
        await ctx.receive("never", timeout=0.01)
    except TimeoutError:
        pass
    assert (ctx.now() - began) >= timedelta(milliseconds=15 * count)
    return await ctx.call(draw, "after the sleep")


@workflow("chaos-retry")
async def retry(ctx: Context, count: int) -> list[int]:
    return [await ctx.call(flaky, f"f{n}") for n in range(count)]


@workflow("chaos-children")
async def children(ctx: Context, width: int) -> list[int]:
    started = [ctx.start(counter, 2) for _ in range(width)]
    results = await asyncio.gather(*started)
    return [sum(result) % 1_000_003 for result in results]


@workflow("chaos-month")
async def month(ctx: Context, number: int) -> list[Any]:
    drawn = await ctx.call(draw, f"month {number}")
    ctx.state[f"m{number}"] = drawn
    if number < 4:
        ctx.continue_as_new(number + 1)
    return [ctx.state[key] for key in sorted(ctx.state)]


@workflow("chaos-race")
async def race(ctx: Context, count: int) -> list[str]:
    won = []
    for n in range(count):
        winner = await ctx.first(call=ctx.call(draw, f"race {n}"), timer=ctx.sleep(random_delay(ctx)))
        won.append(winner.name)
    return won


def random_delay(ctx: Context) -> float:
    return ctx.random.random() * 0.005


SHAPES: list[tuple[Any, int]] = [
    (counter, 6), (saga, 3), (saga, 9), (fan_out, 4), (ping, 4), (timer, 3), (retry, 3), (children, 3), (month, 0), (race, 4),
]
