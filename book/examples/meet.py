"""Three nodes find each other, and two of them find out that the third is gone."""

import asyncio

from durable.cluster import LocalCluster, MemberStatus


async def main() -> None:
    async with LocalCluster(3) as cluster:  # three processes; returns when they have found each other
        for name, seen in cluster.members().items():
            print(name, "sees", ", ".join(f"{one.node_id} {one.status.name}" for one in seen.values()))
        await cluster.kill("node-3")  # SIGKILL
        print("node-3 is killed")
        await cluster.wait_believed("node-3", MemberStatus.DEAD)
        for name in cluster.running:
            seen = cluster.members()[name]
            print(name, "sees", ", ".join(f"{one.node_id} {one.status.name}" for one in seen.values()))


asyncio.run(main())
