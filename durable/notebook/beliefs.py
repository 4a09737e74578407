"""The membership timeline: what was believed of each member, over time, by each of the others.

A lane is a member; within it, a line for each observer, so that one sees who learned what first. Where all lines change
together, news was quick; where one stays behind, somebody had not heard.

========= =============================================
line      the observer believes it
========= =============================================
thick     ALIVE
dashes    SUSPECT
fine      DEAD
dots      LEFT
(none)    nothing: it is not in the observer's list
========= =============================================

It takes the `Belief` records of a `LocalCluster` (its ``history``) or of a simulated `Swarm` (its ``beliefs``). The words of
the figure give the order of what happened and no times, so that two runs read alike.

Read next: `durable.notebook.packets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from durable.membership.member import Member, MemberStatus, NodeId
from durable.notebook.figure import Figure, esc, svg, tag, text
from durable.notebook.looks import WORDS, in_order

if TYPE_CHECKING:
    from durable.cluster.local import LocalCluster

LEFT, RIGHT, AXIS_PX = 17.0, 98.5, 24
LINE_PX, BETWEEN_PX = 6, 12
AFTER = 0.05
PHONE_PX, CHAR_PX = 330, 5.9
STROKES: Mapping[MemberStatus, str] = {
    MemberStatus.ALIVE: "stroke:#009e73;stroke-width:3",
    MemberStatus.SUSPECT: "stroke:#e69f00;stroke-width:3.4;stroke-dasharray:5 3",
    MemberStatus.DEAD: "stroke:#d55e00;stroke-width:2;stroke-dasharray:1.5 2.5",
    MemberStatus.LEFT: "stroke:currentColor;stroke-opacity:.5;stroke-width:1.2;stroke-dasharray:1 4",
}


class Noted(Protocol):
    """A record of a change of belief; when it was, is ``at_s`` or ``at``."""

    @property
    def observer(self) -> NodeId: ...
    @property
    def member(self) -> Member: ...


class Stretch(NamedTuple):
    """An observer believed this of a member from ``begin_s`` to ``end_s``."""

    observer: str
    member: str
    status: MemberStatus
    begin_s: float
    end_s: float


def seconds(note: Noted) -> float:
    """When a belief was come to."""
    at_s: float = note.at_s if hasattr(note, "at_s") else getattr(note, "at", 0.0)
    return at_s


def stretches(
    history: Iterable[Noted], end_s: float | None = None, begin: Mapping[str, Iterable[str]] | None = None
) -> list[Stretch]:
    """What was believed, as lines with a begin and an end, in the order of their ends.

    ``begin``: whom each observer believed alive before the first record, if it was somebody.
    """
    notes = sorted(history, key=seconds)
    end = max(end_s or 0.0, *(seconds(note) for note in notes), 0.0)
    open_: dict[tuple[str, str], tuple[MemberStatus, float]] = {
        (observer, member): (MemberStatus.ALIVE, 0.0) for observer, members in (begin or {}).items() for member in members
    }
    found = []
    for note in notes:
        key = (str(note.observer), str(note.member.node_id))
        if before := open_.pop(key, None):
            found.append(Stretch(*key, *before, seconds(note)))
        open_[key] = (note.member.status, seconds(note))
    found += [Stretch(*key, status, since, end) for key, (status, since) in open_.items()]
    return found


def membership_timeline(
    history: LocalCluster | Iterable[Noted],
    marks: Mapping[str, float] | Sequence[tuple[str, float]] | None = None,
    begin: Mapping[str, Iterable[str]] | None = None,
    until_s: float | None = None,
) -> Figure:
    """One lane a member, one line an observer.

    Args:
        history: a `LocalCluster`, or records of its ``history``, or of `Swarm.beliefs`.
        marks: what else happened, and when: ``{"node-3 is killed": 2.1}``, in the seconds of the records. Of a cluster: what
            was done to it, unless something else is said.
        begin: whom each observer believed alive before the first record.
        until_s: where the picture ends; by default a little after the last record or mark.
    """
    if not isinstance(history, Iterable):
        marks = [(deed.words, deed.at_s) for deed in history.deeds] if marks is None else marks
        history = history.history
    marked = sorted(marks.items() if isinstance(marks, Mapping) else marks or [], key=lambda mark: mark[1])
    notes = sorted(history, key=seconds)
    lines = stretches(notes, max([until_s or 0.0, *(at for _, at in marked)]), begin)
    if not lines:
        return Figure('<span class="durable-muted">nothing has changed</span>', "nothing has changed")
    members = in_order(line.member for line in lines)
    first = 0.0 if begin else min([line.begin_s for line in lines] + [at for _, at in marked])
    last = max(line.end_s for line in lines)
    if until_s is None:  # what was believed last is seen as well
        last += (last - first) * AFTER
        lines = [line._replace(end_s=last) if line.end_s == max(one.end_s for one in lines) else line for line in lines]
    observers = {name: in_order(line.observer for line in lines if line.member == name) for name in members}
    parts: list[str] = []
    top: float = 16 * len(marked) + 12
    y = top
    for name in members:
        height: float = LINE_PX * len(observers[name])
        parts.append(text("0%", y + height / 2 + 4, name, class_="durable-strong"))
        for index, observer in enumerate(observers[name]):
            for line in lines:
                if (line.member, line.observer) == (name, observer):
                    parts.append(_line(line, y + LINE_PX * (index + 0.5), first, last))
        y += max(height, 14) + BETWEEN_PX
    height = y - BETWEEN_PX + 4
    placed = [(words, _x(at, first, last)) for words, at in marked]
    frame = _axis(first, last, height, top) + "".join(_mark(*mark, height) for mark in mark_rows(placed))
    picture = svg(frame + "".join(parts), f"what was believed of {', '.join(members)}", height + AXIS_PX)
    return Figure(picture + _legend({line.status for line in lines}), _words(notes, members, marked))


def _x(at: float, first: float, last: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * (at - first) / max(last - first, 1e-9), 2)


def _line(line: Stretch, y: float, first: float, last: float) -> str:
    begin, end = _x(line.begin_s, first, last), _x(line.end_s, first, last)
    tip = tag("title", esc(f"{line.observer} believes {line.member} {line.status.name}"))
    style = STROKES[line.status]
    return tag("line", tip, x1=f"{begin:g}%", x2=f"{max(end, begin + 0.3):g}%", y1=y, y2=y, style=style)


def _axis(first: float, last: float, height: float, top: float) -> str:
    parts = [tag("line", x1=f"{LEFT}%", x2=f"{RIGHT}%", y1=height + 2, y2=height + 2, class_="durable-axis")]
    span = max(last - first, 1e-6)
    power = 10.0 ** (len(f"{span:.6f}".split(".")[0]) - 1)
    power = power / 10 if span / power < 2.5 else power
    step = next(size for size in (power / 10, power / 5, power / 2, power, 2 * power, 5 * power) if span / size <= 5)
    for index in range(int(span / step) + 1):
        x = _x(first + index * step, first, last)
        parts.append(tag("line", x1=f"{x:g}%", x2=f"{x:g}%", y1=top - 4, y2=height + 2, class_="durable-grid"))
        anchor = "end" if x > 92 else "middle"
        parts.append(text(f"{x:g}%", height + 17, f"{index * step:g} s", class_="durable-small", text_anchor=anchor))
    return "".join(parts)


def mark_rows(marks: Sequence[tuple[str, float]]) -> list[tuple[str, float, int, str]]:
    """The words of each mark, its place in percent, its row from above, and its anchor.

    A mark's line goes down from its words through all rows below. So the lowest row is given to a mark whose words, to one side
    or the other, no other line crosses; then the row above, among those that are left. Up to three there always is one; of many
    marks close together, some words are crossed.
    """
    left = list(marks)
    found = []
    for row in range(len(marks) - 1, -1, -1):
        tries = [(_crossed(mark, anchor, left), index, anchor) for index, mark in enumerate(left) for anchor in ("start", "end")]
        _, index, anchor = min(tries, key=lambda attempt: (attempt[0], -attempt[1]))
        found.append((*left.pop(index), row, anchor))
    return found[::-1]


def _crossed(mark: tuple[str, float], anchor: str, others: Sequence[tuple[str, float]]) -> float:
    """How many lines would cross its words, or much more if they would leave the picture."""
    words, x = mark
    wide = len(words) * CHAR_PX / PHONE_PX * 100
    begin, end = (x, x + wide) if anchor == "start" else (x - wide, x)
    outside = 100.0 if begin < 0 or end > 100 else 0.0
    return outside + sum(begin - 0.3 <= other <= end + 0.3 for one, other in others if (one, other) != mark)


def _mark(words: str, x: float, row: int, anchor: str, height: float) -> str:
    """A moment across all lanes; each has a row of its own for its words, so that they never meet."""
    y = 12 + 16 * row
    line = tag("line", x1=f"{x:g}%", x2=f"{x:g}%", y1=y + 3, y2=height + 2, class_="durable-deadline")
    return line + text(f"{x:g}%", y, words, class_="durable-small", text_anchor=anchor)


def _legend(statuses: set[MemberStatus]) -> str:
    items = []
    for status in MemberStatus:
        if status in statuses:
            line = tag("line", x1=1, x2=27, y1=6, y2=6, style=STROKES[status])
            items.append(f"<span>{tag('svg', line, class_='durable-svg', width=28, height=12)}{WORDS[status]}</span>")
    return tag("div", "".join(items), class_="durable-legend")


def _words(notes: Sequence[Noted], members: Sequence[str], marks: Sequence[tuple[str, float]]) -> str:
    """Of each member, life by life: what was believed first, second, ..., and by how many."""
    lines = []
    for name in members:
        steps: dict[tuple[int, str], set[str]] = {}
        for note in notes:
            if note.member.node_id == name:
                steps.setdefault((note.member.boot, note.member.status.name), set()).add(note.observer)
        told = ", then ".join(f"{status} ({len(who)})" for (_, status), who in steps.items())
        lines.append(f"{name}: {told}")
    width = max(len(name) for name in members)
    lines = [f"{line.partition(':')[0]:<{width}}  {line.partition(': ')[2]}" for line in lines]
    return "\n".join([*lines, *(f"mark: {words}" for words, _ in marks)])
