"""What replicas say to each other, and how it is written.

**How it works.** A frame is one version byte, then a msgpack array of messages: everything that one node has for another in
a turn, of however many partitions. Every frame begins with a `Hello`, so that the receiver knows which disk speaks. All
messages about a partition name its generation; an epoch is ``(counter, node)``, an index counts entries from 1.

=================  ========================================================  ==========================================
message            says                                                      is answered by
=================  ========================================================  ==========================================
Hello              this is my disk, my cluster, the newest roster I know     RosterNews, if that is an old one
PreVote            would you promise, if I asked?                            PreVoted
Prepare            promise to follow nobody older than this epoch            Promise, or Refused
Fetch              give me your entries from here on                         Piece, SnapshotPiece, or Refused
Sync               I own this epoch: adopt my log                            Ack, or Fetch
Append             the next entries of my epoch                              Ack, Behind, Fetch, or Refused
Digest             all that I own, and how far each is                       DigestAnswer
Confirm            do you still know me as the owner of these?               Confirmed
HandOver           take over from me                                         (a candidacy)
Base               that generation was sealed; I have what it ends with      BaseHeld, or Fetch
Superseded         what you speak of is over: the partition has moved        (nothing)
Found, Accepted    the birth of a cluster
RosterNews         the newest decided roster                                 (nothing)
AskChange          let me in, or out                                         (a Plan)
Plan, PlanReady    the next roster, if copies are made / they are made
=================  ========================================================  ==========================================

**Limits.** What does not fit the declared types raises `ProtocolError` and changes nothing. The length of a frame is
bounded by the transport; a piece of a log by ``ReplicationTuning.piece_bytes``.

Source: the exchange of Viewstamped Replication (Liskov, Cowling 2012, section 4.2), on durable state. Read next: `rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from durable.errors import ProtocolError
from durable.membership.member import NAME_CHARS_MAX, NodeId

VERSION = 1
_Number = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Partition = Annotated[int, Meta(ge=0, le=0xFFFF)]
_Name = Annotated[NodeId, Meta(max_length=NAME_CHARS_MAX)]
_Store = Annotated[bytes, Meta(max_length=64)]

Epoch: TypeAlias = tuple[_Number, _Name]
"""Ownership of a partition: a counter, and who counts. Compared in that order."""

Members: TypeAlias = dict[_Name, _Store]
"""A replica set in the order of the ring: each node with the id of the disk that was let in."""

ZERO: Epoch = (0, NodeId(""))
"""Before any epoch."""


class Roster(Struct, frozen=True, array_like=True):
    """Who may vote: decided by a majority of the version before. ``voters`` stand in the order of their names."""

    version: _Number
    cluster_id: _Store
    voters: Members
    witnesses: tuple[_Name, ...]
    settings: dict[str, str]


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """The first message of every frame. ``stands``: I would own a partition; no, if I leave, or am a witness."""

    store_id: _Store
    cluster_id: _Store
    roster_version: _Number
    stands: bool


class PreVote(Struct, frozen=True, array_like=True, tag=2):
    """Would you promise? Changes nothing at the one who is asked."""

    partition: _Partition
    generation: _Number
    round: _Number


class PreVoted(Struct, frozen=True, array_like=True, tag=3):
    """``granted``: I hear no owner either. ``promised``: the candidate's epoch must be above it."""

    partition: _Partition
    generation: _Number
    round: _Number
    granted: bool
    promised: Epoch


class Prepare(Struct, frozen=True, array_like=True, tag=4):
    """R2. Promise this epoch."""

    partition: _Partition
    generation: _Number
    epoch: Epoch


class Promise(Struct, frozen=True, array_like=True, tag=5):
    """R2. On stable storage: nothing below ``epoch`` will be accepted here. My log is of ``log_epoch`` and ends at ``last``."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    log_epoch: Epoch
    last: _Number
    commit: _Number


class Refused(Struct, frozen=True, array_like=True, tag=6):
    """R1. ``epoch`` is over: ``promised`` is above it."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    promised: Epoch


class Fetch(Struct, frozen=True, array_like=True, tag=7):
    """Entries from ``start`` on, for the one who campaigns for, or follows, ``epoch`` (`ZERO`: for a base)."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    start: _Number


class Piece(Struct, frozen=True, array_like=True, tag=8):
    """Entries from ``start`` on, as many as fit."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    start: _Number
    entries: list[bytes]
    commit: _Number


class SnapshotPiece(Struct, frozen=True, array_like=True, tag=9):
    """Rows of the applied range as it was at ``index``: piece ``number``, counted from 0; ``more`` follow or not."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    index: _Number
    number: _Number
    more: bool
    rows: list[tuple[bytes, bytes]]


class Sync(Struct, frozen=True, array_like=True, tag=10):
    """I own ``epoch``. Its log began with everything up to ``floor``; adopt it."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    members: Members
    floor: _Number
    commit: _Number


class Append(Struct, frozen=True, array_like=True, tag=11):
    """The entries behind ``prev``, of ``epoch``."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    prev: _Number
    entries: list[bytes]
    commit: _Number


class Ack(Struct, frozen=True, array_like=True, tag=12):
    """R4. On stable storage: my log is of ``epoch`` and ends at ``last``."""

    partition: _Partition
    generation: _Number
    epoch: Epoch
    last: _Number


class Behind(Struct, frozen=True, array_like=True, tag=13):
    """R3. My log is not of ``epoch`` yet: send a Sync."""

    partition: _Partition
    generation: _Number
    epoch: Epoch


Row: TypeAlias = tuple[_Partition, _Number, Epoch, _Number, _Number]
"""A line of a digest: partition, generation, epoch, last index, commit."""

Answer: TypeAlias = tuple[_Partition, _Number, Epoch, Epoch, _Number]
"""The answer to a line: partition, generation, promised, epoch of the log, last index: on stable storage."""


class Digest(Struct, frozen=True, array_like=True, tag=14):
    """Every ``gossip_interval``: what I own, but for ``quiet`` lines of checksum ``total`` that you know. Also a sign of life."""

    rows: list[Row]
    quiet: _Number = 0
    total: _Number = 0


class DigestAnswer(Struct, frozen=True, array_like=True, tag=15):
    """Where each of those stands here. ``known``: the lines that were not listed are what I know."""

    rows: list[Answer]
    known: bool = True


class Confirm(Struct, frozen=True, array_like=True, tag=16):
    """Is none of these (partition, generation, epoch) superseded at your place? Asked for reads."""

    round: _Number
    rows: list[tuple[_Partition, _Number, Epoch]]


class Confirmed(Struct, frozen=True, array_like=True, tag=17):
    """Those of the round that nobody has superseded here."""

    round: _Number
    partitions: list[_Partition]


class HandOver(Struct, frozen=True, array_like=True, tag=18):
    """I have stopped and everything of ``epoch`` is committed: campaign, without a pre-vote."""

    partition: _Partition
    generation: _Number
    epoch: Epoch


class Base(Struct, frozen=True, array_like=True, tag=19):
    """R8. The generation before this one was sealed, and that is committed; it ended at ``index``. ``held``: I can give it.

    With a ``log_epoch``: the generation has had an owner since, and this is its log up to ``index``, not only what it began with.
    """

    partition: _Partition
    generation: _Number
    members: Members
    index: _Number
    promised: Epoch
    held: bool
    log_epoch: Epoch = ZERO


class BaseHeld(Struct, frozen=True, array_like=True, tag=20):
    """R8. What ``generation`` begins with is on stable storage here."""

    partition: _Partition
    generation: _Number


class Superseded(Struct, frozen=True, array_like=True, tag=21):
    """The partition has moved on to ``generation``, which has these members."""

    partition: _Partition
    generation: _Number
    members: Members


class Found(Struct, frozen=True, array_like=True, tag=22):
    """Birth: these are our seeds, and these the nodes at them. Are you empty, and were you told the same?"""

    seeds: tuple[str, ...]
    founders: tuple[_Name, ...]
    settings: dict[str, str]


class Accepted(Struct, frozen=True, array_like=True, tag=23):
    """Birth: on stable storage, I will be in no other first roster than that of this list. ``asked_by``: the disk of who asked."""

    founders: tuple[_Name, ...]
    witness: bool
    asked_by: _Store


class RosterNews(Struct, frozen=True, array_like=True, tag=24):
    """A roster that was decided."""

    roster: Roster


class AskChange(Struct, frozen=True, array_like=True, tag=25):
    """To the owner of the roster: let ``node`` in with the disk ``store_id``, or (None) let it go."""

    node: _Name
    store_id: _Store | None
    witness: bool


class Plan(Struct, frozen=True, array_like=True, tag=26):
    """The next roster, not decided yet: make copies for those whom it brings in. ``number``: the how manieth plan of its maker."""

    roster: Roster
    number: _Number


class PlanReady(Struct, frozen=True, array_like=True, tag=27):
    """Of these partitions, which I own, a majority of the replica set that would come with this plan holds a copy, and all of it
    that is alive. ``owned``: all that I own.
    """

    version: _Number
    number: _Number
    partitions: list[_Partition]
    owned: list[_Partition]


Message: TypeAlias = (
    Hello | PreVote | PreVoted | Prepare | Promise | Refused | Fetch | Piece | SnapshotPiece | Sync | Append | Ack | Behind
    | Digest | DigestAnswer | Confirm | Confirmed | HandOver | Base | BaseHeld | Superseded
    | Found | Accepted | RosterNews | AskChange | Plan | PlanReady
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])
_VERSION_BYTE = bytes((VERSION,))


def encode(messages: Sequence[Message]) -> bytes:
    """A frame: all that one node has for another in a turn."""
    return _VERSION_BYTE + _encoder.encode(messages)


def decode(data: bytes) -> list[Message]:
    """The messages of a frame.

    >>> decode(encode([Ack(7, 1, (3, NodeId("node-2")), 41)]))
    [Ack(partition=7, generation=1, epoch=(3, 'node-2'), last=41)]

    Raises:
        ProtocolError: it is of another version, or does not hold what a frame holds. Nothing of it is used.
    """
    if not data or data[0] != VERSION:
        spoken = f"version {data[0]}" if data else "nothing"
        raise ProtocolError(f"a peer's replicas speak {spoken}, ours version {VERSION}; the frame was dropped. Run one version")
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a frame of {len(data)} bytes was dropped: {error}") from error
