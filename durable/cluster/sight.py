"""`Sight`: what the nodes of a `LocalCluster` last said, and waiting for what they will say.

**How it works.** Every child reports each change of what it believes and of what it owns. All that is asked here is answered from
those reports, also about nodes that are gone: their last view. Whoever waits is woken by the next report, and never asks again
and again.

Read next: `durable.cluster.local`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from durable.cluster.process import NodeProcess
from durable.errors import ClusterError
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId
from durable.routing.partitions import PartitionRing, first_hash, partition_of

HISTORY_MAX = 10_000
PATIENCE_S = 30.0


class Belief(msgspec.Struct, frozen=True):
    """At ``at_s`` seconds after the cluster was made, ``observer`` came to believe this of a member."""

    at_s: float
    observer: NodeId
    member: Member
    was: MemberStatus | None


class Deed(msgspec.Struct, frozen=True):
    """What was done to the cluster, and when: "node-3 is killed"."""

    at_s: float
    words: str


class Sight:
    """The reading half of a `LocalCluster`.

    ``history`` holds every change of a belief, ``deeds`` what was done to the cluster, the newest `HISTORY_MAX` of each.
    """

    def __init__(self, partitions: int, virtual_nodes_per_node: int) -> None:
        self.history: deque[Belief] = deque(maxlen=HISTORY_MAX)
        self.deeds: deque[Deed] = deque(maxlen=HISTORY_MAX)
        self._partitions, self._virtual_nodes = partitions, virtual_nodes_per_node
        self._processes: dict[NodeId, NodeProcess] = {}
        self._cuts: dict[tuple[NodeId, NodeId], None] = {}
        self._deaf: dict[tuple[NodeId, NodeId], None] = {}
        self._changed = asyncio.Event()
        self._began_s = 0.0
        self._listeners: list[Callable[[], None]] = []
        self._closed = False

    # What they said

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

    def owners(self) -> dict[int, tuple[NodeId, int]]:
        """Who owns which partition, with the epoch's counter, as the running nodes last said. An owner that is paused or cut off
        may not know that it is none any more; the higher epoch counts.
        """
        found: dict[int, tuple[NodeId, int]] = {}
        for name in self.running:
            for partition, epoch in self._processes[name].owned.items():
                if partition not in found or epoch > found[partition][1]:
                    found[partition] = (name, epoch)
        return dict(sorted(found.items()))

    def owner(self, workflow_id: str) -> NodeId | None:
        """The node that runs an execution, as the nodes last said; None while nobody does."""
        found = self.owners().get(partition_of(workflow_id))
        return found[0] if found else None

    def epoch(self, workflow_id: str) -> int | None:
        """The counter of the epoch in which it is owned, as the nodes last said; None while nobody owns it."""
        found = self.owners().get(partition_of(workflow_id))
        return found[1] if found else None

    def owned(self) -> bool:
        """Whether every partition has an owner that runs."""
        return len(self.owners()) == self._partitions

    def ring(self, node: str | None = None) -> PartitionRing:
        """The ring as one node sees it, or last saw it, by default the first that runs: whom it holds ALIVE or SUSPECT."""
        seen = self._process(node or next(iter(self.running), "")).members.values()
        ring = PartitionRing(self._virtual_nodes, self._partitions)
        for name in sorted(one.node_id for one in seen if one.status.is_live):
            ring.add_node(name)
        return ring

    def balanced(self) -> bool:
        """Whether all agree who is there, and every partition is with the node that their ring names."""
        owners = self.owners()
        if not self.converged() or len(owners) != self._partitions:
            return False
        ring = self.ring()
        return all(ring.nodes_from(first_hash(number, self._partitions), 1) == [name] for number, (name, _) in owners.items())

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

    async def wait_owned(self, timeout_s: float = PATIENCE_S) -> None:
        """Return when every partition has an owner that runs. Raises `TimeoutError`, with all views."""
        await self.wait_until(self.owned, timeout_s)

    async def wait_balanced(self, timeout_s: float = PATIENCE_S) -> None:
        """Return when `balanced`. Raises `TimeoutError`, with all views."""
        await self.wait_until(self.balanced, timeout_s)

    # How

    def _process(self, node: str) -> NodeProcess:
        try:
            return self._processes[NodeId(node)]
        except KeyError:
            raise ClusterError(f"there is no {node!r}; there are {', '.join(self._processes) or 'no nodes'}") from None

    def _joined(self, one: NodeId, other: NodeId) -> bool:
        return (one, other) not in self._cuts and (one, other) not in self._deaf and (other, one) not in self._deaf

    def _heard(self, process: NodeProcess, member: Member | None, was: MemberStatus | None) -> None:
        if member is not None:
            at_s = asyncio.get_running_loop().time() - self._began_s
            self.history.append(Belief(at_s, process.node_id, member, was))
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        for changed in list(self._listeners):
            changed()

    def _close_listeners(self) -> None:
        """One last look, and no more."""
        if not self._closed:
            self._closed = True
            self._notify()
        self._listeners.clear()

    def _done(self, words: str) -> None:
        self.deeds.append(Deed(asyncio.get_running_loop().time() - self._began_s, words))

    def _describe(self) -> str:
        lines = []
        for name, process in self._processes.items():
            seen = ", ".join(f"{one.node_id} {one.status.name}" for one in process.members.values())
            owns = f", owns {len(process.owned)} partitions" if process.owned else ""
            lines.append(f"{name} ({process.state}) sees {seen or 'nobody'}{owns}")
        return "\n".join(lines)
