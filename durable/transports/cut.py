"""`CutTransport`: a transport that can be cut off from some peers, as by a network that is parted. For experiments.

**How it works.** It stands before another transport. What goes to a cut peer is lost, what comes from one is not heard; calls
fail as they do when nobody is there. Both sides of a cut are to be told: a question names its connection, not where the
caller listens, so it is stopped where it begins.

Read next: `durable.cluster.local`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from durable.errors import Unreachable

if TYPE_CHECKING:
    from durable.membership.member import NodeAddress
    from durable.ports import Receiver, Transport


class CutTransport:
    """``transport``, but for the peers in ``cut``. What is lost is counted as "cut"."""

    def __init__(self, transport: Transport) -> None:
        self.dropped: Counter[str] = transport.dropped
        self._transport = transport
        self._receiver: Receiver | None = None
        self._cut: frozenset[NodeAddress] = frozenset()

    def cut(self, peers: Iterable[NodeAddress]) -> None:
        """Be cut off from exactly these; from nobody if there are none."""
        self._cut = frozenset(peers)

    async def open(self, receiver: Receiver) -> NodeAddress:
        """As the transport behind it."""
        self._receiver = receiver
        return await self._transport.open(self)

    def send(self, to: NodeAddress, data: bytes) -> None:
        """One datagram, if the peer is not cut."""
        if to in self._cut:
            self.dropped["cut"] += 1
        else:
            self._transport.send(to, data)

    async def ask(self, to: NodeAddress, data: bytes) -> bytes:
        """One question, if the peer is not cut."""
        if to in self._cut:
            self.dropped["cut"] += 1
            raise Unreachable(f"{to} is cut off")
        return await self._transport.ask(to, data)

    async def close(self) -> None:
        """As the transport behind it."""
        await self._transport.close()

    # What the transport behind it calls

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        assert self._receiver is not None
        if sender in self._cut:
            self.dropped["cut"] += 1
        else:
            self._receiver.datagram(sender, data)

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        assert self._receiver is not None
        return await self._receiver.question(sender, data)
