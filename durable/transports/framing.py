"""Frames on a stream: a length in four bytes, and as many sealed bytes.

**Why it exists.** TCP carries bytes, not messages: what was written at once may arrive in pieces, or glued to the next. And
whoever announces four gigabytes must not get them: the length is looked at before anything is allocated for it.

**How it works.** Two readers of the same thing: `read_frame` for the one or two frames of a greeting or a question, and
`Splitter` for a stream of them, which takes whatever has arrived and gives back the frames that are whole.

Read next: `tcp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from durable.transports.seal import TAG_BYTES, Channel, Rejected

if TYPE_CHECKING:
    import asyncio

LENGTH_BYTES = 4


def pack_frames(channel: Channel, frames: Iterable[bytes]) -> bytes:
    """Sealed, and in one piece, so that they leave in one system call."""
    parts: list[bytes] = []
    for frame in frames:
        sealed = channel.seal(frame)
        parts += (len(sealed).to_bytes(LENGTH_BYTES, "big"), sealed)
    return b"".join(parts)


async def read_frame(reader: asyncio.StreamReader, channel: Channel, bytes_max: int) -> bytes:
    """The next one. Raises `Rejected`, and `asyncio.IncompleteReadError` when the stream ends before it does."""
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if length > bytes_max + TAG_BYTES:
        raise Rejected("too long")
    return channel.open(await reader.readexactly(length))


class Splitter:
    """Cuts a stream into its frames. It keeps the beginning of one frame, never more.

    >>> from durable.transports.seal import Unsealed
    >>> _, channel = Unsealed().welcome(Unsealed().hello())
    >>> splitter = Splitter(channel, bytes_max=100)
    >>> list(splitter.feed(bytes([0, 0, 0, 2]) + b"hi" + bytes([0, 0]))), list(splitter.feed(bytes([0, 1]) + b"!"))
    ([b'hi'], [b'!'])
    """

    def __init__(self, channel: Channel, bytes_max: int) -> None:
        self._channel = channel
        self._most = bytes_max + TAG_BYTES
        self._held = bytearray()
        self._wanted = LENGTH_BYTES

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not whole: a stream that ends now was cut off."""
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that this makes whole. Raises `Rejected`; the stream is of no use then."""
        if self._held:
            self._held += data
            if len(self._held) < self._wanted:
                return
            data = bytes(self._held)
            self._held.clear()
        at, end, most = 0, len(data), self._most
        while end - at >= LENGTH_BYTES:
            length = int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            if length > most:
                raise Rejected("too long")
            begin = at + LENGTH_BYTES
            if end - begin < length:
                self._wanted = LENGTH_BYTES + length
                break
            at = begin + length
            yield self._channel.open(data[begin:at])
        else:
            self._wanted = LENGTH_BYTES
        self._held += data[at:]
