"""What the nodes of the failover tests run. Bodies leave lines in a file, and one of them waits at a gate that the test opens.

A line is ``began`` or ``ended``, workflow id, step, process, epoch and the value that this run drew.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from durable import Context, current_call, function, workflow

FOLDER = "FAILOVER_FOLDER"
GATE_S_MAX = 60.0


def note(word: str, value: int) -> None:
    call = current_call()
    line = f"{word} {call.workflow_id} {call.sequence_number} {os.getpid()} {call.epoch} {value}\n"
    file = os.open(Path(os.environ[FOLDER]) / "lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@function("failover-step")
def step(label: str) -> int:
    value = random.getrandbits(40)
    note("began", value)
    note("ended", value)
    return value


@function("failover-gate")
def gate(name: str) -> int:
    """In a thread, which nothing can cancel: so a stopped process ends it after it has been resumed."""
    value = random.getrandbits(40)
    note("began", value)
    until = time.monotonic() + GATE_S_MAX
    while not (Path(os.environ[FOLDER]) / name).exists() and time.monotonic() < until:
        time.sleep(0.01)
    note("ended", value)
    return value


@workflow("failover-gated")
async def gated(ctx: Context, name: str) -> list[int]:
    return [await ctx.call(step, "first"), await ctx.call(gate, name), await ctx.call(step, "last")]


@workflow("failover-quick")
async def quick(ctx: Context, number: int) -> int:
    await ctx.call(step, "only")
    return number * number


WORKFLOWS = (gated, quick)
