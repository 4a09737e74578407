"""`SimLink`: a connection between two simulated processes: frames in order, none missing, until it breaks.

**How it works.** Each of the two ends keeps what it has sent and the other kernel has not acknowledged, in its *flight*. A frame
arrives after the network's delay for it (a lost one is sent again, and comes later) and never before the one in front of it.
Whether there is a way is asked when it arrives: in the middle of a cut it waits, is tried again with growing pauses, and goes
on when the cut is healed, or the connection times out.

====================================  =======================================================================================
the way                               what the ends see
====================================  =======================================================================================
cut there                             nothing arrives; past `LINK_TIMEOUT_S` the sender's end is lost
cut back                              frames arrive, and the sender does not know: past `LINK_TIMEOUT_S` its end is lost
both, and nothing is sent             nothing: a silent connection does not notice
the other process is killed           what was in flight arrives, then its end (its kernel says goodbye)
the other machine loses power         what was on the wire may arrive; then silence, and a reset if it is up again
the reader is paused                  `RECEIVE_BYTES_MAX` go into its socket, then the sender's flight fills
====================================  =======================================================================================

A frame that would fill the flight beyond `LINK_BYTES_MAX` is refused.

**Limits.** An acknowledgement takes no time, and costs no packets.

Read next: `durable.sim.world`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from durable.errors import Unreachable
from durable.membership.member import NodeAddress
from durable.transports.links import LINK_BYTES_MAX, LINK_FRAME_BYTES_MAX

if TYPE_CHECKING:
    from durable.sim.process import SimProcess

RECEIVE_BYTES_MAX = 2 * 2**20
LINK_TIMEOUT_S = 10.0
RETRY_S = 0.2
RETRY_S_MAX = 2.0
DIAL_AGAIN_S = 1.0


class SimLink:
    """One end. Implements `durable.ports.Link`.

    Args:
        process: whose end it is.
        here, there: the two hosts, as the network knows them.
        peer: see `durable.ports.Link.peer`.
    """

    def __init__(self, process: SimProcess, here: NodeAddress, there: NodeAddress, peer: NodeAddress) -> None:
        self.peer = peer
        self.here, self.there = here, there
        self.why = ""
        self.on_frame: Callable[[SimLink, bytes], object] = lambda link, data: None
        self.on_lost: Callable[[SimLink], object] = lambda link: None
        self.on_gone: Callable[[SimLink], object] = lambda link: None
        self._process, self._world = process, process.world
        self._way = f"{process.name} {there} ".encode()
        self._other: SimLink | None = None
        self._closed = self._lost_told = False
        self._flight: deque[tuple[float, bytes | None]] = deque()  # when it arrives; None: no more will come
        self._last_arrival = 0.0
        self._queued_bytes = self._unacknowledged_bytes = self._unread_bytes = 0
        self._stalled_at: float | None = None
        self._retry_s = RETRY_S
        self._retrying = self._full = False

    @property
    def closed(self) -> bool:
        return self._closed

    # Opening

    def dial(self, opened: asyncio.Future[None], arrive: Callable[[], SimLink | None]) -> None:
        """Knock, and again each second, until somebody answers or the caller loses patience."""
        world = self._world

        def knock() -> None:
            if not self._closed and self._process.running:
                world.queue.at(self._process.now + world.network.frame_s(), there)

        def there() -> None:
            if self._closed:
                return
            if not world.passes(self.here, self.there):
                world.queue.at(world.now + DIAL_AGAIN_S, knock)
                return
            if self._other is None:
                self._other = arrive()
            if world.passes(self.there, self.here):
                world.queue.at(world.now + world.network.frame_s(), lambda: self._process.read(answered))
            else:
                world.queue.at(world.now + DIAL_AGAIN_S, knock)

        def answered() -> None:
            if opened.done():
                return
            if self._other is None:
                self._closed = True
                opened.set_exception(Unreachable(f"{self.peer} refused the connection: nobody listens there"))
            else:
                opened.set_result(None)

        knock()

    def meet(self, caller: SimLink) -> None:
        """Be the other end of a call."""
        self._other = caller

    # What its owner does

    def send(self, frame: bytes) -> bool:
        if not 1 <= len(frame) <= LINK_FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {len(frame):,} bytes; it must have 1 to {LINK_FRAME_BYTES_MAX:,}")
        if self._closed or self._queued_bytes + len(frame) > LINK_BYTES_MAX:
            return False
        self._queued_bytes += len(frame)
        self._world.streamed(self._process, self.there, self._way, frame)
        self._launch(frame)
        return True

    async def close(self) -> None:
        if not self._closed:
            self._launch(None)
            self._end("closed here")

    def abort(self) -> None:
        if not self._closed:
            self._flight.clear()
            self._end("closed here")
            self._send_reset()

    # What happens to it

    def killed(self) -> None:
        """Its process is gone, its kernel says goodbye."""
        if not self._closed:
            self._launch(None)
            self._closed = True

    def vanish(self) -> None:
        """Its machine has lost power: some of what was on the wire arrives, and nobody says goodbye."""
        self._closed = True
        for _ in range(self._world.random.randint(0, len(self._flight))):
            self._flight.pop()

    def _launch(self, data: bytes | None) -> None:
        arrives = max(self._last_arrival, self._process.now + self._world.network.frame_s())
        self._last_arrival = arrives
        self._flight.append((arrives, data))
        self._world.queue.at(arrives, self._pump)

    def _pump(self) -> None:
        """Let arrive what is due."""
        world = self._world
        while self._flight and self._flight[0][0] <= world.now:
            other = self._other
            if not world.passes(self.here, self.there):
                self._stall()
                return
            if other is None or other._closed:
                self._flight.clear()
                self._reset()
                return
            data = self._flight[0][1]
            size = 0 if data is None else len(data)
            if other._unread_bytes and other._unread_bytes + size > RECEIVE_BYTES_MAX:
                self._full = True  # the reader will say when there is room
                return
            self._flight.popleft()
            if world.passes(self.there, self.here):
                self._queued_bytes -= size
            else:
                self._unacknowledged_bytes += size
                self._stall()
            other._receive(data)

    def _receive(self, data: bytes | None) -> None:
        if data is None:
            self._end("closed by the other side")
        else:
            self._unread_bytes += len(data)
            self._process.read(partial(self._read, data))

    def _read(self, data: bytes) -> None:
        """The process reads a frame from its socket."""
        self._unread_bytes -= len(data)
        if self._other is not None and self._other._full:
            self._other._full = False
            self._world.queue.at(self._process.now + self._world.network.frame_s(), self._other._pump)
        if not self._lost_told:
            self.on_frame(self, data)

    def _stall(self) -> None:
        now = self._world.now
        if self._stalled_at is None:
            self._stalled_at, self._retry_s = now, RETRY_S
        if now - self._stalled_at >= LINK_TIMEOUT_S:
            self._flight.clear()
            self._reset()
        elif not self._retrying:
            self._retrying = True
            self._world.queue.at(now + self._retry_s, self._retry)
            self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    def _retry(self) -> None:
        self._retrying = False
        if not self._flight and not self._unacknowledged_bytes:
            return
        if self._world.passes(self.here, self.there) and self._world.passes(self.there, self.here):
            self._queued_bytes -= self._unacknowledged_bytes
            self._unacknowledged_bytes = 0
            self._stalled_at = None
        elif self._unacknowledged_bytes or not self._flight:
            self._stall()
        self._pump()

    # The end

    def _reset(self) -> None:
        """The connection is broken, as this end has found out; the other learns it if there is a way."""
        if not self._closed:
            self._end("broken")
            self._send_reset()

    def _send_reset(self) -> None:
        other, world = self._other, self._world
        if other is not None:
            world.queue.at(world.now + world.network.frame_s(), lambda: self._reset_arrives(other))

    def _reset_arrives(self, other: SimLink) -> None:
        if self._world.passes(self.here, self.there):
            other._flight.clear()
            other._end("reset by the other side")

    def _end(self, why: str) -> None:
        if not self.why:
            self.why = why
        self._closed = True
        if not self._lost_told and self._process.running:
            self._process.read(self._tell_lost)

    def _tell_lost(self) -> None:
        if not self._lost_told:
            self._lost_told = True
            self.on_gone(self)
            self.on_lost(self)
