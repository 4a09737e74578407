"""Three processes, four orders: where the ring places each, who owns it, and that anybody may be asked."""

import asyncio

import durable
from durable import Context
from durable.cluster import LocalCluster
from durable.journal.keys import partition_of
from durable.routing.partitions import PartitionRing

ORDERS = ["order-7", "order-8", "order-91", "order-94"]


@durable.workflow
async def process_order(ctx: Context, order: str) -> str:
    clerk = await ctx.receive("approval", str)
    return f"{order}, approved by {clerk}"


async def main() -> None:
    ring = PartitionRing()
    async with LocalCluster(3, app=[process_order]) as cluster:
        for node in cluster.nodes:
            ring.add_node(node)
        await cluster.wait_until(lambda: all(cluster.owner(order) == ring.get_node(order) for order in ORDERS))

        for order in ORDERS:
            await cluster.submit(process_order, order, workflow_id=order)
        for number, order in enumerate(ORDERS):
            door = cluster.nodes[number % 3]
            async with await cluster.client(door) as client:
                handle = client.handle(order)
                await handle.send("approval", f"the clerk at {door}")
                owner = (await handle.metadata()).owner
                places = ", ".join(ring.get_nodes(order, count=3))
                print(f"{order}: partition {partition_of(order)}, the ring says {places}")
                print(f"    owned by {owner}; {await handle.result()}")


if __name__ == "__main__":
    asyncio.run(main())
