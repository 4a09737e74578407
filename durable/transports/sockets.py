"""`SocketTransport`: UDP and TCP on the same port number, as one `durable.ports.Transport`.

**How it works.** The TCP socket is bound first and the UDP socket to the same number. With port 0 the kernel chooses a number
that is free for TCP; if UDP has it taken, another is tried.

**Limits.** One address and one family: a node that listens on IPv4 and IPv6 at once would be two members.

Read next: `durable.cluster.node`, which is the `Receiver`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from errno import EINVAL
from typing import TYPE_CHECKING

from durable.membership.member import NodeAddress
from durable.transports.seal import Seal, Unsealed
from durable.transports.tcp import Streams
from durable.transports.udp import Datagrams

if TYPE_CHECKING:
    from durable.ports import Link, Receiver

ATTEMPTS_MAX = 20
BACKLOG = 128
NOWHERE = NodeAddress("nowhere", 0)
"""Where a transport listens that does not."""


class SocketTransport:
    """The real one.

    Args:
        bind: where to listen; port 0 lets the kernel choose. None: it calls others, and listens nowhere.
        seal: how packets are closed and opened; `Unsealed` for the loopback address.
        advertise: what links say of where this side listens, if not where it binds; port 0 is the port that was bound.
    """

    def __init__(self, bind: NodeAddress | None, seal: Seal | None = None, advertise: NodeAddress | None = None) -> None:
        self.dropped: Counter[str] = Counter()
        self._bind = bind
        self._advertise = advertise
        self._seal = seal or Unsealed()
        self._streams = Streams(self._seal, self.dropped)
        self._datagrams: Datagrams | None = None

    async def open(self, receiver: Receiver) -> NodeAddress:
        """Begin to listen. Raises `OSError`: the port is taken, the address is not this machine's."""
        self._streams.receiver = receiver
        if self._bind is None:
            return NOWHERE
        try:
            bound = await self._listen(self._bind, receiver)
        except (OSError, UnicodeError) as error:  # the latter: no host can have that name
            number, what = (error.errno, error.strerror) if isinstance(error, OSError) else (EINVAL, error)
            why = f"cannot listen on {self._bind}: {what}. Nothing was started"
            raise OSError(number, f"{why}. Free it, or bind another (--bind, bind_address)") from error
        self._streams.advertised = self._advertise and NodeAddress(self._advertise.host, self._advertise.port or bound.port)
        self._streams.advertised = self._streams.advertised or bound
        return bound

    async def _listen(self, bind: NodeAddress, receiver: Receiver) -> NodeAddress:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        for attempt in range(ATTEMPTS_MAX):
            listening = _listening(family, (str(where[0]), bind.port))
            host, port = listening.getsockname()[:2]
            try:
                self._datagrams = await Datagrams.open((host, port), family, self._seal, receiver, self.dropped)
            except OSError:
                listening.close()
                if bind.port or attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                await self._streams.listen(listening)
                return NodeAddress(host, port)
        raise AssertionError("the last attempt returns or raises")

    def send(self, to: NodeAddress, data: bytes) -> None:
        """One datagram."""
        if self._datagrams is not None:
            self._datagrams.send(to, data)

    async def ask(self, to: NodeAddress, data: bytes) -> bytes:
        """One question; its answer. Works without `open`. Raises `Unreachable`."""
        return await self._streams.ask(to, data)

    async def connect(self, to: NodeAddress) -> Link:
        """A link. Raises `Unreachable`."""
        return await self._streams.connect(to)

    async def close(self) -> None:
        """Let go of both sockets and of every connection."""
        if self._datagrams is not None:
            self._datagrams.close()
        await self._streams.close()


def _listening(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart is not to wait for TIME_WAIT
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
