"""The load of the nodes: how many of some things each has, and what the ring would have given it.

A bar is what a node has; the tick across it is its share of the ring, times all there is. Where bars end near their ticks, the
ring is obeyed; where ticks differ from each other, the ring itself is uneven.

Read next: `durable.notebook.matrix`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from durable.notebook.figure import Figure, esc, html_table, tag, text_table
from durable.notebook.looks import colours, in_order, short_names, swatch
from durable.notebook.rings import shares
from durable.routing.ring import HashRing

WIDTH, HEIGHT = 130, 16


def node_load(where: Iterable[str], ring: HashRing | None = None, what: str = "workflows") -> Figure:
    """A row a node: how often it is named in ``where``.

    Args:
        where: the node of each thing that is counted.
        ring: the nodes that there are, also those without a load, and the share of each.
        what: the heading of the counts.
    """
    counts = Counter(where)
    parts = shares(ring) if ring is not None else {}
    names = in_order([*counts, *parts])
    if not names:
        return Figure('<span class="durable-muted">no load, and no nodes</span>', "no load, and no nodes")
    total = sum(counts.values())
    due = {name: part * total for name, part in parts.items()}
    most = max([*counts.values(), *due.values(), 1.0])
    palette, short = colours(names), short_names(names)
    head = ["node", what, *(["by its share"] if due else [])]
    numbers = frozenset(range(1, len(head)))
    words = [[name, str(counts[name]), *([f"{due.get(name, 0.0):.1f}"] if due else [])] for name in names]
    rows = []
    for name, line in zip(names, words, strict=True):
        bar = _bar(counts[name] / most, due[name] / most if name in due else None, palette[name], f"{name}: {line[1]} {what}")
        node = tag("span", f"{swatch(palette[name], short[name])} {esc(name)}", class_="durable-what")
        rows.append([node, line[1], *line[2:], bar])
    return Figure(html_table([*(esc(title) for title in head), ""], rows, numbers), text_table(head, words, numbers))


def _bar(part: float, due: float | None, colour: str, tip: str) -> str:
    """``part`` and ``due`` of the full width."""
    inner = tag("title", esc(tip)) + tag("rect", x=0, y=2, width=round(part * WIDTH, 1), height=HEIGHT - 4, rx=2, fill=colour)
    if due is not None:
        x = round(due * WIDTH, 1)
        inner += tag("line", x1=x, x2=x, y1=0, y2=HEIGHT, style="stroke:currentColor;stroke-width:2")
    return tag("svg", inner, class_="durable-svg", width=WIDTH + 2, height=HEIGHT, viewBox=f"0 0 {WIDTH + 2} {HEIGHT}")
