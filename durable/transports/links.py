"""Links: standing connections that carry sealed frames both ways, in order, for as long as both ends live.

**Why it exists.** A journal that is replicated, and a request that is forwarded, send thousands of small messages a second to
the same few peers. A connection for each would spend its time in greetings.

**How it works.** `tcp` greets, and hands the connection over. What is sent in one turn of the event loop is sealed one after the
other and leaves in one system call. What arrives is cut into frames (`framing`) and handed to the `Receiver` there and then. An
empty frame says nothing but "I am here": it is sent when nothing else was for `KEEPALIVE_S`.

======================  ===========================================  =====================================================
bound                   value                                        past it
======================  ===========================================  =====================================================
frame                   `LINK_FRAME_BYTES_MAX`                       sent: `ValueError`; received: the link is closed
waiting to be sent      `LINK_BYTES_MAX` a link                      `send` is False, and the caller knows
silence                 `SILENT_TICKS` times `KEEPALIVE_S`           the link is closed
links                   `LINKS_MAX`, dialled and accepted            the newcomer is turned away
======================  ===========================================  =====================================================

A process that was stopped for a minute finds the bytes of that minute in its sockets: so silence is counted in ticks of the own
timer, of which a stopped process has one, and not in seconds.

**Limits.** What was sent when a link is lost may have arrived, or not: who needs to know asks again. A long frame holds up the
short ones behind it. Who dials says under which address it listens, and is believed: it has the key.

Read next: `sockets`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from durable.transports.framing import Splitter, pack_frames
from durable.transports.seal import Channel, Rejected

if TYPE_CHECKING:
    from durable.membership.member import NodeAddress
    from durable.ports import Receiver

LINK_FRAME_BYTES_MAX = 40 * 2**20
"""The longest entry of a replicated log (`durable.copies.frames`), and what is said around it."""

LINK_BYTES_MAX = 64 * 2**20
LINKS_MAX = 512
KEEPALIVE_S = 1.0
SILENT_TICKS = 3
CLOSE_S = 1.0
READ_BYTES = 2**18


class SocketLink:
    """One end of a link. Made by `Links.add`; `run` reads until it is lost."""

    def __init__(
        self,
        peer: NodeAddress,
        stream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        channel: Channel,
        receiver: Receiver,
        dropped: Counter[str],
    ) -> None:
        self.peer = peer
        self._reader, self._writer = stream
        self._transport = self._writer.transport
        self._channel = channel
        self._receiver = receiver
        self._dropped = dropped
        self._frames = Splitter(channel, LINK_FRAME_BYTES_MAX)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._buffered_bytes = 0  # what the transport held when it was last given something: asking it costs more than sending
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self._silent_ticks = 0
        self._spoke = True
        self._timer = self._loop.call_later(KEEPALIVE_S, self._tick)

    def __repr__(self) -> str:
        return f"<SocketLink to {self.peer}{', closed' if self._closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed

    def send(self, frame: bytes) -> bool:
        """Queue it. False: the link is closed, or as much waits as may; nothing was queued."""
        size = len(frame)
        if not 0 < size <= LINK_FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {size:,} bytes: it must be 1 to {LINK_FRAME_BYTES_MAX:,}")
        if self._closed:
            return False
        if self._waiting_bytes + self._buffered_bytes + size > LINK_BYTES_MAX and not self._has_room(size):
            self._dropped["not sent: link is full"] += 1
            return False
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(frame)
        self._waiting_bytes += size
        return True

    def _has_room(self, size: int) -> bool:
        self._buffered_bytes = self._transport.get_write_buffer_size()
        return self._waiting_bytes + self._buffered_bytes + size <= LINK_BYTES_MAX

    async def close(self) -> None:
        """Send what waits, as far as the peer takes it within `CLOSE_S`, and end."""
        if not self._closed:
            self._flush()
            self._stop()
            self._writer.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await asyncio.shield(self.lost)
        self._transport.abort()

    def abort(self) -> None:
        """End at once; what waits is lost."""
        self._stop()
        self._waiting.clear()
        self._transport.abort()

    async def run(self) -> None:
        """Hand on what arrives, until the link is lost; then say so."""
        try:
            await self._read()
        except Rejected as why:
            self._dropped[str(why)] += 1
        except OSError:
            self._dropped["hung up"] += 1
        finally:
            self.abort()
            if not self.lost.done():
                self.lost.set_result(None)
            self._receiver.link_lost(self)

    async def _read(self) -> None:
        while data := await self._reader.read(READ_BYTES):
            self._silent_ticks = 0
            for frame in self._frames.feed(data):
                if self._closed:
                    return
                if frame:
                    self._receiver.frame(self, frame)
        if self._frames.inside and not self._closed:
            self._dropped["hung up"] += 1

    def _flush(self) -> None:
        if self._waiting and not self._closed:
            frames, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self._spoke = True
            self._writer.write(pack_frames(self._channel, frames))
            self._buffered_bytes = self._transport.get_write_buffer_size()

    def _tick(self) -> None:
        self._silent_ticks += 1
        if self._silent_ticks > SILENT_TICKS:
            self._dropped["link is silent"] += 1
            self.abort()
            return
        if not self._spoke:
            self._writer.write(pack_frames(self._channel, [b""]))
        self._spoke = False
        self._timer = self._loop.call_later(KEEPALIVE_S, self._tick)

    def _stop(self) -> None:
        self._closed = True
        self._timer.cancel()


class Links:
    """Those of one transport, dialled and accepted."""

    def __init__(self, dropped: Counter[str]) -> None:
        self._dropped = dropped
        self._links: dict[SocketLink, None] = {}
        self._reading: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._links)

    def has_room(self) -> bool:
        """Whether one more may be; if not, it is counted."""
        if len(self._links) < LINKS_MAX:
            return True
        self._dropped["too many links"] += 1
        return False

    def add(
        self,
        peer: NodeAddress,
        stream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        channel: Channel,
        receiver: Receiver,
    ) -> SocketLink:
        """A link on a connection that was greeted; it is read by a task of its own."""
        link = SocketLink(peer, stream, channel, receiver, self._dropped)
        self._links[link] = None
        task = asyncio.get_running_loop().create_task(link.run())
        self._reading[task] = None
        task.add_done_callback(lambda done: self._reading.pop(done, None))
        link.lost.add_done_callback(lambda _: self._links.pop(link, None))
        return link

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*[link.close() for link in list(self._links)])
        reading = list(self._reading)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
