"""Every key in the store, in one table.

All keys begin with the partition of their execution, so that a partition is one range: it can be read, shipped to another
node or dropped as a whole, and two partitions never touch. Behind the partition stands one letter for the table, then the
workflow id, which ends with a zero byte (an id holds none), then numbers in big-endian, so that byte order is their order.

====== ==================================================== =====================================================
table  key behind the partition                             value
====== ==================================================== =====================================================
``e``  workflow id                                          `StatusRow`: where the execution stands
``a``  workflow id                                          empty; present while there is work to go on with
``j``  workflow id, incarnation, run, row number            `Start`, `Command` or `Completion`, written once
``r``  workflow id, incarnation, run, sequence no., attempt `Attempt`
``h``  workflow id, incarnation, run, sequence number       the last heartbeat of a running function
``t``  time in ms, workflow id, run, sequence number        empty; a timer that has not fired
``m``  workflow id, incarnation, arrival                    a message that nobody has received yet
``o``  workflow id, incarnation, number                     `Envelope` on its way to another execution
``s``  workflow id, sender id, sender's incarnation         number of the last envelope accepted from that sender; outlives a purge
``k``  workflow id, request key                             empty; a request that was accepted; outlives a purge
``x``  workflow id                                          time of a purge: the id's tombstone
``p``  id of a request, zero byte, workflow id              when it purged that id; kept for an hour
``c``  nothing                                              a time: nobody who runs the partition goes back behind it
====== ==================================================== =====================================================

What belongs to the node and not to a partition has the prefix ``0xffff``. (Stores of an earlier version keep their clock there;
it is read, and written no more.)

Read next: `durable.journal.journal`.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from durable.errors import WorkflowError

PARTITIONS: Final = 256
WORKFLOW_ID_BYTES_MAX: Final = 512

STATUS: Final = b"e"
ACTIVE: Final = b"a"
JOURNAL: Final = b"j"
ATTEMPT: Final = b"r"
HEARTBEAT: Final = b"h"
TIMER: Final = b"t"
MAIL: Final = b"m"
OUTBOX: Final = b"o"
SENDER: Final = b"s"
REQUEST: Final = b"k"
TOMBSTONE: Final = b"x"
PURGE: Final = b"p"
CLOCK: Final = b"c"

OF_ONE_EXECUTION: Final = (STATUS, ACTIVE, JOURNAL, ATTEMPT, HEARTBEAT, MAIL, OUTBOX)
"""The tables whose keys begin with a workflow id: what a purge removes."""
OF_ONE_ID: Final = (SENDER, REQUEST)
"""What was accepted for an id. It goes with the tombstone: whoever repeats himself is told what he would have been told before."""

NODE: Final = b"\xff\xff"
STORE_ID: Final = NODE + b"store-id"
"""By what the other nodes of a cluster know this disk."""


@lru_cache(maxsize=4096)
def partition_of(workflow_id: str) -> int:
    """The partition of an id: the top bits of its 64-bit hash.

    >>> partition_of("workflow-123")
    133
    """
    return blake2b(workflow_id.encode(), digest_size=8).digest()[0]


@lru_cache(maxsize=4096)
def id_bytes(workflow_id: str) -> bytes:
    """The id as it stands in keys. Raises `WorkflowError` for an id that cannot be one."""
    try:
        raw = workflow_id.encode()
    except UnicodeEncodeError:
        raw = b""
    if not raw or len(raw) > WORKFLOW_ID_BYTES_MAX or b"\0" in raw:
        raise WorkflowError(
            f"{workflow_id[:40]!r} cannot be a workflow id: it takes 1 to {WORKFLOW_ID_BYTES_MAX} bytes of UTF-8 "
            "without a zero byte. Nothing was recorded."
        )
    return raw + b"\0"


def number(value: int, size: int = 4) -> bytes:
    """A number in big-endian, so that byte order is numeric order."""
    return value.to_bytes(size, "big")


def table(partition: int, name: bytes) -> bytes:
    """The prefix of a table in a partition."""
    return partition.to_bytes(2, "big") + name


def of(partition: int, name: bytes, workflow_id: str) -> bytes:
    """The prefix (or the key) of one execution in a table."""
    return partition.to_bytes(2, "big") + name + id_bytes(workflow_id)


def timer(partition: int, fire_at_ms: int, workflow_id: str, run: int, sequence_number: int) -> bytes:
    return table(partition, TIMER) + number(fire_at_ms, 8) + id_bytes(workflow_id) + number(run) + number(sequence_number)


def purge(partition: int, request_id: str, workflow_id: str) -> bytes:
    """That a request has purged an id: a row each, since they may be many."""
    return table(partition, PURGE) + request_id.encode() + b"\0" + workflow_id.encode()


def fire_at_ms(key: bytes) -> int:
    """When the timer of this key is due."""
    return int.from_bytes(key[3:11], "big")


def parse_timer(key: bytes) -> tuple[int, str, int, int]:
    """``(fire_at_ms, workflow_id, run, sequence_number)`` of a timer's key."""
    return (
        fire_at_ms(key),
        key[11:-9].decode(),
        int.from_bytes(key[-8:-4], "big"),
        int.from_bytes(key[-4:], "big"),
    )


def parse_id(key: bytes) -> str:
    """The workflow id of a key in a table whose keys begin with one."""
    return key[3 : key.index(b"\0", 3)].decode()
