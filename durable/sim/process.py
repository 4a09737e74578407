"""A machine, and the processes that live on it one after the other: each with its own event loop, clock, entropy and sockets.

**Why it exists.** A crash must stop one process between two of its instructions and nothing else; a pause must leave its
timers to come late and its sockets to fill. So each simulated process is what a real one is: a loop of its own, which the world
runs, or does not.

**How it works.** The world tells a process that something has arrived, or that it is time for its next timer; the process
runs its loop until nothing is due, and says when it wants to be woken.

===========  ================================================================================================================
crash        its loop never runs again; its transport and store know the world no more
pause        as by SIGSTOP: its loop does not run, and what arrives waits in its sockets, as long as there is room: 256
             datagrams, and `RECEIVE_BYTES_MAX` a link. At the end it finds all of it at once
stall        a call that takes time (an fsync): the process goes on as if that time had passed, what it sends leaves so much
             later, and until then it does not run
===========  ================================================================================================================

**Clocks.** Each machine's monotonic clock counts from another moment and may run faster or slower than the world's time; its
wall clock can be set forwards and back. The process sees it through `durable.world.SystemClock`, as it does in production.

**Limits.** Nothing but a stall takes time.

Read next: `durable.sim.sockets`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from durable.errors import StoreError
from durable.membership.member import NodeAddress
from durable.sim.disk import SimDisk, SimStore
from durable.sim.loop import SeededEntropy, SimLoop
from durable.sim.sockets import SimTransport
from durable.world import SystemClock

if TYPE_CHECKING:
    from durable.ports import Clock, Entropy, Store, Transport
    from durable.sim.world import SimWorld

T = TypeVar("T")
BIRTH_S = 1_735_689_600.0
"""What wall clocks show when a world begins: 1 January 2025."""
UPTIME_S_MAX = 1_000_000.0
SOCKET_DATAGRAMS_MAX = 256


class SimNode(Protocol):
    """What a process runs. `durable.cluster.ClusterNode` is one."""

    async def join(self) -> None: ...

    async def leave(self) -> None: ...

    async def closed(self) -> None:
        """Return when it has left, or raise what ended it."""


class MakeNode(Protocol):
    """How a process makes its node. It is called in the process, before anything else of it runs."""

    def __call__(
        self, world: SimWorld, name: str, transport: Transport, clock: Clock, entropy: Entropy, store: Store
    ) -> SimNode: ...


class Watcher(Protocol):
    """Who looks at a world while it runs: laws, and the figures of a run."""

    def began(self, process: SimProcess) -> None:
        """A process has been started, and its node has been made."""

    def stepped(self, process: SimProcess) -> None:
        """A process has run whatever was due. Raises `AssertionError` for what must not be."""


class Machine:
    """One host: an address, a disk, clocks, and at most one running process.

    Args:
        world, name: where it stands, and what it is called; its processes listen at ``name:7800``.
        drift: how much faster than the world's time its clocks run, as a share: 0.001 is a millisecond a second.
    """

    def __init__(self, world: SimWorld, name: str, drift: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.address = NodeAddress(name, 7800)
        self.disk = SimDisk(Random(f"{world.seed}/disk/{name}"))
        self.process: SimProcess | None = None
        self.lives = 0
        self.rate = 1.0 + drift
        self.wall_offset_s = 0.0
        self.up_s = Random(f"{world.seed}/uptime/{name}").random() * UPTIME_S_MAX
        """What its monotonic clock shows when the world begins."""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def world_s(self, monotonic_s: float) -> float:
        """At which moment of the world its monotonic clock shows this."""
        return (monotonic_s - self.up_s) / self.rate

    def wall_s(self, at: float) -> float:
        """What its wall clock shows, in seconds since 1970."""
        return BIRTH_S + at * self.rate + self.wall_offset_s


class SimSyncer:
    """Syncs a process's store as a thread would: the process goes on meanwhile. As `durable.storage.syncer.Syncer`."""

    def __init__(self, process: SimProcess) -> None:
        self._process = process
        self.busy = False
        self.syncs = 0
        self.last_s = 0.0

    def start(self, done: Callable[[StoreError | None], object]) -> None:
        """Sync what was written so far, and call ``done`` on the loop, with the error if it failed. Not while `busy`."""
        process = self._process
        try:
            seconds, end = process.store.begin_sync()
        except StoreError as error:
            process.loop.call_soon(done, error)
            return
        self.busy, self.last_s = True, seconds

        def synced() -> None:
            if process.running:
                error = end()
                process.read(lambda: self._ended(done, error))

        process.world.queue.at(process.now + seconds, synced)

    def _ended(self, done: Callable[[StoreError | None], object], error: StoreError | None) -> None:
        self.busy = False
        self.syncs += error is None
        done(error)

    def close(self) -> None:
        """There is no thread to end."""


class SimProcess:
    """One life. Made by `SimWorld.start`."""

    def __init__(self, machine: Machine) -> None:
        machine.lives += 1
        self.machine, self.world = machine, machine.world
        self._queue = machine.world.queue
        self.name, self.life = machine.name, machine.lives
        self.running, self.paused = True, False
        self.node: Any = None
        self._free_at = self._reached_s = 0.0
        self._runs = False
        self._wake_at: float | None = None
        self.datagrams: deque[Callable[[], object]] = deque()
        self.streams: deque[Callable[[], object]] = deque()
        self.dropped: Counter[str] = Counter()
        self.loop = SimLoop(self.monotonic_s, (self.datagrams, self.streams))
        self.loop.process = self
        self.loop.set_exception_handler(self._failed)
        self.clock = SystemClock(wall=lambda: machine.wall_s(self.now), monotonic=self.monotonic_s)
        self.entropy = SeededEntropy(f"{self.world.seed}/{self.name}/{self.life}")
        self.transport = SimTransport(self)
        self.store: SimStore = machine.disk.open(self.stall)
        self.syncer = SimSyncer(self)

    def __repr__(self) -> str:
        return f"<{self.name}, life {self.life}>"

    # Time

    @property
    def now(self) -> float:
        """The moment of the world at which this process is: ahead of it after a stall."""
        now = self._queue.now
        return now if now > self._free_at else self._free_at

    def monotonic_s(self) -> float:
        """What its loop takes for the time. Woken for a timer it is not before it, though the two clocks are rounded."""
        now, machine = self._queue.now, self.machine
        shown = machine.up_s + (now if now > self._free_at else self._free_at) * machine.rate
        return shown if shown > self._reached_s else self._reached_s

    def stall(self, seconds: float) -> None:
        """Something takes time, and the process waits for it."""
        self._free_at = self.now + seconds
        self.loop.held = self._free_at > self._queue.now

    # Running

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in this process, from now on."""
        task = self.loop.create_task(work)
        self.run()
        return task

    def run(self) -> None:
        """Run what is due, and plan the next time."""
        if not self.running or self.paused or self._runs:
            return
        if self._free_at <= self._queue.now:
            self._runs, self.loop.held = True, False
            try:
                self.loop.run_ready()
            finally:
                self._runs = False
            self.world.has_run(self)
        self._plan()

    def _plan(self) -> None:
        if not self.running:
            return
        timer = None
        if self._free_at > self._queue.now:
            when = self._free_at
        else:
            timer = self.loop.next_timer()
            if timer is None:
                return
            when = self.machine.world_s(timer)
        if self._wake_at is None or when < self._wake_at:
            self._wake_at = when
            self._queue.at(when, partial(self._wake, when, timer))

    def _wake(self, planned: float, timer: float | None) -> None:
        if planned == self._wake_at:
            self._wake_at = None
            if timer is not None:
                self._reached_s = max(self._reached_s, timer)
            self.run()

    # What arrives

    def hear(self, arrived: Callable[[], object]) -> None:
        """A datagram is in the socket, if there is room in it."""
        if not self.running:
            return
        if len(self.datagrams) >= SOCKET_DATAGRAMS_MAX:
            self.dropped["socket full"] += 1
            return
        self.datagrams.append(arrived)
        self.run()

    def read(self, arrived: Callable[[], object]) -> None:
        """Something has come on a stream. Its sender has seen to it that there is room."""
        if self.running:
            self.streams.append(arrived)
            self.run()

    # Its end

    def stop(self) -> None:
        """Never run again, and be heard no more."""
        self.running = False
        self.loop.stop_for_ever()
        self.store.forget()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something was raised that nobody caught."""
        error = context.get("exception")
        self.world.unhandled(self, error if error is not None else RuntimeError(context["message"]))
