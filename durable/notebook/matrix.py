"""The membership matrix: who believes what about whom.

A row is an observer, a column the member that it has an opinion of. In a healthy cluster every square is the same; while news
travels, it is not, and that is what the figure is for. A node's opinion of itself has a border. A small number is the
incarnation, where it is above 0: so often the member has refuted in this life.

Read next: `durable.notebook.beliefs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from durable.membership.member import Member, MemberStatus
from durable.notebook.figure import Figure, svg, tag, text, text_table
from durable.notebook.looks import WORDS, in_order, prefix_of, short_names, status_legend, status_mark

if TYPE_CHECKING:
    from durable.cluster.local import LocalCluster

CELL, LEFT_CHAR, HEAD = 36, 6.6, 38

Views: TypeAlias = Mapping[str, Mapping[str, Member]]


def membership_matrix(source: LocalCluster | Views, states: Mapping[str, str] | None = None) -> Figure:
    """What each observer believes of each member.

    Args:
        source: a `LocalCluster`, or what its ``members()`` gives: observer, then member.
        states: what became of a process, by name, where it is not "running"; of a cluster, it is asked. The view of a process
            that is gone is the last that it told.
    """
    views: Mapping[str, Mapping[str, Member]]
    known: dict[str, str] = dict(states or {})
    if isinstance(source, Mapping):
        views = source
    else:
        views = {observer: dict(view) for observer, view in source.members().items()}  # type: ignore[arg-type]
        known = {**source.states(), **known}  # type: ignore[dict-item]
    observers = in_order(views)
    members = in_order([*observers, *(name for view in views.values() for name in view)])
    if not members:
        return Figure('<span class="durable-muted">no nodes</span>', "no nodes")
    head = prefix_of(members)
    short = short_names(members)
    aside = {name: f"({known[name]})" for name in observers if known.get(name, "running") != "running"}
    left = LEFT_CHAR * max(len(name) + len(aside.get(name, "")) + 1 for name in observers) + 8
    parts = [text(left, 13, f"believes of {head}…" if head else "believes of", class_="durable-small")]
    parts += [
        text(left + CELL * (index + 0.5), 31, short[name], class_="durable-strong", text_anchor="middle")
        for index, name in enumerate(members)
    ]
    for row, observer in enumerate(observers):
        parts.append(_row(row, observer, aside.get(observer, ""), members, views[observer], left))
    width, height = round(left + CELL * len(members) + 4), HEAD + CELL * len(observers) + 4
    style = f"height:auto;max-width:100%;min-width:{min(width, 300)}px"
    picture = svg("".join(parts), "who believes what about whom", height, width, viewBox=f"0 0 {width} {height}", style=style)
    seen = {belief_of(views[observer], name) for observer in observers for name in members}
    return Figure(picture + status_legend(status for status in WORDS if status in seen), _words(observers, members, views, aside))


def belief_of(view: Mapping[str, Member], name: str) -> MemberStatus | None:
    """What a view says of a name; None if it is not in it."""
    member = view.get(name)
    return member.status if member is not None else None


def _row(row: int, observer: str, aside: str, members: list[str], view: Mapping[str, Member], left: float) -> str:
    top = HEAD + CELL * row
    parts = [text(2, top + CELL / 2 + 4, observer, class_="durable-strong")]
    if aside:
        parts.append(text(left - 6, top + CELL / 2 + 4, aside, class_="durable-small", text_anchor="end"))
    for column, name in enumerate(members):
        x = left + CELL * column
        member = view.get(name)
        own = "durable-state" if name == observer else None
        style = None if own else "fill:#8881"
        parts.append(tag("rect", x=x + 1, y=top + 1, width=CELL - 2, height=CELL - 2, rx=5, class_=own, style=style))
        parts.append(status_mark(member.status if member else None, x + CELL / 2, top + CELL / 2))
        if member is not None and member.incarnation:
            small = {"class_": "durable-small", "text_anchor": "end", "style": "font-size:9px"}
            parts.append(text(x + CELL - 5, top + 11, member.incarnation, **small))
    return tag("g", "".join(parts), class_="durable-dim" if aside else None)


def _words(observers: list[str], members: list[str], views: Views, aside: Mapping[str, str]) -> str:
    rows = []
    for observer in observers:
        cells = []
        for name in members:
            member = views[observer].get(name)
            cells.append("-" if member is None else f"{member.status.name} {member.incarnation or ''}".strip())
        rows.append([f"{observer} {aside.get(observer, '')}".strip(), *cells])
    return text_table(["observer", *members], rows)
