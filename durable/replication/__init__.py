"""Chapter 6: who may commit. A log a partition, replicated to a majority, as a pure state machine.

Read in this order: `messages` (what travels), `rows` (what is kept), `effects` (what a shell is asked to do), `log`, `replica`
(the rules), `following`, `transfer`, `election`, `owner` (what a copy does, by its role), `moving` and `roster` (how the
members change), `birth` (how it all begins), `reads`, `replication` (all of it together: the class that a shell drives).
"""

from durable.replication.messages import ZERO, Epoch, Message, Roster, decode, encode
from durable.replication.replication import ReplicaStatus, Replication
from durable.replication.rows import PREFIX, ROSTER, applied_index
from durable.replication.tuning import ReplicationTuning

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
