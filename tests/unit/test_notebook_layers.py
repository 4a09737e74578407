"""The layout of diagrams: nothing on top of anything else, and the same every time."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from durable.notebook.layers import Place, arrange, columns_of

NAMES = "abcdefgh"
edges_of = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=16, unique=True)


def layout(edges: list[tuple[str, str]]) -> tuple[dict[str, Place], list[list[Place]]]:
    boxes = dict.fromkeys(NAMES, (80.0, 34.0))
    places, routes, _, _ = arrange(boxes, {edge: (50.0, 15.0) for edge in edges if edge[0] != edge[1]})
    ranks: dict[int, dict[int, Place]] = {}
    for place in [*places.values(), *(place for route in routes for place in route.places)]:
        ranks.setdefault(place.rank, {})[id(place)] = place
    return places, [list(rank.values()) for rank in ranks.values()]


def test_a_chain_stands_in_one_line() -> None:
    places, _ = layout([("a", "b"), ("b", "c"), ("c", "d")])
    assert [places[name].rank for name in "abcd"] == [0, 2, 4, 6]
    assert len({round(places[name].y) for name in "abcd"}) <= 2


def test_a_circle_is_opened_where_it_closes() -> None:
    assert columns_of("abc", [("a", "b"), ("b", "c"), ("c", "a")]) == {"a": 0, "b": 1, "c": 2}


@given(edges_of)
@settings(max_examples=60, deadline=None)
def test_nothing_lies_on_anything_else(edges: list[tuple[str, str]]) -> None:
    _, ranks = layout(edges)
    for rank in ranks:
        for above, below in pairwise(sorted(rank, key=lambda place: place.y)):
            assert above.y + above.height / 2 <= below.y - below.height / 2 + 0.01


@given(edges_of)
@settings(max_examples=30, deadline=None)
def test_the_same_graph_is_drawn_the_same(edges: list[tuple[str, str]]) -> None:
    one, two = layout(edges)[0], layout(edges)[0]
    assert [(p.x, p.y) for p in one.values()] == [(p.x, p.y) for p in two.values()]
