"""Timelines: when each operation of a workflow ran, waited, failed, and when there was no process at all.

A journal says when an operation was recorded, when each failed attempt began and ended, and when the answer came. What it
cannot say is when nobody was there to write; whoever killed the process knows, and passes it as ``dead``. Work under way at
that moment is cut: it was lost, and began again. A timer is not cut: it is a row in the store, and does not need a process.

========= ============================================================
shape     means
========= ============================================================
solid bar a body ran
dashed    waiting: for time, for a message, for the next attempt
✗         an attempt failed, or died with its process
◆         recorded at once: state, checkpoint, patch, winner of a race
shade     no process
========= ============================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from durable.journal.entries import EntryType, JournalEntry
from durable.notebook.figure import Figure, esc, svg, tag, text
from durable.notebook.words import KIND, duration, label, origin_ms, outcome, shorten, took_ms

LANE_PX, TOP_PX, AXIS_PX = 38, 22, 24
RUNS = (EntryType.CALL, EntryType.SIDE_EFFECT)
Span = tuple[float, float]


class Piece(NamedTuple):
    """A part of a lane: ``kind`` is run, wait, talk, note or lost (a run that died or failed). Milliseconds since 1970."""

    begin: float
    end: float
    kind: str


def pieces(entry: JournalEntry, end_ms: float, dead: Sequence[Span] = ()) -> list[Piece]:
    """What one operation did, in order. ``end_ms`` is where the picture ends, for what is still under way."""
    done = entry.completed_at if entry.completed_at is not None else end_ms
    if entry.entry_type not in RUNS:
        if entry.completed and done == entry.timestamp and entry.entry_type not in KIND:
            return [Piece(done, done, "note")]
        kind = KIND.get(entry.entry_type, "durable-wait").removeprefix("durable-")
        return [Piece(entry.timestamp, done, "note" if kind == "bad" else kind)]
    made: list[Piece] = []
    begin: float = entry.timestamp
    for attempt in entry.attempts:
        begin = attempt.started_at_ms
        failed = attempt.failed_at_ms or begin
        made += [
            *_cut(begin, failed, dead)[:-1],
            Piece(begin, failed, "lost"),
            Piece(failed, attempt.next_at_ms, "wait"),
        ]
        begin = attempt.next_at_ms
    begin = max([begin, *(back for gone, back in dead if gone <= begin < back)])
    made += _cut(begin, max(begin, done), dead)
    if entry.error is not None:
        made[-1] = made[-1]._replace(kind="lost")
    return made


def _cut(begin: float, end: float, dead: Sequence[Span]) -> list[Piece]:
    """A run, cut where its process died: all but the last piece were lost."""
    made = []
    for gone, back in dead:
        if begin < gone < end:
            made.append(Piece(begin, gone, "lost"))
            begin = min(back, end)
    return [*made, Piece(begin, end, "run")]


class Scale:
    """Milliseconds to a percentage of the width."""

    def __init__(self, begin_ms: float, end_ms: float) -> None:
        self.begin_ms = begin_ms
        self.width_ms = max(end_ms - begin_ms, 1.0)

    def at(self, ms: float) -> float:
        return round(1 + 97.5 * (ms - self.begin_ms) / self.width_ms, 2)

    def x(self, ms: float) -> str:
        return f"{self.at(ms):g}%"

    def wide(self, begin_ms: float, end_ms: float) -> str:
        return f"{max(self.at(end_ms) - self.at(begin_ms), 0.35):.2f}%"  # what took no time is still seen

    def ticks(self) -> Iterator[float]:
        """About five round moments, in milliseconds from the begin."""
        rough = self.width_ms / 5
        power = 10.0 ** (len(str(int(rough))) - 1)
        step = next(size for size in (power, 2 * power, 5 * power, 10 * power) if self.width_ms / size <= 6)
        count = int(self.width_ms / step)
        yield from (index * step for index in range(count + 1))


def journal_timeline(entries: Sequence[JournalEntry], dead: Iterable[Span] = ()) -> Figure:
    """One lane an operation, from its record to its answer.

    ``dead`` lists the times without a process, as (killed, back) in milliseconds since 1970.
    """
    if not entries:
        return Figure('<span class="durable-muted">an empty journal</span>', "an empty journal")
    gone = sorted(dead)
    begin, end = _extent(entries, gone)
    scale = Scale(begin, end)
    lanes = [(entry, pieces(entry, end, gone)) for entry in entries]
    height = TOP_PX + LANE_PX * len(lanes)
    drawn = [_frame(scale, height), *(_dead(scale, span, height) for span in gone)]
    for index, (entry, parts) in enumerate(lanes):
        top = TOP_PX + LANE_PX * index
        drawn.append(text("1%", top + 13, shorten(label(entry), 34), class_="durable-strong"))
        drawn.append(text("98.5%", top + 13, _remark(entry), class_="durable-small", text_anchor="end"))
        drawn += [_bar(scale, part, top + 19, 11) for part in parts]
        drawn += [_cross(scale.x(part.end), top + 24.5) for part in parts if part.kind == "lost"]
    kinds = {part.kind for _, parts in lanes for part in parts}
    picture = svg("".join(drawn), f"timeline of {len(lanes)} operations", height + AXIS_PX)
    return Figure(picture + _legend(kinds, bool(gone)), _timeline_words(lanes, gone, begin))


def _extent(entries: Sequence[JournalEntry], dead: Sequence[Span]) -> Span:
    last = [float(entry.completed_at or entry.timestamp) for entry in entries]
    last += [float(attempt.next_at_ms) for entry in entries for attempt in entry.attempts]
    return float(origin_ms(entries)), max([*last, *(back for _, back in dead)])


def _remark(entry: JournalEntry) -> str:
    mark, _ = outcome(entry)
    took = took_ms(entry)
    tried = f"attempt {len(entry.attempts) + 1}, " if entry.attempts else ""
    return f"{tried}under way" if took is None else f"{mark} {tried}{duration(took)}"


def _timeline_words(lanes: Sequence[tuple[JournalEntry, Sequence[Piece]]], dead: Sequence[Span], begin: float) -> str:
    lines = [f"{entry.sequence_number:>3}  {shorten(label(entry), 44):<44}  {_remark(entry)}" for entry, _ in lanes]
    lines += [f"     no process for {duration(back - gone)}, from +{duration(gone - begin)}" for gone, back in dead]
    return "\n".join(lines)


# --- shapes


def _frame(scale: Scale, height: float) -> str:
    """The axis below, and its faint lines."""
    parts = [tag("line", x1="1%", x2="98.5%", y1=height + 2, y2=height + 2, class_="durable-axis")]
    for ms in scale.ticks():
        x = scale.x(scale.begin_ms + ms)
        parts.append(tag("line", x1=x, x2=x, y1=TOP_PX - 6, y2=height + 2, class_="durable-grid"))
        anchor = "start" if ms == 0 else "middle" if scale.at(scale.begin_ms + ms) < 95 else "end"
        words = "0" if ms == 0 else _tick_words(ms)
        parts.append(text(x, height + 18, words, class_="durable-small", text_anchor=anchor))
    return "".join(parts)


def _tick_words(ms: float) -> str:
    return f"{ms:g} ms" if ms < 100 else f"{ms / 1000:g} s" if ms < 120_000 else duration(ms)


def _bar(scale: Scale, part: Piece, top: float, height: float) -> str:
    x, width = scale.x(part.begin), scale.wide(part.begin, part.end)
    if part.kind == "note":
        return tag("svg", _diamond(), x=x, y=top + height / 2, overflow="visible", width=1, height=1)
    if part.kind == "wait":
        return tag("rect", x=x, y=top + 2, width=width, height=height - 4, rx=2, class_="durable-wait")
    soft = " durable-soft" if part.kind == "lost" else ""
    kind = "talk" if part.kind == "talk" else "run"
    return tag("rect", x=x, y=top, width=width, height=height, rx=1, class_=f"durable-{kind}{soft}")


def _diamond() -> str:
    return tag("path", d="M-6 0L0 -6L6 0L0 6z", class_="durable-note")


def _cross(x: str, y: float) -> str:
    return tag(
        "svg",
        tag("path", d="M-5 -5L5 5M-5 5L5 -5", class_="durable-cross"),
        x=x,
        y=y,
        overflow="visible",
        width=1,
        height=1,
    )


def _dead(scale: Scale, span: Span, height: float) -> str:
    """A time without a process: a shade over all lanes, between the kill and the return."""
    gone, back = span
    area = tag(
        "rect",
        x=scale.x(gone),
        y=TOP_PX - 6,
        width=scale.wide(gone, back),
        height=height - TOP_PX + 8,
        class_="durable-dead",
    )
    kill = tag("line", x1=scale.x(gone), x2=scale.x(gone), y1=TOP_PX - 6, y2=height + 2, class_="durable-deadline")
    middle = (scale.at(gone) + scale.at(back)) / 2
    anchor = "start" if middle < 18 else "end" if middle > 80 else "middle"
    at = {"start": scale.at(gone), "end": scale.at(back), "middle": middle}[anchor]
    words = text(f"{at:g}%", TOP_PX - 10, f"killed, no process for {duration(back - gone)}", text_anchor=anchor)
    return area + kill + words


_LEGEND = {
    "run": ("runs", tag("rect", x=1, y=1, width=24, height=10, class_="durable-run")),
    "wait": ("waits", tag("rect", x=1, y=2, width=24, height=8, class_="durable-wait")),
    "talk": ("message or child", tag("rect", x=1, y=1, width=24, height=10, class_="durable-talk")),
    "note": ("recorded at once", tag("g", _diamond(), transform="translate(13 6)")),
    "lost": ("failed, or lost in a kill", tag("path", d="M8 1L18 11M8 11L18 1", class_="durable-cross")),
    "dead": ("no process", tag("rect", x=1, y=0, width=24, height=12, class_="durable-dead")),
}


def _legend(kinds: set[str], dead: bool) -> str:
    used = [entry for kind, entry in _LEGEND.items() if kind in kinds or (kind == "dead" and dead)]
    items = (f"<span>{tag('svg', shape, class_='durable-svg', width=26, height=12)}{words}</span>" for words, shape in used)
    return tag("div", "".join(items), class_="durable-legend")


# --- calls beside each other


def fan_out(entries: Sequence[JournalEntry], dead: Iterable[Span] = ()) -> Figure:
    """The calls and children of a run beside each other, and how many of them were under way at once."""
    chosen = [entry for entry in entries if entry.entry_type in (*RUNS, EntryType.CHILD)]
    if not chosen:
        return Figure('<span class="durable-muted">no calls</span>', "no calls")
    gone = sorted(dead)
    begin, end = float(min(entry.timestamp for entry in chosen)), _extent(chosen, gone)[1]
    scale = Scale(begin, end)
    steps = _at_once(chosen, end)
    most = max(count for _, count in steps)
    work = sum((entry.completed_at or end) - entry.timestamp for entry in chosen)
    summary = f"{len(chosen)} calls, at most {most} at once: {duration(work)} of work in {duration(end - begin)}"
    strip, lane = 44, 24
    top = TOP_PX + strip
    height = top + lane * len(chosen)
    drawn = [
        _frame(scale, height),
        *(_dead(scale, span, height) for span in gone),
        _curve(scale, steps, most, strip),
    ]
    for index, entry in enumerate(chosen):
        y = top + lane * index
        parts = pieces(entry, end, gone)
        drawn += [_bar(scale, part._replace(kind="talk" if part.kind == "run" else part.kind), y + 3, 16) for part in parts]
        drawn += [_cross(scale.x(part.end), y + 11) for part in parts if part.kind == "lost"]
        late = scale.at(entry.timestamp) > 60
        x = f"{scale.at(entry.timestamp) + (-0.8 if late else 0.8):g}%"
        words = shorten(f"{label(entry)}  {_remark(entry)}", 44)
        drawn.append(text(x, y + 15, words, text_anchor="end" if late else "start"))
    title = tag("div", esc(summary), class_="durable-title")
    body = tag("div", title, class_="durable-head") + svg(
        "".join(drawn).replace("durable-talk", "durable-run durable-soft"), summary, height + AXIS_PX
    )
    lines = [f"{entry.sequence_number:>3}  {shorten(label(entry), 44):<44}  {_remark(entry)}" for entry in chosen]
    return Figure(body, "\n".join([summary, *lines]))


def _at_once(entries: Sequence[JournalEntry], end: float) -> list[tuple[float, int]]:
    """(moment, how many are under way from then on), in order. At one moment, those that end go first."""
    changes = [(float(entry.timestamp), 1) for entry in entries]
    changes += [(float(entry.completed_at or end), -1) for entry in entries]
    count, steps = 0, []
    for moment, change in sorted(changes):
        count += change
        steps.append((moment, count))
    return steps


def _curve(scale: Scale, steps: Sequence[tuple[float, int]], most: int, height: float) -> str:
    """How many at once, as bars of their height."""
    base = TOP_PX + height - 12
    unit = (height - 16) / max(most, 1)
    parts = [
        tag(
            "rect",
            x=scale.x(moment),
            y=round(base - unit * count, 1),
            width=scale.wide(moment, later),
            height=round(unit * count, 1),
            class_="durable-dead",
        )
        for (moment, count), (later, _) in itertools.pairwise(steps)
        if count
    ]
    return "".join(parts) + text("98.5%", TOP_PX - 4, "under way at once", class_="durable-small", text_anchor="end")
