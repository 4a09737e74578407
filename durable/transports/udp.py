"""Datagrams over UDP: one socket, sealed packets, nothing that waits.

**How it works.** What arrives is measured, then opened (`seal`), then handed on; whatever fails is counted under its reason and
gone. What is sent is sealed and handed to the kernel; if its buffer is full, asyncio keeps 64 KiB,
and past that the datagram is lost: SWIM expects that.

**Limits.** At most 1,400 bytes a datagram, both ways, so that no path takes it apart.

Read next: `tcp`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from durable.membership.member import NodeAddress
from durable.membership.messages import DATAGRAM_BYTES_MAX
from durable.transports.names import Names
from durable.transports.seal import Rejected, Seal

if TYPE_CHECKING:
    from durable.ports import Receiver

RECEIVE_BUFFER_BYTES = 2**20
"""What the kernel keeps while this process stands still: a pause must not cost the acks that wait."""


class Datagrams(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, names: Names, seal: Seal, receiver: Receiver, dropped: Counter[str]) -> None:
        self._names = names
        self._seal = seal
        self._receiver = receiver
        self._dropped = dropped
        self._socket: asyncio.DatagramTransport | None = None
        self._full = False

    @classmethod
    async def open(
        cls, address: tuple[str, int], family: socket.AddressFamily, seal: Seal, receiver: Receiver, dropped: Counter[str]
    ) -> Datagrams:
        """Bind. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        _, datagrams = await loop.create_datagram_endpoint(
            lambda: cls(Names(family), seal, receiver, dropped), local_addr=address, family=family
        )
        return datagrams

    def send(self, to: NodeAddress, data: bytes) -> None:
        """Seal and send, or lose it."""
        if self._socket is None or self._socket.is_closing():
            return
        host = self._names.address(to.host)
        if host is None:
            self._dropped["not sent: name unknown yet"] += 1
        elif self._full:
            self._dropped["not sent: socket is full"] += 1
        else:
            self._socket.sendto(self._seal.seal(data), (host, to.port))

    def close(self) -> None:
        """Let go of the socket."""
        self._names.close()
        if self._socket is not None:
            self._socket.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.DatagramTransport", transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    def datagram_received(self, data: bytes, sender: tuple[Any, ...]) -> None:
        if len(data) > DATAGRAM_BYTES_MAX:
            self._dropped["too long"] += 1
            return
        try:
            packet = self._seal.open(data)
        except Rejected as why:
            self._dropped[str(why)] += 1
        else:
            self._receiver.datagram(NodeAddress(str(sender[0]), int(sender[1])), packet)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def error_received(self, exc: Exception) -> None:
        self._dropped["not sent: nobody there"] += 1  # the kernel's word on an earlier datagram: the port is closed
