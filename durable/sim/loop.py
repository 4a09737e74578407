"""Event loops whose time is somebody else's: what `durable.sim` and `durable.testing` have in common, and `SimLoop`.

**Why it exists.** asyncio asks its loop for the time and waits in its selector. A loop that is told the time, and never waits,
runs the very same code, an hour in a second, and the same way each time.

**How it works.** `TimelessLoop` gives a loop its time, its next timer (cancelled ones are thrown away *before* anybody jumps to
them, or time would pass for nothing), and refuses the network. `SimLoop` is one simulated process: it owns no time and never
waits. `run_ready` runs what is due at this moment, and then the world moves on to the next moment of any process.

One iteration of a real loop reads one datagram of each socket that has one, adds the timers that are due, and runs what is
ready. So does this one: what waits in the process's ``inboxes`` comes one at a time, *before* the timers.

=====================  ====================================================================================================
asked of a `SimLoop`   answer
=====================  ====================================================================================================
a timer, a task        as ever
a thread, a process    `NotAllowedHere`: it would bring real time into the simulation
a socket, a pipe       `NotAllowedHere`: a process of a simulated world has a `SimTransport`
more work for ever     `AssertionError` after `ITERATIONS_MAX` at one moment: time would stand still
=====================  ====================================================================================================

**Limits.** The work itself takes no time. Times are floats of seconds, exact to a microsecond for 136 years.

Read next: `durable.sim.process`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from hashlib import blake2b
from heapq import heappop
from socket import AF_INET, IPPROTO_TCP, SOCK_STREAM
from typing import Any, NoReturn, TypeVar

from durable.errors import NotAllowedHere

T = TypeVar("T")
RESOLUTION_S = 1e-6
"""With asyncio's own of 1e-9 a loop spins for ever from 2**24 s (194 days) on: the next float is further away."""

ITERATIONS_MAX = 100_000


class SeededEntropy:
    """Random bytes that are the same on every run. Implements `durable.ports.Entropy`.

    >>> SeededEntropy(7).random_bytes(4) == SeededEntropy(7).random_bytes(4)
    True
    """

    def __init__(self, seed: int | str = 0) -> None:
        self._seed = seed
        self._drawn = 0

    def random_bytes(self, count: int) -> bytes:
        self._drawn += 1
        return blake2b(f"{self._seed}/{self._drawn}".encode(), digest_size=count).digest()


class TimelessLoop(asyncio.BaseEventLoop):
    """A loop without a time of its own, and without a network. A subclass says what ``time()`` is."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._clock_resolution = RESOLUTION_S

    def next_timer(self) -> float | None:
        """When the next timer is due that nobody has cancelled, in seconds of this loop; None if there is none."""
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0].cancelled():
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heappop(timers)._scheduled = False
        return timers[0].when() if timers else None


def _no_network(name: str) -> Callable[..., NoReturn]:
    def refuse(self: TimelessLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotAllowedHere(
            f"{name}: there is no network in virtual time, because nobody could say how much of it an answer takes. Put a "
            "fake where the function calls the world, or run this test in real time."
        )

    refuse.__name__ = name
    return refuse


_NETWORK = (
    *("create_connection", "create_server", "create_datagram_endpoint", "create_unix_connection", "create_unix_server"),
    *("connect_accepted_socket", "connect_read_pipe", "connect_write_pipe", "subprocess_exec", "subprocess_shell"),
    *("sock_accept", "sock_connect", "sock_recv", "sock_recv_into", "sock_sendall"),
)
for _name in _NETWORK:
    setattr(TimelessLoop, _name, _no_network(_name))


class _NothingToRead:
    """A selector that has no files and does not wait."""

    def select(self, timeout: float | None = None) -> list[Any]:
        return []

    def close(self) -> None:
        """It holds nothing."""


class SimLoop(TimelessLoop):
    """The loop of one simulated process.

    >>> now, said = [0.0], []
    >>> loop = SimLoop(lambda: now[0])
    >>> timer = loop.call_later(60.0, said.append, "a minute")
    >>> loop.run_ready(); said, loop.next_timer()
    ([], 60.0)
    >>> now[0] = 60.0; loop.run_ready(); said
    ['a minute']
    >>> loop.bury()

    Args:
        time: the process's monotonic clock, in seconds.
        inboxes: what has arrived for the process: a callable each, taken from the left.
    """

    def __init__(self, time: Callable[[], float], inboxes: Sequence[deque[Callable[[], object]]] = ()) -> None:
        super().__init__()
        self.time = time  # type: ignore[method-assign]  # asked for at every turn: no layer in between
        self._inboxes = inboxes
        self._selector = _NothingToRead()
        self.process: Any = None
        """Whose loop it is: for code that runs on it and is part of an experiment."""
        self.held = False
        """Set by what takes time: what is left of this moment's work is done when that time has passed."""
        self._dead = False
        self._tasks: list[asyncio.Task[Any]] = []

    # Running

    def run_ready(self) -> None:
        """Run everything that is due now, and what that makes due, until the loop is `held`."""
        self.run_call(self._run_ready)

    def _run_ready(self) -> None:
        """What `BaseEventLoop._run_once` does without files to wait for. Time stands still meanwhile, so it is asked for once.

        A timer runs when its time has come and not a microsecond before: whoever sets it again, because it came too early,
        would do so for ever, since here no time passes meanwhile.
        """
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]
        now, iterations = self.time(), 0
        while not self._dead and not self.held:
            for inbox in self._inboxes:
                if inbox:
                    ready.append(asyncio.Handle(inbox.popleft(), (), self))
            while timers and timers[0]._cancelled:
                heappop(timers)._scheduled = False
            while timers and timers[0]._when <= now:
                timer = heappop(timers)
                timer._scheduled = False
                ready.append(timer)
            if not ready:
                return
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                    if self._dead:
                        return
            iterations += 1
            assert iterations < ITERATIONS_MAX, f"work for ever, and no time passes: {list(ready)[:3]}"

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As ever, but for the search for mistakes of those who have threads or close their loop."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def run_call(self, call: Callable[[], T]) -> T:
        """What ``call`` returns, called as if by a callback of this loop."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            return call()
        finally:
            asyncio._set_running_loop(before)

    def _write_to_self(self) -> None:
        """A real loop waits in its selector, and is woken by a byte. This one never waits."""

    # Death

    def stop_for_ever(self) -> None:
        """As by SIGKILL: never run anything again. What was in the middle of something is kept as it is, unheard and unclosed:
        no `finally` of a dead process runs while its world exists.
        """
        self._dead = True
        self._tasks = list(asyncio.all_tasks(self))

    def bury(self) -> None:
        """Take down what is left, when the world has ended and nobody can see it."""
        self.stop_for_ever()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(BaseException):  # whatever it does about it, it does to nobody
                self.run_call(task.get_coro().close)
        self._tasks.clear()
        self.close()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._dead:
            super().call_exception_handler(context)

    def _check_closed(self) -> None:
        if not self._dead:
            super()._check_closed()  # type: ignore[misc]

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """Every name is its own address here."""
        return [(AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (host, port))]

    # What would bring the real world in

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise NotAllowedHere(
            f"run_in_executor({getattr(func, '__qualname__', func)}): a thread takes real time, and a simulated world has none. "
            "Let the function be async, or hand the work to the world's ports."
        )
