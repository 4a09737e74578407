"""This program is a node: it joins a cluster of two, and hears that one of them leaves."""

import asyncio

from durable.cluster import ClusterConfig, ClusterNode, LocalCluster, MemberStatus


async def main() -> None:
    async with LocalCluster(2) as cluster:  # node-1 and node-2, to have somebody to join
        config = ClusterConfig(
            node_id="node-3",
            bind_address="127.0.0.1:0",  # on a port that is free
            seed_nodes=[cluster.address("node-1")],
            cluster_name=cluster.cluster_name,
        )
        async with ClusterNode(config) as node:  # joins; at the end, leaves
            changes = node.events()
            print("node-3 sees", ", ".join(member.node_id for member in node.members()))
            await cluster.leave("node-2")
            async for change in changes:
                print(change.member.node_id, change.member.status.name)
                if change.member.status is MemberStatus.LEFT:
                    break


asyncio.run(main())
