"""A program that is no node, and does not have the code of the workflow: it orders, approves, and waits for the result."""

import asyncio
import secrets

from durable.cluster import ClusterClient, LocalCluster


async def order(addresses: list[str], key: str) -> None:
    async with ClusterClient(addresses, secret_key=key) as cluster:
        handle = await cluster.submit("process_order", "order-7", workflow_id="order-7")
        await handle.send("approval", "the clerk")
        print(await handle.result())


async def main() -> None:
    key = secrets.token_hex(32)
    async with LocalCluster(3, app="routed", secret_key=key) as cluster:
        await order([str(cluster.address(node)) for node in ("node-1", "node-2")], key)


if __name__ == "__main__":
    asyncio.run(main())
