"""The author's one door to the world.

Everything that a workflow does beyond computing goes through its `Context`, so that all of it is in the journal. Operations
are *eager*: they take their place in the journal when they are called, and are awaited for their result.

Read next: `durable.workflows.saga`, and then `durable.runtime.runtime`, which does the work.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, overload

import msgspec

from durable.errors import EncodingError, NotAllowedHere, WorkflowError
from durable.journal.codec import ANY, MISSING, ValueType, value_type
from durable.journal.entries import EntryType
from durable.journal.keys import id_bytes
from durable.journal.retry import RetryPolicy
from durable.workflows.operation import Operation
from durable.workflows.saga import Saga

if TYPE_CHECKING:
    from durable.workflows.definition import Function, Workflow
    from durable.workflows.machine import WorkflowMachine

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
NONE: ValueType[None] = ValueType(None)


# --- what the runtime is asked to do: the payloads of operations ------------------------------------------------------


class CallWork(msgspec.Struct, frozen=True, gc=False):
    """Run a function. ``retry`` and ``timeout_s`` are those of this call, or the function's own."""

    function: Any
    retry: RetryPolicy
    timeout_s: float | None


class SideEffectWork(msgspec.Struct, frozen=True, gc=False):
    """Run a callable that only the live code has."""

    body: Callable[[], Any]


class SendWork(msgspec.Struct, frozen=True, gc=False):
    """Put a message into a channel of another execution."""

    workflow_id: str
    channel: str
    value_json: bytes


class ReceiveWork(msgspec.Struct, frozen=True, gc=False):
    """Wait for a message in a channel."""

    channel: str


class ChildWork(msgspec.Struct, frozen=True, gc=False):
    """Start another workflow, and wait for its result. A detached child outlives its parent."""

    workflow: str
    version: int
    workflow_id: str
    input_json: bytes
    detached: bool


class SleepUntil(msgspec.Struct, frozen=True, gc=False):
    """Wait for a moment, in milliseconds since 1970."""

    fire_at_ms: int


class Winner(NamedTuple):
    """The first of several: ``match await ctx.first(…): case ("approval", answer): …``"""

    name: str
    value: Any


class Child(Operation[R]):
    """A child workflow. Await it for its result; ``send`` gives it a message; ``cancel`` asks it to stop."""

    __slots__ = ()

    @property
    def workflow_id(self) -> str:
        """In a fork, of a child that it started anew: its origin's until the commands of the origin are replayed."""
        machine = self.machine
        return machine.start.child_id(self.sequence_number, self.payload.workflow_id, machine.cursor.made)

    def send(self, *message: Any) -> Any:
        """``send(channel, value)``: a message to the child. (With one argument it is a coroutine's ``send``.)"""
        if len(message) == 2:
            return self.machine.context.send(self.workflow_id, *message)
        return super().send(*message)


class Context:
    """What an author calls. One for each run; works only inside its own workflow's code."""

    def __init__(self, machine: WorkflowMachine) -> None:
        self._machine = machine
        self._seed = machine.start.seed
        self._random: random.Random | None = None
        self._uuids: random.Random | None = None
        self._logger: logging.LoggerAdapter[Any] | None = None
        self.state = State(machine)

    # --- who and when

    @property
    def workflow_id(self) -> str:
        return self._machine.workflow_id

    @property
    def is_replaying(self) -> bool:
        """True while recorded answers are left to be applied. For logging; a workflow that decides by it diverges."""
        return self._machine.replaying

    def now(self) -> datetime:
        """The time of the last answer that was applied (UTC): the same on every replay, never backwards."""
        return datetime.fromtimestamp(self._machine.now_ms / 1000, UTC)

    @property
    def random(self) -> random.Random:
        """A generator seeded by the execution: the same numbers on every replay, and in a fork. Not for secrets: whoever knows an
        idempotency key of the run can compute them."""
        if self._random is None:
            self._random = random.Random(self._seed)
        return self._random

    def uuid4(self) -> uuid.UUID:
        """A random UUID, the same on every replay, and in a fork. Not a secret, as `random` is none."""
        if self._uuids is None:
            self._uuids = random.Random(f"{self._seed}/uuid")
        return uuid.UUID(int=self._uuids.getrandbits(128), version=4)

    @property
    def logger(self) -> logging.LoggerAdapter[Any]:
        """A logger that is silent while replaying, so that each line is written once."""
        if self._logger is None:
            self._logger = _ReplaySilent(
                logging.getLogger(f"durable.workflow.{self._machine.workflow.name}"), {"machine": self._machine}
            )
        return self._logger

    # --- functions and side effects

    @overload
    def call(self, f: Function[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> Operation[R]: ...
    @overload
    def call(self, f: Function[P, R], *args: P.args, **kwargs: P.kwargs) -> Operation[R]: ...
    @overload
    def call(self, f: str, *args: Any, **kwargs: Any) -> Operation[Any]: ...
    @overload
    def call(
        self, f: Function[..., Any], *args: Any, retry: RetryPolicy, timeout: float | timedelta | None = None, **kwargs: Any
    ) -> Operation[Any]: ...
    @overload
    def call(self, f: Function[..., Any], *args: Any, timeout: float | timedelta, **kwargs: Any) -> Operation[Any]: ...
    def call(  # type: ignore[misc]
        self,
        f: Any,
        *args: Any,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> Operation[Any]:
        """Call a function. Its body runs at least once; its result is recorded once.

        ``f`` is a function or its registered name; ``retry`` and ``timeout`` (seconds for one attempt) override the
        function's own. Raises what the function raised, when its attempts are used up.
        """
        from durable.workflows.definition import REGISTRY, Function

        target = f if type(f) is Function else REGISTRY.function(f)
        machine = self._machine
        input_json = target.encode_arguments(args, kwargs, machine.value_bytes_max)
        limit = target.timeout if timeout is None else seconds(timeout)
        work = CallWork(target, retry or target.retry, limit)
        return machine.make(EntryType.CALL, target.name, input_json, target.result_type, work)

    def side_effect(self, name: str, fn: Callable[[], Any], type: Any = Any) -> Operation[Any]:
        """Run ``fn()`` for its effect or its value, and record the value. The body runs at least once.

        ``fn`` is sync (it runs in a thread) or async. For anything that needs arguments, retries or a timeout, register a
        function and use `call`.
        """
        return self._machine.make(EntryType.SIDE_EFFECT, plain("name", name), b"[]", value_type(type), SideEffectWork(fn))

    # --- time

    def sleep(self, duration: float | timedelta) -> Operation[None]:
        """Wait. The timer is durable: it fires on time also when the process is gone in between."""
        delay_ms = round(seconds(duration) * 1000)
        return self._machine.make(EntryType.SLEEP, "delay_ms", b"%d" % max(0, delay_ms), NONE, max(0, delay_ms))

    def sleep_until(self, moment: datetime) -> Operation[None]:
        """Wait for a moment (an aware datetime)."""
        if moment.tzinfo is None:
            raise WorkflowError("sleep_until takes a datetime with a time zone; without one nobody knows when it is")
        at_ms = round(moment.timestamp() * 1000)
        return self._machine.make(EntryType.SLEEP, "until_ms", b"%d" % at_ms, NONE, SleepUntil(at_ms))

    # --- messages

    def send(self, workflow_id: str, channel: str, value: Any = None) -> Operation[None]:
        """Send a message to another execution. Await it to know that it was accepted; raises `MailRefused` if not.

        Messages from one sender to one receiver arrive in order, each exactly once.
        """
        id_bytes(workflow_id)
        channel = plain("channel", channel)
        value_json = self._machine.encode(value, f"message to {workflow_id}/{channel}")
        input_json = self._machine.encode([workflow_id, msgspec.Raw(value_json)], "message")
        return self._machine.make(EntryType.SEND, channel, input_json, NONE, SendWork(workflow_id, channel, value_json))

    def receive(self, channel: str, type: Any = Any, timeout: float | timedelta | None = None) -> Operation[Any]:
        """Wait for the next message in a channel, as a value of ``type``. Raises `TimeoutError` after ``timeout`` seconds.

        Messages that nobody receives are kept, up to the bound of the mailbox.
        """
        machine, channel = self._machine, plain("channel", channel)
        operation = machine.make(EntryType.RECEIVE, channel, b"[]", value_type(type), ReceiveWork(channel))
        if timeout is not None:
            timer = machine.loop.call_later(seconds(timeout), _time_out, operation, channel)
            operation.add_done_callback(lambda _: timer.cancel())
        return operation

    # --- other workflows

    def start(
        self,
        workflow: Workflow[Any, R] | str,
        input: Any = MISSING,
        workflow_id: str | None = None,
        detached: bool = False,
    ) -> Child[R]:
        """Start a child workflow. Await the child for its result; raises `WorkflowFailed` if it fails.

        A parent is not done before its attached children, and cancelling the parent cancels them. A detached child goes
        its own way; it can still be awaited.
        """
        from durable.workflows.definition import REGISTRY

        target = REGISTRY.workflow(workflow)
        machine = self._machine
        input_json = target.encode_input(input, machine.value_bytes_max)
        child_id = workflow_id or self._child_id()
        id_bytes(child_id)
        work = ChildWork(target.name, target.version, child_id, input_json, detached)
        recorded = machine.encode([child_id, msgspec.Raw(input_json), detached], "child")
        child = machine.make(EntryType.CHILD, target.name, recorded, target.output_type, work, Child)
        assert isinstance(child, Child)
        return child

    def _child_id(self) -> str:
        start, number = self._machine.start, self._machine.cursor.made
        base = next((base for until, base in start.origin_child_bases if number < until), start.child_base)
        return f"{base}.{number}"

    async def first(self, **awaitables: Awaitable[Any]) -> Winner:
        """The first to finish, by name; the others are cancelled. Raises what the first raised.

        >>> async def decide(ctx):
        ...     match await ctx.first(answer=ctx.receive("approval", bool), late=ctx.sleep(3600)):
        ...         case ("answer", approved): return approved
        ...         case ("late", _): return False
        """
        if not awaitables:
            raise WorkflowError("ctx.first needs at least one awaitable")
        loop = self._machine.loop
        futures = {name: asyncio.ensure_future(item, loop=loop) for name, item in awaitables.items()}
        done: asyncio.Future[str] = loop.create_future()
        for name, future in futures.items():
            future.add_done_callback(partial(_win, done, name))
        try:
            winner = await done
        finally:
            for future in futures.values():
                future.cancel()
        self._machine.note(EntryType.FIRST, winner, self._machine.encode(list(futures), "names"))
        return Winner(winner, futures[winner].result())

    def saga(self) -> Saga:
        """``async with ctx.saga() as saga``: compensations for what was done, run in reverse on failure and on cancel."""
        return Saga(self)

    # --- progress and change

    def checkpoint(self, value: Any) -> None:
        """Record progress. `last_checkpoint` gives the newest, also in the next run after `continue_as_new`."""
        machine = self._machine
        data = machine.encode(value, "checkpoint")
        machine.note(EntryType.CHECKPOINT, "", data)
        machine.checkpoint = data

    def last_checkpoint(self, type: Any = Any) -> Any:
        """The newest checkpoint as a value of ``type``, None if there is none."""
        data = self._machine.checkpoint
        return None if data is None else value_type(type).decode(data, "checkpoint")

    def continue_as_new(self, input: Any = MISSING) -> None:
        """End this run and begin the next with another input and an empty journal: for loops that never end.

        Keyed state, the last checkpoint and unread messages are carried over. Does not return.
        """
        from durable.workflows.machine import ContinueAsNew

        machine = self._machine
        if asyncio.current_task(machine.loop) is not machine.root:
            raise NotAllowedHere("continue_as_new ends the whole run: call it in the workflow itself, not in one of its tasks")
        machine.next_input_json = machine.workflow.encode_input(input, machine.value_bytes_max)
        raise ContinueAsNew

    def patched(self, patch_id: str) -> bool:
        """Whether this execution takes the new path of a change to its code. The first answer holds for ever.

        True for executions that reach this place for the first time with the new code, False for those whose journal was
        written by the old one: ``if ctx.patched("v2"): new() else: old()``.
        """
        machine, patch_id = self._machine, plain("patch_id", patch_id)
        answer = machine.patches.get(patch_id)
        if answer is None:
            recorded = machine.cursor.peek()
            answer = recorded is None or (recorded.entry_type is EntryType.PATCH and recorded.name == patch_id)
            machine.patches[patch_id] = answer
            if answer:
                machine.note(EntryType.PATCH, patch_id, b"true")
        return answer


class State(MutableMapping[str, Any]):
    """Durable keyed state: a mapping whose changes are recorded as STATE entries, and carried over by `continue_as_new`.

    Values are what JSON gives back; `get` takes a ``type``. Changing a value in place is not seen: assign it again.
    """

    def __init__(self, machine: WorkflowMachine) -> None:
        self._machine = machine

    def __getitem__(self, key: str) -> Any:
        return ANY.decode(self._machine.state[key])

    def get(self, key: str, default: Any = None, type: Any = Any) -> Any:
        data = self._machine.state.get(key)
        return default if data is None else value_type(type).decode(data, f"state[{key!r}]")

    def __setitem__(self, key: str, value: Any) -> None:
        key = plain("key", key)
        data = self._machine.encode(value, f"state[{key!r}]")
        self._machine.note(EntryType.STATE, key, data)
        self._machine.state[key] = data

    def __delitem__(self, key: str) -> None:
        if key not in self._machine.state:
            raise KeyError(key)
        self._machine.note(EntryType.STATE, plain("key", key), b"")
        del self._machine.state[key]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._machine.state))

    def __len__(self) -> int:
        return len(self._machine.state)

    def __repr__(self) -> str:
        return f"State({dict(self)!r})"


class _ReplaySilent(logging.LoggerAdapter[Any]):
    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        machine = (self.extra or {}).get("machine")
        return not getattr(machine, "replaying", False) and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        machine: Any = (self.extra or {}).get("machine")
        return f"[{machine.workflow_id}] {msg}", kwargs


def seconds(duration: float | timedelta) -> float:
    """A duration in seconds. Raises `WorkflowError` for what is no duration."""
    value = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if not isinstance(value, int | float) or value != value or value in (float("inf"), float("-inf")):
        raise WorkflowError(f"{duration!r} is no duration: give seconds or a timedelta")
    return value


def plain(what: str, name: object, wanted: str = "a str") -> str:
    """A name as the plain `str` that a journal can hold: of an enum its value.

    Raises `TypeError` for what is no text, `EncodingError` for text that no UTF-8 is (half of a surrogate pair).

    >>> plain("channel", 7)
    Traceback (most recent call last):
    TypeError: channel is 7; it must be a str
    """
    if type(name) is str and name.isascii():
        return name
    if not isinstance(name, str):
        raise TypeError(f"{what} is {name!r}; it must be {wanted}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise EncodingError(f"{what} is {name[:40]!r}, which is no UTF-8: {error.reason}. Nothing was done") from error
    return str.__str__(name)


def _win(done: asyncio.Future[str], name: str, _: asyncio.Future[Any]) -> None:
    if not done.done():
        done.set_result(name)


def _time_out(operation: Operation[Any], channel: str) -> None:
    if not operation.done():
        operation.machine.operation_cancelled(operation)
        operation.set_exception(TimeoutError(f"no message in channel {channel!r} in time"))
        operation._retrieved()
