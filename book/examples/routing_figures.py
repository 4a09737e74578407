"""The figures of chapter 5, computed by what routes."""

from durable.journal.keys import PARTITIONS, partition_of
from durable.membership.member import NodeId
from durable.notebook import Figure, table
from durable.replication import Roster
from durable.replication.roster import replica_sets
from durable.replication.tuning import ReplicationTuning
from durable.routing.partitions import first_hash
from durable.routing.ring import hash_of

ORDERS = ["order-7", "order-8", "order-91", "order-94"]
VOTERS = {NodeId(f"node-{number}"): b"" for number in range(1, 6)}


def the_way() -> Figure:
    sets = replica_sets(Roster(1, b"", VOTERS, (), ReplicationTuning().settings))
    rows = [
        (order, f"{hash_of(order):016x}", partition_of(order), f"{first_hash(partition_of(order)):016x}",
         ", ".join(name.removeprefix("node-") for name in sets[partition_of(order)]))
        for order in ORDERS
    ]  # fmt: skip
    return table(rows, "workflow id", "hash", f"partition of {PARTITIONS}", "placed at", "replica set (nodes of five)")


if __name__ == "__main__":
    print(the_way())
