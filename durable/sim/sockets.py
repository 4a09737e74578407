"""`SimTransport`: datagrams, questions and links over a `SimNetwork`. What a process of a simulated world has for a network.

**How it works.** A datagram is a delay for each copy of it that arrives, and an event of the world at its end. Questions and
links are connections (`durable.sim.links`): one round trip to open, then frames in order. A host on which nothing listens
refuses at once, one that has lost power does not answer at all, a paused one accepts (its kernel does) and says nothing.

==================  =========================================================================================================
bound               past it
==================  =========================================================================================================
`CONNECT_S`         nobody answered: `Unreachable`
`ASK_S`             no answer to a question: `Unreachable`
`ANSWER_S`          the receiver took longer over a question: the connection is closed
==================  =========================================================================================================

**Limits.** Nothing is sealed: who gets in is a matter of the real transports, and of their tests.

Read next: `durable.sim.links`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from durable.errors import Unreachable
from durable.membership.member import NodeAddress
from durable.sim.links import SimLink

if TYPE_CHECKING:
    from durable.ports import Receiver
    from durable.sim.process import SimProcess

CONNECT_S = 5.0
ASK_S = 15.0
ANSWER_S = 10.0
FIRST_EPHEMERAL_PORT = 32_768


class SimTransport:
    """Implements `durable.ports.Transport` for one process."""

    def __init__(self, process: SimProcess) -> None:
        self.dropped: Counter[str] = process.dropped
        self.receiver: Receiver | None = None
        self.links: dict[SimLink, None] = {}
        self._process = process
        self._host = process.machine.address
        self._asking = 0
        self._answering: dict[asyncio.Task[None], None] = {}

    async def open(self, receiver: Receiver) -> NodeAddress:
        self.receiver = receiver
        return self._host

    def send(self, to: NodeAddress, data: bytes) -> None:
        process = self._process
        if not process.running:
            return
        world = process.world
        delays = world.network.datagram(self._host, to)
        world.sent(process, to, data, delays)
        for delay_s in delays:
            world.queue.at(process.now + delay_s, partial(self._deliver, to, data))

    def _deliver(self, to: NodeAddress, data: bytes) -> None:
        target = self._process.world.listening(to)
        if target is not None:
            target.hear(partial(target.transport.heard, self._host, data))

    def heard(self, sender: NodeAddress, data: bytes) -> None:
        """A datagram has been read from the socket."""
        if self.receiver is not None:
            self.receiver.datagram(sender, data)

    async def ask(self, to: NodeAddress, data: bytes) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def got(link: SimLink, frame: bytes) -> None:
            if not answer.done():
                answer.set_result(frame)

        def lost(link: SimLink) -> None:
            if not answer.done():
                answer.set_exception(Unreachable(f"{to} closed the connection: {link.why}"))

        try:
            async with asyncio.timeout(ASK_S):
                link = await self._dial(to, "question")
                link.on_frame, link.on_lost = got, lost
                try:
                    link.send(data)
                    return await answer
                finally:
                    link.abort()
                    if answer.done() and not answer.cancelled():
                        answer.exception()  # counts as seen: it is raised above, unless the caller has gone
        except TimeoutError:
            raise Unreachable(f"{to} did not answer within {ASK_S:g} s") from None

    async def connect(self, to: NodeAddress) -> SimLink:
        link = await self._dial(to, "link")
        if link.closed:
            raise Unreachable(f"{to} accepted, and closed the connection at once: {link.why}")
        link.on_frame, link.on_lost = self._frame, self._lost
        return link

    async def close(self) -> None:
        for link in list(self.links):
            link.abort()
        answering = list(self._answering)
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
        self.receiver = None

    # A caller's side

    async def _dial(self, to: NodeAddress, purpose: str) -> SimLink:
        self._asking += 1
        mine = self._host if self.receiver is not None else self._port()
        link = SimLink(self._process, self._host, to, to)
        self._hold(link)
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        link.dial(opened, lambda: self._arrive(link, to, mine, purpose))
        try:
            async with asyncio.timeout(CONNECT_S):
                await opened
        except TimeoutError:
            link.abort()
            raise Unreachable(f"{to} did not accept a connection within {CONNECT_S:g} s") from None
        except BaseException:
            link.abort()
            raise
        return link

    def _port(self) -> NodeAddress:
        """An end of a connection by which nobody can be called."""
        return NodeAddress(self._host.host, FIRST_EPHEMERAL_PORT + self._asking % 28_000)

    def _arrive(self, caller: SimLink, to: NodeAddress, mine: NodeAddress, purpose: str) -> SimLink | None:
        """The call has reached the other machine: the end that accepts it, or None where nothing listens."""
        target = self._process.world.listening(to)
        return None if target is None else target.transport.accept(caller, mine, self._port(), purpose)

    # An acceptor's side

    def accept(self, caller: SimLink, theirs: NodeAddress, port: NodeAddress, purpose: str) -> SimLink:
        """What the kernel does, whether the process runs or is paused."""
        link = SimLink(self._process, caller.there, caller.here, theirs)
        link.meet(caller)
        self._hold(link)
        if purpose == "question":
            link.on_frame = partial(self._question, port)
        else:
            link.on_frame, link.on_lost = self._frame, self._lost
        return link

    def _hold(self, link: SimLink) -> None:
        self.links[link] = None
        link.on_gone = lambda gone: self.links.pop(gone, None)

    def _frame(self, link: SimLink, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver.frame(link, data)

    def _lost(self, link: SimLink) -> None:
        if self.receiver is not None:
            self.receiver.link_lost(link)

    def _question(self, sender: NodeAddress, link: SimLink, data: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(sender, link, data))
        self._answering[task] = None
        task.add_done_callback(lambda done: self._answering.pop(done, None))

    async def _answer(self, sender: NodeAddress, link: SimLink, data: bytes) -> None:
        receiver = self.receiver
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = None if receiver is None else await receiver.question(sender, data)
                if answer is not None:
                    link.send(answer)
        except TimeoutError:
            self.dropped["too slow"] += 1
        finally:
            await link.close()
