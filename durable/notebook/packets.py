"""Packets as a sequence diagram, drawn from a recorded trace.

**Why it exists.** A diagram of a protocol that was drawn by hand shows what its author thinks. This one shows what was sent: it
takes the packets that a `Swarm` reports through ``on_sent`` and the beliefs that it keeps, and leaves out nothing that it is
given.

What rode along stands in brackets.

**Limits.** Of several claims in a packet the first is shown, the others are counted; the words
of the figure have all.

Read next: `durable.notebook.rumours`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Exchange, JoinAck, Packet, PingReq
from durable.notebook.beliefs import Noted, seconds
from durable.notebook.figure import Figure
from durable.notebook.looks import in_order
from durable.notebook.sequence import BAD, DOUBT, GOOD, Arrow, Note, sequence

CLAIMS_SHOWN = 1


class SentPacket(Protocol):
    """A packet that left, as `durable.sim.records.Sent` records it."""

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
    drawn = [(f"{at:.3f}", _arrow(what) if kind else _note(what)) for at, kind, what in rows]
    return sequence(drawn, order, f"{len(packets)} packets between {', '.join(order)}")


def _arrow(sent: SentPacket) -> Arrow:
    claims = ", ".join(map(claimed, sent.packet.claims))
    full = said(sent.packet) + (f"  [{claims}]" if claims else "")
    return Arrow(str(sent.source), sent.target.host, _label(sent.packet), not sent.copies, full)


def _note(note: Noted) -> Note:
    member = note.member
    colour = {MemberStatus.ALIVE: GOOD, MemberStatus.SUSPECT: DOUBT}.get(member.status, BAD)
    incarnation = f" {member.incarnation}" if member.incarnation else ""
    words = f"{note.observer} now believes {member.node_id} {member.status.name}{incarnation}"
    full = f"{note.observer} believes: {member.node_id} {member.status.name} {member.incarnation}"
    return Note(str(note.observer), words, colour, full)
