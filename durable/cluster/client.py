"""`ClusterClient`: the face of a node, for a program that is none.

::

    async with ClusterClient(["10.0.0.7:7800", "10.0.0.8:7800"], secret_key=KEY) as cluster:
        handle = await cluster.submit("process_order", order, workflow_id="order-123")
        print(await handle.result())

**How it works.** It asks the addresses that it was given who is there, and then the owner of each workflow directly
(`durable.rpc.remote`). When nobody of whom it knows can be reached, it asks again who is there: everybody whom it ever
heard of, at once, and believes whoever answers. So it outlives each of the nodes, also those that it was given.

A client runs no workflows: their code need not be here. With it, inputs are checked and results have their types.

**Limits.** It takes for live whom any of the nodes that answer takes for live: a wrong guess costs a try. It listens nowhere, and
has a link to each node that it asks.

Read next: `durable.commands`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Self, TypeVar

from durable.cluster.ask import NodeView, ask_through, seal_of
from durable.desk.face import Face
from durable.errors import ClusterError, DurableError, NoQuorum, Unreachable
from durable.journal.codec import VALUE_BYTES_MAX
from durable.membership.member import Member, NodeAddress, NodeId, rank
from durable.ports import Entropy, Link, Transport
from durable.replication.standing import Role
from durable.routing.partitions import PartitionRing
from durable.routing.router import Remote, Router
from durable.rpc.calls import RpcClient
from durable.rpc.frames import ANSWER
from durable.rpc.peers import Peers
from durable.rpc.remote import RemoteDesk
from durable.transports.sockets import SocketTransport
from durable.world import SystemEntropy

GRACE_S = 0.2
"""How long the others may still answer when the first has."""

KNOWN_MAX = 4_096
UNOPENED = "this client is not open: write `async with ClusterClient(...) as client:`, or `await client.open()`. Nothing was asked"
CLOSED = "this client is closed: make another. What was submitted goes on; what was under way may have been done"
T = TypeVar("T")


class ClusterClient(Face):
    """Submits, lists and asks, from outside a cluster.

    Args:
        seeds: some of the nodes, as "host:port"; one that answers is enough.
        secret_key: the cluster's key, or several with commas between them.
        cluster_name: the cluster's name.
        rpc_timeout: for how long a request is tried, in seconds.
        transport, entropy: the world; sockets and the operating system's by default.
    """

    def __init__(
        self,
        seeds: Sequence[NodeAddress | str],
        secret_key: str | Sequence[str] | None = None,
        cluster_name: str = "durable",
        *,
        rpc_timeout: float = 30.0,
        transport: Transport | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        if not seeds:
            raise ValueError("a client needs the address of at least one node, as host:port")
        if not 0 < rpc_timeout < float("inf"):
            raise ValueError(f"rpc_timeout is {rpc_timeout}; it must be a number of seconds above 0")
        secrets = [part.strip() for part in secret_key.split(",")] if isinstance(secret_key, str) else list(secret_key or ())
        entropy = entropy or SystemEntropy()
        self._seeds = [NodeAddress.parse(seed) if isinstance(seed, str) else seed for seed in seeds]
        self._cluster_name = cluster_name
        self._strange = ""
        self._transport = transport or SocketTransport(None, seal_of(secrets, cluster_name))
        self._peers = Peers(self._transport)
        self._calls = RpcClient(self._peers)
        self._calls.refuses = UNOPENED
        self._router = Router(PartitionRing())
        self._known: dict[NodeId, Member] = {}
        self._looking: asyncio.Task[NodeView] | None = None
        self._remote = RemoteDesk(
            self._router, self._calls, self._address_of, entropy, rpc_timeout_s=rpc_timeout, refresh=self._refresh
        )
        super().__init__(self._remote, entropy, VALUE_BYTES_MAX, runs_code=False)

    def __repr__(self) -> str:
        return f"<ClusterClient of {', '.join(str(seed) for seed in self._seeds)}>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Find out who is there. Raises `Unreachable` if no seed answers, or none with this key and cluster name; then it may
        be tried again.
        """
        if self._calls.refuses != CLOSED:
            await self._transport.open(self)
        if self._calls.refuses == CLOSED:  # before, or meanwhile
            raise ClusterError(CLOSED)
        self._calls.refuses = ""
        try:
            await self.members()
        except BaseException:
            await self._end(self._calls.refuses or UNOPENED)
            raise

    async def close(self) -> None:
        """End all links, and what is asked: it raises `ClusterError`. What was submitted goes on. It is not opened again."""
        await self._end(CLOSED)

    async def _end(self, why: str) -> None:
        self._calls.end(why)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._peers.close()
        await self._transport.close()

    async def members(self) -> tuple[Member, ...]:
        """The list as it is seen by the node that sees the most. Raises `Unreachable` when no node answers.

        A node answers from what it knows, without a question to anybody, and so at once; a client has to ask::

            node.members()
            await client.members()
        """
        self._calls.check()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        looking = self._looking
        await asyncio.wait([looking])
        self._calls.check()
        return looking.result().members

    async def views(self) -> dict[NodeId, NodeView]:
        """What each node that answers sees of the others, what it takes them for, and what copies it has itself."""
        await self.members()
        views = await gathered([self._view(one.address) for one in self._known.values()])
        return {view.node_id: view for view in sorted(views, key=lambda view: view.node_id)}

    async def owner(self, workflow_id: str) -> NodeId:
        """Who runs it, or would; by the latest epoch that the likeliest three know of. Raises `NoQuorum` if nobody says.

        A node, and a `LocalCluster`, says at once what it knows, or None; a client has to ask::

            node.owner("order-7")
            await client.owner("order-7")
        """
        self._calls.check()
        partition = self._router.partition_of(workflow_id)
        if not len(self._router.ring):
            await self.members()
        likely = self._router.candidates(partition, self._remote.replicas)
        within_s = self._remote.rpc_timeout_s / 3
        if not any(await gathered([self._remote.learn_from(node, within_s) for node in likely])):
            self._calls.check()
            raise NoQuorum(partition, 0, self._remote.replicas // 2 + 1, asked=True)
        route = self._router.route_partition(partition)
        assert isinstance(route, Remote), "a client owns nothing"
        return route.owner

    # Who is there

    def _address_of(self, node: NodeId) -> NodeAddress | None:
        known = self._known.get(node)
        return None if known is None else known.address

    async def _refresh(self) -> None:
        try:
            await self.members()
        except Unreachable:
            return  # what was known still holds, as far as anybody here can tell

    async def _look(self) -> NodeView:
        """Ask everybody, and put whom anybody takes for live on the ring."""
        self._strange = ""
        addresses = dict.fromkeys([*self._seeds, *(one.address for one in self._known.values())])
        views = await gathered([self._view(to) for to in addresses])
        if not views:
            why = self._strange or "Is it up, and are its key and name these?"
            named = ", ".join(str(one) for one in addresses)
            raise Unreachable(f"none of {named} answers for this cluster. {why}")
        live: dict[NodeId, Member] = {}
        for member in (member for view in views for member in view.members):
            known = live.get(member.node_id)
            if member.status.is_live and (known is None or rank(member) > rank(known)):
                live[member.node_id] = member
        witnesses = {node for view in views for node, role in view.roles.items() if role is Role.WITNESS}
        self._router.ring.hold(dict.fromkeys(sorted(live.keys() - witnesses or live)))
        gone = {node: member for node, member in self._known.items() if node not in live}
        self._known = dict([*gone.items(), *live.items()][-KNOWN_MAX:])
        return max(views, key=lambda view: sum(member.status.is_live for member in view.members))

    async def _view(self, to: NodeAddress) -> NodeView:
        view = await ask_through(self._transport, to)
        if strange := view.strange(self._cluster_name):
            self._strange = f"{strange}, at {to}"
            raise Unreachable(strange)
        return view

    # What the transport calls

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        """Nobody sends datagrams to a client."""

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        """Nor asks it anything."""
        return None

    def frame(self, link: Link, data: bytes) -> None:
        """An answer."""
        if data[:1] == ANSWER:
            self._calls.frame(link, data[1:])

    def link_lost(self, link: Link) -> None:
        """Whoever waits on it is told."""
        self._calls.link_lost(link)
        self._peers.link_lost(link)


async def gathered(asked: Sequence[Awaitable[T]]) -> list[T]:
    """What the ones that answer answer, in order; when one has, the others have `GRACE_S` more. Errors of ours are no answer."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    if not tasks:
        return []
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(task: asyncio.Future[Any]) -> None:
        if not first.done() and ((not task.cancelled() and task.exception() is None) or all(one.done() for one in tasks)):
            first.set_result(None)

    for task in tasks:
        task.add_done_callback(note)
    try:
        await first
        if not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=GRACE_S)
        answers: list[T] = []
        for task in tasks:
            error = task.exception() if task.done() else None
            if error is not None and not isinstance(error, DurableError):
                raise error
            if task.done() and error is None:
                answers.append(task.result())
        return answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
