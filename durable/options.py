"""What is typed behind the options of ``durable``, as the values that are meant; or a line that says what can be typed there.

>>> limit_of("20")
20
>>> limit_of("-1")
Traceback (most recent call last):
argparse.ArgumentTypeError: '-1' is no limit; give a number from 0 to 9,223,372,036,854,775,807

Read next: `durable.cli`.
"""

from __future__ import annotations

import contextlib
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

import msgspec

from durable.desk.arguments import NUMBER_MAX
from durable.journal.entries import Status

if TYPE_CHECKING:
    from durable.membership.member import NodeAddress


def status_of(text: str) -> Status:
    """A status, in whatever case."""
    try:
        return Status(text.upper())
    except ValueError:
        names = ", ".join(status.value for status in Status)
        raise ArgumentTypeError(f"{text!r} is no status; there are {names}") from None


def seeds_of(text: str) -> list[NodeAddress]:
    """Addresses of nodes, with commas between them."""
    from durable.cluster.config import parse_seeds

    try:
        return parse_seeds(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def limit_of(text: str) -> int:
    """How many at most."""
    with contextlib.suppress(ValueError):
        if 0 <= (limit := int(text)) <= NUMBER_MAX:
            return limit
    raise ArgumentTypeError(f"{text[:40]!r} is no limit; give a number from 0 to {NUMBER_MAX:,}")


def json_of(text: str) -> Any:
    """A value in JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
