"""The shell around executions: what happened goes in, batches and effects come out.

`Engine` owns the executions that are in memory and implements `Node`, what an execution asks for. Its parts decide nothing
twice: `Scheduler` says which execution runs, `Batches` keeps the order of writing and acting, `FunctionRunner` runs bodies,
`PostOffice` carries envelopes, `Alarm` rings when a timer is due, `Tenures` says which partitions are run here. `LocalDesk` is
where it is asked, and `NodeRuntime` the same with a public face.

Whatever is not in memory is durable; so an execution that is not in ``live`` is read from the store, and one that is, never.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from durable.errors import ClusterError, DurableError, JournalCorrupted, NotRegistered, ReplayError, StoreClosed, StoreError
from durable.journal import failures, keys
from durable.journal.entries import EntryType, Envelope, Status, StatusRow
from durable.journal.timers import Timer
from durable.ports import Clock, Courier, Entropy, Log
from durable.runtime import births, operations
from durable.runtime.alarm import Alarm
from durable.runtime.answer import Answer
from durable.runtime.batches import Batches, PartitionBatch
from durable.runtime.calls import Calls
from durable.runtime.config import NodeConfig
from durable.runtime.execution import PYTHON, Execution
from durable.runtime.newcomers import Newcomers
from durable.runtime.post import PostOffice
from durable.runtime.scheduler import Scheduler
from durable.runtime.tenure import Tenures
from durable.runtime.transitions import Event
from durable.runtime.waiters import Waiters
from durable.storage.node import NodeStorage
from durable.workflows.definition import REGISTRY, Workflow
from durable.workflows.machine import Outcome

log = logging.getLogger("durable")


class Engine:
    """Everything of a node but its public face. It runs the partitions that it is given (`adopt`), and at first none."""

    def __init__(
        self,
        storage: NodeStorage,
        config: NodeConfig,
        durable_log: Log,
        clock: Clock,
        entropy: Entropy,
        courier: Courier | None = None,
        elsewhere: Callable[[int], ClusterError] | None = None,
    ) -> None:
        self.storage = storage
        self.config = config
        self.clock = clock
        self.entropy = entropy
        self.loop = asyncio.get_running_loop()
        self.live: dict[str, Execution] = {}
        self.waiters = Waiters()
        self.failure: BaseException | None = None
        self.closed = False
        self.pythons_seen: set[str] = set()
        self.log = durable_log
        self.tenures = Tenures(self, elsewhere)
        self.here = self.tenures.here
        self.batches = Batches(durable_log, self.fail, self.drop, self.now_ms)
        self.scheduler = Scheduler(config, self.drive, self.batches.flush, self.park, self._is_due_soon)
        self.calls = Calls(self)
        self.runner = self.calls.runner
        self.post = PostOffice(self, courier)
        self.alarm = Alarm(
            clock.now_ms, self.tenures.ahead_ms, storage.timers, lambda: list(self.here), self._fire, self.batches.flush
        )
        self.newcomers = Newcomers(self)

    # --- partitions

    def adopt(self, partition: int, epoch: int = 0) -> None:
        """Run this partition from now on, from what its rows hold. Raises `StoreError` when they cannot be read."""
        self.check_open()
        self.tenures.adopt(partition, epoch)

    def drop(self, partition: int, why: ClusterError) -> None:
        """Let go of the partition at once. Whoever waits for something in it is told ``why``."""
        if not self.closed:
            self.tenures.drop(partition, why)

    def epoch(self, partition: int) -> int:
        tenure = self.here.get(partition)
        return 0 if tenure is None else tenure.epoch

    def now_ms(self, partition: int) -> int:
        """The time in a partition: that of this node, or as far ahead of it as that of an earlier owner was."""
        return self.clock.now_ms() + self.tenures.ahead_ms(partition)

    def busy(self) -> dict[int, None]:
        """The partitions in which a function runs, or has run and its result is not yet on its way to the log."""
        at_work = dict.fromkeys(self.batches.opened())
        for execution in self.live.values():
            if execution.calls or execution.working or execution.inbox:
                at_work[execution.partition] = None
        return at_work

    # --- in and out of memory

    def find(self, workflow_id: str) -> Execution | None:
        """The execution, from memory or the store; None when there is none, or it has finished. Raises `NotOwner`."""
        execution = self.live.get(workflow_id)
        if execution is not None:
            return None if execution.status.finished else execution
        self.tenures.check(workflow_id)
        status = self.storage.status(workflow_id)
        if status is None or status.status.finished:
            return None
        return self._bring_in(workflow_id, status)

    def _bring_in(self, workflow_id: str, status: StatusRow) -> Execution:
        execution = self.live[workflow_id] = Execution(workflow_id, status, self)
        return execution

    def _forget(self, execution: Execution) -> None:
        """Out of memory: whatever it was is durable."""
        if self.live.get(execution.workflow_id) is execution:
            del self.live[execution.workflow_id]

    def batch(self, execution: Execution) -> PartitionBatch:
        return self.batches.of(execution.partition)

    def park(self, execution: Execution) -> None:
        """Drop a waiting execution from memory. Its rows are written; when they are durable, it is gone."""
        batch = self.put_down(execution)
        execution.status_write(batch, execution.now_ms())
        execution.set_active(batch, False)

    def _is_due_soon(self, execution: Execution) -> bool:
        """Whether one of its timers fires before it would be worth parking."""
        until_ms = execution.now_ms() + self.config.park_after * 1000
        return any(keys.fire_at_ms(key) < until_ms for key in execution.timers.values())

    def put_down(self, execution: Execution) -> PartitionBatch:
        """Drop the machine. Until all that it wrote is durable nothing wakes the execution: the store has not all its rows."""
        execution.drop()
        batch = execution.parking = self.batch(execution)
        batch.effects.append((self.parked, execution, batch))
        return batch

    def parked(self, execution: Execution, batch: PartitionBatch) -> None:
        if execution.parking is not batch:
            return  # it has written more since
        execution.parking = None
        if execution.inbox or execution.due or self._has_work(execution):
            self.scheduler.wake(execution)
        elif execution.status in (Status.WAITING, Status.PAUSED) and not execution.calls:
            self._forget(execution)

    def _has_work(self, execution: Execution) -> bool:
        """Mail came while it was being parked: only its code can tell whether that is what it waits for."""
        return bool(execution.mailbox and execution.mailbox.unread and execution.woken)

    # --- one step

    def answer(self, execution: Execution, answer: Answer) -> None:
        """Something happened for an execution: it will be told in its turn."""
        execution.inbox.append(answer)
        self.scheduler.wake(execution)

    def drive(self, execution: Execution) -> None:
        """Run an execution until everything in it waits; called by the scheduler, in a turn of its own."""
        try:
            self._drive(execution)
        except StoreError as error:
            self.fail(error)
        except Exception as error:  # a fault of this library: one execution stops, and the others go on
            log.exception("execution %s stops", execution.workflow_id)
            self._diverge(execution, ReplayError(f"execution {execution.workflow_id!r} cannot go on: {error!r}"))

    def _drive(self, execution: Execution) -> None:
        if self.failure is not None or execution.status.finished or execution.parking is not None:
            self.scheduler.release(execution)
            return
        cancelled = execution.cancelled
        if cancelled and _lacks_code(execution):
            self.end_without_code(execution)
            return
        if execution.status is Status.DIVERGED:
            self.scheduler.release(execution)
            return
        batch = self.batch(execution)
        batch.cut()
        if execution.paused and not cancelled:
            self._drive_paused(execution, batch)
            return
        if execution.paused:
            execution.resume_to_cancel()
        try:
            ready = execution.machine is not None or self._load(execution, batch)
        except ReplayError as error:
            if cancelled:
                self.end_without_code(execution)
            else:
                self._diverge(execution, error)
            return
        if ready:
            self._run(execution, batch)

    def _run(self, execution: Execution, batch: PartitionBatch) -> None:
        now_ms = execution.now_ms()
        inbox = execution.inbox
        execution.woken = False
        if execution.status is not Status.RUNNING:
            execution.move(Event.STEP)
        while True:  # no cut ahead of the first: what is resumed to be cancelled is so in one piece
            machine = execution.machine
            assert machine is not None
            outcome = machine.outcome
            if machine.divergence is not None:
                self._diverge(execution, machine.divergence)
                return
            if outcome is not None:
                if outcome.next_input_json is not None and execution.cancelled:
                    outcome = Outcome(Status.CANCELLED)  # between two runs there is no code that could clean up
                elif outcome.next_input_json is not None:
                    outcome = births.next_run(execution, machine, outcome, self.log.batch_bytes_max)
                if outcome.next_input_json is None:
                    self._finish(execution, outcome, batch, now_ms)
                    return
                self._next_run(execution, outcome.next_input_json, batch, now_ms)
                self.scheduler.wake(execution)  # in a turn of its own: a run that waits for nothing must not hold up others
                return
            if inbox:
                execution.step(inbox.popleft(), batch, now_ms)
            elif execution.due:
                self._timer_due(execution, execution.due.pop(0), batch, now_ms)
            elif (mail := execution.next_mail(batch)) is not None:
                execution.step(mail, batch, now_ms)
            else:
                break
            batch.cut()
        self.settle(execution)

    def settle(self, execution: Execution) -> None:
        """After a step: does it run on, in a function, or does it wait?"""
        if execution.working or execution.inbox or execution.machine is None or execution.status.finished:
            return
        if execution.ready or execution.queued:
            return  # it was woken: whether it waits is seen when it has had its turn
        if execution.status is not Status.WAITING:
            execution.move(Event.WAIT)
        self.scheduler.release(execution)
        if not execution.calls:
            self.scheduler.waits(execution)

    def _load(self, execution: Execution, batch: PartitionBatch) -> bool:
        """Bring the machine of an execution up. False when its workflow is not registered here."""
        try:
            workflow = REGISTRY.workflow(execution.workflow_name)
        except NotRegistered:
            self._wait_for_code(execution)
            return False
        now_ms = execution.now_ms()
        if execution.rows == 1 and execution.start is not None:
            execution.begin(workflow, batch, now_ms, self.config.value_bytes_max)
        else:
            try:
                execution.load(workflow, self.storage, batch, now_ms, self.config.value_bytes_max)
            finally:
                self._warn_of_python(execution)
        execution.move(Event.STEP)
        execution.status_write(batch, now_ms)
        return True

    def _warn_of_python(self, execution: Execution) -> None:
        """Once for each other version of Python: asyncio's own steps differ between them (``wait_for``, 3.11 and 3.12)."""
        start = execution.start
        if start is not None and start.python != PYTHON and start.python not in self.pythons_seen:
            self.pythons_seen.add(start.python)
            log.warning(
                "execution %s was begun under Python %s, and this is %s: a workflow that leans on asyncio's inner order may "
                "diverge. Nothing would be lost: run it under %s again, and it goes on.",
                execution.workflow_id, start.python, PYTHON, start.python,
            )

    def _next_run(self, execution: Execution, input_json: bytes, batch: PartitionBatch, now_ms: int) -> None:
        self.drop_calls(execution)
        self._drop_answers(execution, batch)
        execution.continue_as_new(input_json, batch, now_ms)
        execution.begin(self._workflow(execution), batch, now_ms, self.config.value_bytes_max)

    def _drop_answers(self, execution: Execution, batch: PartitionBatch) -> None:
        """The run ends: what was answered to it is nothing to the next, which counts from 0 again. Whoever sent it is told."""
        batch.effects.extend((answer.recorded,) for answer in execution.inbox if answer.recorded is not None)
        execution.inbox.clear()
        batch.writes.extend((key, None) for key in execution.due)
        execution.due.clear()

    def _workflow(self, execution: Execution) -> Workflow[Any, Any]:
        return REGISTRY.workflow(execution.workflow_name)

    def _drive_paused(self, execution: Execution, batch: PartitionBatch) -> None:
        """Paused: what functions return is recorded, and applied when the execution is resumed. All else waits."""
        kept: deque[Answer] = deque()
        for answer in execution.inbox:
            if answer.recorded is None:
                batch.cut()
                execution.record_only(answer, batch, execution.now_ms())
            else:
                kept.append(answer)
        if len(kept) < len(execution.inbox):
            self.put_down(execution)
        execution.inbox = kept
        self.scheduler.release(execution)

    # --- ends

    def _finish(self, execution: Execution, outcome: Outcome, batch: PartitionBatch, now_ms: int) -> None:
        self.drop_calls(execution)
        self._drop_answers(execution, batch)
        execution.finish(outcome, batch, now_ms)
        execution.drop()
        self.scheduler.release(execution)
        self.scheduler.forget(execution)

    def drop_calls(self, execution: Execution) -> None:
        for running in list(execution.calls.values()):
            self.runner.drop(running)
        execution.working.clear()

    def ended(self, execution: Execution, row: StatusRow) -> None:
        """The end of an execution is durable: tell whoever waits."""
        self._forget(execution)
        self.waiters.tell(execution.workflow_id, row)

    def end_without_code(self, execution: Execution) -> None:
        """Cancel an execution whose code cannot run here: diverged, or not registered. What it wrote must be durable."""
        batch = self.batch(execution)
        try:
            row = self.storage.status(execution.workflow_id)
            if execution.start is None and row is not None:
                execution.start = self.storage.start(execution.workflow_id, row)
            if execution.rows != 1:  # its start row alone has nothing under way, and may not be there to be read
                operations.abandon_recorded(execution, self.storage, batch)
        except JournalCorrupted as error:
            log.error("execution %s is cancelled, and what it has under way is not known: %s", execution.workflow_id, error)
        execution.status, execution.paused = Status.DIVERGED, False
        self._finish(execution, Outcome(Status.CANCELLED), batch, execution.now_ms())

    def _diverge(self, execution: Execution, error: ReplayError) -> None:
        """The code does not match the journal: stop, lose nothing, and try again when the code changes."""
        log.error("execution %s stops: %s", execution.workflow_id, error)
        self.drop_calls(execution)
        execution.move(Event.DIVERGE)
        execution.error = failures.record(error)
        batch = self.put_down(execution)
        row = execution.status_write(batch, execution.now_ms())
        execution.set_active(batch, True)
        self.newcomers.wait(execution)
        self.scheduler.release(execution)
        batch.effects.append((self._stopped, execution, row))

    def _stopped(self, execution: Execution, row: StatusRow) -> None:
        if execution.status is Status.DIVERGED and execution.cancelled:
            self.end_without_code(execution)  # not before: what it has under way is read from its rows
            return
        if execution.status is Status.DIVERGED and not execution.inbox and not execution.due:
            self._forget(execution)
        self.waiters.tell(execution.workflow_id, row)

    def _wait_for_code(self, execution: Execution) -> None:
        name = execution.workflow_name
        log.warning(
            "execution %s waits: its workflow %r is not registered in this process. Import the module that defines it; the "
            "execution then goes on by itself.",
            execution.workflow_id,
            name,
        )
        execution.status = Status.WAITING
        self.newcomers.wait(execution)
        execution.status_write(self.batch(execution), execution.now_ms())
        self.scheduler.release(execution)

    # --- functions

    def run_call(self, execution: Execution, operation: Any) -> None:
        self.calls.run(execution, operation)

    def drop_call(self, execution: Execution, sequence_number: int) -> None:
        self.calls.drop(execution, sequence_number)

    # --- envelopes

    def deliver(self, key: bytes, envelope: Envelope) -> None:
        self.post.deliver(key, envelope)

    # --- timers

    def arm_timer(self, execution: Execution, timer: Timer) -> None:
        _, _, run, sequence_number = timer
        if run == execution.run and sequence_number in execution.timers:
            self.alarm.add(timer)

    def _fire(self, fire_at_ms: int, workflow_id: str, run: int, number: int) -> None:
        if not self.tenures.runs(workflow_id):
            return  # its row is with the partition, wherever that is
        try:
            execution = self.find(workflow_id)
        except ReplayError as error:
            log.error("a timer of execution %s is due, and: %s", workflow_id, error)
            return
        partition = keys.partition_of(workflow_id)
        key = keys.timer(partition, fire_at_ms, workflow_id, run, number)
        if execution is not None and execution.run == run:
            execution.due.append(key)
            if not execution.paused:
                self.scheduler.wake(execution)
        else:  # nobody is left who could wait for it
            self.batches.of(partition).writes.append((key, None))

    def _timer_due(self, execution: Execution, key: bytes, batch: PartitionBatch, now_ms: int) -> None:
        """Only the timer that an operation has set is its own: another of its number was left by an earlier one."""
        machine, number = execution.machine, keys.parse_timer(key)[3]
        pending = machine.pending.get(number) if machine else None
        if pending is None or execution.timers.get(number) != key:
            batch.writes.append((key, None))
            return
        if pending.entry_type is EntryType.SLEEP:
            execution.step(Answer(number, b"null"), batch, now_ms)
        elif number not in execution.calls:
            batch.writes.append((execution.timers.pop(number), None))
            execution.working[number] = pending
            batch.effects.append((self.run_call, execution, pending))

    # --- the end of the node

    def fail(self, error: BaseException) -> None:
        """The log cannot make anything durable: stop. What was acknowledged is kept; nothing more is acknowledged."""
        if self.failure is not None:
            return
        self.failure = error
        log.critical("the node stops: %s", error)
        self._let_go(error)

    def _let_go(self, error: BaseException) -> None:
        self.scheduler.close()
        self.alarm.close()
        for execution in list(self.live.values()):
            self.drop_calls(execution)
            execution.drop()
        self.live.clear()
        self.waiters.fail(error)
        self.batches.fail(error)
        self.post.close()

    async def close(self) -> None:
        """Stop driving, make durable what was written, and drop what is in memory."""
        if self.closed:
            return
        self.closed = True
        self.scheduler.close()
        if self.failure is None:
            await self.batches.drained()
        self._let_go(StoreClosed("the runtime was closed; what was accepted goes on when the store is opened again"))
        self.runner.close()

    def check_open(self) -> None:
        """Raises the error that stopped the node, or `StoreClosed`."""
        if self.failure is not None:
            if isinstance(self.failure, DurableError):
                raise self.failure
            raise StoreClosed(f"the runtime stopped: {self.failure!r}") from self.failure
        if self.closed:
            raise StoreClosed("the runtime is closed; open the store again, and its workflows go on")


def _lacks_code(execution: Execution) -> bool:
    unregistered = execution.machine is None and execution.workflow_name not in REGISTRY.workflows
    return execution.status is Status.DIVERGED or unregistered
