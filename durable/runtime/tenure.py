"""Which partitions this node runs: given one, it goes on with what is in it; told to let go, it forgets all of it at once.

On one node all partitions are given when the store is opened. In a cluster they come and go: the replicated journal says when a
majority has promised this node an epoch for a partition (`adopt`), and when that promise is worth nothing any more (`drop`).

==================== ================================================== ==============================================
what a partition has adopt                                              drop
==================== ================================================== ==============================================
executions at work   brought into memory and woken                      out of memory; their code ends without an effect
functions            run again by the replay, those without a result    cancelled; what they still answer is thrown away
timers               read, up to the alarm's window                     ignored when they ring
outbox               every envelope is on its way again                 carried no further
batches              there are none                                     of no effect here, durable or not
who waits            there is nobody                                    is told why: whom to ask, or when again
==================== ================================================== ==============================================

A *tenure* is one such time. It is an object, and compared by identity: an answer that belongs to another tenure is none, also when
the partition has come back meanwhile. Nothing that `drop` forgets is lost: what was durable is in the journal, and what was not
was never acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable.errors import ClusterError, JournalCorrupted, NotOwner
from durable.journal import keys
from durable.journal.entries import Status
from durable.runtime.batches import NEVER
from durable.runtime.transitions import Event

if TYPE_CHECKING:
    from durable.runtime.engine import Engine

log = logging.getLogger("durable")


class Tenure:
    """One time during which a partition is run here. ``epoch`` is the number that fences the others; its time runs ``ahead_ms`` of
    this node's, so that it does not go back behind what its earlier owners have seen. One machine's clock is wrong in what it
    has owned, and nowhere else.
    """

    __slots__ = ("ahead_ms", "epoch", "partition")

    def __init__(self, partition: int, epoch: int, ahead_ms: int) -> None:
        self.partition = partition
        self.epoch = epoch
        self.ahead_ms = ahead_ms


class Tenures:
    """The partitions of one node. ``elsewhere(partition)`` makes the error for one that is not here."""

    def __init__(self, engine: Engine, elsewhere: Callable[[int], ClusterError] | None) -> None:
        self._engine = engine
        self._elsewhere = elsewhere or NotOwner
        self.here: dict[int, Tenure] = {}

    def check(self, workflow_id: str) -> int:
        """The partition of an execution. Raises what ``elsewhere`` says when it is not run here."""
        partition = keys.partition_of(workflow_id)
        if partition not in self.here:
            raise self._elsewhere(partition)
        return partition

    def check_all(self, partitions: list[int]) -> None:
        for partition in partitions:
            if partition not in self.here:
                raise self._elsewhere(partition)

    def ahead_ms(self, partition: int) -> int:
        tenure = self.here.get(partition)
        return 0 if tenure is None else tenure.ahead_ms

    def runs(self, workflow_id: str) -> bool:
        return keys.partition_of(workflow_id) in self.here

    # --- coming

    def adopt(self, partition: int, epoch: int) -> None:
        engine = self._engine
        if partition in self.here:
            self.drop(partition, NotOwner(partition, engine.config.node_id, epoch))
        ahead_ms = max(0, engine.storage.clock_ms(partition) - engine.clock.now_ms())
        self.here[partition] = Tenure(partition, epoch, ahead_ms)
        recover(engine, partition)
        engine.alarm.adopt(partition)

    # --- going

    def drop(self, partition: int, why: ClusterError) -> None:
        engine = self._engine
        if self.here.pop(partition, None) is None:
            return
        engine.scheduler.drop(partition)
        for execution in [execution for execution in engine.live.values() if execution.partition == partition]:
            del engine.live[execution.workflow_id]
            engine.drop_calls(execution)
            execution.inbox.clear()
            execution.due.clear()
            execution.drop()
            execution.parking = NEVER  # nothing wakes it, whoever still holds it
            engine.scheduler.release(execution)
        engine.batches.drop(partition, why)
        engine.waiters.drop(partition, why)
        engine.post.drop(partition)


def recover(engine: Engine, partition: int) -> None:
    """Take up what the rows of a partition hold: executions with work, and envelopes on their way."""
    storage = engine.storage
    for workflow_id in list(storage.active(partition)):
        try:
            execution = engine.find(workflow_id)
        except JournalCorrupted as error:
            log.error("execution %s cannot be recovered: %s", workflow_id, error)
            continue
        if execution is None or execution.paused:
            continue
        execution.active_row = True
        if execution.status is Status.DIVERGED:  # perhaps this process has the code that matches
            execution.move(Event.NEW_CODE)
            execution.error = None
        engine.scheduler.wake(execution)
    for key, envelope in list(storage.outbox(partition)):
        engine.loop.call_soon(engine.deliver, key, envelope)
