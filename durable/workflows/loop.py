"""An event loop without a world: what makes plain asyncio durable.

A workflow runs on a loop of its own. It has no sockets, no threads and no clock; all it can do is run callbacks that are
ready. So whatever asyncio offers that needs nothing but a loop works and replays: ``gather``, ``TaskGroup``, ``timeout``,
``wait_for``, ``shield``, ``Event``, ``Queue``, ``Lock``. Three things make it repeat itself exactly:

- *Time* is the timestamp of the last completion that was applied, so every run of the code sees the same clock.
- *Timers* are journaled: ``asyncio.sleep(60)`` asks the loop for a callback in 60 s, and that becomes a SLEEP entry.
- *Order*: asyncio keeps tasks in sets, and a set iterates by hash. Tasks here hash by their creation number, so sets of them
  iterate alike in every process.

What needs the world (a socket, an executor, a subprocess) raises, and says where it belongs: in a function. A bound on
callbacks turns an endless ``sleep(0)`` loop into an error.

The loop is driven from outside: `drain` runs what is ready and returns. It must be called from a loop callback, never from
inside a task of another loop: from Python 3.14 a thread runs one task at a time.

Read next: `durable.workflows.machine`.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import weakref
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NoReturn, Protocol, TypeVar

from durable.errors import NotAllowedHere, WorkflowError

T = TypeVar("T")
CALLBACKS_PER_DRAIN_MAX = 1_000_000
"""Ten thousand concurrent steps take about 50,000; a loop that never waits takes them all in about a second."""

CLOSE_ATTEMPTS = 100
"""A coroutine may await in as many ``finally`` blocks before it is left to the garbage collector."""


class Dropped(BaseException):
    """The execution is being taken out of memory. Not an `Exception`: no author's ``except`` may swallow it."""


class TimerFactory(Protocol):
    """Makes a durable timer that calls back after a delay; given to the loop by the machine."""

    def __call__(
        self, delay_s: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.TimerHandle: ...


class ReadyHandle(asyncio.Handle):
    """A callback that is ready. Its own small constructor: the one of asyncio formats debug strings."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context if context is not None else contextvars.copy_context()
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def __repr__(self) -> str:
        return f"<ReadyHandle {self._callback!r}>"


class WorkflowTask(asyncio.Task[T]):
    """A task that hashes by its creation number, so that sets of tasks iterate alike in every process.

    The number counts from the loop's ``hash_base``: asyncio also keeps one set of all tasks of the process, in which the
    first tasks of ten thousand executions must not all have the same hash.
    """

    __slots__ = ("_hash",)

    def __init__(
        self, number: int, coro: Coroutine[Any, Any, T], loop: WorkflowLoop, context: contextvars.Context | None
    ) -> None:
        self._hash = loop.hash_base + number
        super().__init__(coro, loop=loop, name=f"task-{number}", context=context)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other


class WorkflowLoop(asyncio.AbstractEventLoop):
    """The loop of one execution. ``time()`` is in seconds since 1970; ``hash_base`` differs by execution, not by run."""

    def __init__(self, make_timer: TimerFactory, hash_base: int = 0) -> None:
        self.hash_base = hash_base
        self.now_s = 0.0
        self.dead = False
        self.tasks: list[weakref.ref[WorkflowTask[Any]]] = []
        self._make_timer = make_timer
        self._ready: deque[ReadyHandle] = deque()
        self._generators: list[weakref.ref[AsyncGenerator[Any, Any]]] = []

    # --- driving

    def drain(self) -> None:
        """Run callbacks until none is ready. Raises `WorkflowError` past the bound, and whatever a callback raises."""
        ready = self._ready
        outer = events._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_started, self._generator_dropped)
        left = CALLBACKS_PER_DRAIN_MAX
        try:
            while ready:
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                handle._context.run(handle._callback, *handle._args)
                left -= 1
                if not left:
                    raise WorkflowError(
                        f"the workflow ran {CALLBACKS_PER_DRAIN_MAX:,} callbacks without waiting for anything: it looks "
                        "like an endless loop around asyncio.sleep(0). Wait for an operation of the context instead."
                    )
        finally:
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(outer)

    def close(self) -> None:
        """Drop every coroutine, in the order of creation, while nothing that they do has an effect.

        Closing a coroutine runs its ``finally`` blocks. Left to the garbage collector, they would run later, inside
        another workflow's loop, and could make operations there.
        """
        if self.dead:
            return
        self.dead = True
        outer = events._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generator_started, self._generator_dropped)
        try:
            for reference in self.tasks:
                task = reference()
                if task is not None and not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task.get_coro())
            for found in self._generators:
                generator = found()
                if generator is not None:
                    _close(generator.aclose())
        finally:
            self._ready.clear()
            self.tasks.clear()
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(outer)

    def _generator_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators.append(weakref.ref(generator))

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator that is no longer used: it ends here, on this loop, and not on whichever runs later."""
        if not self.dead:
            self.create_task(generator.aclose())

    # --- what asyncio asks of a loop

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = ReadyHandle(callback, args, context)
        if not self.dead:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._make_timer(delay, callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._make_timer(when - self.now_s, callback, args, context)

    def time(self) -> float:
        return self.now_s

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        if self.dead:
            _close(coro)
            raise Dropped
        if _called_by_as_completed():
            _close(coro)
            raise NotAllowedHere(
                "asyncio.as_completed over coroutines starts them in an order that differs from run to run, so it cannot "
                "be replayed. Use ctx.first(…), or make the tasks yourself with asyncio.create_task."
            )
        task = WorkflowTask(len(self.tasks), coro, self, context)
        self.tasks.append(weakref.ref(task))
        if name is not None:
            task.set_name(str(name))
        return task

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self.dead

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Called when a task or future is dropped with an exception that nobody looked at, which changes nothing."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio's own timer handles report here; timers of this loop are `DurableTimer`s and do not."""


def _needs_the_world(name: str) -> Callable[..., NoReturn]:
    def refuse(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotAllowedHere(
            f"a workflow cannot do this itself ({name}): it would happen again on every replay. Put this in a function "
            "and call it through ctx.call."
        )

    refuse.__name__ = name
    return refuse


for _name in (
    "run_in_executor", "call_soon_threadsafe", "create_connection", "create_server", "create_datagram_endpoint",
    "create_unix_connection", "create_unix_server", "connect_accepted_socket", "connect_read_pipe",
    "connect_write_pipe", "subprocess_exec", "subprocess_shell", "getaddrinfo", "getnameinfo", "sock_accept",
    "sock_connect", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall", "sock_sendfile", "sock_sendto",
    "sendfile", "start_tls", "add_reader", "add_writer", "remove_reader", "remove_writer", "add_signal_handler",
    "remove_signal_handler", "run_forever", "run_until_complete", "stop", "set_default_executor",
):
    setattr(WorkflowLoop, _name, _needs_the_world(_name))
WorkflowLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def _called_by_as_completed() -> bool:
    frame = sys._getframe(2)
    for _ in range(4):
        if frame.f_code.co_name == "as_completed" or "_AsCompletedIterator" in frame.f_code.co_qualname:
            return frame.f_globals.get("__name__") == "asyncio.tasks"
        if frame.f_back is None or not str(frame.f_globals.get("__name__", "")).startswith("asyncio"):
            return False
        frame = frame.f_back
    return False


def _close(coro: Any) -> None:
    """Close a coroutine for good. What it raises on the way is nobody's any more; one that awaits in a ``finally`` block is
    closed again, because the garbage collector would do it later, in another workflow's loop."""
    for _ in range(CLOSE_ATTEMPTS):
        try:
            coro.close()
        except KeyboardInterrupt:
            raise
        except RuntimeError as error:
            if "ignored GeneratorExit" in str(error):
                continue
        except BaseException:
            pass
        return
