"""W10: the ring beside uhashring, 100 nodes of 150 positions each: ``python -m bench --workloads W10``.

Lookups and changes of membership are timed, the rings in turns, round by round. What moves on a join, and how evenly keys
lie, is counted, and comes out the same on any machine. ``ketama`` is the other of the two ways in which uhashring hashes.

Limits: uhashring walks a generator for the nodes after the first, and is asked for a tenth as many of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from durable.membership.member import NodeId
from durable.routing.partitions import PARTITIONS, PartitionRing, first_hash, partition_of
from durable.routing.ring import HashRing

NODES, POSITIONS, KEYS = 100, 150, 20_000
THREE, THREE_OF_UHASHRING = 5_000, 500
NAMES = [f"node-{number}" for number in range(NODES)]
KEY_LIST = [f"workflow-{number}" for number in range(KEYS)]
JOINED_BY = (1, 3, 10, 30, 100)
JOINS, RINGS_OF_TEN = 20, 300
OWN = "durable"

Timed = dict[str, Callable[[], object]]


def absent() -> str | None:
    """Why uhashring does not run here; None if it does."""
    try:
        import uhashring  # noqa: F401
    except ImportError:
        return "the package `uhashring` is not installed"
    return None


def measure(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All of W10."""
    rings = {OWN: _own()} | (_others() if absent() is None else {})
    return {
        "nodes": NODES,
        "positions": POSITIONS,
        "absent": absent(),
        "rings": compare(rings, rounds, say),
        "moved": [_moved(nodes, say) for nodes in JOINED_BY],
        "spread": _spread(say),
    }


def compare(rings: dict[str, Timed], rounds: int, say: Callable[[str], None]) -> dict[str, dict[str, list[float]]]:
    """Every ring, every round, another one first each time: lookups/s, lookups of three/s, seconds a change."""
    seen: dict[str, dict[str, list[float]]] = {name: {"lookup": [], "three": [], "change": []} for name in rings}
    names = list(rings)
    for number in range(rounds):
        say(f"rings, round {number + 1} of {rounds}")
        for name in names[number % len(names) :] + names[: number % len(names)]:
            ring = rings[name]
            three = THREE if name == OWN else THREE_OF_UHASHRING
            seen[name]["lookup"].append(round(KEYS / _seconds(ring["lookup"])))
            seen[name]["three"].append(round(three / _seconds(ring["three"])))
            seen[name]["change"].append(round(_seconds(ring["change"]) / 2, 7))
    return seen


def _own() -> Timed:
    ring = _ring(NAMES)
    return {
        "lookup": lambda: [ring.get_node(key) for key in KEY_LIST],
        "three": lambda: [ring.get_nodes(key, 3) for key in KEY_LIST[:THREE]],
        "change": lambda: _come_and_go(ring),
    }


def _others() -> dict[str, Timed]:
    import uhashring

    made = {"uhashring": uhashring.HashRing(NAMES, vnodes=POSITIONS)}
    made["uhashring, ketama"] = uhashring.HashRing(NAMES, vnodes=POSITIONS, hash_fn="ketama")
    return {
        name: {
            "lookup": lambda ring=ring: [ring.get_node(key) for key in KEY_LIST],
            "three": lambda ring=ring: [_first(ring.range(key, size=3)) for key in KEY_LIST[:THREE_OF_UHASHRING]],
            "change": lambda ring=ring: _come_and_go(ring),
        }
        for name, ring in made.items()
    }


def _first(found: Iterable[Any]) -> list[Any]:
    return list(islice(found, 3))


def _come_and_go(ring: Any) -> None:
    ring.add_node("newcomer")
    ring.remove_node("newcomer")


def _ring(names: Iterable[str], ring: HashRing | None = None) -> HashRing:
    ring = HashRing(POSITIONS) if ring is None else ring
    for name in names:
        ring.add_node(NodeId(name))
    return ring


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _moved(nodes: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The share of the keys that move when one joins ``nodes``, for rings of different names; and how many keys moved between
    two nodes that were there before, which must be none.
    """
    say(f"keys that move on a join, {nodes} nodes")
    shares, between = [], 0
    for trial in range(JOINS):
        ring = _ring(f"host-{trial}-{number}" for number in range(nodes))
        before = [ring.get_node(key) for key in KEY_LIST]
        ring.add_node(NodeId(f"newcomer-{trial}"))
        after = [ring.get_node(key) for key in KEY_LIST]
        moved = [new for old, new in zip(before, after, strict=True) if old != new]
        shares.append(len(moved) / KEYS)
        between += sum(new != f"newcomer-{trial}" for new in moved)
    return {"nodes": nodes, "shares": shares, "between_others": between}


def deviation(nodes: int) -> float:
    """The standard deviation of the share that moves to one who joins ``nodes``: of its arcs, which have a Beta distribution,
    and of the sample of keys.
    """
    share = 1 / (nodes + 1)
    arcs = share * (1 - share) / ((nodes + 1) * POSITIONS + 1)
    return float((arcs + share * (1 - share) / KEYS) ** 0.5)


def _spread(say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """max/mean of ten nodes, for single keys (the exact share of the circle) and for partitions: of node-1 to node-10, and over
    many rings of other names.
    """
    say("spread over ten nodes")
    key_of = {partition_of(key): key for key in KEY_LIST}
    assert len(key_of) == PARTITIONS == len({first_hash(number) for number in range(PARTITIONS)})

    def of_keys(names: list[str]) -> float:
        positions, share = list(_ring(names)), Counter[str]()
        previous = positions[-1][0] - 2**64
        for point, node in positions:
            share[node] += point - previous
            previous = point
        return max(share.values()) / (2**64 / len(names))

    def of_partitions(names: list[str]) -> float:
        ring = _ring(names, PartitionRing(POSITIONS))
        return max(Counter(map(ring.get_node, key_of.values())).values()) / (PARTITIONS / len(names))

    ten = [f"node-{number}" for number in range(1, 11)]
    names = [[f"host-{trial}-{number}" for number in range(10)] for trial in range(RINGS_OF_TEN)]
    return {
        kind: {"node_1_to_10": round(of(ten), 4), "others": [round(of(some), 4) for some in names]}
        for kind, of in (("keys", of_keys), ("partitions", of_partitions))
    }

