"""What a fork takes over from its origin: the rows before one command, and a start that knows how their ids were made.

A pure core: rows in, rows out. `durable.runtime.births` records them, and `durable.journal.replay` replays them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from durable.errors import WorkflowError
from durable.journal.codec import CorruptRow, unpack_row
from durable.journal.entries import Command, Completion, EntryType, Row, Start
from durable.journal.journal import decode_rows


def rows_before(workflow_id: str, raw: Sequence[bytes], at: int) -> list[Row]:
    """The rows before command ``at``. What stands behind is not read: a journal may be forked before a corrupt entry."""
    rows: list[Row] = []
    commands = 0
    for data in raw:
        try:
            row = unpack_row(data)
        except CorruptRow:
            if commands < at or not rows:
                decode_rows(workflow_id, raw)  # raises, and names the row
            return rows
        if isinstance(row, Command):
            if commands == at:
                return rows
            commands += 1
        rows.append(row)
    if not 0 <= at <= commands:
        raise WorkflowError(
            f"{workflow_id!r} has {commands} operations; it can be forked at 0 to {commands}, not at {at}. Nothing was forked."
        )
    return rows


def start_of(origin: Start, kept: Sequence[Row], at: int, incarnation: bytes, child_base: str) -> Start:
    """The start row of a fork before command ``at``; ``kept`` are the rows between its origin's and that command."""
    return msgspec.structs.replace(
        origin,
        incarnation=incarnation,
        run=0,
        parent=None,
        child_base=child_base,
        origin_child_bases=(*(old for old in origin.origin_child_bases if old[0] < at), (at, _base_before(origin, at))),
        forked_at=at,
        restarted=(*(old for old in origin.restarted if old[0] <= at), (at, child_base, _children_under_way(kept))),
    )


def _base_before(start: Start, at: int) -> str:
    """With which base the origin made the ids of children just before command ``at``."""
    return next((base for until, base in start.origin_child_bases if at <= until), start.child_base)


def _children_under_way(rows: Sequence[Row]) -> tuple[int, ...]:
    """The commands whose children had not ended: the fork starts its own."""
    answered = {row.sequence_number for row in rows if isinstance(row, Completion)}
    commands = enumerate(row for row in rows if isinstance(row, Command))
    return tuple(number for number, row in commands if row.entry_type is EntryType.CHILD and number not in answered)
