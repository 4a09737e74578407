"""Group commit: many batches, one fsync.

``append`` puts a batch with the others of the moment; they are written together and made durable by one ``sync``, and then
everybody who waits goes on. While a sync is under way the next group collects. So the cost of an fsync is shared by every
workflow that is ready, and the busier the node, the cheaper a step.

``LocalLog`` is the `Log` of one node; a replicated log has the same port and another meaning of "durable".
"""

from __future__ import annotations

import asyncio
import sys

from durable.errors import DurableError, StoreError
from durable.ports import Batch, Store, Write
from durable.storage.syncer import Syncer


class LocalLog:
    """Makes batches durable in one store. ``syncs`` counts the fsyncs, ``batches`` what they covered."""

    batch_bytes_max = sys.maxsize

    def __init__(self, store: Store, *, inline: bool | None = None) -> None:
        self._store = store
        self._writes: list[Write] = []
        self._group: asyncio.Future[None] | None = None
        self._failure: DurableError | None = None
        self._confirmed: asyncio.Future[None] | None = None
        self._syncer = Syncer(store, inline=inline)
        self.batches = 0

    @property
    def syncs(self) -> int:
        return self._syncer.syncs

    def sync_on_the_loop(self) -> None:
        """However slow the disk is: for a loop whose time must stand still meanwhile."""
        self._syncer.inline = True

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]:
        """Done when the batch is durable. Every append of one moment gets the same future."""
        group = self._group
        if group is None:
            loop = asyncio.get_running_loop()
            group = self._group = loop.create_future()
            if self._failure is not None:
                self._group = None
                group.set_exception(self._failure)
                return group
            if not self._syncer.busy:
                loop.call_soon(self._flush)
        self._writes.extend(batch)
        self.batches += 1
        return group

    def check(self, partition: int) -> None:
        """Nothing stands in the way of one node."""

    def confirm(self, partition: int) -> asyncio.Future[None]:
        """Done at once: no other process can have this store."""
        if self._confirmed is None:
            self._confirmed = asyncio.get_running_loop().create_future()
            self._confirmed.set_result(None)
        return self._confirmed

    def _flush(self) -> None:
        group, writes = self._group, self._writes
        if group is None:
            return
        self._group, self._writes = None, []
        try:
            self._store.write(writes)
        except StoreError as error:
            self._fail(group, error)
            return
        self._syncer.start(lambda error: self._synced(group, error))

    def _synced(self, group: asyncio.Future[None], error: StoreError | None) -> None:
        if error is not None:
            self._fail(group, error)
            return
        if not group.done():
            group.set_result(None)
        if self._group is not None:
            self._flush()

    def _fail(self, group: asyncio.Future[None], error: DurableError) -> None:
        """Nothing is acknowledged any more: after a failed fsync nobody knows what the disk has."""
        self._failure = error
        for waiting in (group, self._group):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        self._group, self._writes = None, []

    def close(self) -> None:
        self._syncer.close()
