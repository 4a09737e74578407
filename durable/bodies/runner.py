"""Running function bodies: attempts, timeouts, cancellation, and where they run.

A body runs at least once; its result is recorded once. It is started only when its command is durable, and what it returns is
encoded here, so that a value which cannot be recorded fails the call and not the journal.

========================= ===========================================================================================
the attempt …             then
========================= ===========================================================================================
returned                  its result is the call's
raised, policy says wait  an `Attempt` row is written, and the next attempt waits (a durable timer if it is long)
raised, policy says stop  the exception is the call's result
passed its timeout        as if it had raised `FunctionTimeout`; with ``once``, the call's result is `OutcomeUnknown`
nobody waits any more     it is cancelled (``current_call().cancelled`` in a thread) or killed (in a process)
========================= ===========================================================================================
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from durable.bodies.processes import run_in_process
from durable.bodies.threads import ThreadPool
from durable.errors import EncodingError, FunctionFailed, FunctionTimeout, OutcomeUnknown, ValueTooLarge
from durable.journal import failures
from durable.journal.codec import ANY, encode_value
from durable.journal.entries import Attempt, Failure
from durable.workflows.context import CallWork, SideEffectWork
from durable.workflows.definition import _CURRENT, Call, Function
from durable.workflows.operation import Operation

DURABLE_BACKOFF_MS = 1_000
"""A shorter wait before the next attempt stays in memory; a longer one is a timer row, so the execution can be parked. With
``once`` each is a row, which tells after a crash whether the next attempt had begun."""


class Caller(Protocol):
    """Whose call it is: an execution, as far as running a body needs to know it."""

    workflow_id: str
    incarnation: bytes
    run: int
    calls: dict[int, Any]
    attempts: dict[int, Attempt]
    first_started_ms: dict[int, int]

    @property
    def epoch(self) -> int: ...

    def now_ms(self) -> int: ...


class RunningCall:
    """One attempt under way."""

    __slots__ = (
        "attempt", "call", "execution", "first_started_ms", "operation", "runner", "started_ms", "stuck", "task", "timer",
    )

    def __init__(self, runner: FunctionRunner, execution: Caller, operation: Operation[Any], attempt: int) -> None:
        self.runner = runner
        self.execution = execution
        self.operation = operation
        self.attempt = attempt
        self.task: asyncio.Task[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.call: Call | None = None
        self.stuck = False
        self.started_ms = self.first_started_ms = execution.now_ms()

    def task_done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.runner.ended(self, None, asyncio.CancelledError("the function cancelled itself"))
        else:
            error = task.exception()
            self.runner.ended(self, None if error is not None else task.result(), error)


class FunctionRunner:
    """Runs the functions of one node. ``answered`` is given each call's final result; ``retry`` each failed attempt."""

    def __init__(
        self,
        max_threads: int,
        value_bytes_max: int,
        answered: Callable[[RunningCall, bytes | None, Failure | None], None],
        failed: Callable[[RunningCall, Attempt], None],
        beat: Callable[[Call, bytes], None],
    ) -> None:
        self.threads = ThreadPool(max_threads)
        self._value_bytes_max = value_bytes_max
        self._answered = answered
        self._failed = failed
        self._beat = beat
        self._loop = asyncio.get_running_loop()

    # --- starting

    def start(self, execution: Caller, operation: Operation[Any], heartbeat_json: bytes | None = None) -> None:
        """Start the next attempt of a call."""
        number = operation.sequence_number
        last = execution.attempts.get(number)
        running = RunningCall(self, execution, operation, last.attempt + 1 if last else 1)
        if last is not None:
            running.first_started_ms = execution.first_started_ms.get(number, last.started_at_ms)
        execution.calls[number] = running
        beat = ANY.decode(heartbeat_json) if heartbeat_json else None
        address = (execution.workflow_id, execution.incarnation, execution.run, number)
        running.call = call = Call(address, running.attempt, beat, self._heartbeat)
        call.epoch = execution.epoch
        context = contextvars.Context()  # empty: after a crash another process opens the node, with other variables
        context.run(_CURRENT.set, call)
        work = operation.payload
        try:
            if type(work) is CallWork:
                self._start_function(running, work, context)
            else:
                self._start_side_effect(running, work, context)
        except Exception as error:  # arguments that no longer fit, a body that cannot be called like this
            self._loop.call_soon(self.ended, running, None, error)

    def _start_function(self, running: RunningCall, work: CallWork, context: contextvars.Context) -> None:
        function = work.function
        if function.executor == "process":
            self._start_process(running, function, context)
        else:
            args, kwargs = function.decode_arguments(running.operation.input_json)
            if function.executor == "loop":
                self._run_task(running, lambda: function.body(*args, **kwargs), context)
            else:
                self._run_thread(running, lambda: function.body(*args, **kwargs), context)
        if work.timeout_s is not None:
            running.timer = self._loop.call_later(work.timeout_s, self._expire, running, work.timeout_s)

    def _start_process(self, running: RunningCall, function: Function[..., Any], context: contextvars.Context) -> None:
        call, input_json = running.call, running.operation.input_json
        assert call is not None
        beat = partial(self._beat, call)
        self._run_task(running, lambda: run_in_process(function, input_json, call, self._value_bytes_max, beat), context)

    def _start_side_effect(self, running: RunningCall, work: SideEffectWork, context: contextvars.Context) -> None:
        if inspect.iscoroutinefunction(work.body):
            self._run_task(running, work.body, context)
        else:
            self._run_thread(running, work.body, context)

    def _run_task(self, running: RunningCall, body: Callable[[], Any], context: contextvars.Context) -> None:
        running.task = task = self._loop.create_task(_without_exit(body), context=context)
        task.add_done_callback(running.task_done)

    def _run_thread(self, running: RunningCall, body: Callable[[], Any], context: contextvars.Context) -> None:
        def done(result: Any, error: BaseException | None) -> None:
            if inspect.iscoroutine(result):  # `lambda: client.send(…)` where send is async
                if running.execution.calls.get(running.operation.sequence_number) is running:
                    self._run_task(running, lambda: result, context)
                else:
                    result.close()
            else:
                self.ended(running, result, error)

        def run() -> Any:
            return None if running.stuck else body()  # it may have waited for a thread until nobody wanted it

        self.threads.submit(run, context, done)

    # --- ending

    def ended(self, running: RunningCall, result: Any, error: BaseException | None) -> None:
        """An attempt has returned or raised. If nobody waits for it any more, that is all."""
        execution, operation = running.execution, running.operation
        if execution.calls.get(operation.sequence_number) is not running:
            if running.stuck:
                self.threads.stuck -= 1  # a thread that nobody waited for came back
            return
        if running.timer is not None:
            running.timer.cancel()
        if error is None:
            try:
                output_json = self._encode(operation, result)
            except Exception as problem:
                error = problem
            else:
                self._take_out(running)
                self._answered(running, output_json, None)
                return
        self._raised(running, error)

    def _encode(self, operation: Operation[Any], result: Any) -> bytes:
        work = operation.payload
        if type(work) is CallWork and work.function.executor == "process":
            output_json: bytes = result
            if len(output_json) > self._value_bytes_max:
                raise ValueTooLarge(f"{operation.name}: result is larger than value_bytes_max ({self._value_bytes_max:,})")
        else:
            output_json = encode_value(result, f"{operation.name}: result", self._value_bytes_max)
        if operation.result_type is not ANY:
            operation.result_type.decode(output_json, f"{operation.name}: result")
        return output_json

    def _raised(self, running: RunningCall, error: BaseException) -> None:
        execution, operation = running.execution, running.operation
        self._take_out(running)
        work = operation.payload
        delay_s = None
        if type(work) is CallWork and not isinstance(error, EncodingError | ValueTooLarge | OutcomeUnknown):
            elapsed_s = (execution.now_ms() - running.first_started_ms) / 1000
            seed = f"{execution.incarnation.hex()}/{execution.run}/{operation.sequence_number}"
            delay_s = work.retry.next_delay_s(running.attempt, elapsed_s, error, seed)
        failure = failures.record(error)
        if delay_s is None:
            self._answered(running, None, failure)
            return
        execution.first_started_ms.setdefault(operation.sequence_number, running.first_started_ms)
        failed_at_ms = execution.now_ms()
        next_at_ms = failed_at_ms + round(delay_s * 1000)
        attempt = Attempt(
            operation.sequence_number, running.attempt, running.started_ms, next_at_ms, failure, failed_at_ms
        )
        self._failed(running, attempt)

    def _expire(self, running: RunningCall, timeout_s: float) -> None:
        execution, operation = running.execution, running.operation
        if execution.calls.get(operation.sequence_number) is not running:
            return
        error: Exception = FunctionTimeout(f"{operation.name} took longer than {timeout_s:g} s (attempt {running.attempt})")
        if operation.payload.function.once:
            error = OutcomeUnknown(
                f"{operation.name} took longer than {timeout_s:g} s. It may still happen, or have happened. It is declared "
                "once=True, so it is not run again."
            )
        self._stop(running)
        self._raised(running, error)

    def drop(self, running: RunningCall) -> None:
        """Nobody waits for this call any more."""
        if running.timer is not None:
            running.timer.cancel()
        self._stop(running)
        self._take_out(running)

    def _take_out(self, running: RunningCall) -> None:
        """The attempt is over. Its references go, or every call would leave a cycle to the garbage collector."""
        del running.execution.calls[running.operation.sequence_number]
        running.call = running.task = None

    def _stop(self, running: RunningCall) -> None:
        if running.call is not None:
            running.call.cancelled = True
        if running.task is not None:
            running.task.cancel()
        else:
            running.stuck = True
            self.threads.stuck += 1

    def close(self) -> None:
        self.threads.close()

    # --- heartbeats

    def _heartbeat(self, call: Call, details: Any) -> None:
        data = encode_value(details, "heartbeat", self._value_bytes_max)
        self._loop.call_soon_threadsafe(self._beat, call, data)


async def _without_exit(body: Callable[[], Any]) -> Any:
    """A body that calls ``sys.exit`` fails its call, as it does in a thread; it must not take the event loop along."""
    try:
        return await body()
    except SystemExit as error:
        raise FunctionFailed("SystemExit", str(error)) from error
