"""Journal entries in words: durations, values, operations. What the tables and the timelines have in common.

Everything is rounded as far as a reader cares, and relative to the start: neither the date nor the last millisecond of a
run is worth a line, and two runs should read alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from durable.journal.entries import EntryType, Failure, JournalEntry

KIND = {
    EntryType.CALL: "durable-run",
    EntryType.SIDE_EFFECT: "durable-run",
    EntryType.SLEEP: "durable-wait",
    EntryType.RECEIVE: "durable-wait",
    EntryType.SEND: "durable-talk",
    EntryType.CHILD: "durable-talk",
    EntryType.CANCEL: "durable-bad",
}
"""The colour class of an operation: it runs, it waits, it talks to another workflow. The others only note something."""


def duration(ms: float) -> str:
    """A duration, rounded.

    >>> [duration(ms) for ms in (3, 87, 412, 2_040, 95_000, 86_400_000)]
    ['<10 ms', '90 ms', '0.41 s', '2.0 s', '1 min 35 s', '1 d']
    """
    if ms < 10:
        return "<10 ms"
    if ms < 95:
        return f"{round(ms, -1):.0f} ms"
    if ms < 950:
        return f"{ms / 1000:.2f} s"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)]
    left, parts = round(ms / 1000), []
    for unit, size in units:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])


def offset(ms: float) -> str:
    """A moment after the start: ``+0.41 s``."""
    return "0" if ms < 10 else f"+{duration(ms)}"


def shorten(value: object, characters: int = 60) -> str:
    """One line, of at most that many characters."""
    words = " ".join(str(value).split())
    return words if len(words) <= characters else words[: characters - 1] + "…"


def arguments(entry: JournalEntry) -> str:
    """What the operation was made with, as an author would say it."""
    try:
        given = json.loads(entry.input_json) if entry.input_json else None
    except ValueError:
        return entry.input_json
    return _ARGUMENTS.get(entry.entry_type, _plain)(entry, given)


def _plain(entry: JournalEntry, given: Any) -> str:
    return _json(given)


def _call(entry: JournalEntry, given: Any) -> str:
    if isinstance(given, dict):
        return ", ".join(f"{name}={_json(value)}" for name, value in given.items())
    return ", ".join(map(_json, given))


def _sleep(entry: JournalEntry, given: Any) -> str:
    ms = given if entry.name == "delay_ms" else given - entry.timestamp
    return f"{ms / 1000:g} s" if entry.name == "delay_ms" and ms < 60_000 else duration(ms)  # as the author wrote it


def _send(entry: JournalEntry, given: Any) -> str:
    return f"{_json(given[1])} to {given[0]}"


def _child(entry: JournalEntry, given: Any) -> str:
    return f"{_json(given[1])}{' (detached)' if given[2] else ''}"


_ARGUMENTS: dict[EntryType, Callable[[JournalEntry, Any], str]] = {
    EntryType.CALL: _call,
    EntryType.SLEEP: _sleep,
    EntryType.SEND: _send,
    EntryType.CHILD: _child,
    EntryType.STATE: lambda entry, given: _json(given) if entry.input_json else "deleted",
    EntryType.RECEIVE: lambda entry, given: "",
    EntryType.SIDE_EFFECT: lambda entry, given: "",
    EntryType.FIRST: lambda entry, given: f"of {', '.join(given)}",
    EntryType.PATCH: lambda entry, given: "",
    EntryType.CANCEL: lambda entry, given: "",
}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def name(entry: JournalEntry) -> str:
    """The name of an operation, where it has one."""
    return "" if entry.entry_type is EntryType.SLEEP else entry.name


def label(entry: JournalEntry) -> str:
    """The operation in one phrase: ``charge("order-1", 40)``, ``sleep 2.0 s``, ``receive approval``."""
    if entry.entry_type in (EntryType.CALL, EntryType.SIDE_EFFECT, EntryType.CHILD):
        return f"{entry.name}({arguments(entry)})"
    if entry.entry_type is EntryType.STATE:
        return f"{entry.name} = {arguments(entry)}"
    if entry.entry_type is EntryType.CANCEL:
        return entry.name
    word = entry.entry_type.value.lower()
    return " ".join(part for part in (word, name(entry), arguments(entry)) if part)


def failure(error: Failure) -> str:
    """``PaymentDeclined: card is empty``, without the module, which in a notebook is only noise."""
    kind = error.qualname.rpartition(".")[2]
    return f"{kind}: {error.message}" if error.message else kind


def outcome(entry: JournalEntry) -> tuple[str, str]:
    """A mark and what the operation gave: ``("✓", "42")``, ``("✗", "ValueError: no")``, ``("…", "under way")``."""
    if entry.error is not None:
        return "✗", failure(entry.error)
    if not entry.completed:
        return "…", "under way"
    return "✓", value(entry.output_json)


def value(recorded: str | None) -> str:
    """A recorded value with spaces behind its commas, so that a narrow column can break it; nothing for null."""
    return "" if recorded in (None, "null") else _json(json.loads(str(recorded)))


def took_ms(entry: JournalEntry) -> int | None:
    """How long the operation took, None while it is under way."""
    return None if entry.completed_at is None else max(0, entry.completed_at - entry.timestamp)


def origin_ms(entries: Sequence[JournalEntry]) -> int:
    """The moment from which times are counted: when the run began, or its first entry."""
    started = getattr(entries, "started_at", None)
    return int(started) if started is not None else min((entry.timestamp for entry in entries), default=0)
