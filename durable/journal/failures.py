"""Exceptions, recorded and raised again.

A workflow that catches ``PaymentDeclined`` must catch it on replay too, in another process, years later. So an exception is
recorded as the name of its class and its arguments, and it is rebuilt from those, *the first time as well*: what a workflow
sees never depends on whether it is being replayed. A class that cannot be found again by its name, whose arguments have no
JSON form, or that gets other attributes back from them, is recorded as text and comes back as `FunctionFailed`; which of
the two is decided once, on recording.

Read next: `durable.journal.journal`.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any

import msgspec

from durable.errors import EncodingError, FunctionFailed, ReplayError, SagaRollbackFailed
from durable.journal.codec import ANY, encode_value
from durable.journal.entries import Failure

TRACEBACK_CHARS_MAX = 8_000
MESSAGE_CHARS_MAX = 8_000
CAUSES_MAX = 3


def record(error: BaseException, depth: int = 0) -> Failure:
    """The `Failure` of an exception. Never raises: what cannot be recorded as it is becomes text.

    >>> record(ValueError("no such order")).error_type
    'ValueError'
    """
    kind = type(error)
    if isinstance(error, FunctionFailed):
        args_json, rebuildable = encode_value([_text(error.error_type), _text(error.message)]), True
    else:
        args_json, rebuildable = _args(error)
    text = "".join(traceback.format_exception(kind, error, error.__traceback__))
    return Failure(
        module=_text(kind.__module__),
        qualname=_text(kind.__qualname__),
        message=_message(error)[:MESSAGE_CHARS_MAX],
        args_json=args_json,
        rebuildable=rebuildable,
        traceback=_text(text[-TRACEBACK_CHARS_MAX:]),
        cause=record(error.__cause__, depth + 1) if error.__cause__ is not None and depth < CAUSES_MAX else None,
    )


def _text(value: object) -> str:
    """Text that has a UTF-8 form: half a surrogate pair, as in the name of an odd file, has none."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _message(error: BaseException) -> str:
    try:
        return _text(str(error))
    except Exception as again:
        return f"(its message cannot be read: {type(again).__name__})"


def _args(error: BaseException) -> tuple[bytes, bool]:
    """The arguments as JSON, and whether the class gives an equal exception back when it is called with them."""
    kind = type(error)
    try:
        args_json = encode_value(list(error.args), bytes_max=64 * 1024)
        if not isinstance(error, Exception) or _find_class(kind.__module__, kind.__qualname__) is not kind:
            return b"[]", False
        again = kind(*ANY.decode(args_json))
        same = type(again) is kind and again.args == error.args and _message(again) == _message(error)
        same = same and (kind is SagaRollbackFailed or not _lies(again, error))
    except Exception:
        return b"[]", False
    return (args_json, True) if same else (b"[]", False)


def _lies(again: BaseException, error: BaseException) -> bool:
    """Whether an attribute would come back with another value. One that is missing, or is None, tells no lie."""
    had = vars(error)
    return any(value is not None and not (name in had and had[name] == value) for name, value in vars(again).items())


def _find_class(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def rebuild(failure: Failure) -> Exception:
    """The exception of a `Failure`.

    Raises `ReplayError` when it was rebuilt on recording, and its class is gone now: to go on with another type would
    lead the workflow down another path.
    """
    error = _rebuild(failure)
    if failure.cause is not None:
        error.__cause__ = rebuild(failure.cause)
    return error


def _rebuild(failure: Failure) -> Exception:
    if not failure.rebuildable:
        return FunctionFailed(failure.error_type, failure.message)
    try:
        found = _find_class(failure.module, failure.qualname)
        if not (isinstance(found, type) and issubclass(found, Exception)):  # a journal must not be able to call what it likes
            raise TypeError(f"{failure.module}.{failure.qualname} is not the class of an exception")
        return found(*ANY.decode(failure.args_json))
    except (ImportError, AttributeError, TypeError, EncodingError, msgspec.MsgspecError) as problem:
        raise ReplayError(
            f"the journal holds an exception of type {failure.error_type}, which cannot be built any more ({problem}). "
            "Nothing is lost: deploy code that has the class again, and the execution goes on."
        ) from problem
