"""Nodes for tests of the runtime: on a store in memory, under a log that the test holds in its hand.

`HeldLog` makes nothing durable until it is told to, so a test can stand at any moment between "written" and
"durable"; `HeldLog.survivors` is what a crash at that moment would leave.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from durable import NodeConfig, NodeRuntime, NodeStorage, WorkflowHandle
from durable.journal.entries import Status
from durable.ports import Batch, Log, Store
from durable.storage import InMemoryStore

PATIENCE_S = 20.0


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """An async test that pytest can call; it may take `PATIENCE_S` seconds."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_S))

    return run


async def until(condition: Callable[[], Any], what: str = "the condition") -> None:
    """Let the loop run until the condition holds."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S / 2
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come true"
        await asyncio.sleep(0.0005)


async def turns(count: int = 20) -> None:
    """Some turns of the event loop: for showing that something does *not* happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def reached(handle: WorkflowHandle[Any], *wanted: Status) -> None:
    """Wait until the execution stands where it is wanted."""
    while (now := await handle.status()) not in wanted:
        assert not now.finished, f"{handle} is {now}, and never was {wanted}"
        await asyncio.sleep(0.001)


class HeldLog:
    """A log in a test's hand. While ``held``, appended batches queue; `release` makes them durable in order.

    ``visible`` says whether a batch can be read as soon as it is appended (an fsync under way) or only when it is
    durable (a batch that still waits for its turn, or for other nodes).
    """

    batch_bytes_max = 1 << 30

    def __init__(self, store: Store, *, visible: bool = False) -> None:
        self.store = store
        self.visible = visible
        self.held = False
        self.durable: list[Batch] = []
        self._queue: deque[tuple[Batch, asyncio.Future[None]]] = deque()

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        kept = list(batch)
        if self.visible:
            self.store.write(kept)
        self._queue.append((kept, future))
        loop.call_soon(self._pass_on)
        return future

    def check(self, partition: int) -> None:
        """Always ready."""

    def confirm(self, partition: int) -> asyncio.Future[None]:
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        self._pass_on()

    def step(self) -> None:
        """Make the oldest batch durable, and no other."""
        batch, future = self._queue.popleft()
        if not self.visible:
            self.store.write(batch)
        self.durable.append(batch)
        if not future.done():
            future.set_result(None)

    def _pass_on(self) -> None:
        while self._queue and not self.held:
            self.step()

    def survivors(self) -> InMemoryStore:
        """A store with what was durable at this moment."""
        store = InMemoryStore.open()
        for batch in self.durable:
            store.write(batch)
        return store


make_log: Callable[[Store], Log | None] = lambda store: None  # noqa: E731
"""The log of nodes that are opened without one; None is the node's own. ``tests/semantics`` runs under two."""


async def open_node(store: Store | None = None, log: Any = None, clock: Any = None, **config: Any) -> NodeRuntime:
    """A node on a store (a fresh one in memory by default)."""
    if store is None:
        store = log.store if log is not None else InMemoryStore.open()
    if log is None:
        log = make_log(store)
    return await NodeRuntime.make(NodeStorage.make(store), NodeConfig(**config), log=log, clock=clock)


def held(*, visible: bool = False) -> HeldLog:
    return HeldLog(InMemoryStore.open(), visible=visible)


class Gate:
    """A function body that a test lets through: it notes that it has begun, then waits."""

    def __init__(self) -> None:
        self.runs = 0
        self._open = asyncio.Event()

    async def wait(self) -> int:
        self.runs += 1
        run = self.runs
        await self._open.wait()
        return run

    def open(self) -> None:
        self._open.set()

    async def entered(self, runs: int = 1) -> None:
        await until(lambda: self.runs >= runs, "a function body began")
