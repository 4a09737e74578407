"""One operation under way: what ``ctx.call(…)`` returns.

It is *eager*: the operation is made, and has its place in the journal, when it is called and not when it is awaited; so
``a = ctx.call(f); b = ctx.call(g)`` have the order in which they stand in the code. And it is a future and a coroutine at
once, so that ``gather``, ``wait_for`` and ``shield`` take it as it is, and ``TaskGroup.create_task`` takes it too.

Cancelling it tells the machine that nobody waits any more: a running function is cancelled, a timer is deleted.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from durable.errors import ReplayError
from durable.journal.codec import ValueType
from durable.journal.entries import Completion, EntryType
from durable.journal.failures import rebuild

if TYPE_CHECKING:
    from durable.workflows.machine import WorkflowMachine

T = TypeVar("T")


class Operation(asyncio.Future[T]):
    """An operation of a workflow. Await it for its result.

    ``payload`` is what the runtime needs to do the work; its shape belongs to the entry type.
    """

    __slots__ = ("_steps", "entry_type", "input_json", "machine", "name", "payload", "result_type", "sequence_number")

    entry_type: EntryType
    input_json: bytes
    machine: WorkflowMachine
    name: str
    payload: Any
    result_type: ValueType[Any]
    sequence_number: int
    _steps: Any

    # --- a coroutine, for TaskGroup.create_task

    def send(self, value: Any) -> Any:
        return self._iterator().send(value)

    def throw(self, *error: Any) -> Any:
        return self._iterator().throw(*error)

    def close(self) -> None:
        self._iterator().close()

    def _iterator(self) -> Generator[Any, Any, T]:
        steps: Generator[Any, Any, T] | None = getattr(self, "_steps", None)
        if steps is None:
            steps = self._steps = self.__await__()
        return steps

    # --- a future

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop waiting. The work itself is cancelled too, once this is recorded."""
        if super().cancel(msg):
            self.machine.operation_cancelled(self)
            return True
        return False

    def __hash__(self) -> int:
        return self.sequence_number

    def __eq__(self, other: object) -> bool:
        return self is other

    # --- what the machine does with it

    def deliver(self, completion: Completion) -> None:
        """Give the recorded answer to whoever waits. Raises `ReplayError` for an answer that cannot be read any more."""
        if self.done():
            return
        if completion.error is not None:
            error = rebuild(completion.error)
            error.add_note(f"(recorded in entry {self.sequence_number}, {self.entry_type.value} {self.name})")
            self.set_exception(error)
            self._retrieved()
            return
        try:
            self.set_result(self.result_type.decode(completion.output_json or b"null"))
        except Exception as error:
            raise ReplayError(
                f"the result of entry {self.sequence_number} ({self.entry_type.value} {self.name}) cannot be read as the type "
                f"that the code declares now: {error}. Nothing is lost: put the type back, and the execution goes on."
            ) from error

    def _retrieved(self) -> None:
        """Nobody must await an operation; asyncio's complaint about that would come at a random time."""
        self._log_traceback = False

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "waiting"
        return f"<{self.entry_type.value} {self.name} #{self.sequence_number} {state}>"


class DurableTimer(asyncio.TimerHandle):
    """A timer that asyncio asked for (``sleep``, ``timeout``, ``wait_for``), recorded as a SLEEP entry."""

    __slots__ = ("entry_type", "input_json", "machine", "name", "payload", "sequence_number")

    entry_type: EntryType
    input_json: bytes
    machine: WorkflowMachine
    name: str
    payload: Any
    sequence_number: int

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context if context is not None else contextvars.copy_context()
        self._cancelled = False
        self._when = when

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self.machine.operation_cancelled(self)

    def deliver(self, completion: Completion) -> None:
        if not self._cancelled:
            self.machine.loop.call_soon(self._callback, *self._args, context=self._context)
            self._cancelled = True

    def __hash__(self) -> int:
        return self.sequence_number

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<timer #{self.sequence_number}>"

