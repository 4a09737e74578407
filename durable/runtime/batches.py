"""Write first, act later: the barrier between what is recorded and what is done.

Everything that a step of a workflow writes goes into the open batch of its partition, together with the *effects* that must
wait until it is durable: start this function, deliver that message, give the caller the result. When the step is over the
batch is handed to the log, and when the log says "durable" the effects run, in order. Between two steps inside a partition
nothing waits. So the order is always: append, durable, then act, then answer.

The open batches of one moment go to the log together; a log that groups them gives them one fsync.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from durable.errors import StoreError
from durable.ports import Log, Write

log = logging.getLogger("durable")

Effect = tuple[Any, ...]
"""A callable and its arguments."""


class PartitionBatch:
    """What one partition writes in one go, and what happens when it is durable."""

    __slots__ = ("effects", "partition", "writes")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.writes: list[Write] = []
        self.effects: list[Effect] = []


class Batches:
    """The open batch of every partition, and the last one of each that is on its way to the log."""

    def __init__(self, log: Log, failed: Callable[[BaseException], None]) -> None:
        self._log = log
        self._failed = failed
        self._open: dict[int, PartitionBatch] = {}
        self._on_the_way: dict[int, PartitionBatch] = {}
        self._groups: dict[Any, list[PartitionBatch]] = {}
        self._barriers: dict[asyncio.Future[None], None] = {}
        self._scheduled = False
        self.rows_written = 0

    def of(self, partition: int) -> PartitionBatch:
        """The open batch of a partition. It leaves at the end of this turn of the event loop, or at `flush`."""
        batch = self._open.get(partition)
        if batch is None:
            batch = self._open[partition] = PartitionBatch(partition)
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self.flush)
        return batch

    def after(self, partition: int, effect: Callable[..., object], *args: Any) -> None:
        """Run an effect when everything that was written to the partition until now is durable."""
        batch = self._open.get(partition) or self._on_the_way.get(partition)
        if batch is not None:
            batch.effects.append((effect, *args))
        else:
            effect(*args)

    def barrier(self, partition: int) -> asyncio.Future[None]:
        """Done when everything that was written to the partition until now is durable."""
        future = self.promise()
        self.after(partition, self.keep, future)
        return future

    def promise(self) -> asyncio.Future[None]:
        """A future that `keep` completes, and `fail` fails: nobody waits for ever for what cannot be recorded any more."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._barriers[future] = None
        return future

    def keep(self, future: asyncio.Future[None]) -> None:
        self._barriers.pop(future, None)
        if not future.done():
            future.set_result(None)

    def fail(self, error: BaseException) -> None:
        """No barrier will be passed any more."""
        for future in self._barriers:
            if not future.done():
                future.set_exception(error)
                future.exception()
        self._barriers.clear()

    async def drained(self) -> None:
        """Everything that was handed to the log is durable, or has failed."""
        self.flush()
        while self._groups:
            await asyncio.wait(list(self._groups))
            await asyncio.sleep(0)  # the callbacks of those futures run before this goes on

    def flush(self) -> None:
        """Hand every open batch to the log."""
        self._scheduled = False
        opened, self._open = self._open, {}
        for partition, batch in opened.items():
            self.rows_written += len(batch.writes)
            self._on_the_way[partition] = batch
            done: Any = self._log.append(partition, batch.writes)
            group = self._groups.get(done)
            if group is None:
                self._groups[done] = [batch]
                done.add_done_callback(self._durable)
            else:
                group.append(batch)

    def _durable(self, done: asyncio.Future[None]) -> None:
        group = self._groups.pop(done)
        error = None if done.cancelled() else done.exception()
        if error is not None or done.cancelled():
            self._failed(error or asyncio.CancelledError())
            return
        on_the_way = self._on_the_way
        for batch in group:
            if on_the_way.get(batch.partition) is batch:
                del on_the_way[batch.partition]
        for batch in group:
            for effect, *args in batch.effects:
                try:
                    effect(*args)
                except StoreError as unreadable:
                    self._failed(unreadable)
                except Exception:  # a fault of one execution is not one of those that share its batch
                    log.exception("an effect of a durable batch failed: %r %r", effect, args)

