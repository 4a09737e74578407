"""`NoDesk`: a desk at which nobody sits: whoever asks is told why.

Read next: `durable.desk.face`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

from durable.errors import ClusterError

if TYPE_CHECKING:
    from durable.desk.desk import Desk


def no_desk(why: Callable[[], str]) -> Desk:
    """Every question of a `Desk` raises `ClusterError` with what ``why()`` says then.

    >>> no_desk(lambda: "node-1 runs no workflows").submit
    Traceback (most recent call last):
    durable.errors.ClusterError: node-1 runs no workflows. Nothing was done
    """
    return cast("Desk", _NoDesk(why))


class _NoDesk:
    def __init__(self, why: Callable[[], str]) -> None:
        self._why = why

    def __getattr__(self, name: str) -> NoReturn:
        raise ClusterError(f"{self._why()}. Nothing was done")
