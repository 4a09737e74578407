"""The order workflow, changed so that the orders under way go on as they began."""

import asyncio

import orders
from orders import Context, Order, charge, durable, ship


@durable.function
def thank(order: Order) -> None:
    print(f"mail: thank you for {order.id}")


@durable.workflow("process-order")
async def process_order(ctx: Context, order: Order) -> str:
    payment = await ctx.call(charge, order)
    if ctx.patched("thank-the-customer"):
        await ctx.call(thank, order)
    await ctx.sleep(3)
    parcel = await ctx.call(ship, order)
    return f"{payment}, {parcel}"


async def main() -> None:
    try:
        await orders.main()
    except durable.NonDeterminismError as error:
        print("stopped:", type(error).__name__)


if __name__ == "__main__":
    asyncio.run(main())
