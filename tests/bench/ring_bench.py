"""The ring beside uhashring: 100 nodes x 150 positions, interleaved, medians of the rounds, as JSON.

pip install uhashring && python tests/bench/ring_bench.py
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable

import uhashring

from durable.membership.member import NodeId
from durable.routing.partitions import PARTITIONS, PartitionRing, first_hash, partition_of
from durable.routing.ring import HashRing

NODES, POSITIONS, KEYS, ROUNDS = 100, 150, 20_000, 7
NAMES = [f"node-{i}" for i in range(NODES)]
KEY_LIST = [f"workflow-{i}" for i in range(KEYS)]


def ours(names: list[str], ring: HashRing | None = None) -> HashRing:
    ring = HashRing(POSITIONS) if ring is None else ring
    for name in names:
        ring.add_node(NodeId(name))
    return ring


def theirs() -> uhashring.HashRing:
    return uhashring.HashRing(NAMES, vnodes=POSITIONS, hash_fn="ketama")


def theirs_plain() -> uhashring.HashRing:
    return uhashring.HashRing(NAMES, vnodes=POSITIONS)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def change(ring: HashRing | uhashring.HashRing) -> None:
    ring.add_node("newcomer")
    ring.remove_node("newcomer")


def compare() -> dict[str, dict[str, float]]:
    rings = {
        "durable": ours(NAMES),
        "uhashring": theirs_plain(),
        "uhashring_ketama": theirs(),
    }
    measured: dict[str, dict[str, list[float]]] = {
        name: {"lookup": [], "change": [], "three": []} for name in rings
    }
    for _ in range(ROUNDS):
        for name, ring in rings.items():
            measured[name]["lookup"].append(
                seconds(lambda ring=ring: [ring.get_node(key) for key in KEY_LIST])
            )
            measured[name]["change"].append(seconds(lambda ring=ring: change(ring)) / 2)
            if name == "durable":
                some = KEY_LIST[:5000]
                measured[name]["three"].append(
                    seconds(lambda ring=ring, some=some: [ring.get_nodes(key, 3) for key in some])
                )
            else:
                some = KEY_LIST[:500]
                measured[name]["three"].append(
                    10
                    * seconds(
                        lambda ring=ring, some=some: [
                            list(_first(ring.range(key, size=3), 3)) for key in some
                        ]
                    )
                )
    return {
        name: {
            "lookups_per_s": round(KEYS / statistics.median(times["lookup"])),
            "three_nodes_per_s": round(5000 / statistics.median(times["three"])),
            "membership_change_ms": round(statistics.median(times["change"]) * 1e3, 3),
        }
        for name, times in measured.items()
    }


def _first(items, count):  # type: ignore[no-untyped-def]
    for _, item in zip(range(count), items, strict=False):
        yield item


def spread(trials: int = 300) -> dict[str, dict[str, float]]:
    """max/mean of ten nodes: of node-1..node-10, and over many sets of random names."""

    def plain(names: list[str]) -> float:
        positions, share = list(ours(names)), Counter()  # type: ignore[var-annotated]
        previous = positions[-1][0] - 2**64
        for point, node in positions:
            share[node] += point - previous
            previous = point
        return max(share.values()) / (2**64 / len(names))

    key_of = {partition_of(key): key for key in KEY_LIST}
    assert len(key_of) == PARTITIONS == len({first_hash(partition) for partition in range(PARTITIONS)})

    def partitions(names: list[str]) -> float:
        ring = ours(names, PartitionRing(POSITIONS))
        owned = Counter(ring.get_node(key) for key in key_of.values())
        return max(owned.values()) / (PARTITIONS / len(names))

    ten = [f"node-{i}" for i in range(1, 11)]
    figures = {}
    for label, measure in (("plain", plain), ("partitions_256", partitions)):
        values = sorted(measure([f"host-{trial}-{i}" for i in range(10)]) for trial in range(trials))
        figures[label] = {
            "node_1_to_10": round(measure(ten), 3),
            "p50": round(values[len(values) // 2], 3),
            "p99": round(values[int(len(values) * 0.99)], 3),
        }
    return figures


def moved_on_join(trials: int = 20) -> dict[str, float]:
    shares = []
    for trial in range(trials):
        ring = ours([f"host-{trial}-{i}" for i in range(NODES)])
        before = [ring.get_node(key) for key in KEY_LIST]
        ring.add_node(NodeId("newcomer"))
        shares.append(
            sum(old != ring.get_node(key) for old, key in zip(before, KEY_LIST, strict=True)) / KEYS
        )
    return {"expected": round(1 / (NODES + 1), 5), "mean": round(statistics.mean(shares), 5)}


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "nodes": NODES,
                "positions_per_node": POSITIONS,
                "rings": compare(),
                "max_over_mean_of_ten_nodes": spread(),
                "share_of_keys_moved_on_join": moved_on_join(),
            },
            indent=2,
        )
    )
