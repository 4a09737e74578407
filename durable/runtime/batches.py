"""Write first, act later: the barrier between what is recorded and what is done.

Everything that a step of a workflow writes goes into the open batch of its partition, together with the *effects* that must
wait until it is durable: start this function, deliver that message, give the caller the result. When the step is over the
batch is handed to the log, and when the log says "durable" the effects run, in order. Between two steps inside a partition
nothing waits. So the order is always: append, durable, then act, then answer.

The open batches of one moment go to the log together; a log that groups them gives them one fsync. What executions write in one
moment may be more than a log takes at once. So a batch is cut, where it has grown long, between two things that do not need each
other (`PartitionBatch.cut`): a prefix of a journal is a journal, since replay makes the commands anew that are not recorded yet.
What has to be there together, a command and its envelope, a message that is taken and the row that records it, is never cut.

A partition that this node no longer runs loses its batches: their writes may become durable yet, or not, and what was to
happen then does not happen here. Now and then a batch takes the time along, so that whoever runs the partition next does
not go back behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from durable.errors import ClusterError, StoreError, ValueTooLarge
from durable.ports import Batch, Log, Write
from durable.storage.node import clock_write

log = logging.getLogger("durable")
CLOCK_ROW_MS = 1_000
"""How far behind its last batch the time that a partition remembers may be."""
PIECE_BYTES = 4 << 20
"""A batch that is longer is handed to the log in pieces, in order."""

Effect = tuple[Any, ...]
"""A callable and its arguments."""


class PartitionBatch:
    """What one partition writes in one go, and what happens when it is durable; nothing happens when it is ``dead``."""

    __slots__ = ("cuts", "dead", "effects", "partition", "writes")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.writes: list[Write] = []
        self.effects: list[Effect] = []
        self.cuts: list[int] = []
        self.dead = False

    def cut(self) -> None:
        """What comes may become durable later than what was written until now."""
        cuts, at = self.cuts, len(self.writes)
        if at and (not cuts or cuts[-1] != at):
            cuts.append(at)

    def pieces(self) -> list[list[Write]]:
        """The writes, in one piece if they are not many bytes; else cut so that only what cannot be cut is longer."""
        writes = self.writes
        if size_of(writes) <= PIECE_BYTES:
            return [writes]
        found: list[list[Write]] = []
        begin = end = size = 0
        for cut in [*self.cuts, len(writes)]:
            more = size_of(writes[end:cut])
            if size and more and size + more > PIECE_BYTES:
                found.append(writes[begin:end])
                begin, size = end, 0
            size += more
            end = cut
        return [*found, writes[begin:]]


def size_of(writes: Batch) -> int:
    """The bytes of its keys and values."""
    return sum([len(key) for key, _ in writes]) + sum([len(value) for _, value in writes if value])


NEVER = PartitionBatch(-1)
"""A batch that is never durable: what waits for it waits for ever."""


class Batches:
    """The open batch of every partition, and the last one of each that is on its way to the log.

    ``failed(error)`` is told that nothing can be made durable any more, ``lost(partition, error)`` that of one partition.
    """

    def __init__(
        self,
        log: Log,
        failed: Callable[[BaseException], None],
        lost: Callable[[int, ClusterError], None],
        now_ms: Callable[[int], int],
    ) -> None:
        self._log = log
        self._failed = failed
        self._lost = lost
        self._now_ms = now_ms
        self._open: dict[int, PartitionBatch] = {}
        self._on_the_way: dict[int, PartitionBatch] = {}
        self._groups: dict[Any, list[PartitionBatch]] = {}
        self._barriers: dict[asyncio.Future[Any], int] = {}
        self._stamped_ms: dict[int, int] = {}
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

    def cut(self, partition: int) -> None:
        """What is written to the partition from now on does not need to be there together with what was written before."""
        batch = self._open.get(partition)
        if batch is not None:
            batch.cut()

    def opened(self) -> Collection[int]:
        """The partitions that have something to be handed to the log."""
        return self._open.keys()

    def after(self, partition: int, effect: Callable[..., object], *args: Any) -> None:
        """Run an effect when everything that was written to the partition until now is durable."""
        batch = self._open.get(partition) or self._on_the_way.get(partition)
        if batch is not None:
            batch.effects.append((effect, *args))
        else:
            effect(*args)

    def barrier(self, partition: int) -> asyncio.Future[Any]:
        """Done when everything that was written to the partition until now is durable."""
        future = self.promise(partition)
        self.after(partition, self.keep, future)
        return future

    async def barriers(self, partitions: Iterable[int]) -> None:
        """Return when everything that was written to these partitions until now is durable, or they are here no more."""
        under_way = [self.barrier(each) for each in partitions if each in self._open or each in self._on_the_way]
        if under_way:
            await asyncio.wait(under_way)
        for error in [barrier.exception() for barrier in under_way]:
            if error is not None and not isinstance(error, ClusterError):
                raise error

    def promise(self, partition: int) -> asyncio.Future[Any]:
        """A future that `keep` completes, and `fail` or `drop` fails: nobody waits for what cannot be recorded any more."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._barriers[future] = partition
        return future

    def keep(self, future: asyncio.Future[Any], value: object = None) -> None:
        self._barriers.pop(future, None)
        if not future.done():
            future.set_result(value)

    def break_promise(self, future: asyncio.Future[Any], error: BaseException) -> None:
        self._barriers.pop(future, None)
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever waited may be gone

    def fail(self, error: BaseException) -> None:
        """No barrier will be passed any more."""
        for future in list(self._barriers):
            self.break_promise(future, error)

    def drop(self, partition: int, error: BaseException) -> None:
        """The partition is run here no more: what was written has no effect here, and who waited for it is told why."""
        batch = self._open.pop(partition, None)
        self._on_the_way.pop(partition, None)
        self._stamped_ms.pop(partition, None)
        dead = [other for group in self._groups.values() for other in group if other.partition == partition]
        for each in [batch, *dead] if batch is not None else dead:
            each.dead = True
            each.effects.clear()
        for future in [future for future, its in self._barriers.items() if its == partition]:
            self.break_promise(future, error)

    async def drained(self) -> None:
        """Everything that was handed to the log is durable, or has failed, or is nothing to this node any more."""
        self.flush()
        while under_way := [done for done, group in self._groups.items() if not all(batch.dead for batch in group)]:
            await asyncio.wait(under_way)
            await asyncio.sleep(0)  # the callbacks of those futures run before this goes on

    def flush(self) -> None:
        """Hand every open batch to the log."""
        self._scheduled = False
        opened, self._open = self._open, {}
        for partition, batch in opened.items():
            now_ms = self._now_ms(partition)
            if now_ms - self._stamped_ms.get(partition, 0) >= CLOCK_ROW_MS:
                self._stamped_ms[partition] = now_ms
                batch.writes.append(clock_write(partition, now_ms))
            self.rows_written += len(batch.writes)
            self._on_the_way[partition] = batch
            done = self._append(batch)
            group = self._groups.get(done)
            if group is None:
                self._groups[done] = [batch]
                done.add_done_callback(self._durable)
            else:
                group.append(batch)

    def _append(self, batch: PartitionBatch) -> Any:
        """Hand a batch to the log. It is durable when its last piece is: what is appended earlier is durable earlier."""
        pieces = batch.pieces()
        if len(pieces) > 1 and max(map(size_of, pieces)) > self._log.batch_bytes_max:
            pieces = [batch.writes]  # to be refused as a whole: nothing may become durable behind what does not
        *before, last = pieces
        for piece in before:
            self._log.append(batch.partition, piece).add_done_callback(partial(self._piece_done, batch))
        return self._log.append(batch.partition, last)

    def _piece_done(self, batch: PartitionBatch, done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self._refused([batch], error)

    def _durable(self, done: asyncio.Future[None]) -> None:
        group = self._groups.pop(done)
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self._refused(group, error)
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

    def _refused(self, group: list[PartitionBatch], error: BaseException) -> None:
        alive = [batch for batch in group if not batch.dead]
        if isinstance(error, ClusterError):
            for batch in alive:
                self._lost(batch.partition, error)
        elif isinstance(error, ValueTooLarge):  # nobody has looked before: a fault of this library, and of one partition
            for batch in alive:
                log.critical("partition %d stops here: what was to be recorded is too much. %s", batch.partition, error)
                self._lost(batch.partition, ClusterError(str(error)))
        elif alive or isinstance(error, StoreError):
            self._failed(error)
