"""A workflow as a pure state machine: completions in, commands out.

The machine runs the author's coroutine on a `WorkflowLoop` until everything in it waits. What the code asked for on the way
stands in ``commands``, to be recorded; then the machine does nothing until `apply` gives it the next completion. It has no
clock, no disk and no running event loop, so it can be driven in a test with nothing else there:

>>> from durable import workflow
>>> from durable.journal.entries import Completion, Start
>>> @workflow("greet")
... async def greet(ctx, name: str) -> str:
...     await ctx.sleep(60)
...     return f"hello {name}"
>>> start = Start("greet", 1, b'"Ada"', 0, "3.11", b"01234567")
>>> machine = WorkflowMachine(greet, start, "greet-1")
>>> machine.begin()
>>> [command.entry_type.name for command, _ in machine.take_commands()]
['SLEEP']
>>> machine.apply(Completion(0, b"null", 60_000))
>>> machine.outcome.output_json
b'"hello Ada"'

The same machine replays: give it the recorded commands, and apply the recorded completions in their order. Whether an
operation is new or recorded is decided by `ReplayCursor`, the table of `durable.journal.replay`.

An execution is *finished* when the workflow has returned and no attached child is left.

Read next: `durable.workflows.context`, what an author calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from asyncio import events
from collections.abc import Callable, Sequence
from pathlib import PurePath
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

import msgspec

from durable.errors import EncodingError, NonDeterminismError, NotAllowedHere, ReplayError, WorkflowError
from durable.journal import failures
from durable.journal.codec import VALUE_BYTES_MAX, ValueType, encode_value
from durable.journal.entries import CANCEL, Command, Completion, EntryType, Failure, Start, Status
from durable.journal.replay import ReplayCursor
from durable.workflows.loop import Dropped, WorkflowLoop
from durable.workflows.operation import DurableTimer, Operation

if TYPE_CHECKING:
    from durable.workflows.context import Context
    from durable.workflows.definition import Workflow

ENTRIES_MAX = 1_000_000
"""Operations in one run: replaying so many takes seconds, and a workflow that makes more should continue as new."""

Pending: TypeAlias = Operation[Any] | DurableTimer


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a run ended. ``next_input_json`` is set when it goes on as a new run (continue-as-new)."""

    status: Status
    output_json: bytes | None = None
    error: Failure | None = None
    next_input_json: bytes | None = None


class ContinueAsNew(BaseException):
    """Leaves the workflow's code for good. Not an `Exception`, so that no author's ``except`` catches it."""


class Diverged(BaseException):
    """Leaves code that does not match its journal. Not an `Exception`: going on would only add confusion."""


def _goes_on_as_new(error: BaseException | None) -> bool:
    """Also from inside a `TaskGroup`, which puts whatever leaves it into a group."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(ContinueAsNew)[1] is None
    return isinstance(error, ContinueAsNew)


class WorkflowMachine:
    """One run of one workflow.

    ``recorded`` are the commands of the journal when this is a replay. ``commands`` and ``abandoned`` are taken by whoever
    drives the machine after each step: new commands to record, and operations for which nobody waits any more.
    """

    def __init__(
        self,
        workflow: Workflow[Any, Any],
        start: Start,
        workflow_id: str,
        recorded: Sequence[Command] = (),
        value_bytes_max: int = VALUE_BYTES_MAX,
    ) -> None:
        from durable.workflows.context import Context  # the two know each other

        self.workflow = workflow
        self.start = start
        self.workflow_id = workflow_id
        self.value_bytes_max = value_bytes_max
        self.cursor = ReplayCursor(recorded, workflow_id)
        self.loop = WorkflowLoop(self._make_timer, crc32(start.seed.encode()))  # type: ignore[abstract]
        self.loop.now_s = start.timestamp / 1000
        self.now_ms = start.timestamp
        self.wall_ms = start.timestamp
        self.pending: dict[int, Pending] = {}
        self.commands: list[tuple[Command, Pending | None]] = []
        self.abandoned: list[Pending] = []
        self.state = dict(start.state)
        self.checkpoint = start.checkpoint
        self.patches: dict[str, bool] = {}
        self.next_input_json: bytes | None = None
        self.cancel_requested = False
        self.completions_applied = 0
        self.replaying = bool(recorded)
        self.divergence: ReplayError | None = None
        self.context: Context = Context(self)
        self._root: asyncio.Task[Any] | None = None
        self._ending: Outcome | None = None
        """How the root ended, while tasks that it left clean up."""
        self._left = 0
        self._returned: Outcome | None = None

    # --- driving

    def begin(self) -> None:
        """Run the code until it waits for the first time."""
        try:
            argument = self.workflow.decode_input(self.start.input_json)
            coroutine = self.workflow.run(self.context, argument)
        except EncodingError as error:
            self.divergence = ReplayError(f"the input of {self.workflow_id!r} cannot be read any more: {error}")
            return
        self._root = self.loop.create_task(coroutine, context=contextvars.Context())
        self._root.add_done_callback(self._root_done, context=contextvars.Context())
        self._drain()

    def apply(self, completion: Completion) -> None:
        """Give the code one answer and run it until it waits again."""
        if self.divergence is not None:
            return
        self.now_ms = max(self.now_ms, completion.timestamp)
        self.loop.now_s = self.now_ms / 1000
        self.completions_applied += 1
        if completion.sequence_number == CANCEL:
            self._apply_cancel()
        else:
            pending = self.pending.pop(completion.sequence_number, None)
            if pending is None:
                return  # nobody waits for it any more: the code has cancelled it
            try:
                pending.deliver(completion)
            except ReplayError as error:
                self.divergence = error
                return
        self._drain()

    def expect_made(self, count: int, then: str) -> None:
        """Before ``then``, the first ``count`` recorded commands must have been made; otherwise `divergence` is set."""
        if self.divergence is None:
            try:
                self.cursor.expect_made(count, then)
            except NonDeterminismError as error:
                self.divergence = error

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended, None while it has not. A parent is not done before its attached children."""
        if self._returned is None or self.divergence is not None:
            return None
        return None if self.pending else self._returned

    def take_commands(self) -> list[tuple[Command, Pending | None]]:
        taken, self.commands = self.commands, []
        return taken

    def take_abandoned(self) -> list[Pending]:
        taken, self.abandoned = self.abandoned, []
        return taken

    def close(self) -> None:
        """Drop the coroutines. Operations that their ``finally`` blocks try are refused."""
        self.loop.close()

    def _drain(self) -> None:
        while True:
            try:
                self.loop.drain()
                break
            except (SystemExit, ContinueAsNew):
                continue  # asyncio re-raises what a task ended with; the task itself has it too
            except (Diverged, Dropped):
                break
            except Exception as error:  # a callback of the loop raised, or the bound on callbacks was passed
                self._return(Outcome(Status.FAILED, error=failures.record(error)))
                self.loop.close()
                break
        if self._returned is not None and self.divergence is None and self.cursor.replaying:
            self.divergence = self.cursor.missing(self.cursor.made, "the workflow returned")

    def _apply_cancel(self) -> None:
        if self.cancel_requested or self._root is None:
            return
        self.cancel_requested = True
        if not self._root.done():
            self._root.cancel()
            return
        ending = self._returned or self._ending
        if ending is not None and ending.next_input_json is not None:  # it would go on as a new run, which nobody wants any more
            self._ending = Outcome(Status.CANCELLED)
            self._returned = self._returned and self._ending
        self._cancel_children()

    # --- the end of a run

    def _root_done(self, root: asyncio.Task[Any]) -> None:
        """As under `asyncio.run`: tasks that it left are cancelled, and the run ends when they have cleaned up."""
        if self.loop.dead or self.divergence is not None:
            return
        self._ending = self._outcome_of(root)
        left = [task for reference in self.loop.tasks if (task := reference()) is not None and not task.done()]
        self._left = len(left)
        for task in left:
            task.add_done_callback(self._left_done, context=contextvars.Context())
            task.cancel()
        if not left:
            self._return(self._ending)

    def _left_done(self, task: asyncio.Task[Any]) -> None:
        self._left -= 1
        if self._left == 0 and self._ending is not None and not self.loop.dead and self.divergence is None:
            self._return(self._ending)

    def _outcome_of(self, root: asyncio.Task[Any]) -> Outcome:
        if root.cancelled():
            return Outcome(Status.CANCELLED)
        error = root.exception()
        if _goes_on_as_new(error):
            return Outcome(Status.RUNNING, next_input_json=self.next_input_json)
        if error is not None:
            return Outcome(Status.FAILED, error=failures.record(error))
        try:
            return Outcome(Status.COMPLETED, output_json=self.workflow.encode_output(root.result(), self.value_bytes_max))
        except WorkflowError as problem:
            return Outcome(Status.FAILED, error=failures.record(problem))

    def _return(self, outcome: Outcome) -> None:
        """The code is done: what it still asks for is refused, and only attached children are waited for."""
        if self._returned is not None:
            return
        self._returned = outcome
        for reference in self.loop.tasks:
            task = reference()
            if task is not None and not task.done():
                task.cancel()
        for pending in list(self.pending.values()):
            if not is_attached_child(pending):
                pending.cancel()
        if outcome.status in (Status.FAILED, Status.CANCELLED):
            self._cancel_children()

    def _cancel_children(self) -> None:
        """Ask attached children to stop, and go on waiting for them."""
        self.abandoned.extend(pending for pending in self.pending.values() if is_attached_child(pending))

    # --- operations

    def make(
        self,
        entry_type: EntryType,
        name: str,
        input_json: bytes,
        result_type: ValueType[Any],
        payload: Any,
        kind: type[Operation[Any]] = Operation,
    ) -> Operation[Any]:
        """The code makes an operation that the world must answer."""
        command = self._place(entry_type, name, input_json)
        number = self.cursor.made - 1
        operation = kind(loop=self.loop)
        operation.entry_type = entry_type
        operation.name = name
        operation.input_json = input_json
        operation.payload = payload
        operation.result_type = result_type
        operation.sequence_number = number
        operation.machine = self
        self.pending[number] = operation
        if command is not None:
            self.commands.append((command, operation))
        return operation

    def note(self, entry_type: EntryType, name: str, input_json: bytes) -> None:
        """The code makes an operation that is complete as soon as it is recorded."""
        command = self._place(entry_type, name, input_json)
        if command is not None:
            self.commands.append((command, None))

    def _place(self, entry_type: EntryType, name: str, input_json: bytes) -> Command | None:
        """Take the next place in the journal: None when it is recorded already, otherwise the command to record."""
        if self.loop.dead:
            raise Dropped
        if self.divergence is not None:
            raise Diverged
        if events._get_running_loop() is not self.loop:
            raise NotAllowedHere(
                f"{entry_type.value} {name}: a context works only inside its own workflow's code. In a function, return a "
                "value and let the workflow make the operation."
            )
        if self._returned is not None:
            raise asyncio.CancelledError("the workflow has returned")
        if self.cursor.made >= ENTRIES_MAX:
            raise WorkflowError(
                f"the journal of {self.workflow_id!r} has {ENTRIES_MAX:,} entries, which is its bound. Nothing is lost; a loop "
                "that goes on for ever begins a new run now and then, with ctx.continue_as_new."
            )
        try:
            if self.cursor.match(entry_type, name, input_json, source_line):
                return None
        except NonDeterminismError as error:
            self.divergence = error
            raise Diverged from error
        return Command(entry_type, name, input_json, self.wall_ms, source_line())

    def _make_timer(
        self, delay_s: float, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.TimerHandle:
        """A timer that asyncio asks for. It is known by its delay: deadlines differ from run to run, delays do not."""
        timer = DurableTimer(self.loop.now_s + delay_s, callback, args, context)
        if delay_s <= 0 or self.loop.dead:
            handle = self.loop.call_soon(callback, *args, context=context)
            timer._cancelled = True
            return handle  # type: ignore[return-value]
        delay_ms = round(delay_s * 1000)
        input_json = b"%d" % delay_ms
        timer.entry_type = EntryType.SLEEP
        timer.name = "delay_ms"
        timer.input_json = input_json
        timer.payload = delay_ms
        timer.machine = self
        command = self._place(EntryType.SLEEP, "delay_ms", input_json)
        timer.sequence_number = self.cursor.made - 1
        self.pending[timer.sequence_number] = timer
        if command is not None:
            self.commands.append((command, timer))
        return timer

    def operation_cancelled(self, pending: Pending) -> None:
        """Nobody waits for this operation any more."""
        if self.loop.dead:
            return
        if is_attached_child(pending):
            self.abandoned.append(pending)  # it is asked to stop, and still waited for
        elif self.pending.pop(pending.sequence_number, None) is not None:
            self.abandoned.append(pending)

    def receiver(self, number: int, recorded_id: str) -> str:
        """To whom message ``number`` goes: in a fork, what was under way to a child that it started anew, to its own child."""
        start = self.start
        if number < start.forked_at:
            for child in self.pending.values():
                if child.entry_type is EntryType.CHILD and child.sequence_number < start.forked_at:
                    own = child.sequence_number, child.payload.workflow_id
                    if start.child_id(*own, number) == recorded_id:
                        return start.child_id(*own, start.forked_at)
        return recorded_id

    # --- values

    def encode(self, value: Any, what: str) -> bytes:
        return encode_value(value, what, self.value_bytes_max)

    @property
    def root(self) -> asyncio.Task[Any] | None:
        return self._root


def is_attached_child(pending: Pending) -> bool:
    return pending.entry_type is EntryType.CHILD and not pending.payload.detached


# --- source lines ---------------------------------------------------------------------------------------------------

_SHORT: dict[CodeType, str | None] = {}


def source_line() -> str:
    """``file.py:12``: the innermost line outside of this library and asyncio, where the author made the operation."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        code = frame.f_code
        try:
            short = _SHORT[code]
        except KeyError:
            short = _SHORT[code] = _short_name(frame)
        if short is not None:
            return f"{short}:{frame.f_lineno}" if short else ""
        frame = frame.f_back
    return ""


def _short_name(frame: FrameType) -> str | None:
    module = str(frame.f_globals.get("__name__", ""))
    if module == "asyncio.events":
        return ""  # who runs the loop has nothing to do with it: a simulated world would differ by who plays it
    if module.partition(".")[0] in ("asyncio", "durable", "contextlib"):
        return None
    name = frame.f_code.co_filename
    if "ipykernel" in name or name.startswith("<ipython"):
        return f"{frame.f_code.co_name} in the notebook"
    return PurePath(name).name
