"""A name that a journal cannot hold is an error of the call that gave it, and nobody's journal suffers for it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest
from nodes import asynchronous, open_node, until

from durable import Context, workflow
from durable.errors import EncodingError
from durable.workflows.context import Child

RECEIVER = "names-receiver"
WRONG: dict[str, Any] = {"7": 7, "lone": "\udcff"}
TOLD = {
    "7": "TypeError: {} is 7; it must be a str",
    "lone": r"EncodingError: {} is '\udcff', which is no UTF-8: surrogates not allowed. Nothing was done",
}


def set_state(ctx: Context, name: Any) -> None:
    ctx.state[name] = 1


ATTEMPTS: dict[str, tuple[str, Callable[[Context, Any], object]]] = {
    "state": ("key", set_state),
    "patched": ("patch_id", lambda ctx, name: ctx.patched(name)),
    "receive": ("channel", lambda ctx, name: ctx.receive(name)),
    "send": ("channel", lambda ctx, name: ctx.send(RECEIVER, name, 1)),
    "side_effect": ("name", lambda ctx, name: ctx.side_effect(name, int)),
}


@workflow("names-waits")
async def waits(ctx: Context) -> str:
    return str(await ctx.receive("go", str))


@workflow("names-tries")
async def tries(ctx: Context, attempt: tuple[str, str]) -> list[Any]:
    told = ""
    try:
        ATTEMPTS[attempt[0]][1](ctx, WRONG[attempt[1]])
    except (TypeError, EncodingError) as error:
        told = f"{type(error).__name__}: {error}"
    return [told, dict(ctx.state), await ctx.receive("go", str)]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("operation", ATTEMPTS)
@asynchronous
async def test_the_call_raises_and_the_journals_can_be_read(operation: str, wrong: str) -> None:
    async with await open_node(park_after=0.0) as runtime:
        receiver = await runtime.submit(waits, workflow_id=RECEIVER)
        handle = await runtime.submit(tries, (operation, wrong), workflow_id="names")
        await until(lambda: not runtime._engine.live, "parking")
        await handle.send("go", "on")
        await receiver.send("go", "on")
        assert await handle.result(timeout=5) == [TOLD[wrong].format(ATTEMPTS[operation][0]), {}, "on"]
        assert await receiver.result(timeout=5) == "on"


@asynchronous
async def test_a_message_to_a_child_is_held_to_the_same() -> None:
    @workflow("names-parent")
    async def parent(ctx: Context) -> str:
        child: Child[str] = ctx.start(waits)
        with pytest.raises(TypeError, match="channel is 7; it must be a str"):
            child.send(7, "x")
        await child.send("go", "on")
        return await child

    async with await open_node() as runtime:
        assert await (await runtime.submit(parent)).result(timeout=5) == "on"


class Said(str):
    """Text, of a class of its own: it has no form in a journal."""


class Channel(str, enum.Enum):  # noqa: UP042 (a StrEnum is one too)
    GO = "go"


@pytest.mark.parametrize("name", [Said("go"), Channel.GO], ids=["subclass", "enum"])
@asynchronous
async def test_a_name_of_a_class_of_its_own_is_recorded_as_plain_text(name: str) -> None:
    @workflow("names-plain")
    async def plainly(ctx: Context) -> list[Any]:
        ctx.state[name] = 1
        kinds = {type(key) for key in ctx.state}
        found = [ctx.patched(name), await ctx.side_effect(name, lambda: 2), await ctx.receive(name, str)]
        await ctx.send(RECEIVER, name, "sent")
        return [*found, ctx.state[name], ctx.state["go"], kinds == {str}]

    async with await open_node(park_after=0.0) as runtime:
        receiver = await runtime.submit(waits, workflow_id=RECEIVER)
        handle = await runtime.submit(plainly, workflow_id="names")
        await until(lambda: not runtime._engine.live, "parking")
        await handle.send("go", "on")
        assert await handle.result(timeout=5) == [True, 2, "on", 1, 1, True]
        assert await receiver.result(timeout=5) == "sent"
        assert {entry.name for entry in await handle.journal()} == {"go"}
