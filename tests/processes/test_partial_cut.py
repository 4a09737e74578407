"""The hard case of a partition's owner: its replicas do not hear it, and everybody holds it alive, because others do.

Membership is no help then, and would do nothing for ever. What its replicas lack are its digests: two of three are a majority,
and give the partition a new owner. The old one has no quorum, and resigns.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from processes.test_failover import GATE, Bench, accepted, on_cluster, result_of

from durable.journal.keys import partition_of

QUICK = 5
SETTINGS = {"gossip_interval": 0.3, "suspect_timeout": 10.0, "rpc_timeout": 6.0}
"""Digests are missed after a second; nobody who is only slow is called dead within the test."""


def ids_beside(workflow_id: str, count: int) -> list[str]:
    """So many ids in the same partition."""
    wanted = partition_of(workflow_id)
    return [f"q{n}" for n in range(256 * 40 * count) if partition_of(f"q{n}") == wanted][:count]


def test_an_owner_that_its_replicas_lost_and_others_see_is_replaced_and_its_work_is_done_once(tmp_path: Path) -> None:
    async def body(bench: Bench, client: Any) -> None:
        cluster, partition, quick = bench.cluster, partition_of("w"), ids_beside("w", QUICK)
        await accepted(client, "failover-gated", GATE, "w")
        owner = await bench.at_the_gate("w")
        _, epoch = bench.owner("w")
        replicas = [str(node) for node in cluster.ring().get_nodes("w", count=3)]
        assert owner in replicas
        others = [node for node in replicas if node != owner]
        await cluster.cut((owner, other) for other in others)
        heir = await bench.at_the_gate("w", runs=2)
        await cluster.wait_until(lambda: partition not in cluster._processes[owner].owned)
        assert heir in others and bench.owner("w")[0] == heir and bench.owner("w")[1] > epoch
        assert all(status is not None and status.is_live for status in cluster.beliefs_about(owner).values())
        for number, workflow_id in enumerate(quick):
            await accepted(client, "failover-quick", number, workflow_id)
        bench.open_gate()
        result = await result_of(client, "w")
        assert [await result_of(client, workflow_id) for workflow_id in quick] == [n * n for n in range(QUICK)]
        told = [belief for belief in cluster.history if belief.member.node_id == owner]
        assert [belief for belief in told if not belief.member.status.is_live] == [], "nobody has held it dead in all that time"
        await cluster.heal()
        await cluster.wait_converged()
        await same_from_every_node(bench, "w", result)
        assert (await client.handle("w").metadata()).epoch > epoch
        began = [line.step for line in bench.lines("w") if line.word == "began"]
        assert sorted(began) == [0, 1, 1, 2], "only what ran at the cut has run again"
        assert result[0] in {line.value for line in bench.lines("w", 0)}
        assert [len(bench.lines(workflow_id)) for workflow_id in quick] == [2] * QUICK, "each has begun and ended once"

    on_cluster(5, body, tmp_path, **SETTINGS)


async def same_from_every_node(bench: Bench, workflow_id: str, result: Any) -> None:
    doors = [await bench.cluster.client(node) for node in bench.cluster.nodes]
    try:
        assert [await result_of(door, workflow_id) for door in doors] == [result] * len(doors)
    finally:
        await asyncio.gather(*(door.close() for door in doors))
