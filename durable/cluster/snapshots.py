"""`SnapshotSender`: a partition's applied rows for a copy that lags too far, no faster than its link takes them.

**Why it exists.** A link drops what is said when too much waits to be sent. A large partition said at once would fill it: pieces of
it would be lost, and so would the appends and digests of all other partitions behind it.

**How it works.** The rows are read from a snapshot of the store, piece by piece. A few pieces are said, then others have their
turn; a piece that the link does not take is said again later.

=========================  ==============================================================================================
what happens               then
=========================  ==============================================================================================
the last piece was taken   the snapshot is let go
the partition moved on     nothing is said; the receiver asks anew, and is told
the receiver asks anew     it begins again, with a newer snapshot
the link takes nothing     for `GIVEN_UP_S`: given up; the receiver will ask
many ask                   `SNAPSHOTS_MAX` are read at once, the others wait
=========================  ==============================================================================================

**Limits.** A receiver that is slower than the link buffers for it. Read next: `durable.replication.transfer`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from durable.copies.effects import SendSnapshot, snapshot_pieces
from durable.copies.messages import SnapshotPiece
from durable.errors import StoreError
from durable.membership.member import NodeId
from durable.ports import Snapshot, Store

log = logging.getLogger("durable")
BURST_PIECES = 8
PAUSE_S = 0.02
GIVEN_UP_S = 10.0
SNAPSHOTS_MAX = 16


class Sending:
    """One snapshot on its way. ``piece`` is the next to be said; None when all were taken."""

    def __init__(self, store: Store, order: SendSnapshot, piece_bytes: int, now: float) -> None:
        self.taken_at = now
        self._snapshot: Snapshot = store.snapshot()
        rows = self._snapshot.scan(order.partition.to_bytes(2, "big"))
        self._pieces: Iterator[SnapshotPiece] = snapshot_pieces(order, self._snapshot.get, rows, piece_bytes)
        self.piece = next(self._pieces, None)

    def taken(self, now: float) -> None:
        self.taken_at = now
        self.piece = next(self._pieces, None)

    def close(self) -> None:
        self._snapshot.close()


class SnapshotSender:
    """The snapshots that one node sends. ``say`` says one piece to a peer; False: the link does not take it now."""

    def __init__(self, store: Store, say: Callable[[NodeId, SnapshotPiece], bool], piece_bytes: int) -> None:
        self._store = store
        self._say = say
        self._piece_bytes = piece_bytes
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[tuple[NodeId, int], Sending] = {}
        self._waiting: dict[tuple[NodeId, int], SendSnapshot] = {}
        self._timer: asyncio.TimerHandle | None = None

    def send(self, order: SendSnapshot) -> None:
        """Begin, or begin anew."""
        key = (order.to, order.partition)
        self._end(key)
        self._waiting[key] = order
        self._go_on()

    def close(self) -> None:
        """Say nothing more."""
        self._waiting.clear()
        for key in list(self._under_way):
            self._end(key)
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        """One turn of each."""
        now = self._loop.time()
        while self._waiting and len(self._under_way) < SNAPSHOTS_MAX:
            key = next(iter(self._waiting))
            self._under_way[key] = Sending(self._store, self._waiting.pop(key), self._piece_bytes, now)
            self._burst(key, now)
        if self._timer is None and self._under_way:
            self._timer = self._loop.call_later(PAUSE_S, self._wake)

    def _wake(self) -> None:
        self._timer = None
        try:
            for key in list(self._under_way):
                self._burst(key, self._loop.time())
            self._go_on()
        except StoreError as error:  # whoever writes next ends this node's part; a copy is not made from such a disk
            log.warning("no snapshots are sent any more: %s", error)
            self.close()

    def _burst(self, key: tuple[NodeId, int], now: float) -> None:
        sending = self._under_way[key]
        for _ in range(BURST_PIECES):
            if sending.piece is None or not self._say(key[0], sending.piece):
                break
            sending.taken(now)
        if sending.piece is None or now - sending.taken_at > GIVEN_UP_S:
            self._end(key)

    def _end(self, key: tuple[NodeId, int]) -> None:
        sending = self._under_way.pop(key, None)
        if sending is not None:
            sending.close()
