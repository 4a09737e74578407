"""`Peers`: one link to each peer, for everybody in this node who has something to say to it.

**How it works.** Who wants a link to an address gets the one that is there. Is there none, it is dialled, once for all who wait
for it. `send` waits for nobody: what is said while a link is dialled is kept, in order, and lost if nobody answers; whoever
must know says it again.

A peer that did not answer is not dialled again for `REDIAL_S`: who has thousands of things to say to one that is down must not
knock thousands of times.

**Limits.** `PEER_BYTES_MAX` are kept for a peer that is being dialled. A link that was lost is dialled again when somebody has
something to say, and not before. Links that others dialled are not used: each side keeps its own.

Read next: `durable.rpc.calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING

from durable.errors import Unreachable

if TYPE_CHECKING:
    from durable.membership.member import NodeAddress
    from durable.ports import Link, Transport

log = logging.getLogger("durable")
PEER_BYTES_MAX = 8 * 2**20
REDIAL_S = 0.05
PEERS_MAX = 4_096


class Peers:
    """The links that this node dialled. It must be told of every link that is lost."""

    def __init__(self, transport: Transport) -> None:
        self.dropped: Counter[str] = transport.dropped
        self._transport = transport
        self._links: dict[NodeAddress, Link] = {}
        self._dialling: dict[NodeAddress, asyncio.Task[Link]] = {}
        self._failed: dict[NodeAddress, tuple[float, Unreachable]] = {}
        self._kept: dict[NodeAddress, list[bytes]] = {}
        self._kept_bytes: Counter[NodeAddress] = Counter()

    async def link(self, to: NodeAddress) -> Link:
        """The link to this peer. Raises `Unreachable`."""
        link = self._links.get(to)
        if link is not None and not link.closed:
            return link
        if (failed := self._just_failed(to)) is not None:
            raise Unreachable(str(failed))
        dialling = self._dial(to)
        await asyncio.wait([dialling])  # what it raises is the caller's own cancellation, also if the dial was cancelled with it
        if dialling.cancelled():
            raise Unreachable(f"{to} is not called any more: this node closes")
        return dialling.result()

    def send(self, to: NodeAddress, frame: bytes) -> bool:
        """Say it, if the peer can be reached; after everything that was said to it before. False: it was not taken."""
        link = self._links.get(to)
        if link is not None and not link.closed:
            return self._give(link, frame)
        if self._just_failed(to) is not None:
            self.dropped["not sent: nobody there"] += 1
            return False
        self._dial(to)
        if self._kept_bytes[to] + len(frame) > PEER_BYTES_MAX:
            self.dropped["not sent: peer is not there yet"] += 1
            return False
        self._kept.setdefault(to, []).append(frame)
        self._kept_bytes[to] += len(frame)
        return True

    def _give(self, link: Link, frame: bytes) -> bool:
        try:
            return link.send(frame)
        except (ValueError, OSError) as error:
            self.dropped["not sent: refused by the link"] += 1
            log.error("something for %s is lost: %s", link.peer, error)
            return False

    def link_lost(self, link: Link) -> None:
        """It is not to be given out any more."""
        if self._links.get(link.peer) is link:
            del self._links[link.peer]

    async def close(self) -> None:
        """End all links, and dial no more."""
        dialling = list(self._dialling.values())
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, *[link.close() for link in list(self._links.values())], return_exceptions=True)

    def _just_failed(self, to: NodeAddress) -> Unreachable | None:
        at, error = self._failed.get(to, (float("-inf"), None))
        return error if asyncio.get_running_loop().time() - at < REDIAL_S else None

    def _dial(self, to: NodeAddress) -> asyncio.Task[Link]:
        task = self._dialling.get(to)
        if task is None:
            task = self._dialling[to] = asyncio.get_running_loop().create_task(self._connect(to))
            task.add_done_callback(_seen)
        return task

    async def _connect(self, to: NodeAddress) -> Link:
        try:
            link = await self._transport.connect(to)
            if not link.closed:
                self._links[to] = link
            self._failed.pop(to, None)
            for frame in self._kept.pop(to, ()):
                self._give(link, frame)
            return link
        except Unreachable as error:
            self._failed.pop(to, None)
            self._failed[to] = asyncio.get_running_loop().time(), error
            if len(self._failed) > PEERS_MAX:
                del self._failed[next(iter(self._failed))]
            raise
        finally:
            self._dialling.pop(to, None)
            lost = len(self._kept.pop(to, ()))
            self._kept_bytes.pop(to, None)
            if lost:
                self.dropped["not sent: nobody there"] += lost


def _seen(task: asyncio.Task[Link]) -> None:
    """Its error was for those who waited, and there may have been none."""
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
