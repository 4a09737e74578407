"""Which keys a scan covers: every scan is one half-open range ``low <= key < high``.

A scan is asked for by prefix, by starting key and by direction; an engine wants two bounds. Turning the one
into the other is small and easy to get wrong (what follows a prefix of ``0xff`` bytes? may the starting key
lie outside the prefix?), so it is done once, here, for all engines.

Read next: `durable.storage.folder`.
"""

from __future__ import annotations


def key_range(prefix: bytes, start: bytes | None, reverse: bool) -> tuple[bytes, bytes | None]:
    """The range ``(low, high)`` of a scan: ``low`` is in it, ``high`` is not, None means no upper end.

    The range is empty when ``high`` is not above ``low``: see `is_empty`.

    >>> key_range(b"ab", None, False)
    (b'ab', b'ac')
    >>> key_range(b"ab", b"abm", True)
    (b'ab', b'abm\\x00')
    >>> key_range(b"\\xff", None, False)
    (b'\\xff', None)
    """
    low, high = prefix, after_prefix(prefix)
    if start is None:
        return low, high
    if not reverse:
        return max(low, start), high
    just_after = start + b"\0"  # the least key above `start`: a reversed scan includes `start` itself
    return low, just_after if high is None else min(high, just_after)


def after_prefix(prefix: bytes) -> bytes | None:
    """The least key above every key with this prefix; None when there is none (it is all ``0xff``)."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None


def is_empty(low: bytes, high: bytes | None) -> bool:
    """Whether no key can be in the range."""
    return high is not None and high <= low
