"""`LocalCluster`: real processes on this machine, to start, kill, stop and part. For notebooks and tests.

**Why it exists.** A cluster is understood by breaking one. In one process nothing can be killed; so every node is a process,
on the loopback address, on a port that the system chose.

**How it works.** A child (`durable.cluster.child`) reports every change of what its node believes, so everything that is asked
here is answered from reports, also of nodes that are gone: their last view. Whoever waits, waits for a report.

==================================  ==========================================================================================
``kill``                            SIGKILL: the process gets no chance to do anything more
``pause``, ``resume``               SIGSTOP, SIGCONT: it stands still, and goes on as if nothing had been
``partition``, ``cut``, ``heal``    at the transport: every node is told from whom it is cut off
``disturb``                         at the transport: packets are lost, late, and links break
``restart``                         the same name, port and folder, a new process: its next life
``wipe``                            killed, and its disk is lost
==================================  ==========================================================================================

With an ``app`` the nodes run its workflows: each has a store of its own, in a temporary folder if nothing else is said, and
`submit`, `handle` and `client` reach them from here.

**Limits.** Children end with their parent, whatever ends it; on Linux also those that are paused. A paused node cannot be
told anything: it is told when it is resumed. One machine: nobody's clock differs from anybody's.

Read next: `durable.cluster.child`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import msgspec

from durable.cluster.app import App, pack_app
from durable.cluster.ask import NodeView
from durable.cluster.client import ClusterClient
from durable.cluster.config import PRESETS, ClusterConfig
from durable.cluster.process import NodeProcess
from durable.cluster.sight import Sight
from durable.desk.handle import WorkflowHandle
from durable.errors import ClusterError
from durable.journal.codec import ANY, MISSING
from durable.membership.joining import SEEDS_MAX
from durable.membership.member import NodeAddress, NodeId
from durable.workflows.definition import REGISTRY, Workflow
from durable.world import SystemEntropy

ENGINES = ("rocksdb", "leveldb", "memory")
NODES_MAX = 64


class LocalCluster(Sight):
    """A cluster of ``n`` processes, node-1 to node-n.

    ::

        async with LocalCluster(5, app=[process_order, charge]) as cluster:
            handle = await cluster.submit(process_order, order, workflow_id="order-7")
            await cluster.kill(cluster.owner("order-7"))
            print(await handle.result())          # another node went on with it

    Args:
        n: how many nodes to start, 1 to 64.
        app: what they run: a module's name, or several, or definitions of this notebook. Without one they are members only.
        preset: "lan" (fast, the default) or "default".
        store: "rocksdb", "leveldb" or "memory"; or one for each node, the last for all further ones.
        data: the folder for their folders; without one a temporary one, which is deleted at the end.
        seeds: how many of the others each is told at its start; it is to find the rest. With an app, the first ``n`` found the
            cluster together, and each is told of all of them.
        changes: further fields of `ClusterConfig`, the same for every node. Without a key or a name it gets a name of its own.

    Raises:
        ValueError: ``n``, the preset, the store or a field is out of range.
    """

    def __init__(
        self,
        n: int,
        *,
        app: App | None = None,
        preset: str = "lan",
        store: str | Sequence[str] = "rocksdb",
        data: str | Path | None = None,
        seeds: int = 3,
        **changes: Any,
    ) -> None:
        if not 1 <= n <= NODES_MAX:
            raise ValueError(f"n is {n}; it must be between 1 and {NODES_MAX}")
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; it must be one of {', '.join(PRESETS)}")
        self._engines = [store] if isinstance(store, str) else list(store)
        if not self._engines or not set(self._engines) <= set(ENGINES):
            raise ValueError(f"store is {store!r}; it must be one of {', '.join(ENGINES)}, or one for each node")
        fixed = ClusterConfig(**{**PRESETS[preset], **changes, "node_id": "node-1"})
        super().__init__(fixed.partitions, fixed.virtual_nodes_per_node)
        self._n, self._seeds = n, seeds
        self._app = pack_app(app)
        self._fields = {**PRESETS[preset], **changes}
        if not fixed.secrets and "cluster_name" not in changes:  # a port that is free now may have been another cluster's node's
            self._fields["cluster_name"] = f"local-{SystemEntropy().random_bytes(4).hex()}"
        self.cluster_name = str(self._fields.get("cluster_name", fixed.cluster_name))
        """Which `ask_node`, and other clients than its own, have to say."""
        self._data = Path(data) if data is not None else None
        self._temporary: TemporaryDirectory[str] | None = None
        self._founders: tuple[NodeId, ...] = ()
        self._faults: dict[NodeId, dict[str, float]] = {}
        self._untold: dict[NodeId, None] = {}
        self._client: ClusterClient | None = None

    def __repr__(self) -> str:
        nodes = ", ".join(f"{process.node_id} {process.state}" for process in self._processes.values())
        return f"<LocalCluster: {nodes or 'not started'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What is to be seen, beside what `Sight` shows

    def store_url(self, node: str) -> str:
        """What a node was given to keep its journals in, as `durable.open` takes it."""
        number = list(self._processes).index(self._process(node).node_id)
        engine = self._engines[min(number, len(self._engines) - 1)]
        return "memory:" if engine == "memory" else f"{engine}:{self._folder(node)}"

    async def view(self, node: str) -> NodeView:
        """What a node sees, asked now: with its counters of dropped packets."""
        return msgspec.convert(await self._process(node).order("view"), NodeView)

    # Doing

    async def start(self) -> None:
        """Start all, let them find each other, and wait until they have."""
        self._began_s = asyncio.get_running_loop().time()
        names = [NodeId(f"node-{number}") for number in range(1, self._n + 1)]
        try:
            await _all_or_none(self._launch(name, number=number) for number, name in enumerate(names))
            self._processes = {name: self._processes[name] for name in names}  # not in the order in which they came up
            self._founders = tuple(names[:SEEDS_MAX])
            await asyncio.gather(*(self._join(name) for name in names))
            await self.wait_converged()
            if self._app:
                await self.wait_owned()
        except BaseException:
            await self.close()
            raise

    async def add(self, node: str | None = None) -> NodeId:
        """Start one more, by the seeds of the others; its name. Returns when it has been let in."""
        taken = len(self._processes)
        free = (f"node-{number}" for number in range(taken + 1, 2 * taken + 2) if f"node-{number}" not in self._processes)
        name = NodeId(node or next(free))
        if name in self._processes:
            raise ValueError(f"{name} was started already; restart it, or give the new node another name")
        if taken >= NODES_MAX:
            raise ValueError(f"{NODES_MAX} nodes are the most that are started on one machine")
        await self._launch(name, number=taken)
        self._done(f"{name} joins")
        await self._tell([name])
        await self._join(name)
        return name

    async def kill(self, node: str) -> None:
        """SIGKILL. Returns when the process is gone, which is before the others notice."""
        self._done(f"{node} is killed")
        await self._process(node).kill()
        self._notify()

    async def pause(self, node: str) -> None:
        """SIGSTOP."""
        self._done(f"{node} stands still")
        self._process(node).pause()
        self._notify()

    async def resume(self, node: str) -> None:
        """SIGCONT; it is told of cuts and faults that it missed."""
        process = self._process(node)
        self._done(f"{node} goes on")
        process.resume()
        if process.node_id in self._untold:
            await self._tell([process.node_id])
        self._notify()

    async def restart(self, node: str) -> None:
        """Kill it if it runs, and start the same name at the same address, on the same folder. Returns when it has been let in."""
        before = self._process(node)
        self._done(f"{node} restarts")
        await before.kill()
        await self._launch(before.node_id, before.address)
        await self._tell([before.node_id])
        await self._join(before.node_id)

    async def wipe(self, node: str) -> None:
        """Kill it, and delete what it kept: a disk that is lost. `restart` starts it with an empty one."""
        process = self._process(node)
        self._done(f"{node} loses its disk")
        await process.kill()
        if not self.store_url(node).startswith("memory:"):
            await asyncio.to_thread(shutil.rmtree, self._folder(node), ignore_errors=True)

    async def leave(self, node: str) -> None:
        """Let it hand over what it owns, and tell the others that it goes. Returns when its process is gone."""
        process = self._process(node)
        self._done(f"{node} leaves")
        await process.order("leave")
        await process.gone()
        self._notify()

    async def partition(self, groups: Sequence[Iterable[str]]) -> None:
        """Cut every pair of nodes that are not in one group. Nodes in no group are a group of their own."""
        placed: dict[NodeId, int] = {}
        for number, group in enumerate(groups, 1):
            placed |= {self._process(node).node_id: number for node in group}
        names = list(self._processes)
        await self.cut((one, other) for one in names for other in names if placed.get(one, 0) != placed.get(other, 0))

    async def cut(self, pairs: Iterable[tuple[str, str]], deaf: Iterable[tuple[str, str]] = ()) -> None:
        """Cut exactly these pairs of nodes, both ways; and of each pair in ``deaf``, the first hears the second no more."""
        both = [pair for one, other in pairs for pair in ((one, other), (other, one))]
        self._cuts = {(self._process(one).node_id, self._process(other).node_id): None for one, other in both}
        self._deaf = {(self._process(one).node_id, self._process(other).node_id): None for one, other in deaf}
        self._done("the network parts" if both or self._deaf else "the network heals")
        await self._tell(self._processes)
        self._notify()

    async def disturb(
        self, node: str | None = None, *, loss: float = 0.0, delay_s: float = 0.0, breaks: float = 0.0, seed: int = 0
    ) -> None:
        """Make the network of one node, or of all, lose and delay what they send. Without numbers it is good again.

        Raises `ValueError`: the shares are not within 0 and 1, or the delay is below 0.
        """
        if not (0 <= loss <= 1 and 0 <= breaks <= 1 and 0 <= delay_s < float("inf")):
            raise ValueError(f"loss {loss} and breaks {breaks} must be within 0 and 1, delay_s {delay_s} not below 0")
        names = list(self._processes) if node is None else [self._process(node).node_id]
        for name in names:
            self._faults[name] = {"loss": loss, "delay_s": delay_s, "breaks": breaks, "seed": seed}
        await self._tell(names)

    async def heal(self) -> None:
        """Take back every cut and every disturbance. The halves find each other by themselves."""
        self._faults.clear()
        await self.cut([])

    # Running workflows

    async def client(self, node: str | None = None) -> ClusterClient:
        """A new client of this cluster, to be closed by whoever asked for it. It knows of all nodes, or of one as its only door."""
        doors = self.running if node is None else (self._process(node).node_id,)
        addresses = [str(self._processes[name].address) for name in doors]
        given = {name: self._fields[name] for name in ("secret_key", "cluster_name", "rpc_timeout") if name in self._fields}
        client = ClusterClient(addresses, **given)
        await client.open()
        return client

    async def submit(
        self,
        workflow: Workflow[Any, Any] | str,
        input: Any = MISSING,
        workflow_id: str | None = None,
        *,
        at: str | None = None,
    ) -> WorkflowHandle[Any]:
        """As `NodeRuntime.submit`, by a client, which asks the owner. With ``at``, as a program does in which that node runs: by
        `ClusterNode.submit`, so that the node forwards what is not its own.
        """
        client = await self._own_client()
        if at is None:
            return await client.submit(workflow, input, workflow_id)
        definition = REGISTRY.workflow(workflow)
        given = definition.encode_input(input)
        order = {"workflow": definition.name, "input": given.decode(), "workflow_id": workflow_id}
        return client.handle(await self._process(at).order("submit", **order))

    async def result(self, workflow_id: str, *, at: str) -> Any:
        """What a node says that came out, once it has: what `ClusterNode.handle` gives there, as it is in JSON."""
        return ANY.decode((await self._process(at).order("result", workflow_id=workflow_id)).encode(), workflow_id)

    async def handle(self, workflow_id: str) -> WorkflowHandle[Any]:
        """As `NodeRuntime.handle`, through whichever node answers."""
        return (await self._own_client()).handle(workflow_id)

    async def _own_client(self) -> ClusterClient:
        if self._client is None:
            self._client = await self.client()
        return self._client

    async def close(self) -> None:
        """Kill all. Closing twice is fine."""
        try:
            self._close_listeners()
            if self._client is not None:
                await self._client.close()
                self._client = None
        finally:
            await asyncio.gather(*(process.kill() for process in self._processes.values()))
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = None
        self._notify()

    # How

    def _folder(self, node: str) -> Path:
        if self._data is None:
            self._temporary = TemporaryDirectory(prefix="durable-cluster-")
            self._data = Path(self._temporary.name)
        return self._data / node

    async def _launch(self, name: NodeId, address: NodeAddress | None = None, number: int | None = None) -> None:
        fields = {**self._fields, "node_id": name, "bind_address": str(address or NodeAddress("127.0.0.1", 0))}
        ClusterConfig(**fields)  # a mistake in it is raised here
        orders: dict[str, Any] = {"config": fields}
        if self._app:
            place = list(self._processes).index(name) if number is None else number
            engine = self._engines[min(place, len(self._engines) - 1)]
            orders |= {"app": self._app, "store": "memory:" if engine == "memory" else f"{engine}:{self._folder(name)}"}
        self._processes[name] = await NodeProcess.start(name, orders, self._heard)

    async def _join(self, name: NodeId) -> None:
        """By some of those it can reach. A founder is told the others too: if it is empty, it must know whom to found with."""
        near = [other for other in self.running if other != name and self._joined(name, other)][: self._seeds]
        founders = self._founders if self._app and name in self._founders else ()
        told = dict.fromkeys([*founders, *near])
        seeds = [str(self._processes[other].address) for other in told][:SEEDS_MAX]
        await self._processes[name].order("join", seeds=seeds)

    async def _tell(self, names: Iterable[NodeId]) -> None:
        """Tell nodes from whom they are cut off, and how bad their network is; who cannot be told now is told later."""
        await asyncio.gather(*(self._tell_one(name) for name in list(names)))

    async def _tell_one(self, name: NodeId) -> None:
        process = self._processes[name]
        self._untold[name] = None
        others = {other.node_id: str(other.address) for other in self._processes.values()}
        cuts = {
            "peers": [address for other, address in others.items() if (name, other) in self._cuts],
            "deaf": [address for other, address in others.items() if (name, other) in self._deaf],
            "mute": [address for other, address in others.items() if (other, name) in self._deaf],
        }
        if process.state == "running":
            try:
                await process.order("cut", **cuts)
                await process.order("disturb", faults=self._faults.get(name, {}))
            except ClusterError:
                if process.state == "running":
                    raise
                return  # it is gone or paused: it will be told when it is started again, or goes on
            self._untold.pop(name, None)


async def _all_or_none(begun: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them side by side. When one fails the others are cancelled, and have ended before its error is raised."""
    tasks = [asyncio.get_running_loop().create_task(one) for one in begun]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
