"""`DelayedLog`: a log as a cluster has it. What is appended can be read from the store only when it is durable, and that is later.

On one node a batch can be read before its fsync is over, so a node that reads what it has written and nobody has made
durable is not noticed. Here it is: each partition's batches wait for a number of turns of the event loop, which a seed decides, and
reach the store after that. Partitions do not wait for each other. `lose` fails one of them, as an overtaken owner's log does.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from durable.errors import ClusterError
from durable.ports import Batch, Store

TURNS_MAX = 12


class DelayedLog:
    """Implements `durable.ports.Log`. A held partition keeps its batches back until `let`."""

    batch_bytes_max = 1 << 30

    def __init__(self, store: Store, seed: int = 0) -> None:
        self.store = store
        self.applied = 0
        self._random = random.Random(seed)
        self._queues: dict[int, deque[tuple[Batch, asyncio.Future[None]]]] = {}
        self._lost: dict[int, ClusterError] = {}
        self._held: set[int] = set()

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if partition in self._lost:
            future.set_exception(self._lost[partition])
            return future
        queue = self._queues.setdefault(partition, deque())
        queue.append((list(batch), future))
        if len(queue) == 1:
            self._wait(partition, self._random.randint(1, TURNS_MAX))
        return future

    def check(self, partition: int) -> None:
        """It knows of no loss before it appends."""

    def confirm(self, partition: int) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._confirm(partition, future, self._random.randint(1, TURNS_MAX))
        return future

    def hold(self, partition: int) -> None:
        """Nothing of this partition becomes durable until `let`."""
        self._held.add(partition)

    def let(self, partition: int) -> None:
        self._held.discard(partition)
        if self._queues.get(partition):
            self._wait(partition, 1)

    def waiting(self, partition: int) -> int:
        return len(self._queues.get(partition, ()))

    def lose(self, partition: int, error: ClusterError, *, committed: int = 0) -> None:
        """The partition has another owner. The first ``committed`` of its waiting batches were durable before; nobody tells."""
        self._lost[partition] = error
        for number, (batch, future) in enumerate(self._queues.pop(partition, ())):
            if number < committed:
                self.store.write(batch)
            if not future.done():
                future.set_exception(error)
        self._held.discard(partition)

    def regain(self, partition: int) -> None:
        self._lost.pop(partition, None)

    def _wait(self, partition: int, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._wait, partition, turns - 1)
            return
        queue = self._queues.get(partition)
        if not queue or partition in self._held:
            return
        batch, future = queue.popleft()
        self.store.write(batch)
        self.applied += 1
        if not future.done():
            future.set_result(None)
        if queue:
            self._wait(partition, self._random.randint(1, TURNS_MAX))

    def _confirm(self, partition: int, future: asyncio.Future[None], turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._confirm, partition, future, turns - 1)
        elif not future.done():
            if partition in self._lost:
                future.set_exception(self._lost[partition])
            else:
                future.set_result(None)
