"""Tables: a journal, an execution, a node, a retry policy, the replay table.

`show` is what the objects' own reprs call: it knows which table belongs to which class.

Read next: `durable.notebook.timeline`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from durable.journal.entries import JournalEntry, Status, WorkflowMetadata
from durable.journal.replay import DECISIONS, Decision
from durable.notebook.figure import Figure, chip, code, esc, html_table, tag, text_table
from durable.notebook.words import (
    KIND,
    arguments,
    duration,
    failure,
    name,
    offset,
    origin_ms,
    outcome,
    shorten,
    took_ms,
    value,
)

STATUS_KIND = {
    Status.PENDING: "",
    Status.RUNNING: "durable-run",
    Status.WAITING: "durable-wait",
    Status.PAUSED: "durable-talk",
    Status.COMPLETED: "durable-good",
    Status.FAILED: "durable-bad",
    Status.CANCELLED: "durable-bad",
    Status.DIVERGED: "durable-bad",
}
NAME_CHARS = 16
ROWS_MAX = 200
"""More rows than that are counted, not shown: nobody reads them, and a browser chokes on a million."""


def bundle(shown: Any) -> dict[str, str]:
    """The ``_repr_mimebundle_`` of an object of this library."""
    return show(shown)._repr_mimebundle_()


def show(shown: Any) -> Figure:
    """The figure of a journal, list of executions, execution, handle, node or policy. Raises KeyError for others."""
    return _SHOWN[type(shown).__name__](shown)


def table(rows: Iterable[Any], *columns: str) -> Figure:
    """A table of mappings, tuples or objects with the named columns; without names, those of the first mapping.

    >>> print(table([{"step": "charge", "runs": 1}]))
    step    runs
    charge     1
    """
    listed = list(rows)
    head = list(columns) or (list(listed[0]) if listed and isinstance(listed[0], dict) else [])
    values = [[_cell(row, column, index) for index, column in enumerate(head)] for row in listed]
    numbers = frozenset(
        index
        for index in range(len(head))
        if values and all(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in values)
    )
    words = [[str(item) for item in row] for row in values]
    cells = [[_whole(item) for item in row] for row in words]
    return Figure(html_table([esc(column) for column in head], cells, numbers), text_table(head, words, numbers))


def _whole(words: str) -> str:
    """A short name is not broken at its hyphen, however narrow the page."""
    short = "-" in words and " " not in words and len(words) <= NAME_CHARS
    return tag("span", esc(words), class_="durable-what") if short else esc(words)


def _cell(row: Any, column: str, index: int) -> Any:
    if isinstance(row, dict):
        return row.get(column, "")
    return row[index] if isinstance(row, tuple | list) else getattr(row, column)


# --- a journal


def journal_table(entries: Sequence[JournalEntry]) -> Figure:
    """Every operation of a run: what it was made with, what it gave, when, how long."""
    if not entries:
        return Figure('<span class="durable-muted">an empty journal</span>', "an empty journal")
    origin = origin_ms(entries)
    head = ["#", "operation", "with", "gave", "began", "took"]
    numbers = frozenset({0, 4, 5})
    shown = entries[:ROWS_MAX]
    html = html_table(head, [_journal_row(entry, origin) for entry in shown], numbers)
    text = text_table(head, [_journal_words(entry, origin) for entry in shown], numbers)
    if len(entries) > len(shown):
        more = f"and {len(entries) - len(shown):,} more"
        html, text = html + tag("div", more, class_="durable-muted"), f"{text}\n{more}"
    return Figure(html, text)


def _journal_words(entry: JournalEntry, origin: int) -> list[str]:
    mark, given = outcome(entry)
    took = took_ms(entry)
    tried = f" ({len(entry.attempts) + 1} attempts)" if entry.attempts else ""
    return [
        str(entry.sequence_number),
        f"{entry.entry_type.value} {name(entry)}".strip(),
        shorten(arguments(entry), 40),
        f"{mark} {shorten(given, 50)}{tried}".strip(),
        offset(entry.timestamp - origin),
        "" if took is None else duration(took),
    ]


def _journal_row(entry: JournalEntry, origin: int) -> list[str]:
    words = _journal_words(entry, origin)
    mark, given = outcome(entry)
    colour = {"✗": "#d55e00", "✓": "#009e73"}.get(mark)
    gave = tag("span", mark, class_="durable-mark", style=f"color:{colour}" if colour else None) + " "
    gave += esc(shorten(given, 90)) if entry.error or not entry.completed else code(shorten(given), given)
    if entry.attempts:
        last = failure(entry.attempts[-1].error)
        note = f"attempt {len(entry.attempts) + 1}; before: {shorten(last, 40)}"
        gave += tag("div", esc(note), class_="durable-muted")
    what = f"{chip(entry.entry_type.value, KIND.get(entry.entry_type, ''))} {esc(shorten(name(entry), 40))}"
    what = tag("span", what, class_="durable-what")
    given_with = arguments(entry)
    return [words[0], what, code(shorten(given_with), given_with), gave, words[4], esc(words[5])]


# --- executions


def executions_table(listed: Sequence[WorkflowMetadata]) -> Figure:
    """A row for each execution."""
    if not listed:
        return Figure('<span class="durable-muted">no executions</span>', "no executions")
    head = ["workflow id", "workflow", "status", "input", "result", "took"]
    shown = listed[:ROWS_MAX]
    words = [_execution_words(item) for item in shown]
    cells = [
        [
            tag("span", code(line[0]), class_="durable-what"),
            tag("span", esc(line[1]), class_="durable-what"),
            chip(line[2], STATUS_KIND[item.status]),
            code(line[3], item.input_json),
            esc(line[4]) if item.error else code(line[4], item.output_json),
            esc(line[5]),
        ]
        for item, line in zip(shown, words, strict=True)
    ]
    more = f"and {len(listed) - len(shown):,} more" if len(listed) > len(shown) else ""
    html = html_table(head, cells, frozenset({5})) + (tag("div", more, class_="durable-muted") if more else "")
    return Figure(html, "\n".join(filter(None, [text_table(head, words, frozenset({5})), more])))


def _execution_words(item: WorkflowMetadata) -> list[str]:
    given = failure(item.error) if item.error else value(item.output_json)
    took = duration(item.updated_at - item.created_at) if item.status.finished else ""
    return [
        item.workflow_id,
        item.workflow,
        item.status.value,
        shorten(value(item.input_json), 40),
        shorten(given, 60),
        took,
    ]


def metadata_card(item: WorkflowMetadata) -> Figure:
    """One execution: what was asked for, where it stands, what came of it."""
    words = _execution_words(item)
    head = (
        code(words[0]).replace("durable-code", "durable-code durable-title")
        + tag("span", esc(f"{item.workflow} v{item.version}"), class_="durable-muted")
        + chip(words[2], STATUS_KIND[item.status])
    )
    facts = [("input", words[3], item.input_json), ("result", words[4], item.output_json)]
    facts += [("run", f"{item.run + 1}, by continue_as_new", None)] if item.run else []
    facts += [("took", words[5], None)] if words[5] else []
    rows = [[esc(key), code(given, full) if full else esc(given)] for key, given, full in facts if given]
    text = f"{words[0]}  {item.workflow} v{item.version}  {words[2]}"
    text += "".join(f"\n  {key:<7} {given}" for key, given, _ in facts if given)
    return Figure(tag("div", head, class_="durable-head") + html_table([], rows), text)


def handle_card(handle: Any) -> Figure:
    """A handle: its execution as the store knows it now."""
    found = handle._face._glance(handle.workflow_id)
    if isinstance(found, WorkflowMetadata):
        return metadata_card(found)
    head = code(handle.workflow_id) + tag("span", esc(found), class_="durable-muted")
    return Figure(tag("div", head, class_="durable-head"), f"{handle.workflow_id}  ({found})")


def runtime_card(runtime: Any) -> Figure:
    """A node: whether it is open, how many executions stand where, and the first of them."""
    state, listed, more = runtime._overview(ROWS_MAX)
    by_status = Counter(item.status for item in listed)
    counted = [(status, by_status[status]) for status in Status if by_status[status]]
    head = tag("span", esc(f"node {runtime.node_id}"), class_="durable-title")
    head += chip(state, "durable-good" if state == "open" else "durable-bad")
    head += "".join(chip(f"{count} {status.value}", STATUS_KIND[status]) for status, count in counted)
    inner = executions_table(listed)
    text = f"node {runtime.node_id}: {state}"
    if not listed:
        return Figure(tag("div", head, class_="durable-head"), text)
    body = inner.html[inner.html.index("<table") : -len("</div>")]
    tail = "more executions: ask runtime.list(after=…)" if more else ""
    return Figure(
        tag("div", head, class_="durable-head") + body + (tag("div", tail, class_="durable-muted") if tail else ""),
        "\n".join(filter(None, [text, str(inner), tail])),
    )


# --- the table of replay


def replay_table() -> Figure:
    """`durable.journal.replay.DECISIONS`, the table of what replay does, as it stands in the code."""
    kinds = {
        Decision.RECORD: "durable-run",
        Decision.RETURN: "durable-good",
        Decision.RESUME: "durable-wait",
        Decision.DIVERGE: "durable-bad",
    }
    lines: dict[tuple[bool, bool, Decision], list[bool]] = {}
    for (there, same, done), decision in DECISIONS.items():
        lines.setdefault((there, same, decision), []).append(done)
    head = ["journal at this position", "same command?", "completion there?", "replay", "that is"]
    rows, cells = [], []
    for (there, same, decision), answers in lines.items():
        known = {True: "yes", False: "no"}
        line = [
            "a command" if there else "the end",
            known[same] if there else "",
            known[answers[0]] if there and len(answers) == 1 else "either" if there else "",
            decision.name,
            decision.value,
        ]
        rows.append(line)
        cells.append([*map(esc, line[:3]), chip(decision.name, kinds[decision]), esc(decision.value)])
    return Figure(html_table(head, cells), text_table(head, rows))


def _policy(policy: Any) -> Figure:
    from durable.notebook.delays import retry_delays

    return retry_delays(policy)


_SHOWN: dict[str, Callable[[Any], Figure]] = {
    "Journal": journal_table,
    "JournalEntry": lambda entry: journal_table([entry]),
    "Executions": executions_table,
    "WorkflowMetadata": metadata_card,
    "WorkflowHandle": handle_card,
    "NodeRuntime": runtime_card,
    "RetryPolicy": _policy,
}
