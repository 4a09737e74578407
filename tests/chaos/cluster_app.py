"""What the nodes of a cluster under chaos run: five shapes of workflow whose bodies leave a trace outside of every journal.

Each run of a body appends one line to the side-effect file (O_APPEND, one write, one fsync), and returns a number that was drawn in
that run. So a result in a journal names the run that it came from, and a second run of the same step shows.

The children of `LocalCluster` import this module (``app="chaos.cluster_app"``); two variables of their environment belong to it:
CHAOS_EFFECTS, the side-effect file, and CHAOS_SABOTAGE, what to switch off for the control (`chaos.sabotage`). `durable` knows of
neither.
"""

from __future__ import annotations

import os
import random
import time

import msgspec

from chaos import sabotage
from durable import Context, current_call, function, workflow

EFFECTS = "CHAOS_EFFECTS"
END = "end"

sabotage.apply(os.environ.get(sabotage.VARIABLE, ""))


class Effect(msgspec.Struct, frozen=True):
    """One run of a body. ``at`` is the monotonic clock, which all processes of a machine share."""

    key: str
    workflow: str
    step: int
    attempt: int
    epoch: str
    process: int
    at: float
    value: int


def trace() -> int:
    """One line for this run of the body; the value that it drew."""
    call = current_call()
    effect = Effect(
        key=call.idempotency_key,
        workflow=call.workflow_id,
        step=call.sequence_number,
        attempt=call.attempt,
        epoch=str(call.epoch),
        process=os.getpid(),
        at=time.monotonic(),
        value=random.getrandbits(48),
    )
    file = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, msgspec.json.encode(effect) + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
    return effect.value


@function("chaos-step")
def step(label: str) -> int:
    """Takes a while, so that faults find bodies at work."""
    time.sleep(random.random() * 0.03)
    value = trace()
    time.sleep(random.random() * 0.01)
    return value


@function("chaos-refuse")
def refuse(label: str) -> int:
    raise ValueError(f"{label} is refused")


@workflow("chaos-three")
async def three(ctx: Context, number: int) -> list[int]:
    return [await ctx.call(step, f"{number}/{n}") for n in range(3)]


@workflow("chaos-saga")
async def saga(ctx: Context, fail_at: int) -> list[int]:
    """Always fails at the end, and undoes everything that it did."""
    done: list[int] = []
    try:
        async with ctx.saga() as steps:
            for n in range(fail_at):
                done.append(await ctx.call(step, f"do {n}"))
                steps.on_rollback(step, f"undo {n}")
            await ctx.call(refuse, f"step {fail_at}")
    except ValueError:
        return done
    raise AssertionError("the saga did not fail")


@workflow("chaos-timer")
async def timer(ctx: Context, delay_ms: int) -> list[int]:
    before = await ctx.call(step, "before")
    began = ctx.now()
    await ctx.sleep(delay_ms / 1_000)
    assert (ctx.now() - began).total_seconds() * 1_000 >= delay_ms - 1, "the timer fired before its time"
    return [before, await ctx.call(step, "after")]


@workflow("chaos-ping")
async def ping(ctx: Context, rounds: int) -> list[int]:
    pong_id = f"{ctx.workflow_id}-pong"
    other = ctx.start(pong, rounds, workflow_id=pong_id)
    heard = []
    for n in range(rounds):
        await ctx.send(pong_id, "ping", [ctx.workflow_id, n])
        heard.append(await ctx.receive("pong", int))
    assert await other == rounds
    return heard


@workflow("chaos-pong")
async def pong(ctx: Context, rounds: int) -> int:
    for expected in range(rounds):
        sender, n = await ctx.receive("ping", list)
        assert n == expected, f"message {n} came in the place of {expected}"
        await ctx.send(sender, "pong", n * n)
    return rounds


@workflow("chaos-ledger")
async def ledger(ctx: Context, number: int) -> list[str]:
    """Takes down what it is sent, until it is told to end. Its result is the order in which the cluster took the sends."""
    taken: list[str] = []
    while (word := await ctx.receive("in", str)) != END:
        taken.append(word)
    return taken


WORKFLOWS = (three, saga, timer, ping, pong, ledger)
