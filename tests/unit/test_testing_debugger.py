"""`debug` stops a workflow at a position of its journal, with its true locals."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable import Context, NonDeterminismError, WorkflowError
from durable.testing import debug, run


class Basket:
    def __init__(self) -> None:
        self.items: list[str] = []


closed: list[str] = []


@durable.function
async def price(item: str) -> int:
    return len(item)


async def branch(ctx: Context, name: str, seconds: int) -> int:
    doubled = name * 2
    try:
        await ctx.sleep(seconds)
        return await ctx.call(price, doubled)
    finally:
        closed.append(name)


@durable.workflow("debug-shop")
async def shop(ctx: Context, items: list[str]) -> int:
    basket, total = Basket(), 0
    for item in items:
        basket.items.append(item)
        total += await ctx.call(price, item)
    ctx.state["total"] = total
    first, second = await asyncio.gather(branch(ctx, "a", 10), branch(ctx, "b", 20))
    return total + first + second


@pytest.fixture(scope="module")
def journal() -> str:
    async def record() -> str:
        async with durable.open("memory:") as runtime:
            await (await runtime.submit(shop, ["pear", "fig"], workflow_id="s-1")).result()
            return await runtime.export("s-1")

    return run(record())


def test_the_locals_are_the_very_objects_at_that_place(journal: str) -> None:
    first, second = debug(journal, at=0), debug(journal, at=1)
    assert (first.locals["item"], first.locals["total"]) == ("pear", 0)
    assert (second.locals["item"], second.locals["total"]) == ("fig", 4)
    assert isinstance(second.locals["basket"], Basket)
    assert second.locals["basket"].items == ["pear", "fig"]
    assert second.frames[0].code == "total += await ctx.call(price, item)"
    assert second.frames[0].file == __file__


def test_every_task_is_shown_in_the_order_of_creation(journal: str) -> None:
    stopped = debug(journal, at=5)
    assert [(frame.task, frame.function) for frame in stopped.frames] == [
        ("workflow", "shop"),
        ("task-1", "branch"),
        ("task-2", "branch"),
    ]
    assert [frame.locals["doubled"] for frame in stopped.frames[1:]] == ["aa", "bb"]
    assert [frame.code for frame in stopped.frames[1:]] == [
        "return await ctx.call(price, doubled)",
        "await ctx.sleep(seconds)",
    ]
    assert stopped.state == {"total": 7}
    assert f"{stopped.now:%H:%M:%S}" == "00:00:10"


def test_it_is_alive_until_it_is_let_go(journal: str) -> None:
    closed.clear()
    stopped = debug(journal, at=5)
    assert closed == []
    del stopped
    assert closed == ["a", "b"]


def test_it_looks_well_as_text_and_as_html(journal: str) -> None:
    stopped = debug(journal, at=1)
    assert "s-1 stopped at entry 1 of 7" in repr(stopped)
    assert "total = 4" in repr(stopped)
    assert "ctx =" not in repr(stopped)
    assert "<details open>" in stopped._repr_html_()
    assert "&lt;" in stopped._repr_html_()  # the repr of the basket, escaped


def test_at_the_end_of_a_finished_one_nothing_is_left(journal: str) -> None:
    stopped = debug(journal)
    assert stopped.frames == []
    assert stopped.outcome == "COMPLETED"
    assert "it has ended: COMPLETED" in repr(stopped)
    with pytest.raises(WorkflowError, match="has returned"):
        _ = stopped.locals


def test_a_place_that_is_not_there_and_code_that_differs_are_told(journal: str) -> None:
    with pytest.raises(WorkflowError, match="has 7 operations, at positions 0 to 6; there is no 7"):
        debug(journal, at=7)

    @durable.workflow("debug-other")
    async def other(ctx: Context, items: list[str]) -> int:
        await ctx.sleep(1)
        return 0

    with pytest.raises(NonDeterminismError):
        debug(journal, at=1, workflow=other)
