"""Code that no longer does what its journal says stops, with both source lines, and goes on when it is put back."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from nodes import asynchronous, held, open_node, reached, turns, until

from durable import Context, NonDeterminismError, ReplayError, Status, function, workflow


@function("drift-step")
async def step(name: str, amount: int = 1) -> str:
    return f"{name}{amount}"


Body = Callable[[Context], Coroutine[Any, Any, list[str]]]


async def original(ctx: Context) -> list[str]:
    first = await ctx.call(step, "a")
    second = await ctx.call(step, "b")
    return [first, second, await ctx.receive("end", str)]


async def changed_argument(ctx: Context) -> list[str]:
    first = await ctx.call(step, "a", 2)
    second = await ctx.call(step, "b")
    return [first, second, await ctx.receive("end", str)]


async def swapped(ctx: Context) -> list[str]:
    second = await ctx.call(step, "b")
    first = await ctx.call(step, "a")
    return [first, second, await ctx.receive("end", str)]


async def missing(ctx: Context) -> list[str]:
    first = await ctx.call(step, "a")
    return [first, await ctx.receive("end", str)]


async def missing_last(ctx: Context) -> list[str]:
    first = await ctx.call(step, "a")
    return [first, await ctx.call(step, "b"), "over"]


async def added(ctx: Context) -> list[str]:
    first = await ctx.call(step, "a")
    await ctx.sleep(1)
    second = await ctx.call(step, "b")
    return [first, second, await ctx.receive("end", str)]


async def other_kind(ctx: Context) -> list[str]:
    first = await ctx.side_effect("a", lambda: "a1")
    return [first, "", await ctx.receive("end", str)]


async def raises(ctx: Context) -> list[str]:
    await ctx.call(step, "a")
    raise ValueError("new code, new fault")


CHANGES = {
    "changed argument": (changed_argument, 0, "an argument changed"),
    "swapped": (swapped, 0, "an argument changed"),
    "missing": (missing, 1, "added, removed or swapped"),
    "missing at the end": (missing_last, 2, "was removed from the code"),
    "added": (added, 1, "added, removed or swapped"),
    "another kind": (other_kind, 0, "added, removed or swapped"),
    "raises": (raises, 1, "was removed from the code"),
}


def line_in(error: str, what: str) -> str:
    found = re.search(rf"{what}: .*", error)
    assert found is not None, error
    return found.group(0)


@pytest.mark.parametrize("change", CHANGES)
@asynchronous
async def test_a_change_is_reported_with_both_lines_and_undone_by_putting_the_code_back(change: str) -> None:
    body, entry, cause = CHANGES[change]
    log = held()
    workflow("drift")(original)
    runtime = await open_node(log=log)
    handle = await runtime.submit("drift", workflow_id="d1")
    await until(lambda: (e := runtime._engine.live.get("d1")) and "end" in e.receivers, "it waits for the end")
    await runtime.close()

    workflow("drift")(body)  # the new code is deployed
    async with await open_node(log.survivors()) as again:
        handle = again.handle("d1")
        with pytest.raises(NonDeterminismError) as caught:
            await handle.result(timeout=5)
        told = str(caught.value)
        assert f"at entry {entry}" in told
        assert cause in told
        assert "test_divergence.py:" in line_in(told, "recorded")
        assert "test_divergence.py:" in line_in(told, "attempted") or "nothing, before" in line_in(told, "attempted")
        assert ("before the workflow returned" in told) == (change in ("raises", "missing at the end"))
        assert await handle.status() is Status.DIVERGED
        before = [entry.output_json for entry in await handle.journal()]

        workflow("drift")(original)  # and put back
        await reached(handle, Status.WAITING)
        assert [entry.output_json for entry in await handle.journal()] == before
        await handle.send("end", "fin")
        assert await handle.result(timeout=5) == ["a1", "b1", "fin"]


@asynchronous
async def test_a_result_type_that_no_longer_fits_stops_and_loses_nothing() -> None:
    log = held()

    @function("drift-typed")
    async def typed() -> str:
        return "text"

    @workflow("drift-type")
    async def flow(ctx: Context) -> str:
        value = await ctx.call("drift-typed")
        return f"{value} {await ctx.receive('end', str)}"

    runtime = await open_node(log=log)
    await runtime.submit(flow, workflow_id="d2")
    await until(lambda: (e := runtime._engine.live.get("d2")) and "end" in e.receivers, "it waits")
    await runtime.close()

    @function("drift-typed")
    async def retyped() -> int:
        return 1

    async with await open_node(log.survivors()) as again:
        handle = again.handle("d2")
        with pytest.raises(ReplayError, match="put the type back"):
            await handle.result(timeout=5)
        function("drift-typed")(typed.body)
        workflow("drift-type")(flow.body)
        await handle.send("end", "again")
        assert await handle.result(timeout=5) == "text again"


@asynchronous
async def test_code_that_is_gone_waits_and_starts_when_it_is_registered(caplog: pytest.LogCaptureFixture) -> None:
    from durable.workflows.definition import REGISTRY

    log = held()
    workflow("drift-gone")(original)
    runtime = await open_node(log=log)
    await runtime.submit("drift-gone", workflow_id="d3")
    await until(lambda: (e := runtime._engine.live.get("d3")) and "end" in e.receivers, "it waits")
    await runtime.close()
    del REGISTRY.workflows["drift-gone"]
    with caplog.at_level(logging.WARNING, "durable"):
        async with await open_node(log.survivors()) as again:
            handle = again.handle("d3")
            await handle.send("end", "later")
            await turns()
            assert await handle.status() is Status.WAITING
            assert "drift-gone" in caplog.text
            workflow("drift-gone")(original)
            assert await handle.result(timeout=5) == ["a1", "b1", "later"]


@asynchronous
async def test_patched_takes_the_old_path_in_old_executions_and_the_new_one_in_new_ones() -> None:
    log = held()
    workflow("drift-patch")(original)
    runtime = await open_node(log=log)
    await runtime.submit("drift-patch", workflow_id="d4-old")
    await until(lambda: (e := runtime._engine.live.get("d4-old")) and "end" in e.receivers, "it waits")
    await runtime.close()

    async def patched(ctx: Context) -> list[str]:
        first = await ctx.call(step, "a")
        if ctx.patched("between"):
            first += await ctx.call(step, "new")
        second = await ctx.call(step, "b")
        return [first, second, await ctx.receive("end", str)]

    workflow("drift-patch")(patched)
    async with await open_node(log.survivors(), park_after=0.0) as again:
        new = await again.submit("drift-patch", workflow_id="d4-new")
        for handle in (again.handle("d4-old"), new):
            await reached(handle, Status.WAITING)
            await handle.send("end", "x")
        assert await asyncio.gather(again.handle("d4-old").result(), new.result()) == [
            ["a1", "b1", "x"],
            ["a1new1", "b1", "x"],
        ]


@asynchronous
async def test_registering_again_in_a_running_process_changes_nothing_for_matching_code() -> None:
    workflow("drift-again")(original)
    async with await open_node() as runtime:
        handle = await runtime.submit("drift-again", workflow_id="d5")
        await until(lambda: (e := runtime._engine.live.get("d5")) and "end" in e.receivers, "it waits")
        workflow("drift-again")(original)
        await handle.send("end", "x")
        assert await handle.result(timeout=5) == ["a1", "b1", "x"]


@asynchronous
async def test_a_journal_of_another_python_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    log = held()
    workflow("drift-python")(original)
    with monkeypatch.context() as patched:
        patched.setattr("durable.runtime.births.PYTHON", "3.7")
        runtime = await open_node(log=log)
        for name in ("d6", "d7"):
            await runtime.submit("drift-python", workflow_id=name)
        await until(lambda: all("end" in runtime._engine.live[name].receivers for name in ("d6", "d7")), "both wait")
        await runtime.close()
    with caplog.at_level(logging.WARNING, "durable"):
        async with await open_node(log.survivors()) as again:
            for name in ("d6", "d7"):
                await again.handle(name).send("end", "x")
                assert await again.handle(name).result(timeout=5) == ["a1", "b1", "x"]
    assert caplog.text.count("begun under Python 3.7") == 1
