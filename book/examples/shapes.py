"""The shapes that workflows take: one small workflow for each operation of chapter 2."""

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

import durable
from durable import Context, RetryPolicy, WorkflowFailed

MONTH = timedelta(milliseconds=20)  # this program is run while the book is built


class LorryFull(Exception):
    pass


@durable.function
def reserve(order: str) -> str:
    return f"shelf-of-{order}"


@durable.function
def release(shelf: str) -> None:
    print(f"undone: {shelf}")


@durable.function(retry=RetryPolicy(max_attempts=5, initial_delay=0.01))
def charge(order: str) -> str:
    if durable.current_call().attempt < 3:
        raise ConnectionError("the bank does not answer")
    return f"payment-of-{order}"


@durable.function
def refund(payment: str) -> None:
    print(f"undone: {payment}")


@durable.function
def ship(order: str) -> str:
    if order == "order-13":
        raise LorryFull(order)
    return f"parcel-of-{order}"


@durable.workflow
async def approved(ctx: Context, order: str) -> bool:
    try:
        return await ctx.receive("approval", bool, timeout=timedelta(days=2))
    except TimeoutError:
        return False


@durable.workflow
async def approved_by_either(ctx: Context, order: str) -> str:
    match await ctx.first(clerk=ctx.receive("clerk", bool), boss=ctx.receive("boss", bool), late=ctx.sleep(MONTH)):
        case ("late", _):
            return "nobody answered"
        case (who, yes):
            return f"{who} said {'yes' if yes else 'no'}"


@durable.workflow
async def careful_order(ctx: Context, order: str) -> str:
    async with ctx.saga() as saga:
        shelf = await ctx.call(reserve, order)
        saga.on_rollback(release, shelf)
        payment = await ctx.call(charge, order)
        saga.on_rollback(refund, payment)
        return await ctx.call(ship, order)


@durable.workflow
async def ship_all(ctx: Context, orders: list[str]) -> list[str]:
    return await asyncio.gather(*(ctx.call(ship, order) for order in orders))


@durable.workflow
async def basket(ctx: Context, orders: list[str]) -> list[str]:
    children = [ctx.start(careful_order, order) for order in orders]
    return [await child for child in children]


@durable.workflow
async def subscription(ctx: Context, month: int) -> int:
    ctx.state["paid"] = ctx.state.get("paid", 0) + 1
    await ctx.call(charge, f"month-{month}")
    await ctx.sleep(MONTH)
    if month < 3:
        ctx.continue_as_new(month + 1)
    return ctx.state["paid"]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with durable.open(Path(folder) / "shapes.db") as runtime:
            asked = await runtime.submit(approved, "order-1")
            await asked.send("approval", True)
            print("approved:", await asked.result())
            print("approved_by_either:", await (await runtime.submit(approved_by_either, "order-1")).result())
            print("careful_order:", await (await runtime.submit(careful_order, "order-2")).result())
            try:
                await (await runtime.submit(careful_order, "order-13")).result()
            except WorkflowFailed as failed:
                print("careful_order:", failed)
            print("ship_all:", await (await runtime.submit(ship_all, ["order-3", "order-4"])).result())
            print("basket:", await (await runtime.submit(basket, ["order-5", "order-6"])).result())
            print("subscription:", await (await runtime.submit(subscription, 1)).result())


if __name__ == "__main__":
    asyncio.run(main())
