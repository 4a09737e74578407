"""Who keeps a copy of a partition: the first of the ring, and not too many that could never own it.

**Why it exists.** A witness keeps a log and votes, but owns nothing. A replica set of which most are witnesses stops when one
node dies, though most of its members are alive; one of witnesses only never has an owner.

==========================================  =====================================================
of R copies, witnesses keep at most         if
==========================================  =====================================================
a minority, ``(R - 1) // 2``                there are enough others for the rest
what the others leave                       there are not: two nodes and a witness are a set of 3
==========================================  =====================================================

The ring of all voters is walked from the partition's first hash value; a witness that would be one too many is passed by. So a
node that comes or goes changes one member of a set at most, as on any ring.

**Limits.** With R = 2 a witness keeps nothing as long as there are two other nodes. Read next: `router`.
"""

from __future__ import annotations

from functools import lru_cache

from durable.membership.member import NodeId
from durable.routing.partitions import first_hash
from durable.routing.ring import HashRing

REMEMBERED = 16


@lru_cache(maxsize=REMEMBERED)
def place(
    voters: tuple[NodeId, ...], witnesses: tuple[NodeId, ...], virtual_nodes: int, partitions: int, replicas: int
) -> tuple[tuple[NodeId, ...], ...]:
    """For each partition: who keeps its copies, in the order of the ring. It depends on names only, and is asked for often.

    >>> place(("a", "b", "w1", "w2"), ("w1", "w2"), 150, 4, 3)
    (('a', 'w1', 'b'), ('w1', 'a', 'b'), ('a', 'b', 'w2'), ('w2', 'b', 'a'))
    """
    if not voters:
        return ((),) * partitions
    ring = HashRing(virtual_nodes)
    for node in voters:
        ring.add_node(node)
    passive = frozenset(witnesses) & frozenset(voters)
    most = max((replicas - 1) // 2, replicas - len(voters) + len(passive))
    around = [ring.nodes_from(first_hash(number, partitions), len(voters) if passive else replicas) for number in range(partitions)]
    return tuple([_first(nodes, passive, most, replicas) for nodes in around])


def _first(nodes: list[NodeId], passive: frozenset[NodeId], most: int, replicas: int) -> tuple[NodeId, ...]:
    """The first ``replicas`` of them, without a witness after the first ``most``."""
    spare = set([node for node in nodes if node in passive][most:])
    return tuple([node for node in nodes if node not in spare][:replicas])
