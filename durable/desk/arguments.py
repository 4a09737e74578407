"""What a face is given, looked at before anything is asked: a mistyped argument is an error that names it.

It is here, and not in the desk that would stumble over it, so that it is the same error on one node and from a client: a
request that another process cannot read must not leave this one.

>>> check_text("key", 7, or_none=True)
Traceback (most recent call last):
TypeError: key is 7; it must be a str, or None

Read next: `durable.desk.face`.
"""

from __future__ import annotations

from datetime import timedelta

from durable.errors import WorkflowError
from durable.journal import keys
from durable.workflows.context import plain, seconds

NUMBER_MAX = 2**63 - 1
"""The greatest that every process can read."""


def check_text(name: str, value: object, *, or_none: bool = False) -> None:
    """Raises `TypeError` for what is no text, `EncodingError` for text that no UTF-8 is (half of a surrogate pair)."""
    if value is not None or not or_none:
        plain(name, value, "a str, or None" if or_none else "a str")


def check_id(value: object) -> None:
    """Raises `TypeError` for what is no text, `WorkflowError` for text that cannot be a workflow id."""
    if not isinstance(value, str):
        raise TypeError(f"workflow_id is {value!r}; it must be a str")
    keys.id_bytes(value)


def check_number(name: str, value: object, least: int = -NUMBER_MAX) -> None:
    """Raises `TypeError` for what is no int, `ValueError` below ``least`` and above `NUMBER_MAX`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be an int")
    if not least <= value <= NUMBER_MAX:
        raise ValueError(f"{name} is {value}; it must be {least:,} to {NUMBER_MAX:,}")


def checked_seconds(duration: float | timedelta) -> float:
    """A duration in seconds, as a float. Raises `WorkflowError` for what is none."""
    value = seconds(duration)
    try:
        return float(value)
    except OverflowError:
        raise WorkflowError("the duration is longer than a float can say: give seconds or a timedelta") from None
