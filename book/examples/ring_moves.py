"""The fixed vectors of the ring, and how many of 100,000 keys move when a node joins."""

from collections import Counter

from durable.membership import NodeId
from durable.routing.ring import HashRing, hash_of

ring = HashRing(virtual_nodes_per_node=150)
for name in ("node-1", "node-2", "node-3"):
    ring.add_node(NodeId(name))
print(len(ring), "positions")
print("workflow-123", hex(hash_of("workflow-123")), ring.get_nodes("workflow-123", count=3))

keys = [f"workflow-{number}" for number in range(100_000)]
before = {key: ring.get_node(key) for key in keys}
ring.add_node(NodeId("node-4"))
moved = Counter((before[key], ring.get_node(key)) for key in keys if before[key] != ring.get_node(key))
print(f"moved: {sum(moved.values()) / len(keys):.1%} of the keys; 1/(n+1) = {1 / 4:.1%}")
for (old, new), count in sorted(moved.items()):
    print(f"    from {old} to {new}: {count:,}")
