"""Listings of executions, and how those of several partitions become one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from durable.journal import keys
from durable.journal.entries import WorkflowMetadata


class Executions(list[WorkflowMetadata]):
    """What ``runtime.list`` gives: a list, which a notebook shows as a table."""

    def __str__(self) -> str:
        from durable.notebook.tables import show

        return str(show(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # IPython would print every list alike


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
