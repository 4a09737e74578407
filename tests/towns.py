"""Towns: several nodes over real sockets, each with an engine and a share of the partitions, on one store in memory.

The one store stands for a journal that is replicated to all of them: a partition that is given to another node is recovered there
from what was durable. Who owns what is decided by the test (`Town.give`), and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from stations import Station

from durable import NodeConfig, NodeStorage
from durable.cluster.ask import NodeView, encode_view
from durable.desk.face import Face
from durable.errors import ClusterError, NotOwner
from durable.journal import keys
from durable.journal.entries import Envelope, Failure, StatusRow
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId
from durable.routing.partitions import PartitionRing
from durable.routing.router import Router
from durable.rpc.remote import RemoteDesk
from durable.rpc.requests import Owned
from durable.runtime.desk import LocalDesk
from durable.runtime.engine import Engine
from durable.storage import InMemoryStore
from durable.storage.log import LocalLog
from durable.world import SystemClock, SystemEntropy


class Townsman:
    """One node: an engine, its desk, and the desk of the whole town."""

    def __init__(self, town: Town, name: str, rpc_timeout_s: float) -> None:
        self.name = NodeId(name)
        self.town = town
        storage = NodeStorage.make(town.store)
        self.log = LocalLog(town.store)
        entropy, clock = SystemEntropy(), SystemClock()
        self.engine = Engine(
            storage, NodeConfig(node_id=name), self.log, clock, entropy, courier=self, elsewhere=self.elsewhere
        )
        desk = LocalDesk(self.engine)

        def copy(workflow_id: str) -> StatusRow | None:
            return storage.final(workflow_id, clock.now_ms())

        self.station = Station(desk, self.owners, copy)
        self.router = Router(town.ring, me=self.name)
        self.desk = RemoteDesk(
            self.router, self.station.client, town.address_of, entropy,
            local=desk, copy=copy, owners=self.owners, rpc_timeout_s=rpc_timeout_s,
        )  # fmt: skip
        self.face = Face(self.desk, entropy, 2**24)
        self.up = True

    def elsewhere(self, partition: int) -> ClusterError:
        owner, epoch = self.town.owners[partition]
        return NotOwner(partition, owner, epoch) if self.town.tells else NotOwner(partition)

    def owners(self) -> list[Owned]:
        return [(partition, owner, epoch) for partition, (owner, epoch) in self.town.owners.items()]

    async def carry(self, envelope: Envelope) -> Failure | None:
        return await self.desk.carry(envelope)

    async def stop(self) -> None:
        if self.up:
            self.up = False
            await self.engine.close()
            await self.station.close()
            self.log.close()


class Town:
    """``tells``: whether a node that is not the owner says who is."""

    def __init__(self) -> None:
        self.store = InMemoryStore.open()
        self.ring = PartitionRing()
        self.nodes: dict[NodeId, Townsman] = {}
        self.owners: dict[int, tuple[NodeId, int]] = {}
        self.tells = True

    def __getitem__(self, name: str) -> Townsman:
        return self.nodes[NodeId(name)]

    def address_of(self, node: NodeId) -> NodeAddress | None:
        return self.nodes[node].station.address if node in self.nodes else None

    def owner_of(self, workflow_id: str) -> Townsman:
        return self.nodes[self.owners[keys.partition_of(workflow_id)][0]]

    def id_at(self, name: str, count: int = 1) -> list[str]:
        """Ids that this node owns."""
        found = (f"w-{n}" for n in range(100_000))
        return [one for one, _ in zip((i for i in found if self.owner_of(i).name == name), range(count), strict=False)]

    def give(self, partition: int, name: str) -> None:
        """The partition is now this node's, in a higher epoch."""
        owner, epoch = self.owners.get(partition, (None, 0))
        self.owners[partition] = NodeId(name), epoch + 1
        if owner is not None and self.nodes[owner].up:
            self.nodes[owner].engine.drop(partition, NotOwner(partition, name, epoch + 1))
        self[name].engine.adopt(partition, epoch + 1)

    async def kill(self, name: str) -> None:
        """The node is gone; the next ones of the ring have its partitions."""
        await self[name].stop()
        self.ring.remove_node(NodeId(name))
        self.views()
        for partition, (owner, _) in list(self.owners.items()):
            if owner == name:
                self.give(partition, Router(self.ring).candidates(partition, 1)[0])

    def views(self, without: str = "") -> None:
        """What each says when it is asked who is there; ``without`` one that they have not heard of yet."""
        members = tuple(
            Member(node.name, node.station.address, MemberStatus.ALIVE if node.up else MemberStatus.DEAD, 0, 1, 0.0)
            for node in self.nodes.values()
            if node.name != without
        )
        for node in self.nodes.values():
            node.station.view = encode_view(NodeView(node.name, members, {}, 0))


@asynccontextmanager
async def town(*names: str, rpc_timeout_s: float = 10.0) -> AsyncIterator[Town]:
    """Nodes with these names; each partition is with whom the ring prefers."""
    made = Town()
    for name in names:
        made.nodes[NodeId(name)] = Townsman(made, name, rpc_timeout_s)
        await made[name].station.open()
        made.ring.add_node(NodeId(name))
    for partition in range(keys.PARTITIONS):
        made.give(partition, Router(made.ring).candidates(partition, 1)[0])
    made.views()
    try:
        yield made
    finally:
        for node in made.nodes.values():
            with contextlib.suppress(asyncio.CancelledError):
                await node.stop()


def in_town(*names: str, patience_s: float = 30.0, **how: Any) -> Callable[[Callable[[Town], Awaitable[None]]], Callable[[], None]]:
    """A test that is given a town."""

    def decorate(test: Callable[[Town], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            async with town(*names, **how) as made:
                await test(made)

        def sync() -> None:
            asyncio.run(asyncio.wait_for(run(), patience_s))

        sync.__name__ = test.__name__
        sync.__doc__ = test.__doc__
        return sync

    return decorate
