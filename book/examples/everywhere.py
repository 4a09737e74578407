"""How an order workflow is tested: a month in virtual time, and a crash at every journal write."""

from datetime import timedelta

import durable
from durable import Context
from durable.testing import crash_everywhere, run


@durable.function
def charge(order: str) -> str:
    return f"payment-of-{order}"


@durable.function
def remind(order: str) -> str:
    return f"reminder-of-{order}"


@durable.workflow
async def pay_later(ctx: Context, order: str) -> str:
    reminder = await ctx.call(remind, order)
    await ctx.sleep(timedelta(days=30))
    payment = await ctx.call(charge, order)
    return f"{reminder}, {payment}"


async def a_month() -> str:
    async with durable.open("memory:") as runtime:
        return await (await runtime.submit(pay_later, "order-7")).result()


print(run(a_month()))
print(crash_everywhere(pay_later, "order-7"))
