"""The order workflow, the running example of this book."""

import asyncio
from dataclasses import dataclass

import bank

import durable
from durable import Context, RetryPolicy


@dataclass
class Order:
    id: str
    cents: int


@durable.function(retry=RetryPolicy(max_attempts=5))
def charge(order: Order) -> str:
    return bank.charge(order.id, order.cents, key=durable.current_call().idempotency_key)


@durable.function
def ship(order: Order) -> str:
    print(f"warehouse: {order.id} is packed")
    return f"parcel-of-{order.id}"


@durable.workflow("process-order")
async def process_order(ctx: Context, order: Order) -> str:
    payment = await ctx.call(charge, order)
    ctx.logger.warning("paid; waiting for the goods")
    await ctx.sleep(3)
    parcel = await ctx.call(ship, order)
    return f"{payment}, {parcel}"


async def main() -> None:
    async with durable.open("orders.db") as runtime:
        order = Order("order-7", 4200)
        handle = await runtime.submit(process_order, order, workflow_id="order-7")
        print("result:", await handle.result())


if __name__ == "__main__":
    asyncio.run(main())
