"""Effects: what the replication core wants done. A shell carries them out in order, and decides nothing.

===============  =======================================================================================================
effect           the shell
===============  =======================================================================================================
Persist          writes it to the store; all writes of a turn may share a batch, kept in order; then one fsync, and
                 `Replication.synced` with the last ``mark``
Apply            writes it like a Persist (its rows hold the applied index too); needs no fsync of its own
InstallSnapshot  deletes what begins with ``clear`` and writes the rows, in ONE batch; marked like a Persist
Drop             the same without rows: a copy that nobody needs any more
Send             sends it at once: an Append leaves while the own fsync runs
SendSynced       sends it when everything before it in the list is on stable storage
SendSnapshot     reads the partition's applied range and its state at one instant of the store, be it later, and sends
                 what `snapshot_pieces` makes of them
Committed        answers whoever appended up to that index (its Apply came before)
Owned, Lost      tells the engine: this partition is ours in this epoch, its applied rows are complete; or no longer
Confirmed        answers whoever asked for the round
RosterChanged    puts the voters on the ring
===============  =======================================================================================================

**The one rule about disks.** Writes reach stable storage in the order of the effects: after a crash the store holds a prefix
of them. So what truncates a log, or claims an index, need not wait for the fsync of what it rests on: it comes after it.

Read next: `log`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from durable.copies.messages import Epoch, Message, Roster, SnapshotPiece
from durable.copies.rows import snapshot_index
from durable.membership.member import NodeId
from durable.ports import Batch, Write


@dataclass(slots=True)
class Persist:
    """Rows under the node's own prefix. ``mark`` grows by one with every Persist, InstallSnapshot and Drop."""

    writes: Sequence[Write]
    mark: int


@dataclass(slots=True)
class Apply:
    """Committed up to ``index``: rows of the applied range, and the row of the applied index."""

    partition: int
    index: int
    writes: Batch


@dataclass(slots=True)
class InstallSnapshot:
    """Rows that replace everything that begins with one of ``clear``."""

    partition: int
    index: int
    clear: tuple[bytes, ...]
    writes: Sequence[Write]
    mark: int


@dataclass(slots=True)
class Drop:
    """Delete everything that begins with one of ``clear``, then write the row that says that we did."""

    partition: int
    clear: tuple[bytes, ...]
    writes: Sequence[Write]
    mark: int


@dataclass(slots=True)
class Send:
    """A message, at once."""

    to: NodeId
    message: Message


@dataclass(slots=True)
class SendSynced:
    """A message that says something about the disk."""

    to: NodeId
    message: Message


@dataclass(slots=True)
class SendSnapshot:
    """The applied range of a partition, to ``to``."""

    to: NodeId
    partition: int
    generation: int
    epoch: Epoch


@dataclass(slots=True)
class Committed:
    """Everything up to ``index`` is on stable storage at a majority, and applied here."""

    partition: int
    index: int


@dataclass(slots=True)
class Owned:
    """This node owns the partition; everything that was committed before is applied here."""

    partition: int
    epoch: Epoch


@dataclass(slots=True)
class Lost:
    """It does no longer. What was appended and not reported as committed may be committed or not."""

    partition: int
    epoch: Epoch
    why: str


@dataclass(slots=True)
class Confirmed:
    """When the round was asked for, nobody else owned the partition."""

    partition: int
    round: int


@dataclass(slots=True)
class RosterChanged:
    """A roster was decided."""

    roster: Roster


Effect: TypeAlias = (
    Persist | Apply | InstallSnapshot | Drop | Send | SendSynced | SendSnapshot
    | Committed | Owned | Lost | Confirmed | RosterChanged
)


def snapshot_pieces(
    order: SendSnapshot,
    get: Callable[[bytes], bytes | None],
    rows: Iterable[tuple[bytes, bytes]],
    piece_bytes: int,
) -> Iterator[SnapshotPiece]:
    """The messages that carry a snapshot, the last with ``more`` off; none at all if the partition has moved on since it was
    ordered. ``get`` and ``rows`` read one instant of the store.

    >>> order = SendSnapshot(NodeId("b"), 7, 0, (1, NodeId("a")))
    >>> from durable.copies.rows import applied_row
    >>> store = dict([applied_row(7, 9)])
    >>> [(p.index, p.number, p.more) for p in snapshot_pieces(order, store.get, [(b"k1", b"v"), (b"k2", b"v")], 3)]
    [(9, 0, True), (9, 1, False)]
    """
    index = snapshot_index(get, order.partition, order.generation, order.epoch)
    if index is None:
        return
    piece: list[tuple[bytes, bytes]] = []
    size = number = 0
    for key, value in rows:
        if piece and size + len(key) + len(value) > piece_bytes:
            yield SnapshotPiece(order.partition, order.generation, order.epoch, index, number, True, piece)
            piece, size, number = [], 0, number + 1
        piece.append((key, value))
        size += len(key) + len(value)
    yield SnapshotPiece(order.partition, order.generation, order.epoch, index, number, False, piece)
