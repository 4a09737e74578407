"""Three nodes find each other, and two of them find out that the third is gone."""

import asyncio

from durable.cluster import LocalCluster, MemberStatus


def show(cluster: LocalCluster) -> None:
    for name in cluster.running:
        seen = cluster.members()[name].values()
        print(name, "sees", ", ".join(f"{one.node_id} {one.status.name}" for one in seen))


async def main() -> None:
    async with LocalCluster(3) as cluster:  # three processes that have found each other
        show(cluster)
        await cluster.kill("node-3")  # SIGKILL
        print("node-3 is killed")
        await cluster.wait_believed("node-3", MemberStatus.DEAD)
        show(cluster)


asyncio.run(main())
