"""Listings of executions, and how those of several partitions become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from durable.errors import DurableError
from durable.journal import keys
from durable.journal.entries import WorkflowMetadata


class Executions(list[WorkflowMetadata]):
    """What ``runtime.list`` gives: a list, which a notebook shows as a table.

    ``missing``: the partitions of which nothing is known, because nobody answered for them in time, and why; what of them there is
    is not in the list. Always empty on a single node.
    """

    def __init__(self, found: Iterable[WorkflowMetadata] = (), missing: Mapping[int, DurableError] | None = None) -> None:
        super().__init__(found)
        self.missing = dict(missing or {})

    def __str__(self) -> str:
        from durable.notebook.tables import show

        return str(show(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # IPython would print every list alike


class Purged(list[str]):
    """What ``runtime.purge`` gives: the ids.

    ``missing``: the partitions in which something may have been deleted or not, because nobody answered for them in time, and why.
    A purge with the same ``request_id`` also gives the ids of what this one deleted.
    """

    def __init__(self, ids: Iterable[str], request_id: str = "", missing: Mapping[int, DurableError] | None = None) -> None:
        super().__init__(ids)
        self.request_id = request_id
        self.missing = dict(missing or {})


def merge(listings: Iterable[Iterable[WorkflowMetadata]], limit: int) -> list[WorkflowMetadata]:
    """The first of several owners' listings, by partition and id: as one node that had all partitions would list them.

    An execution whose partition moved meanwhile may be in two of them; the greater epoch is the truth.
    """
    found: dict[str, WorkflowMetadata] = {}
    for listing in listings:
        for one in listing:
            known = found.get(one.workflow_id)
            if known is None or known.epoch < one.epoch:
                found[one.workflow_id] = one
    return sorted(found.values(), key=lambda one: (keys.partition_of(one.workflow_id), one.workflow_id.encode()))[:limit]


def ranges(numbers: Iterable[int]) -> str:
    """Numbers, shortly.

    >>> ranges([9, 3, 7, 8])
    '3, 7-9'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
