"""Streams over TCP: a connection for a question and its answer, or for a link, bounded in bytes, time and number.

**How it works.** Caller: hello; acceptor: welcome (`seal`); caller: what the connection is for, in a short frame that proves the
key before anything long is read: ``q``, or ``l`` and the address at which the caller listens (if it does). Then, for a question,
a frame each way; for a `link <durable.transports.links>`, ``l`` from the acceptor, and frames both ways for as long as it lives.
A frame is its length in four bytes, and as many bytes. ::

    caller    hello (41) ----------------------------------> acceptor
              <-------------------------- welcome (41 + 16)
              length (4) | q | length (4) | question ------>
              <------------------------ length (4) | answer

==================  ======================================  =========================================================
bound               value                                   past it
==================  ======================================  =========================================================
first frame         `FIRST_BYTES_MAX`                       the connection is closed
frame               `FRAME_BYTES_MAX`, looked at before     the connection is closed
                    anything is allocated
time to ask         `QUESTION_S` from the first byte        the connection is closed
time to answer      `ANSWER_S`                              the connection is closed
connections         `CONNECTIONS_MAX`, links not counted    the oldest that has not proved itself makes room; if all
                                                            have, the newcomer is turned away
==================  ======================================  =========================================================

A thousand connections that say nothing therefore cost a true caller nothing: it proves itself within milliseconds, and they
make room. Everything that goes wrong is counted under its reason.

**Limits.** One question a connection. Lists of members are exchanged every 30 s; a connection for that is cheap enough.

Read next: `links`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from durable.errors import Unreachable
from durable.membership.member import NodeAddress
from durable.transports.framing import pack_frames, read_frame
from durable.transports.links import Links, SocketLink
from durable.transports.seal import HELLO_BYTES, WELCOME_BYTES, Channel, Rejected, Seal

if TYPE_CHECKING:
    import socket

    from durable.ports import Receiver

FRAME_BYTES_MAX = 2 * 2**20
"""Room for a list of 4,096 members with the longest names."""

FIRST_BYTES_MAX = 512
QUESTION_S = 5.0
ANSWER_S = 10.0
CONNECTIONS_MAX = 256
QUESTION, LINK = b"q", b"l"

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_address = msgspec.msgpack.Decoder(NodeAddress | None)


class Streams:
    """A listening socket, and calls to others.

    ``advertised`` is what a link that is dialled here says of where this side listens; None: nowhere.
    """

    def __init__(self, seal: Seal, dropped: Counter[str]) -> None:
        self.links = Links(dropped)
        self.advertised: NodeAddress | None = None
        self.receiver: Receiver | None = None
        self._seal = seal
        self._dropped = dropped
        self._server: asyncio.Server | None = None
        self._unproved: dict[asyncio.Task[None], None] = {}
        self._proved: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._unproved) + len(self._proved)

    async def listen(self, listening: socket.socket) -> None:
        """Answer on a socket that is bound already."""
        self._server = await asyncio.start_server(self._accept, sock=listening)

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        if self._server is not None:
            self._server.close()
        ending = [*self._unproved, *self._proved]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self.links.close()

    # A caller's side

    async def ask(self, to: NodeAddress, data: bytes) -> bytes:
        """One question; its answer. Raises `Unreachable`."""
        async with self._calling(to, QUESTION_S + ANSWER_S):
            reader, writer = await asyncio.open_connection(to.host, to.port)
            try:
                channel = await self._enter(reader, writer)
                writer.write(pack_frames(channel, [QUESTION, data]))
                await writer.drain()
                return await read_frame(reader, channel, FRAME_BYTES_MAX)
            finally:
                writer.transport.abort()

    async def connect(self, to: NodeAddress) -> SocketLink:
        """A link to whoever listens there. Raises `Unreachable`."""
        assert self.receiver is not None, "open the transport first: somebody must take what arrives"
        if not self.links.has_room():
            raise Unreachable(f"{to} was not called: there are too many links here already")
        async with self._calling(to, QUESTION_S):
            stream = reader, writer = await asyncio.open_connection(to.host, to.port)
            try:
                channel = await self._enter(reader, writer)
                writer.write(pack_frames(channel, [LINK + msgspec.msgpack.encode(self.advertised)]))
                if channel.foreign or await read_frame(reader, channel, FIRST_BYTES_MAX) != LINK:
                    raise Rejected("another cluster" if channel.foreign else "not one of ours")
                return self.links.add(to, stream, channel, self.receiver)
            except BaseException:
                writer.transport.abort()
                raise

    @asynccontextmanager
    async def _calling(self, to: NodeAddress, within_s: float) -> AsyncIterator[None]:
        """Whatever goes wrong inside is `Unreachable`."""
        try:
            async with asyncio.timeout(within_s):
                yield
        except TimeoutError:
            raise Unreachable(f"{to} did not answer within {within_s:g} s") from None
        except asyncio.IncompleteReadError:
            raise Unreachable(f"{to} closed the connection: it has another key or cluster, or no answer") from None
        except Rejected as why:
            self._dropped[str(why)] += 1
            raise Unreachable(f"{to} answered, but not as one of ours ({why}): compare key and cluster name") from None
        except (OSError, UnicodeError) as error:  # the latter: no host can have that name
            raise Unreachable(f"cannot connect to {to}: {error}") from error

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Channel:
        hello = self._seal.hello()
        writer.write(hello)
        return self._seal.enter(hello, await reader.readexactly(WELCOME_BYTES))

    # An acceptor's side

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        kept = False
        try:
            if self._has_room():
                self._unproved[task] = None
                kept = await self._serve(task, (reader, writer))
        except Rejected as why:
            self._dropped[str(why)] += 1
        except TimeoutError:
            self._dropped["too slow"] += 1
        except asyncio.CancelledError:
            pass  # it made room for another, or we are closing
        except (asyncio.IncompleteReadError, OSError):
            self._dropped["hung up"] += 1
        finally:
            self._unproved.pop(task, None)
            self._proved.pop(task, None)
            if not kept:
                writer.close()

    def _has_room(self) -> bool:
        if len(self) < CONNECTIONS_MAX:
            return True
        self._dropped["too many connections"] += 1
        if not self._unproved:
            return False
        oldest = next(iter(self._unproved))
        del self._unproved[oldest]
        oldest.cancel()
        return True

    async def _serve(self, task: asyncio.Task[None], stream: Stream) -> bool:
        """Greet, and find out what it is for. Whether the connection lives on, as a link."""
        reader, writer = stream
        async with asyncio.timeout(QUESTION_S):
            welcome, channel = self._seal.welcome(await reader.readexactly(HELLO_BYTES))
            writer.write(welcome)
            first = await read_frame(reader, channel, FIRST_BYTES_MAX)
            self._unproved.pop(task, None)
            self._proved[task] = None
            if first[:1] == LINK:
                return self._link(first[1:], stream, channel)
            if first != QUESTION:
                raise Rejected("not one of ours")
            question = await read_frame(reader, channel, FRAME_BYTES_MAX)
        await self._answer(question, writer, channel)
        return False

    def _link(self, announced: bytes, stream: Stream, channel: Channel) -> bool:
        assert self.receiver is not None
        if channel.foreign:
            raise Rejected("another cluster")
        try:
            peer = _address.decode(announced)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Rejected("unreadable") from None
        if not self.links.has_room():
            return False
        stream[1].write(pack_frames(channel, [LINK]))
        self.links.add(peer or _other_end(stream[1]), stream, channel, self.receiver)
        return True

    async def _answer(self, question: bytes, writer: asyncio.StreamWriter, channel: Channel) -> None:
        assert self.receiver is not None
        async with asyncio.timeout(ANSWER_S):
            answer = await self.receiver.question(_other_end(writer), question)
            if answer is not None:
                writer.write(pack_frames(channel, [answer]))
                await writer.drain()


def _other_end(writer: asyncio.StreamWriter) -> NodeAddress:
    host, port = writer.get_extra_info("peername")[:2]
    return NodeAddress(host, port)
