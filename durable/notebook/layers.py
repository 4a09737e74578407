"""Where the boxes of a diagram stand: a directed graph in columns, small and good enough for a dozen states.

The method of layers, in four steps: edges that would close a circle are turned round; each node gets the column after its
last predecessor; within the columns, nodes are put where few edges cross; then each is drawn towards its neighbours. Between
two columns of nodes lies one of labels, and an edge that is longer than one column gets a place in every column that it
passes; so no label lies on another, and no edge runs through a box.

The source: K. Sugiyama, S. Tagawa and M. Toda, "Methods for visual understanding of hierarchical system structures", 1981.
Pure and deterministic; its limit is size: beyond about 30 edges nobody can read the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

SWEEPS = 12
GAP_PX, BETWEEN_PX = 11.0, 18.0


@dataclass(eq=False)
class Place:
    """A box, a label or a bend, in a column. ``y`` is its middle, ``x`` its left side, in pixels."""

    key: Hashable
    rank: int
    width: float
    height: float
    y: float = 0.0
    x: float = 0.0
    before: list[Place] = field(default_factory=list)
    after: list[Place] = field(default_factory=list)


@dataclass
class Route:
    """An edge: the places that it passes, from its source to its target, and the one that holds its label."""

    source: Hashable
    target: Hashable
    places: list[Place]
    label: Place


def columns_of(nodes: Sequence[Hashable], edges: Sequence[tuple[Hashable, Hashable]]) -> dict[Hashable, int]:
    """The column of each node: one more than the largest among its predecessors, circles left aside."""
    following: dict[Hashable, list[Hashable]] = {node: [] for node in nodes}
    for source, target in edges:
        following[source].append(target)
    column = dict.fromkeys(nodes, 0)
    seen: set[Hashable] = set()
    order: list[Hashable] = []
    kept: dict[Hashable, list[Hashable]] = {node: [] for node in nodes}

    def visit(node: Hashable, above: tuple[Hashable, ...]) -> None:
        seen.add(node)
        for target in following[node]:
            if target in (*above, node):
                continue
            kept[node].append(target)
            if target not in seen:
                visit(target, (*above, node))
        order.append(node)

    for node in nodes:
        if node not in seen:
            visit(node, ())
    for node in reversed(order):
        for target in kept[node]:
            column[target] = max(column[target], column[node] + 1)
    return column


def arrange(
    boxes: Mapping[Hashable, tuple[float, float]],
    edges: Mapping[tuple[Hashable, Hashable], tuple[float, float]],
    columns: Mapping[Hashable, int] | None = None,
) -> tuple[dict[Hashable, Place], list[Route], float, float]:
    """Places of all boxes, routes of all edges, and the size of the whole.

    ``boxes`` and ``edges`` give (width, height) of each box and of each edge's label; ``columns`` overrides the columns.
    """
    column = dict(columns) if columns is not None else columns_of(list(boxes), list(edges))
    places = {key: Place(key, 2 * column[key], *size) for key, size in boxes.items()}
    ranks: list[list[Place]] = [[] for _ in range(2 * max(column.values(), default=0) + 1)]
    for place in places.values():
        ranks[place.rank].append(place)
    routes = [_route(places, edge, size, ranks) for edge, size in edges.items() if column[edge[0]] != column[edge[1]]]
    _order(ranks)
    _settle(ranks)
    width = _across(ranks)
    top = min((place.y - place.height / 2 for rank in ranks for place in rank), default=0)
    for rank in ranks:
        for place in rank:
            place.y += 6 - top
    height = max((place.y + place.height / 2 for rank in ranks for place in rank), default=0) + 6
    return places, routes, width, height


def _route(
    places: Mapping[Hashable, Place],
    edge: tuple[Hashable, Hashable],
    size: tuple[float, float],
    ranks: Sequence[list[Place]],
) -> Route:
    source, target = places[edge[0]], places[edge[1]]
    step = 1 if source.rank < target.rank else -1
    label = Place(edge, source.rank + step, *size)
    chain = [label, *(Place(edge, rank, 0, 8) for rank in range(source.rank + 2 * step, target.rank, step))]
    for place in chain:
        ranks[place.rank].append(place)
    passed = [source, *chain, target]
    for one, other in itertools.pairwise(passed):
        left, right = (one, other) if step == 1 else (other, one)
        left.after.append(right)
        right.before.append(left)
    return Route(edge[0], edge[1], passed, label)


def _order(ranks: list[list[Place]]) -> None:
    """Sort each column by the mean place of its neighbours, to and fro, and keep the best that was seen."""
    best, fewest = [list(rank) for rank in ranks], _crossings(ranks)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for index in range(1, len(ranks)) if forward else range(len(ranks) - 2, -1, -1):
            beside = {id(place): number for number, place in enumerate(ranks[index - 1 if forward else index + 1])}

            def mean(place: Place, beside: dict[int, int] = beside, forward: bool = forward) -> float:
                near = [beside[id(other)] for other in (place.before if forward else place.after)]
                return sum(near) / len(near) if near else len(beside) / 2

            ranks[index].sort(key=mean)
        crossings = _crossings(ranks)
        if crossings < fewest:
            best, fewest = [list(rank) for rank in ranks], crossings
    ranks[:] = best


def _crossings(ranks: Sequence[Sequence[Place]]) -> int:
    total = 0
    for left, right in itertools.pairwise(ranks):
        beside = {id(place): number for number, place in enumerate(right)}
        pairs = [(number, beside[id(other)]) for number, place in enumerate(left) for other in place.after]
        total += sum(a < c and b > d for a, b in pairs for c, d in pairs)
    return total


def _settle(ranks: Sequence[Sequence[Place]]) -> None:
    """Draw each place towards the mean of its neighbours, without changing the order or coming too near to the next."""
    for rank in ranks:
        y = 0.0
        for place in rank:
            place.y = y + place.height / 2
            y += place.height + GAP_PX
    for turn in range(40):
        for rank in ranks if turn % 2 else list(reversed(ranks)):
            wanted = []
            for place in rank:
                near = [other.y for other in (*place.before, *place.after) for _ in range(_pull(place, other))]
                wanted.append(sum(near) / len(near) if near else place.y)
            space = [(a.height + b.height) / 2 + GAP_PX for a, b in itertools.pairwise(rank)]
            down, up = list(wanted), list(wanted)
            for index in range(1, len(rank)):
                down[index] = max(down[index], down[index - 1] + space[index - 1])
            for index in range(len(rank) - 2, -1, -1):
                up[index] = min(up[index], up[index + 1] - space[index])
            for place, low, high in zip(rank, down, up, strict=True):
                place.y = (low + high) / 2


def _pull(one: Place, other: Place) -> int:
    """How strongly two places want to be level: the parts of one edge most, so that it runs straight."""
    return 8 if one.key == other.key else 1


def _across(ranks: Sequence[Sequence[Place]]) -> float:
    x = 4.0
    for rank in ranks:
        width = max((place.width for place in rank), default=0.0)
        for place in rank:
            place.x = x + (width - place.width) / 2
            if not place.width:  # a bend passes the whole column
                place.x, place.width = x, width
        x += width + BETWEEN_PX
    return x - BETWEEN_PX + 4
