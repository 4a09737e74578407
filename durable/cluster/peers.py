"""`Peers`: a standing link to each member, for frames that nobody answers on the spot.

**How it works.** The first frame to a member dials it; what is to go meanwhile waits, up to `WAITING_MAX` frames. A link that
breaks is dialled again when there is something to say, at most once in `REDIAL_S`. Frames to one peer keep their order while
its link lasts; between two links some may be lost, and whoever sends counts on that.

**Limits.** A link is one way here: what a peer says in return comes over its own. Bytes that wait are bounded by the link.

Read next: `durable.cluster.replicated`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from durable.errors import Unreachable
from durable.membership.member import NodeAddress, NodeId
from durable.ports import Link, Transport

WAITING_MAX = 256
REDIAL_S = 0.1


class Peers:
    """Sends frames to members by name.

    Args:
        transport: dials.
        address_of: where a member listens, None for one that nobody knows.
        dropped: counts what was not sent, by reason.
    """

    def __init__(
        self, transport: Transport, address_of: Callable[[NodeId], NodeAddress | None], dropped: Counter[str]
    ) -> None:
        self._transport = transport
        self._address_of = address_of
        self._dropped = dropped
        self._links: dict[NodeId, tuple[NodeAddress, Link]] = {}
        self._waiting: dict[NodeId, deque[bytes]] = {}
        self._dialling: dict[NodeId, asyncio.Task[None]] = {}

    def post(self, to: NodeId, frame: bytes) -> None:
        """One frame. Never waits, never raises: what cannot be sent is lost, and counted."""
        address = self._address_of(to)
        known = self._links.get(to)
        if known is not None:
            if known[0] == address and known[1].send(frame):
                return
            del self._links[to]
            known[1].abort()  # it has broken, is full, or leads to where the member was
        if address is None:
            self._dropped["no address"] += 1
            return
        waiting = self._waiting.setdefault(to, deque())
        if len(waiting) >= WAITING_MAX:
            self._dropped["not sent: too much waits"] += 1
            waiting.popleft()
        waiting.append(frame)
        if to not in self._dialling:
            self._dialling[to] = asyncio.get_running_loop().create_task(self._dial(to, address))

    async def _dial(self, to: NodeId, address: NodeAddress) -> None:
        try:
            link = await self._transport.connect(address)
        except Unreachable:
            self._dropped["unreachable"] += len(self._waiting.pop(to, ()))
            await asyncio.sleep(REDIAL_S)
        else:
            self._links[to] = (address, link)
            for frame in self._waiting.pop(to, ()):
                link.send(frame)
        finally:
            self._dialling.pop(to, None)
        if self._waiting.get(to) and (now_at := self._address_of(to)) is not None:
            self._dialling[to] = asyncio.get_running_loop().create_task(self._dial(to, now_at))

    async def close(self) -> None:
        """Let go of every link; what waits on them is sent first."""
        dialling = list(self._dialling.values())
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        links, self._links = list(self._links.values()), {}
        self._waiting.clear()
        await asyncio.gather(*(link.close() for _, link in links))
