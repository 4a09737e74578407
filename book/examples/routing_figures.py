"""The figures of chapter 5, computed by what routes."""

from durable.copies.tuning import ReplicationTuning
from durable.journal.keys import PARTITIONS, partition_of
from durable.membership.member import NodeId
from durable.notebook import Figure, table
from durable.replication import Roster
from durable.replication.roster import replica_sets
from durable.routing.ring import hash_of

ORDERS = ["order-7", "order-8", "order-91", "order-94"]
VOTERS = {NodeId(f"node-{number}"): b"" for number in range(1, 6)}


def the_way() -> Figure:
    sets = replica_sets(Roster(1, b"", VOTERS, (), ReplicationTuning().settings))
    rows = [
        (order, f"{hash_of(order):016x}"[:6] + "…", partition_of(order), " ".join(sets[partition_of(order)])) for order in ORDERS
    ]
    return table(rows, "id", "hash", f"partition (of {PARTITIONS})", "replica set")


if __name__ == "__main__":
    print(the_way())
