"""The library as a cluster: three nodes, three copies, a majority for each commit, all on this machine; one client beside them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.peer import Kind

NODES = 3
AGAIN_S = 0.02


def absent() -> str | None:
    if not find_spec("durable"):
        return "the package `durable` cannot be imported from here"
    from durable.cluster import LocalCluster

    if "app" not in inspect.signature(LocalCluster.__init__).parameters:
        return "the nodes of this commit of `durable` run no workflows yet"
    return None


def about() -> dict[str, str]:
    import durable

    return {
        "version": getattr(durable, "__version__", "from source"),
        "sync": "RocksDB on three nodes of one machine, an fsync a group commit, committed by a majority",
    }


class Adapter:
    nodes = NODES

    def __init__(self, preset: str = "lan") -> None:
        self.preset = preset
        self.cluster: Any = None
        self.client: Any = None

    async def open(self, folder: Path) -> None:
        from durable.cluster import LocalCluster

        self.cluster = LocalCluster(
            self.nodes, app="bench.cluster_workflows", preset=self.preset, store="rocksdb", data=folder / "cluster"
        )
        await self.cluster.start()
        self.client = await self.cluster.client()

    async def run(self, kind: Kind, workflow_id: str, count: int) -> int:
        return int(await (await self.submit(kind, workflow_id, count)).result())

    async def start(self, kind: Kind, workflow_id: str, count: int) -> None:
        await self.submit(kind, workflow_id, count)

    async def submit(self, kind: str, workflow_id: str, count: int) -> Any:
        """Until it is accepted: a young cluster has no owners yet, and a busy one may refuse."""
        import durable
        from durable.errors import ClusterError

        while True:
            try:
                return await self.client.submit(kind, count, workflow_id=workflow_id)
            except (ClusterError, durable.Overloaded, durable.OutcomeUnknown):
                await asyncio.sleep(AGAIN_S)

    async def finished(self, workflow_ids: Sequence[str]) -> None:
        await asyncio.gather(*(self.client.handle(workflow_id).result() for workflow_id in workflow_ids))

    async def bodies(self) -> list[float]:
        return []  # they run in the nodes

    async def arrived(self) -> int:
        raise NotImplementedError("the bodies of a cluster run in its nodes; no workload asks this")

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()
        if self.cluster is not None:
            await self.cluster.close()
