"""What a replica keeps on disk, in one table, and how it is read back.

All of it lies under the node's own prefix, apart from the applied range of a partition, which is an engine's business. Numbers
are big-endian, so that a scan gives a log in order.

======  ==============================  ==========================================================================
table   key behind ``0xffff R``         value
======  ==============================  ==========================================================================
``a``   partition                       the applied index: written in the batch of the rows that it counts
``l``   partition, index                an entry of the log
``s``   partition                       `State`: which generation, what was promised, whose log this is
``r``   (nothing)                       `Roster`: the newest decided one that is known here
``f``   (nothing)                       `Found`: the founders whose first roster this node has agreed to
======  ==============================  ==========================================================================

An entry is the msgpack of its writes (an array), or of a `Seal` (a map): the first byte tells them apart. Entries have no
epoch: a log belongs as a whole to the ``log_epoch`` of its state row. ``commit`` is not kept: what was applied is known to be
committed, and a commit index that is too low is always safe.

Read next: `log`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import Struct

from durable.copies.messages import ZERO, Epoch, Found, Members, Roster
from durable.errors import StoreCorrupted
from durable.journal.keys import NODE
from durable.ports import Batch, Write

PREFIX: Final = NODE + b"R"
ROSTER: Final = 0xFFFE
"""The number of the roster's own partition."""

ROSTER_KEY: Final = PREFIX + b"r"
FOUND_KEY: Final = PREFIX + b"f"


class State(Struct, frozen=True, array_like=True):
    """A replica's durable state, apart from its log."""

    generation: int = 0
    members: Members = {}
    promised: Epoch = ZERO
    log_epoch: Epoch = ZERO
    base: int = 0
    """Entries up to here are not in the log: the applied range holds what they did."""
    ready: bool = False
    """R8. Holds all that the generation began with: may vote."""
    next_generation: int = 0
    next_members: Members = {}
    """R8. The generation was sealed, and the partition moved to this one, in which this node has no part; 0: it was not."""


class Seal(Struct, frozen=True):
    """The last entry of a generation: where the partition goes. The roster's own log is made of nothing else."""

    version: int
    members: Members
    roster: Roster | None = None


_encoder = msgspec.msgpack.Encoder()
_entry = msgspec.msgpack.Decoder(list[tuple[bytes, bytes | None]])
_seal = msgspec.msgpack.Decoder(Seal)
_state = msgspec.msgpack.Decoder(State)
_roster = msgspec.msgpack.Decoder(Roster)
_found = msgspec.msgpack.Decoder(Found)

encode_row = _encoder.encode
"""A `State`, `Roster`, `Found` or `Seal` as it is stored."""


def encode_entry(writes: Batch) -> bytes:
    """A batch as an entry of a log.

    >>> decode_entry(encode_entry([(b"k", b"v"), (b"gone", None)]))
    [(b'k', b'v'), (b'gone', None)]
    """
    return _encoder.encode(writes)


def decode_entry(entry: bytes) -> list[Write]:
    return _entry.decode(entry)


def is_seal(entry: bytes) -> bool:
    """Whether an entry is a `Seal`: the only one that is a map."""
    return entry[0] & 0xF0 == 0x80


def decode_seal(entry: bytes) -> Seal:
    return _seal.decode(entry)


def is_entry(entry: bytes) -> bool:
    """Whether it can be applied: what cannot must not get into a log, where it would stay.

    >>> is_entry(encode_entry([])), is_entry(b""), is_entry(b"noise")
    (True, False, False)
    """
    try:
        if is_seal(entry):
            decode_seal(entry)
        else:
            decode_entry(entry)
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
        return False
    return True


def log_key(partition: int, index: int) -> bytes:
    return b"\xff\xffRl" + (partition << 64 | index).to_bytes(10, "big")


def log_prefix(partition: int) -> bytes:
    return b"\xff\xffRl" + partition.to_bytes(2, "big")


def state_key(partition: int) -> bytes:
    return b"\xff\xffRs" + partition.to_bytes(2, "big")


def applied_key(partition: int) -> bytes:
    return b"\xff\xffRa" + partition.to_bytes(2, "big")


def applied_row(partition: int, index: int) -> Write:
    return applied_key(partition), index.to_bytes(8, "big")


def applied_index(get: Callable[[bytes], bytes | None], partition: int) -> int:
    """The applied index of a partition, read from a store or a snapshot of it."""
    value = get(applied_key(partition))
    return int.from_bytes(value, "big") if value else 0


def snapshot_index(get: Callable[[bytes], bytes | None], partition: int, generation: int, epoch: Epoch) -> int | None:
    """R8. Up to where what is applied now may be given as a log of this generation and epoch; None: not at all any more.

    Whoever has the rows of a committed seal and not the seal itself would write behind it. So once the generation is left,
    nothing is given under its name; and between the seal's application and the row that says where it led, all but the seal.
    """
    row = get(state_key(partition))
    state = State() if row is None else _state.decode(row)
    applied = applied_index(get, partition)
    if epoch == ZERO:
        return applied if generation in (state.generation, state.next_generation) else None
    if state.next_generation or state.generation != generation:
        return None
    entry = get(log_key(partition, applied))
    behind_seal = entry is not None and is_seal(entry) and decode_seal(entry).version > generation
    return applied - 1 if behind_seal else applied


class Loaded:
    """What a store holds of ours."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self.roster: Roster | None = None
        self.found: Found | None = None
        self.states: dict[int, State] = {}
        self.applied: dict[int, int] = {}
        self.logs: dict[int, list[tuple[int, bytes]]] = {}
        try:
            for key, value in rows:
                if key.startswith(PREFIX):
                    self._take(key[3:4], key[4:], value)
        except (msgspec.DecodeError, ValueError) as error:
            raise StoreCorrupted(f"a row of the replicated log cannot be read ({error}). This copy must not vote again") from error

    def _take(self, table: bytes, key: bytes, value: bytes) -> None:
        partition = int.from_bytes(key[:2], "big")
        if table == b"l":
            self.logs.setdefault(partition, []).append((int.from_bytes(key[2:], "big"), value))
        elif table == b"s":
            self.states[partition] = _state.decode(value)
        elif table == b"a":
            self.applied[partition] = int.from_bytes(value, "big")
        elif table == b"r":
            self.roster = _roster.decode(value)
        elif table == b"f":
            self.found = _found.decode(value)
