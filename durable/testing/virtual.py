"""Virtual time: an event loop on which a month passes as soon as nobody has anything to do.

Why it exists: a workflow that sleeps for 30 days is the point of this library, and nobody waits 30 days for a test.

How it works: `VirtualLoop` is asyncio's own loop with another clock. When no callback is ready it does not wait for the next
timer but moves its time there. A node that is made on such a loop (``durable.open`` does it by itself) takes its wall clock
from it, so that its timers, timeouts and journals see the same time.

- *Threads are real, and while one is busy virtual time stands still.* So functions that are not async, ``asyncio.to_thread``
  and ``run_in_executor`` work as ever; a function that takes a second of real time takes none of virtual time, and a timeout
  does not strike while a thread works. A function with ``executor="process"`` runs in a thread here.
- *There is no network.* A socket or a subprocess raises `NotAllowedHere`: nobody could say how much virtual time an answer
  takes. Put a fake where the body of the function calls the world.
- *Nothing left to happen is an error.* When everything waits and no timer is set, a real program hangs; here it raises
  `NothingWillHappen`.

Limits: time is a float of seconds since the start, exact to a microsecond for 136 years.

Read next: `durable.testing.crashes`.
"""

from __future__ import annotations

import asyncio
import inspect
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future as ThreadFuture
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from durable.bodies.threads import ThreadPool
from durable.errors import WorkflowError
from durable.journal.codec import encode_value
from durable.sim.loop import SeededEntropy, TimelessLoop
from durable.storage.log import LocalLog

if TYPE_CHECKING:
    from durable.runtime.engine import Engine

T = TypeVar("T")
START = datetime(2025, 1, 1, tzinfo=UTC)
"""Where virtual time begins unless told otherwise: a fixed moment, so that a test sees the same dates on every run."""

FAR_S = 100 * 365 * 86_400.0
TIMERS_AHEAD_MS = round(3 * FAR_S * 1000)
"""A node reads its timers a few seconds ahead, again and again; with virtual time it reads all of them at once. Its alarm
for reading on is then beyond ``FAR_S``, and does not count as something that will happen."""


class NothingWillHappen(WorkflowError):
    """Everything waits, and no timer is set: in real time this would hang for ever."""


class VirtualClock:
    """Wall time in milliseconds since 1970, as far as its loop has come. Implements `durable.ports.Clock`."""

    def __init__(self, loop: VirtualLoop, start: datetime) -> None:
        self._loop = loop
        self._start_ms = round(start.timestamp() * 1000)

    def now_ms(self) -> int:
        return self._start_ms + round(self._loop.time() * 1000)

    def at_least(self, now_ms: int) -> None:
        """A life behind another one begins where that ended, so there is nothing to make good; another store's time is set."""
        self._start_ms += max(0, now_ms - self.now_ms())


class _Selector(selectors.DefaultSelector):
    """Where a loop waits. This one does not: it moves the time on."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        events: list[Any] = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self.loop.busy_threads:
            return super().select(None)  # a thread wakes the loop when it is done; until then no time passes
        self.loop.advance()
        return []


class VirtualLoop(TimelessLoop, asyncio.SelectorEventLoop):
    """asyncio's loop, with its time moved on where it would wait. ``time()`` is in seconds since the start."""

    def __init__(self, start: datetime = START, elapsed_s: float = 0.0, seed: int = 0) -> None:
        self.now_s = elapsed_s
        self.busy_threads = 0
        self._bodies = threading.Condition()
        self._bodies_running = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.durable_world = VirtualWorld(self, start, seed)

    def time(self) -> float:
        return self.now_s

    def advance(self) -> None:
        """Move the time to the next timer. Raises `NothingWillHappen` when there is none within a lifetime."""
        timer = self.next_timer()
        if timer is None or timer > self.now_s + FAR_S:
            raise NothingWillHappen(
                "everything waits, and no timer is set, so nothing will ever happen again (in real time this would hang). "
                "Send the message that is waited for, or give the wait a timeout."
            )
        self.now_s = max(self.now_s, timer)

    # --- threads: real, while virtual time stands still

    def counted(self, body: Callable[[], T]) -> Callable[[], T]:
        """``body``, to be run in a thread, with its end noted. The caller calls `thread_ended` when the loop knows of it."""
        self.busy_threads += 1
        with self._bodies:
            self._bodies_running += 1

        def run() -> T:
            try:
                return body()
            finally:
                with self._bodies:
                    self._bodies_running -= 1
                    self._bodies.notify_all()

        return run

    def thread_ended(self) -> None:
        self.busy_threads -= 1

    def wait_for_threads(self) -> None:
        """Block until no thread works, without running the loop: for a loop that will not run again."""
        with self._bodies:
            self._bodies.wait_for(lambda: not self._bodies_running)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future = super().run_in_executor(executor, self.counted(lambda: func(*args)))
        future.add_done_callback(lambda _: self.thread_ended())
        return future


class VirtualWorld:
    """What a node that is made on a `VirtualLoop` takes from it."""

    def __init__(self, loop: VirtualLoop, start: datetime, seed: int) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop, start)
        self.entropy = SeededEntropy(seed)

    def prepare(self, engine: Engine) -> None:
        """Make a node fit for virtual time, before it takes up what its store holds."""
        engine.alarm.timers.window_ms = TIMERS_AHEAD_MS
        if isinstance(engine.log, LocalLog):
            engine.log.sync_on_the_loop()  # a thread that syncs a slow disk would leave nothing to wait for
        engine.runner.threads = _CountedThreads(engine.config.max_threads, self.loop)
        in_process, bytes_max = engine.runner._start_function, engine.config.value_bytes_max

        def start_function(running: Any, work: Any, context: Context) -> None:
            function = work.function
            if function.executor != "process":
                in_process(running, work, context)
                return
            args, kwargs = function.decode_arguments(running.operation.input_json)
            engine.runner._run_thread(running, lambda: _as_a_process_would(function, args, kwargs, bytes_max), context)

        engine.runner._start_function = start_function  # type: ignore[method-assign]


def _as_a_process_would(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bytes_max: int) -> bytes:
    result = function.body(*args, **kwargs)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    return encode_value(result, f"{function.name}: result", bytes_max)


class _CountedThreads(ThreadPool):
    """The node's threads, with the loop told of each that is busy."""

    def __init__(self, max_threads: int, loop: VirtualLoop) -> None:
        super().__init__(max_threads)
        self._loop = loop

    def submit(self, body: Callable[[], Any], context: Context, done: Callable[[Any, BaseException | None], None]) -> None:
        loop = self._loop

        def counted(result: Any, error: BaseException | None) -> None:
            loop.thread_ended()
            done(result, error)

        super().submit(loop.counted(body), context, counted)


# --- what a test uses -----------------------------------------------------------------------------------------------


class VirtualTime:
    """A virtual loop to run coroutines on. Made by `virtual_time`."""

    def __init__(self, start: datetime = START, seed: int = 0) -> None:
        self._start = start
        self.loop = VirtualLoop(start, seed=seed)

    @property
    def elapsed_s(self) -> float:
        """Virtual seconds since the start."""
        return self.loop.time()

    def now(self) -> datetime:
        """The virtual date and time (UTC)."""
        return datetime.fromtimestamp(self.loop.durable_world.clock.now_ms() / 1000, UTC)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end. May be called again: time goes on from where it was."""
        return in_own_thread_if_needed(lambda: self.loop.run_until_complete(main))

    def close(self) -> None:
        """Cancel what is left, and close the loop."""
        if not self.loop.is_closed():
            in_own_thread_if_needed(self._close)

    def _close(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


@contextmanager
def virtual_time(start: datetime = START, seed: int = 0) -> Iterator[VirtualTime]:
    """A block in which coroutines can be run in virtual time, one after another.

    ``start`` is the virtual date at which it begins, ``seed`` decides the ids that a node draws.

    >>> with virtual_time() as time:
    ...     time.run(asyncio.sleep(30 * 86_400))
    ...     print(time.now().date())
    2025-01-31
    """
    time = VirtualTime(start, seed)
    try:
        yield time
    finally:
        time.close()


def run(main: Coroutine[Any, Any, T], *, start: datetime = START, seed: int = 0) -> T:
    """Run a coroutine in virtual time and return its result; ``asyncio.run`` with a clock that does not wait.

    Inside, ``durable.open`` gives a node on that clock: a workflow that sleeps for 30 days is done in milliseconds.
    Works in a notebook too, whose own loop is running: then it runs in a thread, and this cell waits for it.

    Raises what ``main`` raises, and `NothingWillHappen` when everything waits and no timer is set.

    >>> import durable
    >>> @durable.workflow("month")
    ... async def month(ctx: durable.Context) -> str:
    ...     await ctx.sleep(30 * 86_400)
    ...     return f"{ctx.now():%d %B}"
    >>> async def main():
    ...     async with durable.open("memory:") as runtime:
    ...         return await (await runtime.submit(month)).result()
    >>> run(main())
    '31 January'
    """
    with virtual_time(start, seed) as time:
        return time.run(main)


def in_own_thread_if_needed(work: Callable[[], T]) -> T:
    """``work()``; in a thread of its own where an event loop is running here already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    answer: ThreadFuture[T] = ThreadFuture()

    def in_thread() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=in_thread, name="durable-virtual-time")
    thread.start()
    thread.join()
    return answer.result()
