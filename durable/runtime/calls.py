"""The calls of executions, between the step that makes them and the step that gets their answer.

`FunctionRunner` runs bodies and knows nothing of executions that park, pause or begin anew; this knows when a call is still
wanted, records attempts and heartbeats, and brings the answer back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.bodies.runner import DURABLE_BACKOFF_MS, FunctionRunner, RunningCall
from durable.journal.entries import Attempt, Failure
from durable.runtime import operations
from durable.runtime.answer import Answer
from durable.runtime.execution import Execution
from durable.workflows.definition import Call

if TYPE_CHECKING:
    from durable.runtime.engine import Engine


class Calls:
    """The calls of one node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        config = engine.config
        self.runner = FunctionRunner(
            config.max_threads, config.value_bytes_max, self._answered, self._failed, self._beat
        )

    def run(self, execution: Execution, operation: Any) -> None:
        """The command of a call is durable: run it, unless nobody waits any more."""
        machine = execution.machine
        if operation.machine.start.run != execution.run:
            return  # its run has ended, and with it the count of what is busy
        number: int = operation.sequence_number
        wanted: Any = None if machine is None else machine.pending.get(number)
        if number in execution.calls:
            return  # an attempt from before a pause still runs, and answers for this one
        if wanted is not operation:
            if execution.working.get(number) is operation:
                del execution.working[number]
                self._engine.settle(execution)
            return
        beat = None
        before = machine is not None and number < len(machine.cursor.recorded)  # it may have run before a crash
        if before or execution.beats or number in execution.attempts:
            beat = self._engine.storage.heartbeat(execution.workflow_id, execution.incarnation, execution.run, number)
        self.runner.start(execution, operation, beat)

    def drop(self, execution: Execution, sequence_number: int) -> None:
        running = execution.calls.get(sequence_number)
        if running is not None:
            self.runner.drop(running)
            execution.working.pop(sequence_number, None)
            self._engine.settle(execution)

    def _answered(self, running: RunningCall, output_json: bytes | None, error: Failure | None) -> None:
        execution: Any = running.execution
        execution.working.pop(running.operation.sequence_number, None)
        execution.inbox.append(Answer(running.operation.sequence_number, output_json, error))
        self._engine.scheduler.wake(execution)

    def _failed(self, running: RunningCall, attempt: Attempt) -> None:
        """An attempt failed and there will be another: recorded, and then waited for."""
        if self._engine.closed or self._engine.failure is not None:
            return
        execution: Any = running.execution
        operation = running.operation
        batch = self._engine.batch(execution)
        execution.record_attempt(attempt, batch)
        wait_ms = attempt.next_at_ms - execution.now_ms()
        by_timer = wait_ms >= DURABLE_BACKOFF_MS or operation.payload.function.once
        if by_timer and execution.machine is not None:
            execution.working.pop(attempt.sequence_number, None)
            operations.back_off(execution, attempt.sequence_number, attempt.next_at_ms, batch)
            batch.effects.append((self._engine.settle, execution))
        else:
            batch.effects.append((self._retry_later, execution, operation, max(0, wait_ms) / 1000))

    def _retry_later(self, execution: Execution, operation: Any, delay_s: float) -> None:
        self._engine.loop.call_later(delay_s, self.run, execution, operation)

    def _beat(self, call: Call, details_json: bytes) -> None:
        execution = self._engine.live.get(call.workflow_id)
        running = execution.calls.get(call.sequence_number) if execution else None
        if execution is not None and running is not None and running.call is call and not self._engine.closed:
            execution.beats = True
            batch = self._engine.batch(execution)
            batch.cut()
            execution.record_heartbeat(call.sequence_number, details_json, batch)
