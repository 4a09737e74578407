"""Random workflows: trees of everything that asyncio and the context can put together, and a driver for the pure machine.

A tree is plain data, so hypothesis can shrink it and an input can carry it. `interpret` runs one inside a workflow. `World`
answers what the machine asks, in an order that the test draws, and keeps the rows that a journal would hold.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import strategies as st

from durable import Context, function, workflow
from durable.journal import failures
from durable.journal.entries import CANCEL, Command, Completion, EntryType, Row, Start
from durable.workflows.machine import WorkflowMachine

Tree = Any
"""``["call", n]``, ``["sleep", n]``, … or ``["seq" | "gather" | …, [trees]]``"""

LEAVES = st.one_of(
    st.tuples(st.just("call"), st.integers(0, 9)),
    st.tuples(st.just("fails"), st.integers(0, 9)),
    st.tuples(st.just("effect"), st.integers(0, 3)),
    st.tuples(st.just("sleep"), st.integers(0, 5)),
    st.tuples(st.just("asyncio-sleep"), st.integers(0, 3)),
    st.tuples(st.just("receive"), st.integers(0, 2)),
    st.tuples(st.just("receive-timeout"), st.integers(0, 2)),
    st.tuples(st.just("send"), st.integers(0, 2)),
    st.tuples(st.just("child"), st.integers(0, 3)),
    st.tuples(st.just("detached"), st.integers(0, 3)),
    st.tuples(st.just("state"), st.integers(0, 3)),
    st.tuples(st.just("random"), st.just(0)),
    st.tuples(st.just("checkpoint"), st.integers(0, 3)),
    st.tuples(st.just("patched"), st.integers(0, 2)),
)
WITH_MANY = ("seq", "gather", "group", "first", "tasks", "wait-first", "saga", "lock", "queue")
WITH_ONE = ("timeout", "wait_for", "shield", "protected", "finally", "cancelled-soon")


def _grow(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    many = st.tuples(st.sampled_from(WITH_MANY), st.lists(inner, min_size=1, max_size=4).map(tuple))
    one = st.tuples(st.sampled_from(WITH_ONE), inner)
    return st.one_of(many, one)


TREES = st.recursive(LEAVES, _grow, max_leaves=14)


@function("tree-call")
async def body(n: int) -> int:
    raise AssertionError("the machine runs no functions")


@workflow("tree-child")
async def child(ctx: Context, n: int) -> int:
    return n


@workflow("tree")
async def tree(ctx: Context, shape: Any) -> Any:
    return await interpret(ctx, shape)


async def interpret(ctx: Context, shape: Tree) -> Any:
    kind, inner = shape
    return await (_leaf(ctx, kind, inner) if isinstance(inner, int) else _node(ctx, kind, inner))


async def _leaf(ctx: Context, kind: str, n: int) -> Any:
    match kind:
        case "call":
            return await ctx.call(body, n)
        case "fails":
            try:
                return await ctx.call("tree-call", n)
            except ValueError as error:
                return str(error)
        case "effect":
            return await ctx.side_effect(f"effect {n}", lambda: n)
        case "sleep":
            return await ctx.sleep(n)
        case "asyncio-sleep":
            return await asyncio.sleep(n)
        case "receive":
            return await ctx.receive(f"channel-{n}")
        case "receive-timeout":
            try:
                return await ctx.receive(f"channel-{n}", timeout=2)
            except TimeoutError:
                return "late"
        case "noted":
            try:
                return await ctx.receive("never")
            finally:
                await ctx.call(body, n)
        case "send":
            return await ctx.send(f"other-{n}", "channel", n)
        case "child" | "detached":
            return await ctx.start(child, n, detached=kind == "detached")
        case "state":
            ctx.state["n"] = ctx.state.get("n", 0) + n
            return ctx.state["n"]
        case "random":
            return [ctx.random.random(), str(ctx.uuid4()), ctx.now().timestamp()]
        case "checkpoint":
            ctx.checkpoint(n)
            return ctx.last_checkpoint()
        case "patched":
            return ctx.patched(f"patch {n}")
    raise AssertionError(kind)


async def _node(ctx: Context, kind: str, inner: Any) -> Any:
    parts = [inner] if kind in WITH_ONE else list(inner)
    runs = [interpret(ctx, part) for part in parts]
    try:
        return await _combine(ctx, kind, runs)
    finally:
        for run in runs:
            run.close()


async def _combine(ctx: Context, kind: str, runs: list[Any]) -> Any:
    match kind:
        case "seq":
            return [await run for run in runs]
        case "gather":
            return await asyncio.gather(*runs, return_exceptions=True)
        case "group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run) for run in runs]
            return [task.result() for task in tasks]
        case "first":
            return list(await ctx.first(**{f"branch{n}": run for n, run in enumerate(runs)}))
        case "tasks":
            tasks = [asyncio.create_task(run) for run in runs]
            return [await task for task in reversed(tasks)]
        case "wait-first":
            tasks = [asyncio.create_task(run) for run in runs]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            return [len(done), sorted(task.get_name() for task in done)] if ctx.patched("names") else len(done)
        case "saga":
            async with ctx.saga() as saga:
                results = []
                for run in runs:
                    results.append(await run)
                    saga.on_rollback(body, len(results))
                raise_now = ctx.random.random() < 0.3
                if raise_now:
                    raise ValueError("undo")
            return results
        case "lock" | "queue":
            return await _contend(ctx, kind, runs)
    return await _wrap(ctx, kind, runs[0])


async def _contend(ctx: Context, kind: str, runs: list[Any]) -> Any:
    lock, queue = asyncio.Lock(), asyncio.Queue[Any]()

    async def worker(run: Any) -> None:
        if kind == "lock":
            async with lock:
                queue.put_nowait(await run)
        else:
            await queue.put(await run)

    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(worker(run))
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def _wrap(ctx: Context, kind: str, run: Any) -> Any:
    match kind:
        case "timeout":
            try:
                async with asyncio.timeout(2):
                    return await run
            except TimeoutError:
                return "too late"
        case "wait_for":
            try:
                return await asyncio.wait_for(run, 2)
            except TimeoutError:
                return "too late"
        case "shield":
            return await asyncio.shield(run)
        case "protected":
            try:
                return await run
            except asyncio.CancelledError:
                await ctx.call(body, 77)
                raise
            except (ValueError, ExceptionGroup):
                return "failed"
        case "finally":
            try:
                return await run
            finally:
                await ctx.call(body, 88)
        case "cancelled-soon":
            task = asyncio.create_task(run)
            await asyncio.sleep(0)
            task.cancel()
            try:
                return await task
            except (asyncio.CancelledError, ValueError, ExceptionGroup):
                return "cancelled"
    raise AssertionError(kind)


START_MS = 1_700_000_000_000


def start_of(shape: Tree) -> Start:
    return Start("tree", 1, tree.encode_input(shape), START_MS, "3.11", b"incarnat", 0, "seed", "base")


class World:
    """Answers what a machine asks, one operation at a time, in a drawn order; keeps the rows as the runtime would."""

    def __init__(self, shape: Tree, seed: int, cancel_at: int | None = None) -> None:
        self.start = start_of(shape)
        self.draw = random.Random(seed)
        self.cancel_at = cancel_at
        self.rows: list[Row] = [self.start]
        self.machine = WorkflowMachine(tree, self.start, "tree-1")

    def collect(self) -> None:
        self.rows.extend(command for command, _ in self.machine.take_commands())

    def run(self, steps_max: int = 400) -> World:
        self.machine.begin()
        self.collect()
        for step in range(steps_max):
            if self.machine.outcome is not None or self.machine.divergence is not None:
                break
            if step == self.cancel_at:
                self.answer(Completion(CANCEL, b"null", self.now()))
            elif not self.machine.pending:
                break  # it waits for nothing that the world could answer
            else:
                self.answer(self.completion(self.draw.choice(sorted(self.machine.pending))))
        return self

    def now(self) -> int:
        return self.machine.now_ms + self.draw.randrange(5_000)

    def completion(self, number: int) -> Completion:
        pending = self.machine.pending[number]
        now_ms = self.now()
        if pending.entry_type in (EntryType.SLEEP, EntryType.SEND):
            return Completion(number, b"null", now_ms)
        if pending.entry_type is EntryType.CALL and self.draw.random() < 0.2:
            return Completion(number, None, now_ms, failures.record(ValueError(f"call {number} failed")))
        return Completion(number, b"%d" % self.draw.randrange(1_000), now_ms)

    def answer(self, completion: Completion) -> None:
        self.rows.append(completion)
        self.machine.wall_ms = completion.timestamp
        self.machine.apply(completion)
        self.collect()


def commands_of(rows: list[Row]) -> list[tuple[EntryType, str, bytes]]:
    return [(row.entry_type, row.name, row.input_json) for row in rows if isinstance(row, Command)]
