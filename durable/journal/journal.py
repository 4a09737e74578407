"""The journal of one run, as a reader sees it: rows put together into entries.

What always holds of a journal:

1. Row 0 is the `Start`, and there is no other.
2. Rows are appended, never changed, never removed while the run lasts.
3. Commands are numbered 0, 1, 2, … in the order of their rows.
4. A completion stands behind the command that it answers, and a command has at most one.
5. An instant operation (state, patch, checkpoint, first) has no completion: its row says all.

`entries` builds what people look at. Replay does not use it: replay reads the rows themselves (`durable.journal.replay`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from durable.errors import JournalCorrupted
from durable.journal.codec import CorruptRow, unpack_row
from durable.journal.entries import (
    CANCEL,
    INSTANT,
    Attempt,
    Command,
    Completion,
    EntryType,
    JournalEntry,
    Row,
    Start,
)


def decode_rows(workflow_id: str, raw: Iterable[bytes]) -> list[Row]:
    """Rows from their bytes, in order. Raises `JournalCorrupted` naming the workflow and the row."""
    rows: list[Row] = []
    for index, data in enumerate(raw):
        try:
            rows.append(unpack_row(data))
        except CorruptRow as error:
            commands = sum(type(row) is Command for row in rows)
            raise JournalCorrupted(
                f"row {index} of the journal of {workflow_id!r} (behind entry {commands - 1}) cannot be read: {error}. Only "
                "this execution stops; all others go on. Restore the store from a backup, or fork the execution before "
                "that entry."
            ) from error
    if not rows or type(rows[0]) is not Start:
        raise JournalCorrupted(f"the journal of {workflow_id!r} has no start. Only this execution stops.")
    return rows


class Journal(list[JournalEntry]):
    """The entries of a run: a list, which a notebook shows as a table. ``started_at`` is when the run began (ms since 1970)."""

    started_at: int | None = None

    def __str__(self) -> str:
        from durable.notebook.tables import show

        return str(show(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))  # IPython would print every list alike


def entries(rows: Sequence[Row], attempts: Sequence[Attempt] = ()) -> Journal:
    """The operations of a run in the order in which the code made them; requests to cancel stand where they came.

    >>> from durable.journal.entries import EntryType
    >>> call = Command(EntryType.CALL, "charge", b"[7]", 1_000)
    >>> done = Completion(0, b'"ok"', 1_020)
    >>> [entry] = entries([call, done])
    >>> entry.name, entry.output_json, entry.completed, entry.completion_order
    ('charge', '"ok"', True, 0)
    """
    built = Journal()
    commands: list[Command] = []
    answers: dict[int, tuple[int, Completion]] = {}
    cancels: list[tuple[int, JournalEntry]] = []
    order = 0
    for row in rows:
        if type(row) is Start:
            built.started_at = row.timestamp
        elif type(row) is Command:
            commands.append(row)
        elif type(row) is Completion:
            if row.sequence_number == CANCEL:
                cancels.append((len(commands), _cancel_entry(row, len(commands), order)))
            else:
                answers[row.sequence_number] = (order, row)
            order += 1
    tried: dict[int, list[Attempt]] = {}
    for attempt in attempts:
        tried.setdefault(attempt.sequence_number, []).append(attempt)
    for index, command in enumerate(commands):
        built.append(_entry(index, command, answers.get(index), tuple(tried.get(index, ()))))
    for place, entry in reversed(cancels):
        built.insert(place, entry)
    return built


def _entry(
    index: int, row: Command, answer: tuple[int, Completion] | None, attempts: tuple[Attempt, ...]
) -> JournalEntry:
    instant = row.entry_type in INSTANT
    order, done = answer if answer else (None, None)
    return JournalEntry(
        sequence_number=index,
        entry_type=row.entry_type,
        name=row.name,
        input_json=row.input_json.decode(),
        output_json="null" if instant else done.output_json.decode() if done and done.output_json is not None else None,
        timestamp=row.timestamp,
        completed=instant or done is not None,
        error=done.error if done else None,
        attempts=attempts,
        completion_order=order,
        completed_at=row.timestamp if instant else done.timestamp if done else None,
        where=row.where,
    )


def _cancel_entry(row: Completion, place: int, order: int) -> JournalEntry:
    """A request to cancel is no operation of the code: it bears the number of the operation that comes after it."""
    return JournalEntry(
        sequence_number=place,
        entry_type=EntryType.CANCEL,
        name="cancel requested",
        input_json="null",
        output_json="null",
        timestamp=row.timestamp,
        completed=True,
        completion_order=order,
        completed_at=row.timestamp,
    )
