"""`Router`: which node to ask about a workflow, as far as can be known here.

**Why it exists.** The ring says who *should* own a key; a majority of replicas says who *does*. They differ while a node is down,
and after it has come back. Nobody but the owner knows for certain, so everybody else guesses, asks, and is put right.

**How it works.** What was learned counts for as long as its owner is on the ring; else the ring's word does:

==========================================  ================================================================
known of the partition                      route
==========================================  ================================================================
nothing                                     the ring's first node
an owner that is on the ring                that owner
an owner that is not (dead, left)           the ring's first node: whoever takes over is one of the next
==========================================  ================================================================

Two claims about a partition are ordered by epoch, ``(counter, owner)``, and the higher one wins, in whatever order they are
heard.

**Limits.** A route is a hint, never a permission: a wrong one costs a question more.

Read next: `durable.rpc.remote`, which asks and follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from durable.membership.member import NodeId
from durable.routing.partitions import PartitionRing, first_hash, partition_of


@dataclass(frozen=True, slots=True)
class Local:
    """This node owns it. ``epoch`` is 0 if that is the ring's word only."""

    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Remote:
    """Another node owns it."""

    owner: NodeId
    epoch: int = 0


Route: TypeAlias = Local | Remote


class Router:
    """What one node knows of all partitions.

    >>> ring = PartitionRing()
    >>> ring.add_node(NodeId("node-1")); ring.add_node(NodeId("node-2"))
    >>> router = Router(ring, me=NodeId("node-1"))
    >>> router.route("workflow-123")
    Remote(owner='node-2', epoch=0)
    >>> router.learn(133, NodeId("node-1"), epoch=4), router.learn(133, NodeId("node-2"), epoch=3)
    (True, False)
    >>> router.route("workflow-123")
    Local(epoch=4)

    Args:
        ring: the live members; it is read at each question, so it may change.
        me: this node; None for a client, which owns nothing.
    """

    def __init__(self, ring: PartitionRing, me: NodeId | None = None) -> None:
        self.ring = ring
        self.me = me
        self._known: dict[int, tuple[int, NodeId]] = {}

    def partition_of(self, workflow_id: str) -> int:
        """The partition of an id, in [0, partitions)."""
        return partition_of(workflow_id, self.ring.partitions)

    def route(self, workflow_id: str) -> Route:
        """Whom to ask about a workflow. Raises `EmptyRing`."""
        return self.route_partition(self.partition_of(workflow_id))

    def route_partition(self, partition: int) -> Route:
        """Whom to ask about a partition. Raises `EmptyRing`."""
        epoch, owner = self._known.get(partition, (0, None))
        if owner is None or owner not in self.ring:
            epoch, owner = 0, self.candidates(partition, 1)[0]
        return Local(epoch) if owner == self.me else Remote(owner, epoch)

    def candidates(self, partition: int, count: int) -> list[NodeId]:
        """The first nodes of the ring for a partition, the likeliest first; at most ``count``. Raises `EmptyRing`."""
        return self.ring.nodes_from(first_hash(partition, self.ring.partitions), count, f"partition {partition}")

    def learn(self, partition: int, owner: NodeId, epoch: int) -> bool:
        """Somebody says that ``owner`` has it, in the epoch with this counter. Whether that is news."""
        claim = (epoch, owner)
        known = self._known.get(partition)
        if known is not None and claim <= known:
            return False
        self._known[partition] = claim
        return True
