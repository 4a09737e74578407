"""The figures of a cluster: what is drawn follows from the data, is well-formed, and is the same twice."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.cluster.sight import Belief
from durable.figures.swarm import Swarm
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId
from durable.notebook import (
    hash_ring,
    membership_matrix,
    membership_timeline,
    node_load,
    packet_exchange,
    partition_map,
    ring_changes,
    rumour,
    rumour_graph,
)
from durable.notebook.beliefs import mark_rows, stretches
from durable.notebook.figure import Figure
from durable.notebook.looks import colours, in_order, prefix_of, short_names
from durable.notebook.owners import owners_of
from durable.notebook.rings import CIRCLE, arcs, changed_hands, moved, shares
from durable.routing.partitions import PartitionRing, first_hash
from durable.routing.ring import HashRing, hash_of
from durable.sim.records import Sent

NASTY = '<script>alert("x")</script> & \x00 \''
KEYS = [f"order-{number}" for number in range(40)]


def ring(names: Iterable[str], positions: int = 8, kind: type[HashRing] = HashRing) -> HashRing:
    made = kind(positions)
    for name in names:
        made.add_node(NodeId(name))
    return made


def nodes(count: int) -> list[str]:
    return [f"node-{number}" for number in range(1, count + 1)]


def crashed() -> tuple[Swarm, list[Sent]]:
    """Five members, one of whom is killed; every packet since."""
    swarm, sent = Swarm(2), list[Sent]()
    swarm.start_converged(5)
    swarm.crash("node-5")
    swarm.on_sent = sent.append
    swarm.run(9)
    return swarm, sent


def left(members: int, seed: int) -> tuple[Swarm, list[Sent]]:
    """Many members, one of whom leaves; every packet and belief since."""
    swarm, sent = Swarm(seed), list[Sent]()
    swarm.start_converged(members)
    swarm.run(2)
    swarm.on_sent = sent.append
    swarm.leave("node-2")
    swarm.run(4)
    return swarm, sent


def views(swarm: Swarm) -> dict[str, dict[str, Member]]:
    return {process.node_id: {one.node_id: one for one in process.swim.members()} for process in swarm.processes.values()}


def member(name: str, status: MemberStatus = MemberStatus.ALIVE, incarnation: int = 0) -> Member:
    return Member(NodeId(name), NodeAddress("h"), status, incarnation, 1, 0.0)


def figures(extra: str) -> list[Callable[[], Figure]]:
    swarm, sent = crashed()
    gone, told = left(7, 3)
    names = [*nodes(3), extra]
    return [
        lambda: hash_ring(ring(names), [*KEYS[:6], extra]),
        lambda: hash_ring(ring(names, 150), KEYS),
        lambda: ring_changes({extra: ring(nodes(3)), "after": ring(names)}, KEYS),
        lambda: partition_map({extra: ring(nodes(2), 150, PartitionRing), "after": ring(names, 150, PartitionRing)}),
        lambda: partition_map({0: extra, 1: None}),
        lambda: node_load([*names, extra], ring(names), extra),
        lambda: membership_matrix({**views(swarm), extra: {extra: member(extra)}}, {extra: extra}),
        lambda: membership_timeline(swarm.beliefs, {extra: 1.0}),
        lambda: packet_exchange(sent, swarm.beliefs),
        lambda: rumour(rumour_graph(told, gone.beliefs, "node-2")),
    ]


@pytest.mark.parametrize("index", range(10))
def test_every_figure_is_well_formed_also_with_hostile_names_and_the_same_twice(index: int) -> None:
    one, two = figures(NASTY)[index](), figures(NASTY)[index]()
    ET.fromstring(one.html)
    assert "<script" not in one.html
    assert (one.html, str(one)) == (two.html, str(two))


@pytest.mark.parametrize(
    "figure",
    [
        lambda: hash_ring(HashRing(), KEYS),
        lambda: ring_changes({"nobody": HashRing(), "one": ring(["node-1"], 1)}, KEYS),
        lambda: partition_map(PartitionRing()),
        lambda: node_load([]),
        lambda: membership_matrix({}),
        lambda: membership_timeline([]),
        lambda: packet_exchange([]),
        lambda: rumour(rumour_graph([], [], "node-1")),
    ],
)
def test_where_there_is_nothing_there_is_a_figure(figure: Callable[[], Figure]) -> None:
    ET.fromstring(figure().html)
    assert str(figure())


# --- names


def test_names_are_sorted_as_people_count_and_shortened_by_what_they_share() -> None:
    assert in_order(["node-10", "node-2", "node-1"]) == ["node-1", "node-2", "node-10"]
    assert short_names(["node-1", "node-10"]) == {"node-1": "1", "node-10": "10"}
    assert short_names(["node-1", "newcomer"]) == {"node-1": "node-1", "newcomer": "newcom"}
    assert [prefix_of(names) for names in (["a-1", "b-1"], ["node-"], [], ["db-eu-1", "db-eu-2"])] == ["", "", "", "db-eu-"]


def test_nine_nodes_have_a_colour_each_and_the_ninth_the_first_again() -> None:
    palette = colours(nodes(9))
    assert len(set(palette.values())) == 8
    assert palette["node-9"] == palette["node-1"]


def test_a_node_keeps_its_colour_when_others_are_gone() -> None:
    assert colours(["node-4", "node-6"]) == {name: colours(nodes(6))[name] for name in ("node-4", "node-6")}
    assert len(set(colours(["ada", "node-1", "ben"]).values())) == 3


# --- the ring


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6, unique=True), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("kind", [HashRing, PartitionRing])
def test_the_stretches_cover_the_circle_and_own_what_the_ring_says(kind: type[HashRing], names: list[int], positions: int) -> None:
    made = ring([f"node-{name}" for name in names], positions, kind)
    pieces = arcs(made)
    assert sum(arc.end - arc.begin for arc in pieces) == CIRCLE
    assert all(one.end == other.begin and one.owner != other.owner for one, other in pairwise(pieces))
    for key in KEYS:
        point = hash_of(key)
        [owner] = [arc.owner for arc in pieces if arc.begin < point <= arc.end or arc.begin < point - CIRCLE <= arc.end]
        assert owner == made.get_node(key)
    assert abs(sum(shares(made).values()) - 1) < 1e-9


def test_what_changed_hands_is_where_keys_move_and_nowhere_else() -> None:
    before, after = ring(nodes(3)), ring(nodes(4))
    changed = changed_hands(before, after)
    assert {arc.owner for arc in changed} == {"node-4"}
    inside = [key for key in KEYS if any(arc.begin < hash_of(key) <= arc.end for arc in changed)]
    assert inside == moved(before, after, KEYS) != []
    share = sum(arc.end - arc.begin for arc in changed) / CIRCLE
    assert share == pytest.approx(shares(after)["node-4"])
    assert changed_hands(before, ring(nodes(3))) == []


def test_the_rings_say_how_many_keys_move_and_to_whom_and_rim_exactly_those() -> None:
    before, after = ring(nodes(3)), ring(nodes(4))
    figure = ring_changes({"before": before, "after": after}, KEYS)
    gone = moved(before, after, KEYS)
    assert f"{len(gone)} of {len(KEYS)} keys move, all to node-4" in str(figure)
    rimmed = re.findall(r'style="stroke:currentColor;stroke-width:2.2"><title>([\w-]+): ([\w-]+)', figure.html)
    assert sorted(rimmed) == sorted((key, "node-4") for key in gone)


def test_a_key_is_drawn_in_the_colour_of_its_owner_and_no_dot_lies_on_another() -> None:
    made = ring(nodes(3))
    palette = colours(nodes(3))
    root = ET.fromstring(hash_ring(made, KEYS[:12]).html)
    dots = [dot for dot in root.iter("circle") if dot.find("title") is not None]
    assert len(dots) == 12
    for dot in dots:
        title = dot.findtext("title") or ""
        assert dot.get("fill") == palette[made.get_node(title.partition(":")[0])]
    places = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in dots]
    apart = [(a - c) ** 2 + (b - d) ** 2 for n, (a, b) in enumerate(places) for c, d in places[:n]]
    assert min(apart) >= 16**2


# --- partitions


def test_owners_are_those_of_the_ring_or_what_somebody_says() -> None:
    made = ring(nodes(4), 150, PartitionRing)
    assert isinstance(made, PartitionRing)
    by_key = {made.place(key): made.get_node(key) for key in (f"k{n}" for n in range(3_000))}
    found = owners_of(made)
    assert all(by_key.get(first_hash(number), owner) == owner for number, owner in found.items())
    assert owners_of({2: "b", 1: None}) == {1: None, 2: "b"}


def test_squares_whose_owner_is_another_have_a_rim() -> None:
    html = partition_map({"before": {0: "a-1", 1: "a-2", 2: None}, "after": {0: "a-1", 1: "a-1", 2: "a-2"}}).html
    rimmed = re.findall(r"stroke-width:2.4\"><title>partition (\d)", html)
    assert rimmed == ["1", "2"]
    assert "2 of 3 partitions have another owner" in html


# --- what is believed


def test_the_matrix_says_what_each_believes_and_who_is_gone() -> None:
    swarm, _ = crashed()
    figure = membership_matrix(views(swarm), {"node-5": "gone"})
    rows = str(figure).splitlines()
    assert rows[1].split() == ["node-1", "ALIVE", "ALIVE", "ALIVE", "ALIVE", "DEAD"]
    assert rows[5].split() == ["node-5", "(gone)", "ALIVE", "ALIVE", "ALIVE", "ALIVE", "ALIVE"]
    assert figure.html.count("durable-cross\"") == 4 + 1  # four graves, and the legend
    assert figure.html.count("durable-dim") - figure.html.count(".durable-dim") == 1


def test_the_matrix_shows_incarnations_and_who_is_not_in_a_list() -> None:
    told = membership_matrix({"a": {"a": member("a", incarnation=3)}, "b": {"b": member("b"), "a": member("a", MemberStatus.LEFT)}})
    assert [line.split() for line in str(told).splitlines()[1:]] == [["a", "ALIVE", "3", "-"], ["b", "LEFT", "ALIVE"]]
    assert ">3</text>" in told.html and "unknown" in told.html


def test_a_timeline_has_a_line_for_every_observer_from_change_to_change() -> None:
    swarm, _ = crashed()
    lines = [line for line in stretches(swarm.beliefs, 9.0) if line.member == "node-5"]
    assert sorted({line.observer for line in lines}) == nodes(4)
    for observer in nodes(4):
        suspect, dead = [line for line in lines if line.observer == observer]
        assert (suspect.status, dead.status) == (MemberStatus.SUSPECT, MemberStatus.DEAD)
        assert suspect.end_s == dead.begin_s and dead.end_s == 9.0
    drawn = ET.fromstring(membership_timeline(swarm.beliefs).html)
    titles = [line.findtext("title") for line in drawn.iter("line") if line.find("title") is not None]
    assert titles.count("node-1 believes node-5 SUSPECT") == 1 and len(titles) == 8


def test_a_belief_that_came_last_is_seen_as_well() -> None:
    swarm, _ = crashed()
    dead = [one for one in swarm.beliefs if one.observer == "node-3" and one.member.status is MemberStatus.DEAD]
    drawn = ET.fromstring(membership_timeline([one for one in swarm.beliefs if one.at <= dead[0].at]).html)
    [line] = [one for one in drawn.iter("line") if one.findtext("title") == "node-3 believes node-5 DEAD"]
    begin, end = (float((line.get(edge) or "").rstrip("%")) for edge in ("x1", "x2"))
    assert end - begin > 2


@given(st.lists(st.integers(17, 98), min_size=1, max_size=3, unique=True))
def test_the_line_of_a_mark_crosses_the_words_of_no_other(places: list[int]) -> None:
    rows = mark_rows([(f"node-{index} goes", x) for index, x in enumerate(places)])
    assert sorted(row for _, _, row, _ in rows) == list(range(len(places)))
    for words, x, row, anchor in rows:
        wide = 5.5 * len(words) / 330 * 100
        begin, end = (x, x + wide) if anchor == "start" else (x - wide, x)
        assert begin >= 0 and end <= 100
        assert not [other for _, other, above, _ in rows if above < row and begin <= other <= end]


def test_the_words_of_a_timeline_hold_an_order_and_no_times() -> None:
    swarm, _ = crashed()
    told = str(membership_timeline(swarm.beliefs, {"node-5 is killed": 0.0}))
    assert told == "node-5  SUSPECT (4), then DEAD (4)\nmark: node-5 is killed"


def test_the_words_of_a_timeline_tell_the_lives_of_a_member_apart() -> None:
    def noted(at: float, observer: str, boot: int, status: MemberStatus) -> Belief:
        member = Member(NodeId("node-3"), NodeAddress("node-3"), status, 0, boot, at)
        return Belief(at, NodeId(observer), member, None)

    history = [
        noted(at + late, observer, boot, status)
        for at, boot, status in [(0, 1, MemberStatus.ALIVE), (5, 1, MemberStatus.DEAD), (9, 2, MemberStatus.ALIVE)]
        for late, observer in [(0.0, "node-1"), (0.5, "node-2")]
    ]
    assert str(membership_timeline(history)) == "node-3  ALIVE (2), then DEAD (2), then ALIVE (2)"


# --- what was sent


def test_an_exchange_draws_every_packet_it_is_given_from_its_sender_to_its_receiver() -> None:
    _, sent = crashed()
    drawn = ET.fromstring(packet_exchange(sent[:12], names=nodes(5)).html)
    arrows = [line for line in drawn.iter("line") if line.get("class") == "durable-line"]
    assert len(arrows) == 12
    heads = [head for head in drawn.iter("text") if head.get("text-anchor") == "middle" and head.get("y") == "14"]
    lanes = {head.text: head.get("x") for head in heads}
    for arrow, packet in zip(arrows, sent, strict=False):
        assert (arrow.get("x1"), arrow.get("x2")) == (lanes[packet.source], lanes[packet.target.host])


def test_a_lost_packet_ends_in_a_cross_and_a_belief_is_a_note() -> None:
    swarm, sent = Swarm(7), list[Sent]()
    swarm.start_converged(4)
    swarm.network.cut(swarm.address_of("node-1"), swarm.address_of("node-2"))
    swarm.on_sent = sent.append
    swarm.run(2.1)
    told = str(packet_exchange(sent))
    assert told.count("(lost)") == 1 and "node-1 -> node-2  Ping  (lost)" in told
    assert packet_exchange(sent).html.count('class="durable-cross"') == 1
    crash, _ = crashed()
    assert "node-1 now believes node-5 SUSPECT" in packet_exchange([], crash.beliefs).html


@given(st.integers(2, 20), st.integers(0, 1_000))
@settings(max_examples=15, deadline=None)
def test_a_rumour_is_a_tree_in_which_nobody_tells_before_it_knows(members: int, seed: int) -> None:
    swarm, sent = left(members, seed)
    graph = rumour_graph(sent, swarm.beliefs, "node-2", MemberStatus.LEFT)
    assert sorted(graph) == sorted(nodes(members))
    assert [name for name in graph if not graph.in_degree(name)] == ["node-2"]
    assert all(graph.in_degree(name) <= 1 for name in graph) and len(graph.edges) == members - 1
    assert all(graph.nodes[teller]["at"] < graph.nodes[heard]["at"] for teller, heard in graph.edges)


def test_whoever_came_to_it_alone_is_a_root_of_the_tree() -> None:
    swarm, sent = crashed()
    graph = rumour_graph(sent, swarm.beliefs, "node-5", MemberStatus.SUSPECT)
    assert [name for name in graph if not graph.in_degree(name)] == ["node-1", "node-2"]
    assert list(graph.edges) == [("node-1", "node-4"), ("node-2", "node-3")]


def test_the_load_counts_each_node_and_shows_what_its_share_would_be() -> None:
    said = str(node_load(["node-1", "node-3", "node-1", "node-1"], ring(nodes(3)), "orders"))
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [["node-1", "3"], ["node-2", "0"], ["node-3", "1"]]
    due = [float(line.split()[2]) for line in said.splitlines()[1:]]
    assert due == [round(4 * share, 1) for share in shares(ring(nodes(3))).values()]
    assert str(node_load(["ada"])).split() == ["node", "workflows", "ada", "1"]


def test_owners_may_come_with_their_epochs() -> None:
    assert owners_of({1: ("node-2", 7), 0: ("node-1", 3)}) == {0: "node-1", 1: "node-2"}
