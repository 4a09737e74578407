"""The outside world on one page.

Everything that this library asks of its surroundings is one of these protocols. The cores (replay, retry, membership, the
ring, the replica) ask nothing at all: they are given ``now`` and return effects. The shells (`NodeRuntime`, `ClusterNode`)
are handed a world that implements these ports: the real one (disk, sockets, wall clock) or a simulated one (virtual time,
seeded faults). Nothing else in ``durable`` reads a clock, draws a number at random without a seed, or opens a file or a socket,
and ``tests/test_house.py`` holds it to that. It knows two exceptions, which the engine never meets: the command line reads the
journals that it is given, and a `LocalCluster` makes folders for its nodes.

Read next: `durable.journal`, the idea that everything else serves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from durable.journal.entries import Envelope, Failure
    from durable.membership.member import NodeAddress

Write: TypeAlias = tuple[bytes, bytes | None]
"""One write: a key and its value, or None to delete the key."""

Batch: TypeAlias = Sequence[Write]
"""Writes that take effect together or not at all, in order: a later write of the same key wins."""


class Clock(Protocol):
    """Wall time in milliseconds since 1970, never backwards while the process lives."""

    def now_ms(self) -> int: ...

    def at_least(self, now_ms: int) -> None:
        """Never be behind this moment: an earlier process on the same store has seen it."""


class Entropy(Protocol):
    """Random bytes: the only source of identities (incarnations, request ids, seeds)."""

    def random_bytes(self, count: int) -> bytes: ...


class Reader(Protocol):
    """Ordered reads: of a store as it is, or of one instant of it."""

    def get(self, key: bytes) -> bytes | None:
        """The value of the key, or None. Raises `StoreError` when the store cannot be read."""

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Every key that begins with ``prefix``, with its value, in byte order.

        ``start`` skips to that key: the first one at or after it or, reversed, the first one at or before it.
        An empty prefix scans everything. Lazy: stop reading and nothing more is read.
        """


class Snapshot(Reader, Protocol):
    """The store at one instant. Later writes do not show in it."""

    def close(self) -> None: ...


class Store(Reader, Protocol):
    """An ordered key-value engine with atomic batches: RocksDB, LevelDB, or memory.

    ``write`` makes a batch visible; ``sync`` makes it durable. The two are apart so that many batches share one fsync.
    Both may be called from one thread while another reads. After any failed ``write`` or ``sync`` the store refuses
    further writes: a disk that once lied about an fsync cannot be trusted to have kept what came before.
    """

    def write(self, batch: Batch) -> None:
        """Apply the whole batch or nothing. Visible at once, durable after the next ``sync``. Raises `StoreError`."""

    def sync(self) -> None:
        """Return when everything written before is on stable storage. Releases the GIL. Raises `StoreError`."""

    def snapshot(self) -> Snapshot: ...

    def close(self) -> None:
        """Sync what was written, and let go of the folder. Closing twice is fine; other calls then raise `StoreClosed`."""


class Log(Protocol):
    """"Make these durable." The one port between the runtime and whatever keeps its journals.

    ``await log.append(partition, batch)`` returns when the batch is durable: on one node, after an fsync (`LocalLog`); in a
    cluster, on stable storage at a majority (``ReplicatedLog``). Appends to one partition become durable in the order in
    which they were made. A failure means that this batch and every later one of the partition was not acknowledged. The
    answer is a future, and batches that become durable together may share one: then one callback serves them all.

    What is durable can also be read from the store: not before, in a cluster, and at the latest then.

    A future that fails with a `StoreError` stops the node. With a `ClusterError` (`NotOwner`, `NoQuorum`) it concerns that one
    partition: the node lets go of it and runs the others on, until it is given the partition again.
    """

    @property
    def batch_bytes_max(self) -> int:
        """No batch has more bytes of keys and values than this; one that has is refused, and not appended."""

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]: ...

    def check(self, partition: int) -> None:
        """Whether a new request may be begun: appended now, it would become durable soon. Raises a `ClusterError`; nothing was
        appended then. On one node it never does.
        """

    def confirm(self, partition: int) -> asyncio.Future[None]:
        """Done when it is certain that, at some moment since this call, nobody else owned the partition.

        What was read from memory or the store before it is done is then the truth of that moment, and can be told. On one
        node it is done at once. Fails with a `ClusterError`.
        """


class Courier(Protocol):
    """Brings envelopes to executions that other nodes own."""

    def carry(self, envelope: Envelope) -> Awaitable[Failure | None]:
        """One try: None when the envelope is durable at the owner of its receiver, or why the owner refuses it.

        Raises a `ClusterError` when nothing is known; then it is carried again. Never two of one sender to one receiver at once.
        """


class Receiver(Protocol):
    """Whom a `Transport` hands what arrives. The bytes come from outside: they are to be decoded with suspicion."""

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        """One datagram. ``sender`` is where an answer reaches it."""

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        """One question on a stream; what is returned travels back, None closes without an answer. ``sender`` names the
        connection, not where the peer listens.
        """

    def frame(self, link: Link, data: bytes) -> None:
        """The next frame of a link, dialled or accepted. The first frame of an accepted link is the first that is heard of it."""

    def link_lost(self, link: Link) -> None:
        """No more will come from this link, whoever ended it, and nothing goes to it. Told once for each link."""


class Link(Protocol):
    """A standing connection: frames both ways, in order, none missing between two that arrive.

    ``peer`` is where the other side listens: whom `Transport.connect` was told to call or, of an accepted link, what the caller
    says of itself (one that listens nowhere is named by its end of the connection). Links can be told apart and hashed.
    """

    @property
    def peer(self) -> NodeAddress: ...

    @property
    def closed(self) -> bool: ...

    def send(self, frame: bytes) -> bool:
        """Queue one frame. Never waits. False: the link is closed, or too much waits already; nothing was queued.

        Raises `ValueError` for a frame that is empty or longer than any link takes (40 MiB).
        """

    async def close(self) -> None:
        """Send what is queued, for a bounded time, and end. Closing twice is fine."""

    def abort(self) -> None:
        """End at once; what is queued is lost."""



class Transport(Protocol):
    """Bytes between processes: datagrams, which may be lost, streams of one question and its answer, and links.

    What is forged, replayed, foreign or too long never reaches the `Receiver`: it is counted in ``dropped``, by reason.
    """

    dropped: Counter[str]

    async def open(self, receiver: Receiver) -> NodeAddress:
        """Begin to listen. The address that was bound, its port chosen if it was 0. Raises `OSError`."""

    def send(self, to: NodeAddress, data: bytes) -> None:
        """One datagram. Never waits, never raises: what cannot be sent is lost."""

    async def ask(self, to: NodeAddress, data: bytes) -> bytes:
        """One question; its answer. Raises `Unreachable` if none comes, for whatever reason and within a bounded time."""

    async def connect(self, to: NodeAddress) -> Link:
        """A link to whoever listens there. Raises `Unreachable`, within a bounded time."""

    async def close(self) -> None:
        """Stop to listen, and let go of every connection. Closing twice is fine."""
