"""Streams over TCP: a connection for a question and its answer, bounded in bytes, time and number.

**How it works.** Caller: hello; acceptor: welcome (`seal`); caller: the question as a frame; acceptor: the answer as a frame.
A frame is its length in four bytes, and as many bytes. ::

    caller    hello (41) ----------------------------------> acceptor
              <-------------------------- welcome (41 + 16)
              length (4) | question ----------------------->
              <------------------------ length (4) | answer

==================  ======================================  =========================================================
bound               value                                   past it
==================  ======================================  =========================================================
frame               `FRAME_BYTES_MAX`, looked at before     the connection is closed
                    anything is allocated
time to ask         `QUESTION_S` from the first byte        the connection is closed
time to answer      `ANSWER_S`                              the connection is closed
connections         `CONNECTIONS_MAX`                       the oldest that has not proved itself makes room; if all
                                                            have, the newcomer is turned away
==================  ======================================  =========================================================

A thousand connections that say nothing therefore cost a true caller nothing: it proves itself within milliseconds, and they
make room. Everything that goes wrong is counted under its reason.

**Limits.** One question a connection. Lists of members are exchanged every 30 s; a connection for that is cheap enough.

Read next: `names`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from durable.errors import Unreachable
from durable.membership.member import NodeAddress
from durable.transports.seal import HELLO_BYTES, TAG_BYTES, WELCOME_BYTES, Channel, Rejected, Seal

if TYPE_CHECKING:
    import socket

    from durable.ports import Receiver

FRAME_BYTES_MAX = 2 * 2**20
"""Room for a list of 4,096 members with the longest names."""

QUESTION_S = 5.0
ANSWER_S = 10.0
CONNECTIONS_MAX = 256
LENGTH_BYTES = 4


class Streams:
    """A listening socket, and calls to others."""

    def __init__(self, seal: Seal, dropped: Counter[str]) -> None:
        self._seal = seal
        self._dropped = dropped
        self._receiver: Receiver | None = None
        self._server: asyncio.Server | None = None
        self._unproved: dict[asyncio.Task[None], None] = {}
        self._proved: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._unproved) + len(self._proved)

    async def listen(self, listening: socket.socket, receiver: Receiver) -> None:
        """Answer questions on a socket that is bound already."""
        self._receiver = receiver
        self._server = await asyncio.start_server(self._accept, sock=listening)

    async def ask(self, to: NodeAddress, data: bytes) -> bytes:
        """One question; its answer. Raises `Unreachable`."""
        try:
            async with asyncio.timeout(QUESTION_S + ANSWER_S):
                reader, writer = await asyncio.open_connection(to.host, to.port)
                try:
                    return await self._ask(reader, writer, data)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise Unreachable(f"{to} did not answer within {QUESTION_S + ANSWER_S:g} s") from None
        except asyncio.IncompleteReadError:
            raise Unreachable(f"{to} closed the connection: it has another key or cluster, or no answer") from None
        except Rejected as why:
            self._dropped[str(why)] += 1
            raise Unreachable(f"{to} answered, but not as one of ours ({why}): compare key and cluster name") from None
        except OSError as error:
            raise Unreachable(f"cannot connect to {to}: {error}") from error

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        if self._server is not None:
            self._server.close()
        ending = [*self._unproved, *self._proved]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    # A caller's side

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
        hello = self._seal.hello()
        writer.write(hello)
        channel = self._seal.enter(hello, await reader.readexactly(WELCOME_BYTES))
        await _write(writer, channel, data)
        return await _read(reader, channel)

    # An acceptor's side

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if self._has_room():
                self._unproved[task] = None
                await self._answer(task, reader, writer)
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

    async def _answer(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._receiver is not None
        async with asyncio.timeout(QUESTION_S):
            welcome, channel = self._seal.welcome(await reader.readexactly(HELLO_BYTES))
            writer.write(welcome)
            question = await _read(reader, channel)
        self._unproved.pop(task, None)
        self._proved[task] = None
        host, port = writer.get_extra_info("peername")[:2]
        async with asyncio.timeout(ANSWER_S):
            answer = await self._receiver.question(NodeAddress(host, port), question)
            if answer is not None:
                await _write(writer, channel, answer)


async def _write(writer: asyncio.StreamWriter, channel: Channel, frame: bytes) -> None:
    sealed = channel.seal(frame)
    writer.write(len(sealed).to_bytes(LENGTH_BYTES, "big") + sealed)
    await writer.drain()


async def _read(reader: asyncio.StreamReader, channel: Channel) -> bytes:
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if length > FRAME_BYTES_MAX + TAG_BYTES:
        raise Rejected("too long")
    return channel.open(await reader.readexactly(length))
