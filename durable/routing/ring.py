"""A consistent-hash ring: who owns a key, agreed on by everybody who knows the same names.

**Why it exists.** ``hash(key) % n`` gives every node the same answer too, but when n changes, nearly every
key moves. On a ring only 1/(n+1) of them move when a node joins, all of them to the newcomer; and when a node
leaves, only its own keys move.

**How it works.** Every node stands at ``virtual_nodes_per_node`` pseudo-random positions on a circle of 2**64
points. A key hashes to a point; its owner is the node at the first position at or after it, clockwise. One
position a node would make very uneven arcs; 150 bring ten nodes within 1.25 of the mean (99th percentile).
The positions live in one sorted array and their owners in a list beside it, so a lookup is one hash and one
binary search, and a change of membership copies the stretches between the 150 positions that come or go,
nothing else.

=====================  =============================================================================
point of position i    first 8 bytes, big-endian, of blake2b(digest_size=8) of ``f"{node}#{i}"``
point of a key         the same of the key's UTF-8
owner                  first position at or after the point; past the last, the first one
two nodes, one point   the smaller name stands first (so the order of joining never matters)
=====================  =============================================================================

**Limits.** The spread is random, not balanced: expect a fifth more than the mean on the busiest of ten nodes.
The ring knows names only; who is alive is `durable.membership`'s business, and who may commit is the
replica's.

Source: Karger et al., "Consistent Hashing and Random Trees" (STOC 1997), sections 4 and 5; virtual nodes as
in DeCandia et al., "Dynamo" (SOSP 2007), section 4.2. Read next: `durable.routing.partitions`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Set
from functools import lru_cache
from hashlib import blake2b

from durable.errors import EmptyRing
from durable.membership.member import NodeId

HASH_BITS = 64
VIRTUAL_NODES_MAX = 10_000
NAMES_REMEMBERED = 256
"""Nodes come and go on a ring, and their positions stay the same: those of so many names are kept."""


def hash_of(key: str) -> int:
    """The point of a key: an integer in [0, 2**64), the same on every platform and Python (unlike ``hash``).

    >>> hex(hash_of("workflow-123"))
    '0x853457d5a5d2d1c3'
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=NAMES_REMEMBERED)
def points_of(node: str, count: int) -> tuple[int, ...]:
    """Where a node of that name stands, with ``count`` positions, in order."""
    return tuple(sorted([hash_of(f"{node}#{i}") for i in range(count)]))


class HashRing:
    """Nodes on a circle; ``len(ring)`` is the number of positions (3 nodes with 150 each: 450).

    >>> ring = HashRing()
    >>> for name in ("node-1", "node-2", "node-3"):
    ...     ring.add_node(NodeId(name))
    >>> ring.get_node("workflow-123")
    'node-2'
    >>> ring.get_nodes("workflow-123", count=2)
    ['node-2', 'node-1']

    Args:
        virtual_nodes_per_node: positions of each node, 1 to 10,000. More: a more even spread, and slower
        changes.

    Raises:
        ValueError: ``virtual_nodes_per_node`` is out of range.
    """

    def __init__(self, virtual_nodes_per_node: int = 150) -> None:
        if not 1 <= virtual_nodes_per_node <= VIRTUAL_NODES_MAX:
            raise ValueError(
                f"virtual_nodes_per_node is {virtual_nodes_per_node}; "
                f"it must be between 1 and {VIRTUAL_NODES_MAX}"
            )
        self.virtual_nodes_per_node = virtual_nodes_per_node
        self._points = array("Q")
        self._owners: list[NodeId] = []
        self._nodes: dict[NodeId, None] = {}

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The names on the ring, sorted."""
        return tuple(sorted(self._nodes))

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, node: object) -> bool:
        return node in self._nodes

    def __iter__(self) -> Iterator[tuple[int, NodeId]]:
        """Every position in order, as (point, node): what a figure of the ring draws."""
        return iter(zip(self._points, self._owners, strict=True))

    def add_node(self, node: NodeId) -> None:
        """Put a node on the ring. 1/(n+1) of the keys move, all of them to it.

        Raises:
            ValueError: the name is empty, or on the ring already.
        """
        if not node:
            raise ValueError("a node needs a name")
        if node in self._nodes:
            raise ValueError(f"{node!r} is on the ring already: two nodes cannot share a name")
        points, owners, start = array("Q"), [], 0
        for point in points_of(node, self.virtual_nodes_per_node):
            end = self._index(point, node)
            points += self._points[start:end]
            owners += self._owners[start:end]
            points.append(point)
            owners.append(node)
            start = end
        self._points = points + self._points[start:]
        self._owners = owners + self._owners[start:]
        self._nodes[node] = None

    def remove_node(self, node: NodeId) -> None:
        """Take a node off the ring. Only its keys move, each to the node that was second for it.

        Raises:
            ValueError: the node is not on the ring.
        """
        if node not in self._nodes:
            raise ValueError(f"{node!r} is not on the ring; it has {', '.join(self.nodes) or 'no nodes'}")
        points, owners, start = array("Q"), [], 0
        for point in points_of(node, self.virtual_nodes_per_node):
            # Not before start: should two positions of this node share a point, the second stands behind.
            end = max(start, self._index(point, node))
            points += self._points[start:end]
            owners += self._owners[start:end]
            start = end + 1
        self._points = points + self._points[start:]
        self._owners = owners + self._owners[start:]
        del self._nodes[node]

    def hold(self, nodes: Mapping[NodeId, object] | Set[NodeId]) -> None:
        """Add and remove until these are the nodes of the ring.

        >>> ring = HashRing()
        >>> ring.hold({"node-1", "node-2"}); ring.hold({"node-2", "node-3"}); ring.nodes
        ('node-2', 'node-3')
        """
        for node in self.nodes:
            if node not in nodes:
                self.remove_node(node)
        for node in nodes:
            if node not in self:
                self.add_node(node)

    def get_node(self, key: str) -> NodeId:
        """The owner of a key.

        Raises:
            EmptyRing: no node is on the ring.
        """
        owners = self._owners
        if not owners:
            raise EmptyRing(
                f"nobody owns {key!r}: the ring has no nodes. Add one, or wait for members to be found"
            )
        index = bisect_left(self._points, self.place(key))
        return owners[index if index < len(owners) else 0]

    def get_nodes(self, key: str, count: int = 3) -> list[NodeId]:
        """The first ``count`` distinct nodes clockwise from the key: the owner, then who takes over from it,
        in order.

        Args:
            key: any string.
            count: at least 1; more than there are nodes gives them all.

        Raises:
            EmptyRing: no node is on the ring.
            ValueError: ``count`` is below 1.
        """
        return self.nodes_from(self.place(key), count, key)

    def nodes_from(self, point: int, count: int, key: str = "a key there") -> list[NodeId]:
        """The same from a point on the circle, in [0, 2**64); ``key`` is for the messages."""
        if count < 1:
            raise ValueError(f"count is {count}; ask for at least one node")
        owners = self._owners
        if not owners:
            raise EmptyRing(
                f"nobody owns {key!r}: the ring has no nodes. Add one, or wait for members to be found"
            )
        wanted, size = min(count, len(self._nodes)), len(owners)
        index = bisect_left(self._points, point)
        found: list[NodeId] = []
        while len(found) < wanted:
            node = owners[index % size]
            if node not in found:
                found.append(node)
            index += 1
        return found

    def place(self, key: str) -> int:
        """The point on the circle from which a key's owner is looked up, in [0, 2**64). `PartitionRing` snaps
        it.
        """
        return hash_of(key)

    def _index(self, point: int, node: NodeId) -> int:
        """Where (point, node) stands or would stand; one point of two nodes is ordered by their names."""
        index = bisect_left(self._points, point)
        while index < len(self._points) and self._points[index] == point and self._owners[index] < node:
            index += 1
        return index
