"""A sequence diagram: who said what to whom, in order, and what each did between.

**Why it exists.** A diagram of a protocol that was drawn by hand shows what its author thinks. The figures of this library are
drawn from recorded runs; this is the drawing, and others know what was recorded: `packets`, for one.

Time goes down, a row an event; an arrow that ends in a cross was lost. A participant's line is drawn where arrows are, and not
where words are, so that it crosses no words.

**Limits.** Rows are in order, not to scale. Read next: `durable.notebook.packets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from durable.notebook.figure import Figure, svg, tag, text
from durable.notebook.words import shorten

PHONE_PX, CHAR_PX = 330, 5.9
LEFT, RIGHT = 20.0, 92.0
ROW, TOP = 31, 34
GOOD, DOUBT, BAD = "#009e73", "#e69f00", "#d55e00"


@dataclass(frozen=True, slots=True)
class Arrow:
    """Something was said. ``full`` is what the words of the figure have, if it is more."""

    source: str
    target: str
    words: str
    lost: bool = False
    full: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Something happened at one of them."""

    name: str
    words: str
    colour: str = GOOD
    full: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to all: a line across."""

    words: str


Row: TypeAlias = Arrow | Note | Event


def sequence(rows: Sequence[tuple[str, Row]], names: Sequence[str], label: str, unit: str = "seconds") -> Figure:
    """Rows, each with what stands before it (a time, or nothing), between ``names`` from left to right."""
    height = TOP + ROW * len(rows) + 6
    parts = [_heads(names, unit)]
    for index, (at, row) in enumerate(rows):
        y = TOP + ROW * index
        parts.append(text("0%", y + 25, at, class_="durable-small"))
        parts += [_life(_lane(names, name), y) for name in names]
        match row:
            case Arrow():
                parts.append(_arrow(names, row, y))
            case Note():
                parts.append(_note(names, row, y))
            case Event():
                parts.append(_event(row, y))
    return Figure(svg("".join(parts), label, height), "\n".join(f"{at:>7}  {_plain(row)}" for at, row in rows))


def _plain(row: Row) -> str:
    match row:
        case Arrow():
            return f"{row.source} -> {row.target}  {row.full or row.words}" + ("  (lost)" if row.lost else "")
        case Note():
            return row.full or row.words
        case Event():
            return f"-- {row.words}"


def _lane(order: Sequence[str], name: str) -> float:
    return round(LEFT + (RIGHT - LEFT) * order.index(name) / max(len(order) - 1, 1), 2)


def _heads(order: Sequence[str], unit: str) -> str:
    parts = [text("0%", 14, unit, class_="durable-small")]
    parts += [text(f"{_lane(order, name):g}%", 14, name, class_="durable-strong", text_anchor="middle") for name in order]
    return "".join(parts)


def _life(x: float, y: float) -> str:
    return tag("line", x1=f"{x:g}%", x2=f"{x:g}%", y1=y + 15, y2=y + ROW - 2, class_="durable-axis")


def _placed(words: str, middle: float, y: float, **given: Any) -> str:
    """A text around a place, moved inwards where it would leave the picture on a phone."""
    room = int((PHONE_PX - 46) / CHAR_PX)
    line = shorten(words, room)
    half = len(line) * CHAR_PX / 2 / PHONE_PX * 100
    if middle - half < 14:
        return text("14%", y, line, text_anchor="start", **given)
    if middle + half > 99.5:
        return text("99.5%", y, line, text_anchor="end", **given)
    return text(f"{middle:g}%", y, line, text_anchor="middle", **given)


def _arrow(order: Sequence[str], arrow: Arrow, y: float) -> str:
    source, target = _lane(order, arrow.source), _lane(order, arrow.target)
    sign = 1 if target > source else -1
    end = round(source + (target - source) * 0.62, 2) if arrow.lost else target
    lost = "stroke:#d55e00;stroke-dasharray:4 3;stroke-opacity:1" if arrow.lost else None
    line = tag("line", x1=f"{source:g}%", x2=f"{end:g}%", y1=y + 21, y2=y + 21, class_="durable-line", style=lost)
    tip = tag("path", d=f"M0 0l{-sign * 9} -4.5v9z", class_="durable-head")
    if arrow.lost:
        tip = tag("path", d="M-5 -5L5 5M-5 5L5 -5", class_="durable-cross")
    head = tag("svg", tip, x=f"{end:g}%", y=y + 21, width=1, height=1, overflow="visible")
    words = arrow.words + (" (lost)" if arrow.lost else "")
    return line + head + _placed(words, (source + target) / 2, y + 12, class_="durable-small")


def _note(order: Sequence[str], note: Note, y: float) -> str:
    x = _lane(order, note.name)
    dot = tag("circle", cx=f"{x:g}%", cy=y + 21, r=4.5, fill=note.colour)
    return dot + _placed(note.words, x, y + 12, class_="durable-strong", style="font-size:11px")


def _event(event: Event, y: float) -> str:
    line = tag("line", x1="14%", x2="99.5%", y1=y + 21, y2=y + 21, class_="durable-deadline")
    return line + _placed(event.words, (LEFT + RIGHT) / 2, y + 12, class_="durable-strong", style="font-size:11px")
