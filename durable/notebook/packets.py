"""Packets as a sequence diagram, drawn from a recorded trace.

**Why it exists.** A diagram of a protocol that was drawn by hand shows what its author thinks. This one shows what was sent: it
takes the packets that a `Swarm` reports through ``on_sent`` and the beliefs that it keeps, and leaves out nothing that it is
given.

Time goes down, a row a packet; an arrow that ends in a cross was lost. What rode along stands in brackets.

**Limits.** Rows are in order, not to scale. Of several claims in a packet the first is shown, the others are counted; the words
of the figure have all.

Read next: `durable.notebook.rumours`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Exchange, JoinAck, Packet, PingReq
from durable.notebook.beliefs import Noted, seconds
from durable.notebook.figure import Figure, svg, tag, text
from durable.notebook.looks import in_order
from durable.notebook.words import shorten

PHONE_PX, CHAR_PX = 330, 5.9
LEFT, RIGHT = 20.0, 92.0
ROW, TOP = 31, 34
CLAIMS_SHOWN = 1


class SentPacket(Protocol):
    """A packet that left, as `durable.sim.swarm.Sent` records it."""

    @property
    def at(self) -> float: ...
    @property
    def source(self) -> NodeId: ...
    @property
    def target(self) -> NodeAddress: ...
    @property
    def packet(self) -> Packet: ...
    @property
    def copies(self) -> int: ...


def said(packet: Packet) -> str:
    """The message of a packet, in a word or two."""
    match packet.message:
        case None:
            return "news"
        case PingReq(target=target):
            return f"PingReq for {target}"
        case JoinAck(members=members) | Exchange(members=members):
            return f"{type(packet.message).__name__}, {len(members)} members"
        case message:
            return type(message).__name__


def claimed(claim: Claim) -> str:
    """What a claim says, as ``node-5 SUSPECT by node-1``."""
    by = f" by {claim.origin}" if claim.status in (MemberStatus.SUSPECT, MemberStatus.DEAD) else ""
    incarnation = f" {claim.incarnation}" if claim.incarnation else ""
    return f"{claim.node_id} {claim.status.name}{incarnation}{by}"


def _label(packet: Packet) -> str:
    shown = ", ".join(claimed(claim) for claim in packet.claims[:CLAIMS_SHOWN])
    more = f" +{len(packet.claims) - CLAIMS_SHOWN}" if len(packet.claims) > CLAIMS_SHOWN else ""
    return f"{said(packet)} [{shown}{more}]" if shown else said(packet)


def packet_exchange(sent: Iterable[SentPacket], beliefs: Iterable[Noted] = (), names: Sequence[str] = ()) -> Figure:
    """A sequence diagram of packets, and of the changes of belief between them.

    Args:
        sent: the packets, each by the host names of its ends.
        beliefs: changes of belief, each a note on its observer's line.
        names: the members from left to right; by default all that occur, sorted.
    """
    packets = list(sent)
    rows: list[tuple[float, int, Any]] = [(packet.at, 1, packet) for packet in packets]
    rows += [(seconds(note), 0, note) for note in beliefs]
    rows.sort(key=lambda row: row[:2])
    if not rows:
        return Figure('<span class="durable-muted">no packets</span>', "no packets")
    found = [*(p.source for p in packets), *(p.target.host for p in packets), *(row[2].observer for row in rows if not row[1])]
    order = list(names) or in_order(map(str, found))
    height = TOP + ROW * len(rows) + 6
    parts = [_heads(order)]
    for index, (at, kind, what) in enumerate(rows):
        y = TOP + ROW * index
        parts.append(text("0%", y + 25, f"{at:.3f}", class_="durable-small"))
        parts += [_life(_lane(order, name), y) for name in order]
        parts.append(_arrow(order, what, y) if kind else _note(order, what, y))
    label = f"{len(packets)} packets between {', '.join(order)}"
    return Figure(svg("".join(parts), label, height), _words(rows))


def _lane(order: Sequence[str], name: str) -> float:
    return round(LEFT + (RIGHT - LEFT) * order.index(name) / max(len(order) - 1, 1), 2)


def _heads(order: Sequence[str]) -> str:
    parts = [text("0%", 14, "seconds", class_="durable-small")]
    parts += [text(f"{_lane(order, name):g}%", 14, name, class_="durable-strong", text_anchor="middle") for name in order]
    return "".join(parts)


def _life(x: float, y: float) -> str:
    """A member's line is drawn where arrows are, and not where words are, so that it crosses no words."""
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


def _arrow(order: Sequence[str], sent: SentPacket, y: float) -> str:
    source, target = _lane(order, str(sent.source)), _lane(order, sent.target.host)
    sign = 1 if target > source else -1
    end = target if sent.copies else round(source + (target - source) * 0.62, 2)
    lost = "stroke:#d55e00;stroke-dasharray:4 3;stroke-opacity:1" if not sent.copies else None
    line = tag("line", x1=f"{source:g}%", x2=f"{end:g}%", y1=y + 21, y2=y + 21, class_="durable-line", style=lost)
    tip = tag("path", d=f"M0 0l{-sign * 9} -4.5v9z", class_="durable-head")
    if not sent.copies:
        tip = tag("path", d="M-5 -5L5 5M-5 5L5 -5", class_="durable-cross")
    head = tag("svg", tip, x=f"{end:g}%", y=y + 21, width=1, height=1, overflow="visible")
    words = _label(sent.packet) + ("" if sent.copies else " (lost)")
    return line + head + _placed(words, (source + target) / 2, y + 12, class_="durable-small")


def _note(order: Sequence[str], note: Noted, y: float) -> str:
    x = _lane(order, str(note.observer))
    colour = {MemberStatus.ALIVE: "#009e73", MemberStatus.SUSPECT: "#e69f00"}.get(note.member.status, "#d55e00")
    dot = tag("circle", cx=f"{x:g}%", cy=y + 21, r=4.5, fill=colour)
    incarnation = f" {note.member.incarnation}" if note.member.incarnation else ""
    words = f"{note.observer} now believes {note.member.node_id} {note.member.status.name}{incarnation}"
    return dot + _placed(words, x, y + 12, class_="durable-strong", style="font-size:11px")


def _words(rows: Iterable[tuple[float, int, Any]]) -> str:
    lines = []
    for at, kind, what in rows:
        if kind:
            claims = ", ".join(map(claimed, what.packet.claims))
            line = f"{what.source} -> {what.target.host}  {said(what.packet)}" + (f"  [{claims}]" if claims else "")
            line += "" if what.copies else "  (lost)"
        else:
            line = f"{what.observer} believes: {what.member.node_id} {what.member.status.name} {what.member.incarnation}"
        lines.append(f"{at:7.3f}  {line}")
    return "\n".join(lines)
