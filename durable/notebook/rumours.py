"""The spread of a rumour: when each member heard, and from whom first, found in a recorded trace.

**Why it exists.** That gossip reaches everybody in a time that grows with the logarithm is a sentence; the tree of who told whom
shows why. It is a networkx graph, so a reader can ask it more than the figure shows (depth, who told most).

A member stands at the moment at which it heard, on a line from the member who told it first.

**Limits.** The first teller is found by the moment of arrival: of two packets in the same instant, the first that was sent.

Read next: `durable.notebook.panel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from durable.membership.member import Claim, MemberStatus
from durable.membership.messages import Exchange, JoinAck, Packet
from durable.notebook.beliefs import Noted, seconds
from durable.notebook.figure import Figure, esc, svg, tag, text
from durable.notebook.packets import said

ROW_PX = 19
STEPS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)


def rumour_graph(sent: Iterable[Any], beliefs: Iterable[Noted], about: str, status: MemberStatus | None = None) -> Any:
    """Who told whom first, as a networkx ``DiGraph``: an edge from the teller to the one who heard.

    Nodes carry ``at`` (seconds since the first knew), edges ``said`` (the message that the news rode on).

    Args:
        sent: every packet of that time, with the moments at which its copies ``arrive``.
        beliefs: the changes of belief.
        about: the member that the news is about.
        status: which news; by default the first that there is.
    """
    import networkx

    notes = [note for note in beliefs if note.member.node_id == about and (status is None or note.member.status is status)]
    status = notes[0].member.status if notes else status
    arrivals: dict[tuple[str, float], Any] = {}
    for packet in sent:
        if any(_tells(claim, about, status) for claim in _all_claims(packet.packet)):
            for at in packet.arrivals:
                arrivals.setdefault((packet.target.host, at), packet)
    graph: Any = networkx.DiGraph()
    began: float | None = None
    for note in sorted(notes, key=seconds):
        if note.member.status is not status or note.observer in graph:
            continue
        packet = arrivals.get((str(note.observer), seconds(note)))
        if began is None:
            began = packet.at if packet is not None else seconds(note)
        if packet is not None and packet.source not in graph:
            graph.add_node(str(packet.source), at=0.0)  # the member itself, or whoever knew before the records begin
        graph.add_node(str(note.observer), at=seconds(note) - began)
        if packet is not None:
            graph.add_edge(str(packet.source), str(note.observer), said=said(packet.packet))
    return graph


def _all_claims(packet: Packet) -> tuple[Claim, ...]:
    listed = packet.message.members if isinstance(packet.message, JoinAck | Exchange) else ()
    return (*packet.claims, *listed)


def _tells(claim: Claim, about: str, status: MemberStatus | None) -> bool:
    """Whether who hears this claim comes to that belief: a death that another claims is entered as a suspicion."""
    entered = MemberStatus.SUSPECT if claim.status is MemberStatus.DEAD else claim.status
    return claim.node_id == about and entered is status


def rumour(graph: Any) -> Figure:
    """The spread: from left to right when each member heard, and on the line from whom."""
    roots = [name for name in graph if not graph.in_degree(name)]
    if not roots:
        return Figure('<span class="durable-muted">nobody heard of it</span>', "nobody heard of it")
    at: dict[str, float] = {name: graph.nodes[name]["at"] for name in graph}
    rows: dict[str, int] = {}
    for root in sorted(roots, key=lambda name: at[name]):
        _visit(graph, root, rows, at)
    last = max(at.values()) or 1.0
    height = ROW_PX * len(rows) + 8

    def x(name: str) -> float:
        return round(3 + 76 * at[name] / last, 2)

    parts = []
    for teller, heard in graph.edges:
        top, end = ROW_PX * rows[teller] + 12, ROW_PX * rows[heard] + 12
        parts.append(tag("line", x1=f"{x(teller):g}%", x2=f"{x(teller):g}%", y1=top, y2=end, class_="durable-axis"))
        parts.append(tag("line", x1=f"{x(teller):g}%", x2=f"{x(heard):g}%", y1=end, y2=end, class_="durable-line"))
    for name, row in rows.items():
        y = ROW_PX * row + 12
        tip = tag("title", esc(f"{name}, after {at[name] * 1000:.0f} ms"))
        first = "#d55e00" if name in roots else "#0072b2"
        parts.append(tag("circle", tip, cx=f"{x(name):g}%", cy=y, r=4.6, fill=first))
        words = text(9, 4, name, class_="durable-small")
        parts.append(tag("svg", words, x=f"{x(name):g}%", y=y, overflow="visible", width=1, height=1))
    parts.append(_rumour_axis(last, height))
    picture = svg("".join(parts), f"how news spread to {len(rows)} members", height + 24)
    return Figure(picture, _rumour_words(graph, roots, at))


def _visit(graph: Any, name: str, rows: dict[str, int], at: Mapping[str, float]) -> None:
    """Rows in the order of the tree, so that no line of one branch crosses another: whoever was told last stands next to it."""
    rows[name] = len(rows)
    for heard in sorted(graph.successors(name), key=lambda other: -at[other]):
        if heard not in rows:
            _visit(graph, heard, rows, at)


def _rumour_axis(last: float, height: float) -> str:
    step = next(size for size in STEPS_S if last / size <= 5)
    parts = [tag("line", x1="3%", x2="82%", y1=height, y2=height, class_="durable-axis")]
    for index in range(int(last / step) + 1):
        x = round(3 + 76 * index * step / last, 2)
        parts.append(tag("line", x1=f"{x:g}%", x2=f"{x:g}%", y1=0, y2=height, class_="durable-grid"))
        anchor = "start" if index == 0 else "middle"
        at = "0%" if index == 0 else f"{x:g}%"
        parts.append(text(at, height + 16, f"{index * step * 1000:g} ms", class_="durable-small", text_anchor=anchor))
    return "".join(parts)


def _rumour_words(graph: Any, roots: Sequence[str], at: Mapping[str, float]) -> str:
    lines = []
    for name in sorted(graph, key=lambda one: at[one]):
        told = next(iter(graph.predecessors(name)), None)
        how = f", told by {told} ({graph.edges[told, name]['said']})" if told else ""
        lines.append(f"{at[name] * 1000:6.0f} ms  {name}{how}")
    return "\n".join(lines)
