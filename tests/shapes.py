"""The corpus: one small workflow for each shape that workflows have, for every suite that wants them all.

Each `Shape` names a workflow, its input, what comes from outside, and the result that it must have, however often its process
dies. Bodies are instant and pure, so that a result never depends on what is faster.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import durable
from durable import Context, RetryPolicy, current_call
from durable.testing import Send
from durable.testing.crashes import Same


@dataclass(frozen=True)
class Shape:
    workflow: durable.Workflow[Any, Any]
    input: Any = None
    result: Any = None
    status: str = "COMPLETED"
    sends: tuple[Send, ...] = field(default=())
    cancel_after: float | None = None
    same: Same | None = None

    @property
    def name(self) -> str:
        return self.workflow.name

    def enter(self, world: bytes | None = None) -> None:
        """Before a life: the world outside is new, or as the life before left it. These shapes have none."""

    def world(self) -> bytes:
        """What a life has left outside."""
        return b""


# --- functions ------------------------------------------------------------------------------------------------------


@durable.function
async def add(a: int, b: int) -> int:
    return a + b


@durable.function
async def count(words: set[str]) -> int:
    return len(words)


@durable.function
def square(n: int) -> int:
    return n * n


@durable.function
async def note(text: str) -> str:
    return text.upper()


@durable.function
async def refuse(text: str) -> str:
    raise ValueError(f"refused {text}")


@durable.function
async def never(n: int) -> int:
    await asyncio.sleep(10**6)
    return n


@durable.function(retry=RetryPolicy(max_attempts=4, initial_delay=0.5, jitter=0.0))
async def flaky(n: int) -> int:
    if current_call().attempt < 3:
        raise ConnectionError("try again")
    return n


@durable.function(retry=RetryPolicy(max_attempts=3, initial_delay=30.0, jitter=0.0))
async def slow_retry(n: int) -> int:
    if current_call().attempt < 3:
        raise ConnectionError("try again much later")
    return n


# --- workflows ------------------------------------------------------------------------------------------------------


@durable.workflow("shape-sequence")
async def sequence(ctx: Context, n: int) -> list[int]:
    found = []
    for step in range(4):
        n = await ctx.call(add, n, step)
        found.append(n)
    return found


@durable.workflow("shape-threads")
async def threads(ctx: Context, n: int) -> int:
    return await ctx.call(square, await ctx.call(square, n))


@durable.workflow("shape-gather")
async def gather(ctx: Context, n: int) -> list[int]:
    return list(await asyncio.gather(*(ctx.call(add, n, step) for step in range(5))))


async def _pair(ctx: Context, n: int) -> int:
    first = await ctx.call(add, n, 1)
    await ctx.sleep(n)
    return await ctx.call(add, first, 10)


@durable.workflow("shape-nested-gather")
async def nested_gather(ctx: Context, n: int) -> list[int]:
    return list(await asyncio.gather(_pair(ctx, n), _pair(ctx, n + 1), _pair(ctx, n + 2)))


@durable.workflow("shape-race")
async def race(ctx: Context, n: int) -> list[Any]:
    winner = await ctx.first(slow=ctx.sleep(500), quick=ctx.sleep(5), stuck=ctx.call(never, n))
    after = await ctx.call(note, winner.name)
    return [winner.name, after]


@durable.workflow("shape-saga-fails-late")
async def saga_fails_late(ctx: Context, n: int) -> list[str]:
    undone: list[str] = []
    try:
        async with ctx.saga() as saga:
            for step in ("flight", "hotel", "car"):
                booked = await ctx.call(note, step)
                saga.on_rollback(note, f"undo {booked}")
                undone.append(booked)
            await ctx.call(refuse, "payment")
    except ValueError as error:
        undone.append(str(error))
    return undone


@durable.workflow("shape-saga-cancelled")
async def saga_cancelled(ctx: Context, n: int) -> str:
    async with ctx.saga() as saga:
        booked = await ctx.call(note, "flight")
        saga.on_rollback(note, f"undo {booked}")
        await ctx.sleep(timedelta(days=1))
    return "never"


@durable.workflow("shape-grandchild")
async def grandchild(ctx: Context, n: int) -> int:
    await ctx.sleep(1)
    return await ctx.call(add, n, 100)


@durable.workflow("shape-child")
async def child(ctx: Context, n: int) -> int:
    return 2 * await ctx.start(grandchild, n)


@durable.workflow("shape-failing-child")
async def failing_child(ctx: Context, n: int) -> int:
    await ctx.call(refuse, "child")
    return n


@durable.workflow("shape-child-fails")
async def child_fails(ctx: Context, n: int) -> str:
    try:
        return str(await ctx.start(failing_child, n))
    except durable.WorkflowFailed as error:
        return type(error.__cause__).__name__


@durable.workflow("shape-children")
async def children(ctx: Context, n: int) -> list[int]:
    return list(await asyncio.gather(*(ctx.start(grandchild, n + step) for step in range(3))))


@durable.workflow("shape-detached")
async def detached(ctx: Context, n: int) -> int:
    ctx.start(grandchild, n, workflow_id="shape-detached-child", detached=True)
    return await ctx.call(add, n, 1)


@durable.workflow("shape-continue-as-new")
async def continue_as_new(ctx: Context, n: int) -> list[int]:
    ctx.state["seen"] = [*ctx.state.get("seen", []), n]
    await ctx.call(add, n, 1)
    if n < 3:
        await ctx.sleep(60)
        ctx.continue_as_new(n + 1)
    return ctx.state["seen"]


@durable.workflow("shape-pong")
async def pong(ctx: Context, partner: str) -> int:
    total = 0
    while (ball := await ctx.receive("ball", int)) >= 0:
        total += ball
        await ctx.send(partner, "ball", ball + 1)
    return total


@durable.workflow("shape-ping-pong")
async def ping_pong(ctx: Context, n: int) -> list[int]:
    other = ctx.start(pong, ctx.workflow_id)
    seen = []
    for ball in range(0, n * 10, 10):
        await other.send("ball", ball)
        seen.append(await ctx.receive("ball", int))
    await other.send("ball", -1)
    return [*seen, await other]


@durable.workflow("shape-receive")
async def receive(ctx: Context) -> list[Any]:
    first = await ctx.receive("answer", str, timeout=3600)
    try:
        second = await ctx.receive("answer", str, timeout=3600)
    except TimeoutError:
        second = "nobody"
    return [first, second]


@durable.workflow("shape-mailbox")
async def mailbox(ctx: Context) -> list[str]:
    await ctx.sleep(100)  # everything has arrived by then
    return [await ctx.receive("b", str), await ctx.receive("a", str), await ctx.receive("a", str)]


@durable.workflow("shape-task-group")
async def task_group(ctx: Context, n: int) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_pair(ctx, n + step)) for step in range(3)]
        single = group.create_task(ctx.call(add, n, 1))
    return [*(task.result() for task in tasks), single.result()]


@durable.workflow("shape-task-group-fails")
async def task_group_fails(ctx: Context, n: int) -> list[str]:
    found: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep(10_000))
            group.create_task(ctx.call(refuse, "group"))
    except* ValueError as errors:
        found += [str(error) for error in errors.exceptions]
    return found


@durable.workflow("shape-cleaning-up")
async def cleaning_up(ctx: Context, n: int) -> int:
    """A TaskGroup keeps its tasks in a set and cancels them in its order: that order must be the same in every process."""
    cleaned = 0

    async def worker(name: str) -> None:
        nonlocal cleaned
        try:
            await ctx.sleep(10_000)
        except asyncio.CancelledError:
            await ctx.call(note, name)
            cleaned += 1
            raise

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            for step in range(8):
                group.create_task(worker(f"worker {step}"))
            group.create_task(ctx.call(refuse, "group"))
    return cleaned


@durable.workflow("shape-timeout")
async def timeout(ctx: Context, n: int) -> list[Any]:
    try:
        async with asyncio.timeout(5):
            await ctx.call(never, n)
    except TimeoutError:
        return ["late", await ctx.call(add, n, 1)]
    return []


@durable.workflow("shape-shield")
async def shield(ctx: Context, n: int) -> list[Any]:
    work = asyncio.ensure_future(_pair(ctx, n))
    outcome = "in time"
    try:
        await asyncio.wait_for(asyncio.shield(work), timeout=0.5)
    except TimeoutError:
        outcome = "late"
    return [outcome, await work]


@durable.workflow("shape-wait-for")
async def wait_for(ctx: Context, n: int) -> list[Any]:
    quick = await asyncio.wait_for(ctx.call(add, n, 1), timeout=1000)
    with suppress(TimeoutError):
        await asyncio.wait_for(ctx.receive("nothing"), timeout=3)
        quick = -1
    return [quick]


@durable.workflow("shape-synchronised")
async def synchronised(ctx: Context, n: int) -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
    done, lock, found = asyncio.Event(), asyncio.Lock(), []

    async def produce(start: int) -> None:
        for step in range(3):
            await queue.put(await ctx.call(add, start, step))

    async def consume() -> None:
        for _ in range(6):
            value = await queue.get()
            async with lock:
                found.append(await ctx.call(add, value, 1000))
        done.set()

    tasks = [asyncio.create_task(part) for part in (produce(n), produce(n + 100), consume())]
    await done.wait()
    await asyncio.gather(*tasks)
    return sorted(found)


@durable.workflow("shape-retry")
async def retry(ctx: Context, n: int) -> list[int]:
    return [await ctx.call(flaky, n), await ctx.call(slow_retry, n + 1)]


@durable.workflow("shape-side-effects")
async def side_effects(ctx: Context, n: int) -> list[int]:
    async def tripled() -> int:
        return 3 * n

    return [await ctx.side_effect("sync", lambda: n + 1, int), await ctx.side_effect("async", tripled, int)]


@durable.workflow("shape-state")
async def state(ctx: Context, n: int) -> dict[str, Any]:
    ctx.state["total"] = n
    for step in range(3):
        ctx.state["total"] = await ctx.call(add, ctx.state["total"], step)
        ctx.state[f"step-{step}"] = ctx.state["total"]
    del ctx.state["step-1"]
    return dict(ctx.state)


@durable.workflow("shape-patched")
async def patched(ctx: Context, n: int) -> list[Any]:
    taken = []
    for step in range(2):
        taken.append(ctx.patched("v2"))
        taken.append(await ctx.call(add, n, step))
    return taken


@durable.workflow("shape-checkpoint")
async def checkpoint(ctx: Context, n: int) -> int:
    begun = ctx.last_checkpoint(int) or 0
    for step in range(begun, begun + 2):
        await ctx.call(add, step, n)
        ctx.checkpoint(step + 1)
    if begun < 4:
        ctx.continue_as_new(n)
    return ctx.last_checkpoint(int)


@durable.workflow("shape-chance")
async def chance(ctx: Context, n: int) -> list[Any]:
    drawn = [ctx.random.randint(0, 10**9), str(ctx.uuid4())]
    await ctx.call(add, drawn[0], 1)
    drawn.append(ctx.random.random())
    await ctx.call(add, n, 1)
    return [*drawn, str(ctx.uuid4())]


@durable.workflow("shape-clock")
async def clock(ctx: Context) -> list[str]:
    await ctx.sleep_until(datetime(2025, 3, 1, tzinfo=UTC))
    march = ctx.now()
    await asyncio.sleep(timedelta(days=30).total_seconds())
    return [f"{march:%Y-%m-%d}", f"{ctx.now():%Y-%m-%d}"]


@durable.workflow("shape-fails")
async def fails(ctx: Context, n: int) -> int:
    await ctx.call(add, n, 1)
    await ctx.call(refuse, "everything")
    return n


@durable.workflow("shape-sets")
async def sets(ctx: Context, n: int) -> list[Any]:
    """Sets of strings iterate by hash seed; what is encoded from one must not."""
    words = await ctx.side_effect("words", lambda: {"delta", "alpha", "charlie", "bravo"}, set[str])
    await ctx.call(count, words)
    tasks = {asyncio.create_task(_pair(ctx, step)) for step in range(3)}
    finished, _ = await asyncio.wait(tasks)
    return [sorted(words), sorted(task.result() for task in finished)]


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(sequence, 1, [1, 2, 4, 7]),
        Shape(threads, 3, 81),
        Shape(gather, 1, [1, 2, 3, 4, 5]),
        Shape(nested_gather, 1, [12, 13, 14]),
        Shape(race, 1, ["quick", "QUICK"]),
        Shape(saga_fails_late, 1, ["FLIGHT", "HOTEL", "CAR", "refused payment"]),
        Shape(saga_cancelled, 1, status="CANCELLED", cancel_after=50.0),
        Shape(child, 1, 202),
        Shape(child_fails, 1, "ValueError"),
        Shape(children, 1, [101, 102, 103]),
        Shape(detached, 1, 2),
        Shape(continue_as_new, 1, [1, 2, 3]),
        Shape(ping_pong, 3, [1, 11, 21, 30]),
        Shape(receive, result=["yes", "nobody"], sends=(Send("answer", "yes", after=10.0),)),
        Shape(mailbox, result=["2", "1", "3"], sends=(Send("a", "1"), Send("b", "2"), Send("a", "3"))),
        Shape(task_group, 1, [12, 13, 14, 2]),
        Shape(task_group_fails, 1, ["refused group"]),
        Shape(cleaning_up, 1, 8),
        Shape(timeout, 1, ["late", 2]),
        Shape(shield, 1, ["late", 12]),
        Shape(wait_for, 1, [2]),
        Shape(synchronised, 1, [1001, 1002, 1003, 1101, 1102, 1103]),
        Shape(retry, 7, [7, 8]),
        Shape(side_effects, 2, [3, 6]),
        Shape(state, 1, {"total": 4, "step-0": 1, "step-2": 4}),
        Shape(patched, 1, [True, 1, True, 2]),
        Shape(checkpoint, 1, 6),
        Shape(chance, 1),
        Shape(clock, result=["2025-03-01", "2025-03-31"]),
        Shape(fails, 1, status="FAILED"),
        Shape(sets, 1, [["alpha", "bravo", "charlie", "delta"], [11, 12, 13]]),
    )
}
