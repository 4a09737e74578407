"""How nodes and statuses look in every figure of a cluster: a colour and a short name each, a shape for each status.

**Why it exists.** A node that is blue on the ring is blue in the next figure, too, also when others are gone by then: a name
that ends in a number has the colour of that number. The colours are seven of Okabe and Ito and a grey; a ninth node gets the
first again. So no meaning rests on a colour alone: a node's short name stands beside it wherever it fits, and a status has a
shape.

======== ==========================================
status   shape
======== ==========================================
ALIVE    a full circle
SUSPECT  a diamond with a question mark
DEAD     a cross
LEFT     an arrow, out
unknown  a dot: not in the list
======== ==========================================

Read next: `durable.notebook.rings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from durable.membership.member import MemberStatus
from durable.notebook.figure import esc, tag, text

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8c8c8c")
NO_COLOUR = "#8886"
WHITE_ON = ("#0072b2",)
"""On the others black is easier to read."""

WORDS: Mapping[MemberStatus | None, str] = {**{status: status.name for status in MemberStatus}, None: "unknown"}


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: by the number at its end, if all have one, otherwise by their order.

    >>> colours(["node-2"]), colours(["ben", "ada"])
    ({'node-2': '#e69f00'}, {'ada': '#0072b2', 'ben': '#e69f00'})
    """
    order = in_order(names)
    numbers = [re.search(r"\d+$", name) for name in order]
    found = [int(number[0]) - 1 for number in numbers if number is not None]
    places = found if len(found) == len(order) else range(len(order))
    return {name: PALETTE[place % len(PALETTE)] for name, place in zip(order, places, strict=True)}


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted as people count: node-2 before node-10."""
    return sorted(dict.fromkeys(names), key=lambda name: [(len(part), part) for part in name.replace(".", "-").split("-")])


def ink(colour: str) -> str:
    """The colour of a text that stands on another."""
    return "#fff" if colour in WHITE_ON else "#000"


def prefix_of(names: Sequence[str]) -> str:
    """What all names begin with, up to a hyphen; empty if there is nothing, or too little would be left.

    >>> prefix_of(["node-1", "node-12"]), prefix_of(["ada", "ben"])
    ('node-', '')
    """
    head = names[0].rpartition("-")[0] + "-" if names and "-" in names[0] else ""
    rests = [name.removeprefix(head) for name in names if name.startswith(head)]
    return head if head and len(rests) == len(names) and all(0 < len(rest) <= 4 for rest in rests) else ""


def short_names(names: Sequence[str]) -> dict[str, str]:
    """As few characters as tell them apart: ``1`` for node-1, or the first six."""
    head = prefix_of(names)
    return {name: name.removeprefix(head) if head else name[:6] for name in names}


def swatch(colour: str, words: str = "") -> str:
    """A patch of colour for a legend or a table, with a short name on it."""
    box = tag("rect", x=0, y=0, width=22, height=14, rx=3, fill=colour)
    label = text(11, 11, words, text_anchor="middle", style=f"fill:{ink(colour)};font-size:10px") if words else ""
    return tag("svg", box + label, class_="durable-svg", width=22, height=14, style="display:inline-block;vertical-align:-2px")


def status_mark(status: MemberStatus | None, x: float = 0, y: float = 0) -> str:
    """The shape of a status around a point, 15 pixels wide."""
    match status:
        case MemberStatus.ALIVE:
            shape = tag("circle", r=6.5, fill="#009e73")
        case MemberStatus.SUSPECT:
            shape = tag("path", d="M0 -9L9 0L0 9L-9 0z", fill="#e69f00")
            shape += text(0, 4, "?", text_anchor="middle", style="fill:#000;font-size:11px;font-weight:700")
        case MemberStatus.DEAD:
            shape = tag("path", d="M-6 -6L6 6M-6 6L6 -6", class_="durable-cross")
        case MemberStatus.LEFT:
            shape = tag("path", d="M-7 0H6M1 -5L6 0L1 5", class_="durable-line", style="stroke-width:2")
        case _:
            shape = tag("circle", r=1.8, class_="durable-note")
    return tag("g", shape, transform=f"translate({x:g} {y:g})")


def status_legend(statuses: Iterable[MemberStatus | None]) -> str:
    """What the shapes mean, for those that are there."""
    there = list(statuses)
    items = []
    for status, words in WORDS.items():
        if status in there:
            mark = tag("svg", status_mark(status, 10, 10), class_="durable-svg", width=20, height=20, style="vertical-align:-5px")
            items.append(f"<span>{mark}{esc(words)}</span>")
    return tag("div", "".join(items), class_="durable-legend") if items else ""
