"""State diagrams, drawn from the very table that decides: ``{(state, event): next_state}``.

A picture drawn by hand is right on the day it is drawn. This one cannot say anything else than the code does, because both
read the same dictionary.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from durable.notebook.figure import Figure, svg, tag, text
from durable.notebook.layers import Place, Route, arrange

LINE_PX, CHAR_PX, WIDE_PX = 15, 6.1, 8.0
Edge = tuple[Hashable, Hashable]


def state_diagram(
    transitions: Mapping[tuple[Any, Any], Any],
    current: Any = None,
    path: Sequence[Any] = (),
    columns: Mapping[Any, int] | None = None,
) -> Figure:
    """The states of a table and the events that lead from one to another.

    ``current`` marks a state; ``path`` the transitions that were taken, as the states that were passed. Final states, out of
    which nothing leads, have a thick border. ``columns`` places states by hand where the layout's own choice is not the best.
    """
    labels: dict[Edge, list[str]] = {}
    for (state, event), following in transitions.items():
        labels.setdefault((state, following), []).append(words(event))
    states = list(dict.fromkeys([*(state for state, _ in transitions), *transitions.values()]))
    loops = {state: labels.pop((state, state), []) for state in states}
    boxes = {state: _box(words(state), loops[state]) for state in states}
    sizes = {edge: _label_size(lines) for edge, lines in labels.items()}
    places, routes, width, height = arrange(boxes, sizes, columns)
    taken = set(itertools.pairwise(path))
    ends = {state for state in states if not any(source == state for source, _ in labels)}
    drawn = [
        _edge(
            route,
            routes,
            labels[route.source, route.target],
            (route.source, route.target) in taken,
            bool(taken),
        )
        for route in routes
    ]
    for state in states:
        kind = "durable-state" + (" durable-end" if state in ends else "") + (" durable-now" if state == current else "")
        drawn.append(_state(places[state], words(state), loops[state], kind))
    picture = svg(
        "".join(drawn),
        f"{len(states)} states and {len(labels)} transitions between them",
        height,
        round(width),
        viewBox=f"0 0 {round(width)} {round(height)}",
        style=f"height:auto;max-width:100%;min-width:{min(round(width), 520)}px",
    )
    return Figure(picture, _text(transitions, current))


def status_diagram(current: Any = None) -> Figure:
    """The statuses of an execution: `durable.runtime.transitions.TRANSITIONS`, as it stands in the code."""
    from durable.journal.entries import Status
    from durable.runtime.transitions import TRANSITIONS

    columns = dict.fromkeys(Status, 2)  # the ends stand together, and the whole is narrower
    columns |= {Status.PENDING: 0, Status.RUNNING: 1, Status.PAUSED: 3, Status.DIVERGED: 3}
    return state_diagram(TRANSITIONS, current, columns=columns)


def words(item: Any) -> str:
    """The name of a state or an event."""
    return item.name if isinstance(item, enum.Enum) else str(item)


def _text(transitions: Mapping[tuple[Any, Any], Any], current: Any) -> str:
    lines = [f"{words(state)} --{words(event)}--> {words(following)}" for (state, event), following in transitions.items()]
    return "\n".join([*lines, *([f"now: {words(current)}"] if current is not None else [])])


def _box(name: str, loops: Sequence[str]) -> tuple[float, float]:
    widest = max([_width(name) * 1.15, *(_width(loop) + 14 for loop in loops)])
    return widest + 22, 34 + LINE_PX * len(loops)


def _width(line: str) -> float:
    """About how wide a line is, in pixels: capitals are wider."""
    return sum(WIDE_PX if letter.isupper() or letter in "_mw" else CHAR_PX for letter in line)


def _label_size(lines: Sequence[str]) -> tuple[float, float]:
    return max(_width(line) for line in lines) + 8, LINE_PX * len(lines)


def _state(place: Place, name: str, loops: Sequence[str], kind: str) -> str:
    top = place.y - place.height / 2
    middle = place.x + place.width / 2
    parts = [tag("rect", x=place.x, y=round(top, 1), width=place.width, height=place.height, rx=8, class_=kind)]
    parts.append(text(middle, round(top + 22, 1), name, class_="durable-strong", text_anchor="middle"))
    for index, loop in enumerate(loops):
        y = round(top + 22 + LINE_PX * (index + 1), 1)
        parts.append(text(middle, y, f"↻ {loop}", class_="durable-small", text_anchor="middle"))
    return "".join(parts)


def _edge(route: Route, routes: Iterable[Route], lines: Sequence[str], taken: bool, dim: bool) -> str:
    """The line, interrupted by its label, and the arrowhead."""
    forward = route.places[0].rank < route.places[-1].rank
    sign = 1 if forward else -1
    points = [(_port(route.places[0], route, routes, forward), "move")]
    for place in route.places[1:-1]:
        near, far = (place.x, place.x + place.width) if forward else (place.x + place.width, place.x)
        points.append(((near, place.y), "curve"))
        points.append(((far, place.y), "move" if place is route.label else "line"))
    (end_x, end_y) = _port(route.places[-1], route, routes, not forward)
    points.append(((end_x - sign * 8, end_y), "curve"))
    steps, last = [], (0.0, 0.0)
    for (x, y), how in points:
        if how == "curve":
            half = (x - last[0]) / 2
            steps.append(f"C{last[0] + half:.1f} {last[1]:.1f} {x - half:.1f} {y:.1f} {x:.1f} {y:.1f}")
        else:
            steps.append(f"{'M' if how == 'move' else 'L'}{x:.1f} {y:.1f}")
        last = (x, y)
    style = "stroke:#0072b2;stroke-width:3;stroke-opacity:1" if taken else None
    parts = [tag("path", d="".join(steps), class_="durable-line", style=style)]
    head = f"M{end_x:.1f} {end_y:.1f}l{-sign * 10} -5v10z"
    parts.append(tag("path", d=head, class_="durable-head", style="fill:#0072b2;fill-opacity:1" if taken else None))
    middle = route.label.x + route.label.width / 2
    top = route.label.y - LINE_PX * len(lines) / 2
    for index, line in enumerate(lines):
        y = round(top + LINE_PX * index + 11.5, 1)
        parts.append(
            text(
                round(middle, 1),
                y,
                line,
                class_="durable-small" if not taken else "durable-strong",
                text_anchor="middle",
            )
        )
    return tag("g", "".join(parts), class_="durable-dim" if dim and not taken else None)


def _port(place: Place, route: Route, routes: Iterable[Route], right: bool) -> tuple[float, float]:
    """Where an edge touches a box: edges on one side share it evenly, in the order in which they come."""
    beside = []
    for other in routes:
        for at, near in ((0, 1), (-1, -2)):
            if other.places[at] is place and (other.places[near].rank > place.rank) == right:
                beside.append((other.places[near].y, other))
    beside.sort(key=lambda item: item[0])
    index = next(number for number, (_, other) in enumerate(beside) if other is route)
    share = (index + 1) / (len(beside) + 1)
    return place.x + (place.width if right else 0), place.y + place.height * 0.8 * (share - 0.5)
