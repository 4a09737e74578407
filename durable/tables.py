"""How the command line says things: tables for people, one JSON document for programs, errors on standard error.

Read next: `durable.cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from durable.journal.entries import JournalEntry, Status

CELL_CHARS_MAX = 60
_COLOURS = {
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.DIVERGED: "red",
    Status.CANCELLED: "yellow",
    Status.PAUSED: "yellow",
}


class UsageError(Exception):
    """The command line names something that is not there to be run."""


def put_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def put_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], cut: bool = True) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        raise UsageError("tables need rich: pip install 'durable[cli]', or ask for --json") from None
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, show_header=any(header))
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_cut(cell) if cut else cell) for cell in row))
    wide = None if sys.stdout.isatty() else 1_000  # a pipe has no width to fit into
    Console(width=wide, soft_wrap=wide is not None).print(table)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def coloured(status: Status) -> Any:
    try:
        from rich.text import Text
    except ImportError:
        return status.value
    return Text(status.value, style=_COLOURS.get(status, ""))


def outcome(entry: JournalEntry) -> str:
    if entry.error is not None:
        return f"{entry.error.error_type}: {entry.error.message}"
    tried = f" (after {len(entry.attempts)} failed)" if entry.attempts else ""
    return (entry.output_json or "null" if entry.completed else "…") + tried


def when(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def complain(message: str) -> None:
    sys.stderr.write(f"durable: {message}\n")
