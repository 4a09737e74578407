"""Chapter 6: who may commit. A log a partition, replicated to a majority, as a pure state machine.

What copies say, and what they keep, is in `durable.copies`. Read here in this order: `replica` (the rules), `following`,
`transfer`, `election`, `owner` (what a copy does, by its role), `moving` and `roster` (how the members change), `birth` (how it
all begins), `reads`, `standing`, `replication` (all of it together: the class that a shell drives).
"""

from durable.copies.messages import ZERO, Epoch, Message, Roster, decode, encode
from durable.copies.rows import PREFIX, ROSTER, applied_index
from durable.copies.tuning import ReplicationTuning
from durable.replication.replication import ReplicaStatus, Replication

__all__ = [
    "PREFIX",
    "ROSTER",
    "ZERO",
    "Epoch",
    "Message",
    "ReplicaStatus",
    "Replication",
    "ReplicationTuning",
    "Roster",
    "applied_index",
    "decode",
    "encode",
]
