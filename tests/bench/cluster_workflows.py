"""What the nodes of a measured cluster run: the workflows of the single node, and one that beats.

A beat is one line in a file, ``workflow id, number, process, monotonic clock``: the clock is that of the whole machine, so that the
time from a kill to the next beat in another process can be read from the file.
"""

from __future__ import annotations

import os
import time

import durable
from bench.durable_workflows import sleep, steps, wait

BEATS = "BENCH_BEATS"
PERIOD_S = 1.0


@durable.function("tick")
async def tick(workflow_id: str, number: int) -> int:
    line = f"{workflow_id} {number} {os.getpid()} {time.monotonic():.6f}\n"
    file = os.open(os.environ[BEATS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
    return number


@durable.workflow("beat")
async def beat(ctx: durable.Context, count: int) -> int:
    for number in range(count):
        await ctx.call(tick, ctx.workflow_id, number)
        await ctx.sleep(PERIOD_S)
    return count


WORKFLOWS = (steps, sleep, wait, beat)
