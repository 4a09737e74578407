"""``@workflow`` and ``@function``: what an author registers, and the registry that finds it again after a crash.

A journal names code and cannot hold it; so whatever runs must be found by its name in the process that resumes it.
Decorating registers. Decorating again under the same name (a notebook cell that is run twice) replaces, and never raises:
executions under way go on if their journals match the new code.

Read next: `durable.workflows.context`, what the author's code is given.
"""

from __future__ import annotations

import inspect
import math
import sys
import typing
import warnings
import weakref
from asyncio import events
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from durable.errors import EncodingError, NotAllowedHere, NotRegistered, WorkflowError
from durable.journal.codec import MISSING, VALUE_BYTES_MAX, ValueType, encode_value, value_type
from durable.journal.retry import NO_RETRY, RetryPolicy
from durable.workflows import lint
from durable.workflows.context import Context, plain, seconds
from durable.workflows.loop import WorkflowLoop

P = ParamSpec("P")
I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Executor = Literal["loop", "thread", "process"]



class _Signature:
    """The declared types of a callable, resolved when they are first needed: a name may be defined below its use."""

    def __init__(self, body: Callable[..., Any], skip: int, namespace: Mapping[str, Any]) -> None:
        self.parameters = list(inspect.signature(body).parameters.values())[skip:]
        self._body = body
        self._namespace = namespace
        self._hints: dict[str, Any] | None = None

    @property
    def hints(self) -> dict[str, Any]:
        if self._hints is None:
            self._hints = self._resolve()
        return self._hints

    @hints.setter
    def hints(self, resolved: dict[str, Any]) -> None:
        self._hints = resolved

    def hint(self, name: str) -> Any:
        return self.hints.get(name, Any)

    def _resolve(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._body, localns=dict(self._namespace))
        except NameError as error:
            raise EncodingError(
                f"{self._body.__qualname__} declares a type that cannot be found: {error}. Values could not come back as "
                "what they were; define the type where the function is defined."
            ) from error


class Function(Generic[P, R_co]):
    """A registered callable that workflows call with ``ctx.call``. Made by `function`.

    Called directly it just runs, so that it can be tested; called directly *inside a workflow* it raises, because nothing
    would be recorded.
    """

    def __init__(
        self,
        body: Callable[P, Any],
        name: str,
        retry: RetryPolicy,
        timeout: float | None,
        once: bool,
        executor: Executor,
        namespace: Mapping[str, Any],
    ) -> None:
        self.body = body
        self.name = name
        self.retry = retry
        self.timeout = timeout
        self.once = once
        self.executor = executor
        self.__doc__ = body.__doc__
        self.__name__ = getattr(body, "__name__", name)
        self.__wrapped__ = body
        self.__module__ = getattr(body, "__module__", "__main__")
        self.__qualname__ = getattr(body, "__qualname__", name)
        self._signature = _Signature(body, 0, namespace)
        self._result_type: ValueType[Any] | None = None
        self._argument_types: dict[int, ValueType[Any]] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        if type(events._get_running_loop()) is WorkflowLoop:
            raise NotAllowedHere(
                f"{self.name}(…) was called directly inside a workflow: nothing would be recorded, and it would run again on "
                f"every replay. Write `await ctx.call({self.__name__}, …)`."
            )
        return self.body(*args, **kwargs)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<durable function {self.name}>"

    def __reduce__(self) -> Any:
        settings = (self.name, self.retry, self.timeout, self.once, self.executor)
        return _unpickle, (Function, self.body, settings, self._signature.hints)

    @property
    def result_type(self) -> ValueType[Any]:
        if self._result_type is None:
            self._result_type = value_type(self._signature.hint("return"))
        return self._result_type

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any], bytes_max: int = VALUE_BYTES_MAX) -> bytes:
        """Positional arguments as a JSON list; with keywords, all of them as an object by name."""
        if not kwargs:
            return encode_value(args, f"{self.name}: args", bytes_max)
        try:
            bound = inspect.signature(self.body).bind(*args, **kwargs)
        except TypeError as error:
            raise WorkflowError(f"{self.name} cannot be called like this: {error}. Nothing was recorded.") from error
        return encode_value(dict(bound.arguments), f"{self.name}: args", bytes_max)

    def decode_arguments(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in the declared types: the same for a first run and for one after a crash."""
        if data[:1] == b"{":
            raw = value_type(dict[str, Any]).decode(data, f"{self.name}: args")
            return self._by_name(raw)
        count = _count(data)
        decoder = self._argument_types.get(count)
        if decoder is None:
            decoder = self._argument_types[count] = value_type(tuple[tuple(self._types(count))] if count else list[Any])  # type: ignore[misc]
        return tuple(decoder.decode(data, f"{self.name}: args")), {}

    def _types(self, count: int) -> list[Any]:
        types: list[Any] = []
        for parameter in self._signature.parameters:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                types += [self._signature.hint(parameter.name)] * (count - len(types))
            elif parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
                types.append(self._signature.hint(parameter.name))
        return (types + [Any] * count)[:count]

    def _by_name(self, raw: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._signature.parameters:
            if parameter.name not in raw:
                continue
            hint = self._signature.hint(parameter.name)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                args += [_convert(hint, item) for item in raw[parameter.name]]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update({key: _convert(hint, item) for key, item in raw[parameter.name].items()})
            else:
                kwargs[parameter.name] = _convert(hint, raw[parameter.name])
        if args:  # what stands before *args cannot be passed by name
            before = [p.name for p in self._signature.parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in kwargs]
            args = [kwargs.pop(name) for name in before] + args
        return tuple(args), kwargs

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.body)


def _count(data: bytes) -> int:
    return len(_LIST.decode(data))


def _convert(hint: Any, value: Any) -> Any:
    return value_type(hint).decode(encode_value(value, bytes_max=sys.maxsize))  # it was recorded: its size has been allowed


_LIST: ValueType[list[Any]] = ValueType(list[typing.Any])


class Workflow(Generic[I, O]):
    """A registered workflow. Made by `workflow`."""

    def __init__(
        self,
        run: Callable[..., Coroutine[Any, Any, O]],
        name: str,
        version: int,
        namespace: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.version = version
        self.body = run
        self.__doc__ = run.__doc__
        self.__name__ = run.__name__
        self.__qualname__ = run.__qualname__
        self.__module__ = run.__module__
        self.__wrapped__ = run
        self._signature = _Signature(run, 1, namespace)
        self._input_type: ValueType[I] | None = None
        self._output_type: ValueType[O] | None = None
        if len(self._signature.parameters) > 1:
            raise TypeError(f"workflow {name!r} takes a context and at most one input; put several values into one dataclass")

    def __call__(self, ctx: Context, *args: Any) -> Coroutine[Any, Any, O]:
        """A part of another workflow: ``await validate(ctx, order)`` runs inline, in the caller's journal."""
        return self.body(ctx, *args)

    def __repr__(self) -> str:
        return f"<workflow {self.name} v{self.version}>"

    def __reduce__(self) -> Any:
        return _unpickle, (Workflow, self.body, (self.name, self.version), self._signature.hints)

    @property
    def takes_input(self) -> bool:
        return bool(self._signature.parameters)

    @property
    def input_type(self) -> ValueType[I]:
        if self._input_type is None:
            hint = self._signature.hint(self._signature.parameters[0].name) if self.takes_input else type(None)
            self._input_type = value_type(hint)
        return self._input_type

    @property
    def output_type(self) -> ValueType[O]:
        if self._output_type is None:
            self._output_type = value_type(self._signature.hint("return"))
        return self._output_type

    def encode_input(self, value: Any = MISSING, bytes_max: int = VALUE_BYTES_MAX) -> bytes:
        """JSON of an input. Raises `EncodingError` when it is not what the workflow declares: better now than later."""
        if value is MISSING or (value is None and not self.takes_input):
            default = self._signature.parameters[0].default if self.takes_input else None
            if default is inspect.Parameter.empty:
                raise WorkflowError(f"workflow {self.name!r} takes an input, and none was given. Nothing was started.")
            value = default
        elif not self.takes_input:
            raise WorkflowError(f"workflow {self.name!r} takes no input, and one was given. Nothing was started.")
        data = encode_value(value, f"{self.name}: input", bytes_max)
        self.input_type.decode(data, f"{self.name}: input")
        return data

    def decode_input(self, data: bytes) -> I:
        return self.input_type.decode(data, f"{self.name}: input")

    def run(self, context: Context, argument: Any) -> Coroutine[Any, Any, O]:
        return self.body(context, argument) if self.takes_input else self.body(context)

    def encode_output(self, value: Any, bytes_max: int = VALUE_BYTES_MAX) -> bytes:
        data = encode_value(value, f"{self.name}: result", bytes_max)
        self.output_type.decode(data, f"{self.name}: result")
        return data


class Registry:
    """Names to code. Listeners hear of every registration: a runtime then starts what waited for that code."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow[Any, Any]] = {}
        self.functions: dict[str, Function[..., Any]] = {}
        self._listeners: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, item: Workflow[Any, Any] | Function[..., Any]) -> None:
        if isinstance(item, Workflow):
            self.workflows[item.name] = item
        else:
            self.functions[item.name] = item
        for listener in sorted(self._listeners, key=id):
            listener.registered(item)

    def listen(self, listener: Any) -> None:
        self._listeners.add(listener)

    def workflow(self, wanted: Workflow[Any, Any] | str | Any) -> Workflow[Any, Any]:
        if isinstance(wanted, Workflow):
            return wanted
        found = self.workflows.get(wanted) if isinstance(wanted, str) else None
        if found is None:
            raise NotRegistered(_unknown("workflow", wanted, self.workflows))
        return found

    def function(self, wanted: Function[..., Any] | str | Any) -> Function[..., Any]:
        if isinstance(wanted, Function):
            return wanted
        found = self.functions.get(wanted) if isinstance(wanted, str) else None
        if found is None:
            raise NotRegistered(_unknown("function", wanted, self.functions))
        return found


def _unknown(kind: str, wanted: object, have: Mapping[str, object]) -> str:
    if not isinstance(wanted, str):
        return f"{wanted!r} is not a {kind}: decorate it with @durable.{kind}. Nothing was recorded."
    names = ", ".join(sorted(have)[:20]) or "none"
    return (
        f"no {kind} named {wanted!r} is registered where it would run (registered there: {names}). Nothing was recorded; import "
        "the module that defines it there first."
    )


REGISTRY = Registry()
"""What this process has defined. Every runtime looks here."""


def _unpickle(kind: Any, body: Any, settings: tuple[Any, ...], hints: dict[str, Any]) -> Any:
    """A definition that came from the notebook of which this process is a child: registered here as it was there."""
    made = kind(body, *settings, {})
    made._signature.hints = hints
    REGISTRY.add(made)
    return made


@overload
def workflow(target: Callable[[Context, I], Coroutine[Any, Any, O]], /) -> Workflow[I, O]: ...
@overload
def workflow(target: Callable[[Context], Coroutine[Any, Any, O]], /) -> Workflow[None, O]: ...
@overload
def workflow(
    target: str | None = None, /, *, version: int = 1
) -> Callable[[Callable[..., Coroutine[Any, Any, O]]], Workflow[Any, O]]: ...
def workflow(target: Any = None, /, *, version: int = 1) -> Any:
    """Register a workflow: ``async def f(ctx: Context, input: I) -> O``. The input may be left out.

    Its name is the given one, or the function's. Warnings tell of calls in its code that differ from run to run.

    >>> @workflow("hello")
    ... async def hello(ctx: Context, name: str) -> str:
    ...     return f"hello {name}"
    >>> hello
    <workflow hello v1>
    """
    namespace = _namespace()

    def register(body: Callable[..., Coroutine[Any, Any, Any]], up: int = 2) -> Workflow[Any, Any]:
        if not inspect.iscoroutinefunction(body):
            raise TypeError(f"a workflow is an `async def`; {body!r} is not")
        name = plain("name", target) if isinstance(target, str) else body.__name__
        for warning in lint.check(body):
            warnings.warn(f"workflow {name!r}: {warning}", lint.DeterminismWarning, stacklevel=up)
        made: Workflow[Any, Any] = Workflow(body, name, version, namespace)
        REGISTRY.add(made)
        return made

    return register(target, 3) if callable(target) else register


@overload
def function(target: Callable[P, R], /) -> Function[P, R]: ...
@overload
def function(
    target: str | None = None,
    /,
    *,
    retry: RetryPolicy | None = None,
    timeout: float | timedelta | None = None,
    once: bool = False,
    executor: Executor | None = None,
) -> Callable[[Callable[P, R]], Function[P, R]]: ...
def function(
    target: Any = None,
    /,
    *,
    retry: RetryPolicy | None = None,
    timeout: float | timedelta | None = None,
    once: bool = False,
    executor: Executor | None = None,
) -> Any:
    """Register a callable for ``ctx.call``: ``async def`` runs on the event loop, ``def`` in a thread.

    Args:
        retry: when to try again after an error. Without one there is one attempt, as for any Python call.
        timeout: for one attempt, in seconds or as a `timedelta`.
        once: never run again when it may have run and its result is unknown: the workflow gets `OutcomeUnknown`.
        executor: "loop", "thread", or "process" (a process a call: for what computes, or must be stopped for certain). When
            nobody waits any more, a body on the loop is cancelled, one in a thread can see it (``current_call().cancelled``),
            and one in a process is killed.

    >>> import asyncio
    >>> @function(retry=RetryPolicy(max_attempts=3), timeout=5.0)
    ... async def add(a: int, b: int) -> int:
    ...     return a + b
    >>> asyncio.run(add(1, 2))          # outside of a workflow it is an ordinary function
    3
    """
    namespace = _namespace()

    def register(body: Callable[..., Any]) -> Function[..., Any]:
        name = plain("name", target) if isinstance(target, str) else body.__name__
        is_async = inspect.iscoroutinefunction(body)
        where = ("loop" if is_async else "thread") if executor is None else executor
        if where not in typing.get_args(Executor):
            raise ValueError(f'function {name!r}: executor is {executor!r}; it is "loop", "thread" or "process", or left out')
        if where == "loop" and not is_async:
            raise TypeError(f"function {name!r} is not async: on the loop it would stop everything else; use a thread")
        if where == "thread" and is_async:
            raise TypeError(f"function {name!r} is async: it runs on the loop, or in a process")
        limit_s = None if timeout in (None, math.inf) else seconds(timeout)
        if limit_s is not None and limit_s <= 0:
            raise ValueError(f"function {name!r}: a timeout is above 0 seconds, or None")
        made: Function[..., Any] = Function(body, name, retry or NO_RETRY, limit_s, once, where, namespace)
        REGISTRY.add(made)
        return made

    return register(target) if callable(target) else register


def _namespace() -> Mapping[str, Any]:
    """The names where the decorator stands, for annotations that name a local class."""
    frame = sys._getframe(2)
    return frame.f_locals if frame.f_code.co_name != "<module>" else {}


class Call:
    """One attempt of a function, seen from inside its body. Got from `current_call`.

    ``idempotency_key`` is the same for every attempt of this call and differs from that of every other call, ever: give it
    to the service you call, so that it can recognise a repetition. ``cancelled`` becomes True when nobody waits any more; in a
    process of its own it stays False, because the process is killed.
    """

    __slots__ = (
        "_address", "_beat", "attempt", "cancelled", "epoch", "last_heartbeat", "run", "sequence_number", "workflow_id",
    )

    def __init__(
        self,
        address: tuple[str, bytes, int, int],
        attempt: int,
        last_heartbeat: Any,
        beat: Callable[[Call, Any], None],
    ) -> None:
        self._address = address
        self.workflow_id, _, self.run, self.sequence_number = address
        self.attempt = attempt
        self.epoch = 0
        self.cancelled = False
        self.last_heartbeat = last_heartbeat
        self._beat = beat

    @property
    def idempotency_key(self) -> str:
        workflow_id, incarnation, run, number = self._address
        return f"{workflow_id}:{incarnation.hex()}:{run}:{number}"

    def heartbeat(self, details: Any = None) -> None:
        """Record progress: the next attempt, in this process or after a crash, finds it as ``last_heartbeat``.

        Recorded soon, not at once: a crash may lose the newest one, never an older one.
        """
        self._beat(self, details)
        self.last_heartbeat = details


_CURRENT: ContextVar[Call] = ContextVar("durable_call")


def current_call() -> Call:
    """The attempt that is running, inside a function's body. Raises `NotAllowedHere` elsewhere."""
    try:
        return _CURRENT.get()
    except LookupError:
        raise NotAllowedHere("current_call() works inside the body of a function that a workflow called") from None


__all__ = ["REGISTRY", "Call", "Function", "Registry", "Workflow", "current_call", "function", "workflow"]
