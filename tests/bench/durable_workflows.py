"""The workflows of `durable` itself. A module of its own, because importing it needs the engine."""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from bench import bodies

CALLS_AT_ONCE = 100


@durable.function("step")
async def step(workflow_id: str, number: int) -> int:
    return bodies.body(workflow_id, number)


@durable.workflow("steps")
async def steps(ctx: durable.Context, count: int) -> int:
    for number in range(count):
        await ctx.call(step, ctx.workflow_id, number)
    return count


@durable.workflow("sleep")
async def sleep(ctx: durable.Context, count: int) -> int:
    await ctx.sleep(float(count))
    return count


@durable.workflow("wait")
async def wait(ctx: durable.Context, count: int) -> int:
    bodies.arrive()
    await ctx.receive("go", int)
    return count


@durable.workflow("long")
async def long(ctx: durable.Context, count: int) -> int:
    """A long journal, written fast: many calls at once, again and again. Then it waits to be woken."""
    for first in range(0, count, CALLS_AT_ONCE):
        numbers = range(first, min(count, first + CALLS_AT_ONCE))
        await asyncio.gather(*(ctx.call(step, ctx.workflow_id, number) for number in numbers))
    message: int = await ctx.receive("go", int)
    return message


WORKFLOWS: dict[str, Any] = {"steps": steps, "sleep": sleep, "wait": wait, "long": long}
