"""`LocalCluster`: real processes on this machine, to start, kill, stop and part. For notebooks and tests.

**Why it exists.** A cluster is understood by breaking one. In one process nothing can be killed; so every node is a process,
on the loopback address, on a port that the system chose.

**How it works.** A child (`durable.cluster.child`) reports every change of what its node believes, so everything that is asked
here is answered from reports, also of nodes that are gone: their last view. Whoever waits, waits for a report.

==================================  ==========================================================================================
``kill``                            SIGKILL: the process gets no chance to do anything more
``pause``, ``resume``               SIGSTOP, SIGCONT: it stands still, and goes on as if nothing had been
``partition``, ``heal``             at the transport: every node is told from whom it is cut off
``restart``                         the same name, the same port, a new process: its next life
==================================  ==========================================================================================

**Limits.** Children end with their parent, whatever ends it; on Linux also those that are paused. A paused node cannot be
told anything: part the network before, or resume it first. One machine: nobody's clock differs from anybody's.

Read next: `durable.cluster.child`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import msgspec

from durable.cluster.ask import NodeView
from durable.cluster.config import PRESETS, ClusterConfig
from durable.cluster.process import NodeProcess
from durable.errors import ClusterError
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId

HISTORY_MAX = 10_000
NODES_MAX = 64
PATIENCE_S = 30.0


class Belief(msgspec.Struct, frozen=True):
    """At ``at_s`` seconds after the cluster was made, ``observer`` came to believe this of a member."""

    at_s: float
    observer: NodeId
    member: Member
    was: MemberStatus | None


class Deed(msgspec.Struct, frozen=True):
    """What was done to the cluster, and when: "kill node-3"."""

    at_s: float
    words: str


class LocalCluster:
    """A cluster of ``n`` processes, node-1 to node-n.

    ::

        async with LocalCluster(5) as cluster:
            await cluster.kill("node-3")
            await cluster.wait_converged()        # all the others have found out

    Args:
        n: how many nodes to start, 1 to 64.
        preset: "lan" (fast, the default) or "default".
        seeds: how many of the others each is told at its start; it is to find the rest.
        changes: further fields of `ClusterConfig`, the same for every node.

    Raises:
        ValueError: ``n`` or the preset is out of range.
    """

    def __init__(self, n: int, *, preset: str = "lan", seeds: int = 3, **changes: Any) -> None:
        if not 1 <= n <= NODES_MAX:
            raise ValueError(f"n is {n}; it must be between 1 and {NODES_MAX}")
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; it must be one of {', '.join(PRESETS)}")
        self.history: deque[Belief] = deque(maxlen=HISTORY_MAX)
        self.deeds: deque[Deed] = deque(maxlen=HISTORY_MAX)
        self._n, self._seeds = n, seeds
        self._fields = {**PRESETS[preset], **changes}
        self._processes: dict[NodeId, NodeProcess] = {}
        self._groups: dict[NodeId, int] = {}
        self._changed = asyncio.Event()
        self._began_s = 0.0
        self._listeners: list[Callable[[], None]] = []
        self._closed = False

    def __repr__(self) -> str:
        nodes = ", ".join(f"{process.node_id} {process.state}" for process in self._processes.values())
        return f"<LocalCluster: {nodes or 'not started'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What is to be seen

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """Every name that was ever started, in that order."""
        return tuple(self._processes)

    @property
    def running(self) -> tuple[NodeId, ...]:
        """The names whose process runs and is not paused."""
        return tuple(name for name, process in self._processes.items() if process.state == "running")

    @property
    def closed(self) -> bool:
        """Whether all that ran is being, or has been, killed by `close`."""
        return self._closed

    def states(self) -> dict[NodeId, str]:
        """What became of each process: "running", "paused" or "gone"."""
        return {name: process.state for name, process in self._processes.items()}

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` after every report of a node and everything that is done here; what is returned ends that.

        The last call comes when the cluster is about to be closed: all is still as it was then.
        """
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed) if changed in self._listeners else None

    def address(self, node: str) -> NodeAddress:
        """Where a node listens."""
        return self._process(node).address

    def process_id(self, node: str) -> int:
        """The process of a node, for the tools of the operating system."""
        return self._process(node).process_id

    def members(self) -> dict[NodeId, dict[NodeId, Member]]:
        """What every node believes, or believed when it was last heard: observer, then member."""
        return {name: dict(process.members) for name, process in self._processes.items()}

    def beliefs_about(self, node: str) -> dict[NodeId, MemberStatus | None]:
        """What every other running node believes of one; None if it is not in its list."""
        found = {}
        for observer in self.running:
            if observer != node:
                member = self._processes[observer].members.get(NodeId(node))
                found[observer] = member.status if member else None
        return found

    def converged(self) -> bool:
        """Whether every running node believes exactly those alive that run and that it is not cut off from, each in its present
        life.
        """
        for observer in self.running:
            truth = {name: self._processes[name].boot for name in self.running if self._joined(observer, name)}
            listed = self._processes[observer].members.values()
            if any(one.status is MemberStatus.SUSPECT for one in listed):
                return False
            if {one.node_id: one.boot for one in listed if one.status is MemberStatus.ALIVE} != truth:
                return False
        return True

    async def view(self, node: str) -> NodeView:
        """What a node sees, asked now: with its counters of dropped packets."""
        return msgspec.convert(await self._process(node).order("view"), NodeView)

    # Waiting

    async def wait_until(self, holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Return when ``holds()``; it is looked at after every report of a node. Raises `TimeoutError`, with all views."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"it did not come about within {timeout_s:g} s.\n{self._describe()}") from None

    async def wait_converged(self, timeout_s: float = PATIENCE_S) -> None:
        """Return when `converged`. Raises `TimeoutError`, with all views."""
        await self.wait_until(self.converged, timeout_s)

    async def wait_believed(self, node: str, status: MemberStatus, timeout_s: float = PATIENCE_S) -> None:
        """Return when every other running node believes this of one. Raises `TimeoutError`, with all views."""
        await self.wait_until(lambda: set(self.beliefs_about(node).values()) == {status}, timeout_s)

    # Doing

    async def start(self) -> None:
        """Start all, let them find each other, and wait until they have."""
        self._began_s = asyncio.get_running_loop().time()
        names = [NodeId(f"node-{number}") for number in range(1, self._n + 1)]
        try:
            await asyncio.gather(*(self._launch(name) for name in names))
            self._processes = {name: self._processes[name] for name in names}  # not in the order in which they came up
            await asyncio.gather(*(self._join(name) for name in names))
            await self.wait_converged()
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
        await self._launch(name)
        self._done(f"{name} joins")
        await self._tell_cuts([name])
        await self._join(name)
        return name

    async def kill(self, node: str) -> None:
        """SIGKILL. Returns when the process is gone, which is before the others notice."""
        self._done(f"kill {node}")
        await self._process(node).kill()
        self._notify()

    async def pause(self, node: str) -> None:
        """SIGSTOP."""
        self._done(f"pause {node}")
        self._process(node).pause()
        self._notify()

    async def resume(self, node: str) -> None:
        """SIGCONT."""
        self._done(f"resume {node}")
        self._process(node).resume()
        self._notify()

    async def restart(self, node: str) -> None:
        """Kill it if it runs, and start the same name at the same address. Returns when it has been let in."""
        before = self._process(node)
        self._done(f"restart {node}")
        await before.kill()
        await self._launch(before.node_id, before.address)
        await self._tell_cuts([before.node_id])
        await self._join(before.node_id)

    async def leave(self, node: str) -> None:
        """Let it tell the others that it goes. Returns when its process is gone."""
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
        self._done("partition" if placed else "heal")
        self._groups = placed
        await self._tell_cuts(self.running)
        self._notify()

    async def heal(self) -> None:
        """Take back the partition. The halves find each other by themselves."""
        await self.partition([])

    async def close(self) -> None:
        """Kill all. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._notify()
        self._listeners.clear()
        await asyncio.gather(*(process.kill() for process in self._processes.values()))
        self._notify()

    # How

    def _done(self, words: str) -> None:
        self.deeds.append(Deed(asyncio.get_running_loop().time() - self._began_s, words))

    def _process(self, node: str) -> NodeProcess:
        try:
            return self._processes[NodeId(node)]
        except KeyError:
            raise ClusterError(f"there is no {node!r}; there are {', '.join(self._processes) or 'no nodes'}") from None

    def _joined(self, one: NodeId, other: NodeId) -> bool:
        return self._groups.get(one, 0) == self._groups.get(other, 0)

    async def _launch(self, name: NodeId, address: NodeAddress | None = None) -> None:
        fields = {**self._fields, "node_id": name, "bind_address": str(address or NodeAddress("127.0.0.1", 0))}
        ClusterConfig(**fields)  # a mistake in it is raised here
        self._processes[name] = await NodeProcess.start(name, fields, self._heard)

    async def _join(self, name: NodeId) -> None:
        seeds = [str(self._processes[other].address) for other in self.running if other != name and self._joined(name, other)]
        await self._processes[name].order("join", seeds=seeds[: self._seeds])

    async def _tell_cuts(self, names: Iterable[NodeId]) -> None:
        orders = []
        for name in names:
            cut = [str(process.address) for other, process in self._processes.items() if not self._joined(name, other)]
            orders.append(self._processes[name].order("cut", peers=cut))
        await asyncio.gather(*orders)

    def _heard(self, process: NodeProcess, member: Member | None, was: MemberStatus | None) -> None:
        if member is not None:
            at_s = asyncio.get_running_loop().time() - self._began_s
            self.history.append(Belief(at_s, process.node_id, member, was))
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        for changed in list(self._listeners):
            changed()

    def _describe(self) -> str:
        lines = []
        for name, process in self._processes.items():
            seen = ", ".join(f"{one.node_id} {one.status.name}" for one in process.members.values())
            lines.append(f"{name} ({process.state}) sees {seen or 'nobody'}")
        return "\n".join(lines)
