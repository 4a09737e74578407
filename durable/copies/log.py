"""The tail of one log, in memory: entries by absolute index, counted from 1.

**Why it exists.** Indices are absolute, never a length: what lies at or below ``base`` was truncated, its effect is in the
applied range, and the numbers of what follows do not change.

**How it works.** A list, and the index of the entry before its first. Truncation cuts the list in strides, so that its cost is
shared by many appends.

Read next: `replica`.
"""

from __future__ import annotations

from collections.abc import Sequence

from durable.copies.rows import is_seal


class LogTail:
    """Entries ``base + 1 .. last``.

    >>> log = LogTail(base=10)
    >>> log.extend([b"a", b"b", b"c"]); log.last, log.slice(12, 100)
    (13, [b'b', b'c'])
    >>> log.truncate(11); log.base, log.last
    (11, 13)
    >>> log.replace_after(12, [b"x"]); log.slice(12, 100)
    [b'b', b'x']
    """

    __slots__ = ("base", "bytes", "entries", "last")

    def __init__(self, base: int = 0, entries: Sequence[bytes] = ()) -> None:
        self.base = base
        self.entries = list(entries)
        self.last = base + len(self.entries)
        self.bytes = sum(map(len, self.entries))

    def extend(self, entries: Sequence[bytes]) -> None:
        """Append."""
        self.entries += entries
        self.last += len(entries)
        for entry in entries:
            self.bytes += len(entry)

    def entry(self, index: int) -> bytes:
        """The entry at ``index``, which must be in the tail."""
        return self.entries[index - self.base - 1]

    def slice(self, start: int, bytes_max: int) -> list[bytes]:
        """Entries from ``start`` on, as many as ``bytes_max`` allows and one at least, if there is one."""
        found: list[bytes] = []
        size = 0
        for position in range(start - self.base - 1, len(self.entries)):
            entry = self.entries[position]
            size += len(entry)
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    def truncate(self, base: int) -> None:
        """Forget what lies at or below ``base``."""
        count = base - self.base
        self.bytes -= sum(map(len, self.entries[:count]))
        del self.entries[:count]
        self.base = base

    def replace_after(self, index: int, entries: Sequence[bytes]) -> None:
        """Cut behind ``index``, and append."""
        self.bytes -= sum(map(len, self.entries[index - self.base :]))
        del self.entries[index - self.base :]
        self.last = index
        self.extend(entries)

    @property
    def sealed(self) -> bool:
        """Whether the last entry is a seal. (One that lies below it is of an older generation.)"""
        return bool(self.entries) and is_seal(self.entries[-1])
