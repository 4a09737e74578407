"""`CutTransport`: a transport that can be cut off from some peers, and made worse, as by a bad network. For experiments.

**How it works.** It stands before another transport, and gives out links of its own before the other's. Each call of `cut` and
`faults` replaces what the one before said.

=============  ============================================  ============================================================
               a peer that is cut                            faults
=============  ============================================  ============================================================
datagram       lost, whoever sent it                         lost with probability ``loss``, else up to ``delay_s`` late
question       `Unreachable`                                 (untouched)
link           ended, dialled or accepted; none is made      each frame sent is up to ``delay_s`` late, in order; with
                                                             probability ``breaks`` it ends the link instead
=============  ============================================  ============================================================

A cut can also be of one way. Then one side is *deaf* to the other, which is *mute* towards it:

=============  ============================================  ============================================================
               a peer that this node is deaf to              a peer that this node is mute towards
=============  ============================================  ============================================================
datagram       heard by the peer; none comes from it         lost; those of the peer are heard
question       heard by the peer; its answer is lost         `Unreachable`
link           goes on one way; no new one is made           goes on one way; no new one is made
=============  ============================================  ============================================================

A link that has lost something ends with the cut: nothing may be missing in the middle.

Both sides of a cut are to be told: a question names its connection, not where the caller listens, so it is stopped where it
begins.

**Limits.** Chance is drawn from ``seed``; what it meets depends on real time, so a run does not repeat to the byte. For that there
is `durable.sim`.

Read next: `durable.cluster.local`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from durable.errors import Unreachable
from durable.transports.links import LINK_BYTES_MAX

if TYPE_CHECKING:
    from durable.membership.member import NodeAddress
    from durable.ports import Link, Receiver, Transport


@dataclass
class _Faults:
    loss: float = 0.0
    delay_s: float = 0.0
    breaks: float = 0.0
    random: Random = field(default_factory=lambda: Random(0))

    def happens(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def late_s(self) -> float:
        return self.delay_s * self.random.random() if self.delay_s else 0.0


class CutTransport:
    """``transport``, but for the peers that are cut, and with faults. What is lost is counted as "cut", "lost", "broken"."""

    def __init__(self, transport: Transport) -> None:
        self.dropped: Counter[str] = transport.dropped
        self._transport = transport
        self._receiver: Receiver | None = None
        self._cut: frozenset[NodeAddress] = frozenset()
        self._deaf: frozenset[NodeAddress] = frozenset()
        self._mute: frozenset[NodeAddress] = frozenset()
        self._faults = _Faults()
        self._links: dict[Link, _CutLink] = {}

    def cut(
        self, peers: Iterable[NodeAddress], *, deaf: Iterable[NodeAddress] = (), mute: Iterable[NodeAddress] = ()
    ) -> None:
        """Be cut off from exactly these, and one way from exactly those; from nobody if there are none."""
        self._cut, self._deaf, self._mute = frozenset(peers), frozenset(deaf), frozenset(mute)
        for link in list(self._links.values()):
            if link.peer in self._cut or (link.holed and link.peer not in self._deaf | self._mute):
                self.dropped["cut"] += 1
                link.abort()

    def faults(self, *, loss: float = 0.0, delay_s: float = 0.0, breaks: float = 0.0, seed: int = 0) -> None:
        """Be exactly so bad; ``faults()`` is a good network again. Shares are within 0 and 1."""
        if not (0 <= loss <= 1 and 0 <= breaks <= 1 and 0 <= delay_s < float("inf")):
            raise ValueError(f"loss {loss} and breaks {breaks} must be within 0 and 1, delay_s {delay_s} not below 0")
        self._faults = _Faults(loss, delay_s, breaks, Random(seed))

    async def open(self, receiver: Receiver) -> NodeAddress:
        """As the transport behind it."""
        self._receiver = receiver
        return await self._transport.open(self)

    def send(self, to: NodeAddress, data: bytes) -> None:
        """One datagram, if the peer is not cut."""
        if to in self._cut or to in self._mute:
            self.dropped["cut"] += 1
        elif self._faults.happens(self._faults.loss):
            self.dropped["lost"] += 1
        elif late_s := self._faults.late_s():
            asyncio.get_running_loop().call_later(late_s, self._transport.send, to, data)
        else:
            self._transport.send(to, data)

    async def ask(self, to: NodeAddress, data: bytes) -> bytes:
        """One question, if the peer is not cut."""
        self._check(to, self._cut | self._mute)
        answer = await self._transport.ask(to, data)
        self._check(to, self._deaf)
        return answer

    async def connect(self, to: NodeAddress) -> Link:
        """A link, if the peer is not cut, neither before nor after."""
        self._check(to, self._cut | self._deaf | self._mute)
        link = await self._transport.connect(to)
        if to in self._cut:
            link.abort()
            self._check(to, self._cut)
        return self._link(link)

    async def close(self) -> None:
        """As the transport behind it."""
        await self._transport.close()

    def _check(self, to: NodeAddress, cut: frozenset[NodeAddress]) -> None:
        if to in cut:
            self.dropped["cut"] += 1
            raise Unreachable(f"{to} is cut off")

    def _link(self, link: Link) -> _CutLink:
        found = self._links.get(link)
        if found is None:
            found = self._links[link] = _CutLink(self, link)
        return found

    # What the transport behind it calls

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        assert self._receiver is not None
        if sender in self._cut or sender in self._deaf:
            self.dropped["cut"] += 1
        else:
            self._receiver.datagram(sender, data)

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        assert self._receiver is not None
        return await self._receiver.question(sender, data)

    def frame(self, link: Link, data: bytes) -> None:
        assert self._receiver is not None
        if link.peer in self._cut:
            self.dropped["cut"] += 1
            link.abort()
        elif link.peer in self._deaf:
            self.dropped["cut"] += 1
            self._link(link).holed = True
        else:
            self._receiver.frame(self._link(link), data)

    def link_lost(self, link: Link) -> None:
        assert self._receiver is not None
        lost = self._links.pop(link, None)
        if lost is not None:  # else nobody has heard of it
            lost.abort()
            self._receiver.link_lost(lost)


class _CutLink:
    """A link as it is seen through faults: frames wait in order until their time has come."""

    def __init__(self, owner: CutTransport, link: Link) -> None:
        self.peer = link.peer
        self.holed = False
        """Whether something that was sent on it is lost."""
        self._owner = owner
        self._link = link
        self._late: deque[tuple[float, bytes]] = deque()
        self._late_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<link to {self.peer}{', closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return self._link.closed

    def send(self, frame: bytes) -> bool:
        faults, loop = self._owner._faults, asyncio.get_running_loop()
        if self.closed:
            return False
        if self.peer in self._owner._mute:
            self._owner.dropped["cut"] += 1
            self.holed = True
            return True
        if faults.happens(faults.breaks):
            self._owner.dropped["broken"] += 1
            self.abort()
            return False
        late_s = faults.late_s()
        if not late_s and not self._late:
            return self._link.send(frame)
        if self._late_bytes + len(frame) > LINK_BYTES_MAX:
            self._owner.dropped["not sent: link is full"] += 1
            return False
        self._late.append((loop.time() + late_s, frame))
        self._late_bytes += len(frame)
        if self._timer is None:
            self._timer = loop.call_at(self._late[0][0], self._send_due)
        return True

    async def close(self) -> None:
        self._forget()
        await self._link.close()

    def abort(self) -> None:
        self._forget()
        self._link.abort()

    def _send_due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time():
            _, frame = self._late.popleft()
            self._late_bytes -= len(frame)
            if not self._link.send(frame):
                self.abort()  # it was promised, and what follows it must not arrive without it
                return
        if self._late:
            self._timer = loop.call_at(self._late[0][0], self._send_due)

    def _forget(self) -> None:
        self._late.clear()
        self._late_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
