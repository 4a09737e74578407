"""Partitions and their owners: a square a partition, in the colour and with the short name of the node that owns it.

It takes what anybody says about ownership: a `PartitionRing` (who would own), or a mapping from partition to node (who does), also
with its epoch, as `LocalCluster.owners` gives it.
Given several, one after another, a square whose owner is another than before has a dark rim.

Read next: `durable.notebook.loads`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from durable.notebook.figure import Figure, esc, html_table, svg, tag, text, text_table
from durable.notebook.looks import NO_COLOUR, colours, in_order, ink, short_names, swatch
from durable.routing.partitions import PartitionRing, first_hash

COLUMNS, CELL, GAP = 16, 19, 1

Owners: TypeAlias = PartitionRing | Mapping[int, str | None] | Mapping[int, tuple[str, int]]


def owners_of(source: Owners) -> dict[int, str | None]:
    """The owner of each partition, None where there is none; in order."""
    if not isinstance(source, PartitionRing):
        owners = {number: source[number] for number in sorted(source)}
        return {number: owner[0] if isinstance(owner, tuple) else owner for number, owner in owners.items()}
    points = list(source)
    found: dict[int, str | None] = {}
    for number in range(source.partitions):
        begin = first_hash(number, source.partitions)
        found[number] = next((str(node) for point, node in points if point >= begin), str(points[0][1])) if points else None
    return found


def partition_map(source: Owners | Mapping[str, Owners]) -> Figure:
    """Who owns which partition; of several, given by title, what changed from each to the next."""
    stages: dict[str, Owners] = {"": source}  # type: ignore[dict-item]
    if not isinstance(source, PartitionRing) and all(isinstance(key, str) for key in source):
        stages = {str(title): owners for title, owners in source.items()}  # type: ignore[misc]
    maps = {title: owners_of(owners) for title, owners in stages.items()}
    names = in_order(owner for owners in maps.values() for owner in owners.values() if owner is not None)
    palette, short = colours(names), short_names(names)
    blocks, lines = [], []
    before: dict[int, str | None] | None = None
    for title, owners in maps.items():
        changed = [number for number in owners if before is not None and before.get(number) != owners[number]]
        head = tag("div", esc(title), class_="durable-title") if title else ""
        caption = f"{len(changed)} of {len(owners)} partitions have another owner" if before is not None else ""
        below = tag("div", esc(caption), class_="durable-muted") if caption else ""
        blocks.append(tag("div", head + _squares(owners, changed, palette, short) + below, style="flex:0 1 320px;min-width:0"))
        lines += [title] * bool(title) + [_words(owners)] + [caption] * bool(caption) + [""]
        before = owners
    blocks.append(tag("div", _table(maps, palette, short)))
    return Figure(tag("div", "".join(blocks), class_="durable-side"), "\n".join(lines).rstrip())


def _squares(owners: Mapping[int, str | None], changed: list[int], palette: Mapping[str, str], short: Mapping[str, str]) -> str:
    step = CELL + GAP
    parts = []
    for place, (number, owner) in enumerate(owners.items()):
        x, y = place % COLUMNS * step + 2, place // COLUMNS * step + 2
        colour = palette[owner] if owner is not None else NO_COLOUR
        rim = "stroke:currentColor;stroke-width:2.4" if number in changed else None
        tip = tag("title", esc(f"partition {number}: {owner or 'nobody'}"))
        parts.append(tag("rect", tip, x=x, y=y, width=CELL, height=CELL, rx=3, fill=colour, style=rim))
        words = "-" if owner is None else short[owner][:2]
        fill = "currentColor" if owner is None else ink(colour)
        parts.append(text(x + CELL / 2, y + 13.5, words, text_anchor="middle", style=f"fill:{fill};font-size:10.5px"))
    height = -(-len(owners) // COLUMNS) * step + 4
    width = min(COLUMNS, max(len(owners), 1)) * step + 4
    style = "height:auto;max-width:100%"
    return svg("".join(parts), f"owners of {len(owners)} partitions", height, width, viewBox=f"0 0 {width} {height}", style=style)


def _counts(owners: Mapping[int, str | None]) -> Counter[str]:
    return Counter(owner or "nobody" for owner in owners.values())


def _table(maps: Mapping[str, Mapping[int, str | None]], palette: Mapping[str, str], short: Mapping[str, str]) -> str:
    counts = [_counts(owners) for owners in maps.values()]
    names = [*palette, *(["nobody"] if any(count["nobody"] for count in counts) else [])]
    rows = []
    for name in names:
        mark = swatch(palette[name], short[name]) if name in palette else swatch("#8888", "-")
        rows.append([f"{mark} {esc(name)}", *(str(count[name]) for count in counts)])
    titles = [esc(title) or "partitions" for title in maps]
    return html_table(["node", *titles], rows, frozenset(range(1, len(maps) + 1)))


def _words(owners: Mapping[int, str | None]) -> str:
    counts = _counts(owners)
    return text_table(["node", "partitions"], [[name, str(counts[name])] for name in in_order(counts)], frozenset({1}))
