"""A function sees nothing of whoever opened the node: after a crash that is somebody else."""

import asyncio
import contextvars

import durable
from durable import Context

CELL = contextvars.ContextVar("CELL", default="nobody's")


@durable.function
async def cell_on_the_loop() -> str:
    return CELL.get()


@durable.function
def cell_in_a_thread() -> str:
    return CELL.get()


@durable.workflow("which-cell")
async def which_cell(ctx: Context) -> list[str]:
    return [await ctx.call(cell_on_the_loop), await ctx.call(cell_in_a_thread)]


def test_a_function_does_not_see_the_context_variables_of_the_opener():
    """Jupyter keeps the cell that prints in one: what a function printed went to the cell that opened the node."""

    async def main():
        CELL.set("the opener's")
        async with durable.open("memory:") as runtime:
            return await (await runtime.submit(which_cell))

    assert asyncio.run(main()) == ["nobody's", "nobody's"]
