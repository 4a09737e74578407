"""A workflow that would not repeat itself."""

import random
import time

import durable
from durable import Context


@durable.workflow("lottery")
async def lottery(ctx: Context) -> str:
    started = time.time()
    await ctx.sleep(60)
    if random.random() < 0.5:
        return "won"
    return f"lost after {time.time() - started:.0f} s"
