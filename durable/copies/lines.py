"""The lines of a digest that two nodes know to be alike: what is compared in their place is how many they are, and a sum.

Why, and when a line comes in, is said in `durable.replication.quiet`. Read next: `tuning`.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from durable.copies.messages import Row

_encode = msgspec.msgpack.Encoder().encode


def checksum(row: Row) -> int:
    """The same on every machine."""
    return crc32(_encode(row))


class Lines:
    """Their checksums by partition, and the sum of these.

    >>> lines = Lines(); lines.put(7, 100); lines.put(8, 20); lines.put(7, 1); lines.total
    21
    """

    __slots__ = ("at", "rows", "total")

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.total = 0
        self.at = float("-inf")
        """When the peer was heard, and so each of them."""

    def put(self, partition: int, sum_of_row: int) -> None:
        self.total += sum_of_row - self.rows.get(partition, 0)
        self.rows[partition] = sum_of_row

    def drop(self, partition: int) -> None:
        self.total -= self.rows.pop(partition, 0)
