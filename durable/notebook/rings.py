"""The hash ring: whose stretch of the circle is whose, where the keys lie, and what changes hands when a node comes or goes.

**How to read it.** The band is the circle of 2**64 points, clockwise from the top. A stretch has the colour (and, where there is
room, the short name) of the node that owns the keys in it: the node at the stretch's clockwise end. Ticks outside are the
positions, the virtual nodes; past `TICKS_MAX` of them the band itself shows the grain. Dots inside the band are keys, in the
colour of their owner.

In a row of rings, the line around the band marks what changed hands since the ring before, and a key that moved has a dark rim.

Everything is read from the ring that is drawn: its positions, its `get_node`. Limits: shares are of the circle, not of keys;
past `LETTERS_MAX` keys they have no letters.

Read next: `durable.notebook.owners`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import cos, pi, sin
from typing import Any, NamedTuple

from durable.membership.member import Member, NodeId
from durable.notebook.figure import Figure, esc, html_table, svg, tag, text, text_table
from durable.notebook.looks import NO_COLOUR, colours, in_order, ink, short_names, swatch
from durable.routing.partitions import first_hash
from durable.routing.ring import HashRing, hash_of

CIRCLE = 2**64
SIZE, MIDDLE = 300, 150
BAND, BAND_WIDTH, CHANGED, TICK = 121, 24, 142, 135
KEYS_OUTER, KEYS_INNER, ROOM_PX = 96, 52, 13
TICKS_MAX, LETTERS_MAX = 96, 14
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Arc(NamedTuple):
    """The half-open stretch ``(begin, end]`` of the circle, and who owns the keys in it. ``end`` may be past 2**64."""

    begin: int
    end: int
    owner: str


def ring_of(view: Mapping[Any, Member], virtual_nodes_per_node: int = 150) -> HashRing:
    """The ring as one observer sees it: whom its list, one of ``LocalCluster.members()``, holds ALIVE or SUSPECT."""
    ring = HashRing(virtual_nodes_per_node)
    for name in in_order(name for name, member in view.items() if member.status.is_live):
        ring.add_node(NodeId(name))
    return ring


def arcs(ring: HashRing) -> list[Arc]:
    """The whole circle, neighbours of one owner joined."""
    positions = list(ring)
    if not positions:
        return []
    pieces = getattr(ring, "partitions", 0)
    if pieces:
        points = [point for point, _ in positions]
        edges = [first_hash(number, pieces) for number in range(pieces)] + [CIRCLE]
        found = [
            Arc(begin - 1, end - 1, positions[bisect_left(points, begin) % len(points)][1]) for begin, end in pairwise(edges)
        ]
    else:
        last = positions[-1][0] - CIRCLE
        found = [
            Arc(begin, end, owner) for begin, (end, owner) in zip([last, *(p for p, _ in positions)], positions, strict=False)
        ]
    joined: list[Arc] = []
    for arc in found:
        if joined and joined[-1].owner == arc.owner:
            joined[-1] = joined[-1]._replace(end=arc.end)
        else:
            joined.append(arc)
    return joined


def shares(ring: HashRing) -> dict[str, float]:
    """Which part of the circle each node owns; together 1."""
    owned: Counter[str] = Counter({str(node): 0 for node in ring.nodes})
    for arc in arcs(ring):
        owned[arc.owner] += arc.end - arc.begin
    return {name: owned[name] / CIRCLE for name in in_order(owned)}


def changed_hands(before: HashRing, after: HashRing) -> list[Arc]:
    """The stretches whose owner is another in ``after``, which is named."""
    old, new = arcs(before), arcs(after)
    if not old or not new:
        return new
    edges = sorted({arc.end % CIRCLE for arc in (*old, *new)})
    found: list[Arc] = []
    for begin, end in pairwise([edges[-1] - CIRCLE, *edges]):
        if _owner(old, end) != (owner := _owner(new, end)):
            if found and found[-1].end == begin and found[-1].owner == owner:
                found[-1] = found[-1]._replace(end=end)
            else:
                found.append(Arc(begin, end, owner))
    return found


def moved(before: HashRing, after: HashRing, keys: Sequence[str]) -> list[str]:
    """The keys whose owner is another in ``after``."""
    return [key for key in keys if before.get_node(key) != after.get_node(key)]


def hash_ring(ring: HashRing, keys: Sequence[str] = ()) -> Figure:
    """One ring: its nodes, their stretches and shares, and where ``keys`` live."""
    return ring_changes({"": ring}, keys)


def ring_changes(stages: Mapping[str, HashRing], keys: Sequence[str] = (), compare: bool = True) -> Figure:
    """Rings one after another, such as before, during and after: what changed hands from each to the next, and which keys moved.

    ``stages``: a title and a ring each. A node has the same colour in all of them. Without ``compare`` they only stand side by
    side.
    """
    names = in_order(str(node) for ring in stages.values() for node in ring.nodes)
    palette, short = colours(names), short_names(names)
    blocks, lines = [], []
    before: HashRing | None = None
    for title, ring in stages.items():
        gone = moved(before, ring, keys) if before is not None and len(ring) and len(before) else []
        changed = changed_hands(before, ring) if before is not None else []
        caption = _caption(before, ring, keys, gone)
        parts = [tag("div", esc(title), class_="durable-title")] if title else []
        parts.append(_ring(ring, keys, gone, changed, palette, short, first=before is None))
        if caption:
            parts.append(tag("div", esc(caption), class_="durable-muted", style="max-width:300px"))
        blocks.append(tag("div", "".join(parts), style="flex:0 1 300px;min-width:0"))
        lines += [title] * bool(title) + [_words(ring, keys)] + [caption] * bool(caption) + [""]
        before = ring if compare else None
    if len(stages) == 1 and names:
        blocks.append(tag("div", _table(next(iter(stages.values())), keys, palette, short)))
    elif names:
        items = (f"<span>{swatch(palette[name], short[name])} {esc(name)}</span>" for name in names)
        blocks.append(tag("div", "".join(items), class_="durable-legend", style="flex-basis:100%"))
    letters = _letters(keys)
    if letters:
        named = ", ".join(f"{letter} {key}" for key, letter in letters.items())
        blocks.append(tag("div", esc(named), class_="durable-muted", style="flex-basis:100%;font-size:.85em"))
    return Figure(tag("div", "".join(blocks), class_="durable-side"), "\n".join(lines).rstrip())


def _owner(pieces: Sequence[Arc], point: int) -> str:
    """Who owns a point of the circle."""
    ends = [arc.end for arc in pieces]
    index = bisect_left(ends, point)
    return pieces[index % len(pieces)].owner


def _caption(before: HashRing | None, ring: HashRing, keys: Sequence[str], gone: Sequence[str]) -> str:
    if before is None or not keys:
        return ""
    to = in_order(ring.get_node(key) for key in gone)
    where = f", {'all ' if len(to) == 1 and len(gone) > 1 else ''}to {' and '.join(to)}" if 0 < len(to) <= 3 else ""
    return f"{len(gone)} of {len(keys)} keys move{where}"


def _letters(keys: Sequence[str]) -> dict[str, str]:
    return dict(zip(keys, LETTERS, strict=False)) if len(keys) <= LETTERS_MAX else {}


# --- the drawing


def _at(point: int, radius: float) -> str:
    turn = 2 * pi * (point % CIRCLE) / CIRCLE
    return f"{MIDDLE + radius * sin(turn):.1f} {MIDDLE - radius * cos(turn):.1f}"


def _stroke(pieces: Sequence[Arc], radius: float) -> str:
    """The path of arcs; a whole circle is two halves, since an arc from a point to itself is none."""
    steps = []
    for begin, end, _ in pieces:
        if end - begin >= CIRCLE - 1:
            half = f"A{radius} {radius} 0 1 1 "
            steps.append(f"M{_at(0, radius)}{half}{_at(CIRCLE // 2, radius)}{half}{_at(0, radius)}")
            continue
        large = int(end - begin > CIRCLE // 2)
        steps.append(f"M{_at(begin, radius)}A{radius} {radius} 0 {large} 1 {_at(end, radius)}")
    return "".join(steps)


def _ring(
    ring: HashRing,
    keys: Sequence[str],
    gone: Sequence[str],
    changed: Sequence[Arc],
    palette: Mapping[str, str],
    short: Mapping[str, str],
    first: bool,
) -> str:
    pieces = arcs(ring)
    parts = [] if pieces else [tag("circle", cx=MIDDLE, cy=MIDDLE, r=BAND, fill="none", stroke=NO_COLOUR, stroke_width=BAND_WIDTH)]
    for name in in_order(str(node) for node in ring.nodes):
        own = [arc for arc in pieces if arc.owner == name]
        tip, path = tag("title", esc(name)), _stroke(own, BAND)
        parts.append(tag("path", tip, d=path, fill="none", stroke=palette[name], stroke_width=BAND_WIDTH))
    for arc in pieces:
        if (arc.end - arc.begin) / CIRCLE * 2 * pi * BAND > 11 + 6 * len(short[arc.owner]):
            x, y = map(float, _at((arc.begin + arc.end) // 2, BAND).split())
            style = f"fill:{ink(palette[arc.owner])};font-size:11px"
            parts.append(text(x, round(y + 4, 1), short[arc.owner], text_anchor="middle", style=style))
    if len(ring) <= TICKS_MAX:
        ticks = "".join(f"M{_at(point, TICK)}L{_at(point, TICK + 6)}" for point, _ in ring)
        parts.append(tag("path", d=ticks or "M0 0", class_="durable-line"))
    if changed:
        parts.append(tag("path", d=_stroke(changed, CHANGED), class_="durable-line", style="stroke-width:4;stroke-opacity:.85"))
    parts += _keys(ring, keys, gone, palette)
    count = len(ring.nodes)
    words = [f"{count} node{'s' * (count != 1)}", f"{len(ring):,} positions"]
    parts += [
        text(MIDDLE, MIDDLE + 17 * index - 4, line, text_anchor="middle", class_="durable-strong" if not index else "durable-small")
        for index, line in enumerate(words)
    ]
    label = f"hash ring of {', '.join(in_order(str(node) for node in ring.nodes)) or 'no nodes'}"
    return svg("".join(parts), label, SIZE, SIZE, viewBox=f"0 0 {SIZE} {SIZE}", style="height:auto;max-width:100%")


def _keys(ring: HashRing, keys: Sequence[str], gone: Sequence[str], palette: Mapping[str, str]) -> list[str]:
    """A dot a key, on the spoke of its hash; one that would touch another stands further in."""
    if not len(ring):
        return []
    letters = _letters(keys)
    radius = 8.0 if letters else 3.4
    placed: list[tuple[float, float]] = []
    drawn = []
    for key in sorted(keys, key=hash_of):
        depth: float = KEYS_OUTER
        x, y = map(float, _at(hash_of(key), depth).split())
        while depth > KEYS_INNER and any((x - a) ** 2 + (y - b) ** 2 < (2 * radius + 1.5) ** 2 for a, b in placed):
            depth -= ROOM_PX / 2
            x, y = map(float, _at(hash_of(key), depth).split())
        placed.append((x, y))
        owner = str(ring.get_node(key))
        moves = key in gone
        style = "stroke:currentColor;stroke-width:2.2" if moves else "stroke:none"
        faint = 0.35 if gone and not moves else None
        tip = tag("title", esc(f"{key}: {owner}"))
        shape = tag("circle", tip, cx=x, cy=y, r=radius, fill=palette[owner], fill_opacity=faint, style=style)
        drawn.append(shape)
        if letters:
            colour = "currentColor" if faint else ink(palette[owner])
            drawn.append(text(x, round(y + 3.6, 1), letters[key], text_anchor="middle", style=f"fill:{colour};font-size:10.5px"))
    return drawn


# --- tables and words


def _rows(ring: HashRing, keys: Sequence[str]) -> list[tuple[str, str, str]]:
    held = Counter(str(ring.get_node(key)) for key in keys) if len(ring) else Counter()
    return [(name, f"{share:.1%}", str(held[name])) for name, share in shares(ring).items()]


def _table(ring: HashRing, keys: Sequence[str], palette: Mapping[str, str], short: Mapping[str, str]) -> str:
    head = ["node", "of the circle", *(["keys"] if keys else [])]
    rows = [
        [f"{swatch(palette[name], short[name])} {esc(name)}", share, *([count] if keys else [])]
        for name, share, count in _rows(ring, keys)
    ]
    return html_table(head, rows, frozenset({1, 2}))


def _words(ring: HashRing, keys: Sequence[str]) -> str:
    head = ["node", "of the circle", *(["keys"] if keys else [])]
    rows = [list(row[: len(head)]) for row in _rows(ring, keys)]
    return text_table(head, rows, frozenset({1, 2})) if rows else "a ring without nodes"
