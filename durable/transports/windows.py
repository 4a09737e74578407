"""Replay windows: a sealed datagram counts once, however often it is sent.

**Why it exists.** Whoever can listen can send again what was heard. A recording carries a true seal; only its number shows
that it is old.

**How it works.** A sender numbers its datagrams from 0 in each of its lives (a *session*: 16 random bytes). Per session, the
highest number seen and a bit for each of the `WINDOW` numbers below it are kept:

=====================================  =========
number                                 verdict
=====================================  =========
above the highest                      fresh; becomes the highest
in the window, its bit not set         fresh: it was overtaken on the way
in the window, its bit set             replayed
below the window                       too old
=====================================  =========

**Limits.** At most `SESSIONS_MAX` sessions are kept, and the one unheard for longest is forgotten. A node that has just
started, or has forgotten, knows nothing: it can be told an old packet once. What it then hears are old claims, which the
order over claims (`durable.membership.member`) outranks; at worst, somebody refutes.

Source: the sliding window of IPsec, RFC 4303, section 3.4.3. Read next: `udp`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

WINDOW = 1_024
SESSIONS_MAX = 8_192

Kept = TypeVar("Kept")


class ReplayWindow:
    """The numbers of one session.

    >>> window = ReplayWindow()
    >>> [window.admit(number) for number in (5, 3, 5, 3, 2000, 5)]
    ['', '', 'replayed', 'replayed', '', 'too old']
    """

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0

    def admit(self, number: int) -> str:
        """Note the number. Empty if it is fresh, else why it is not."""
        ahead = number - self._highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & (1 << WINDOW) - 1
            self._highest = number
            return ""
        if -ahead >= WINDOW:
            return "too old"
        if self._seen >> -ahead & 1:
            return "replayed"
        self._seen |= 1 << -ahead
        return ""


class Sessions(Generic[Kept]):
    """What is kept of each session; the one unheard for longest is forgotten at the bound.

    >>> sessions = Sessions[str](most=2)
    >>> for name in (b"a", b"b", b"c"):
    ...     sessions.keep(name, "kept")
    >>> sessions.get(b"a"), sessions.get(b"c")
    (None, 'kept')
    """

    def __init__(self, most: int = SESSIONS_MAX) -> None:
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._most = most

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, session: bytes) -> Kept | None:
        """What is kept of it; it counts as heard."""
        kept = self._kept.get(session)
        if kept is not None:
            self._kept.move_to_end(session)
        return kept

    def keep(self, session: bytes, what: Kept) -> None:
        """Only for a session that has proved itself: else a stranger could flush the others out."""
        self._kept[session] = what
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
