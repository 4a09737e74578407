"""The ring: fixed vectors, its laws, and how evenly it spreads."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import EmptyRing
from durable.membership.member import NodeId
from durable.routing import ring as ring_module
from durable.routing.ring import HashRing, hash_of

NAMES = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True)
KEYS = [f"workflow-{i}" for i in range(400)]


def ring_of(*names: str, virtual_nodes: int = 150) -> HashRing:
    ring = HashRing(virtual_nodes)
    for name in names:
        ring.add_node(NodeId(name))
    return ring


def ten() -> HashRing:
    return ring_of(*(f"node-{i}" for i in range(1, 11)))


def owners(ring: HashRing) -> dict[str, str]:
    return {key: ring.get_node(key) for key in KEYS}


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("workflow-123", 0x853457D5A5D2D1C3),
        ("", 0xE4A6A0577479B2B4),
        ("node-1#0", 0x340ECC44EFB8946F),
        ("größe", 0xF4F8E155C9329AE9),
    ],
)
def test_a_hash_is_the_same_on_every_platform_and_python(text: str, point: int) -> None:
    assert hash_of(text) == point


def test_owners_of_three_nodes_are_fixed_for_ever() -> None:
    ring = ring_of("node-1", "node-2", "node-3")
    assert len(ring) == 450
    assert ring.nodes == ("node-1", "node-2", "node-3")
    assert [ring.get_node(f"workflow-{i}")[-1] for i in range(24)] == list("122322313112221223232132")
    assert ring.get_nodes("workflow-123") == ["node-2", "node-1", "node-3"]


@given(NAMES, st.randoms(use_true_random=False))
def test_the_order_of_joining_does_not_matter(names: list[str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(names, len(names))
    assert list(ring_of(*names, virtual_nodes=10)) == list(ring_of(*shuffled, virtual_nodes=10))


@given(NAMES, st.text(min_size=1, max_size=12))
def test_a_join_moves_keys_only_to_the_newcomer_and_a_leave_moves_them_back(
    names: list[str], newcomer: str
) -> None:
    names = [name for name in names if name != newcomer] or ["another" + newcomer]
    ring = ring_of(*names, virtual_nodes=20)
    before, positions = owners(ring), list(ring)
    ring.add_node(NodeId(newcomer))
    after = owners(ring)
    assert all(after[key] in (before[key], newcomer) for key in KEYS)
    ring.remove_node(NodeId(newcomer))
    assert owners(ring) == before
    assert list(ring) == positions


@given(NAMES, st.text(), st.integers(1, 12))
def test_get_nodes_are_distinct_and_begin_with_every_shorter_answer(
    names: list[str], key: str, count: int
) -> None:
    ring = ring_of(*names, virtual_nodes=20)
    found = ring.get_nodes(key, count)
    assert len(found) == len(set(found)) == min(count, len(names))
    assert found[0] == ring.get_node(key)
    for shorter in range(1, count):
        assert ring.get_nodes(key, shorter) == found[:shorter]


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=8, unique=True), st.text())
def test_removing_the_owner_promotes_the_second_and_keeps_the_rest_in_order(
    names: list[str], key: str
) -> None:
    ring = ring_of(*names, virtual_nodes=20)
    before = ring.get_nodes(key, len(names))
    ring.remove_node(before[0])
    assert ring.get_nodes(key, len(names)) == before[1:]


def test_a_key_on_a_position_belongs_to_that_position() -> None:
    ring = ring_of("a", "b")
    for point, node in list(ring)[:50]:
        key = next(f"{name}#{i}" for name in "ab" for i in range(150) if hash_of(f"{name}#{i}") == point)
        assert ring.get_node(key) == node


def test_two_nodes_on_one_point_are_ordered_by_name_whoever_joined_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ring_module, "hash_of", lambda text: 7 if "#" in text else 3)
    for names in (("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")):
        ring = ring_of(*names, virtual_nodes=2)
        assert [node for _, node in ring] == ["a", "a", "b", "b", "c", "c"]
        assert ring.get_nodes("x") == ["a", "b", "c"]
        ring.remove_node(NodeId("b"))
        assert [node for _, node in ring] == ["a", "a", "c", "c"]


def test_a_join_moves_one_key_in_n_plus_one() -> None:
    """Karger et al. 1997, section 4 (monotone, balanced). Measured W10: within 3 standard deviations of the
    ring's own spread.
    """
    keys = [f"key-{i}" for i in range(20_000)]
    moved = []
    for trial in range(12):
        ring = ring_of(*(f"trial-{trial}-{i}" for i in range(10)))
        before = [ring.get_node(key) for key in keys]
        ring.add_node(NodeId(f"trial-{trial}-new"))
        moved.append(
            sum(old != ring.get_node(key) for old, key in zip(before, keys, strict=True)) / len(keys)
        )
    # A share of 1/11 made of 150 arcs varies by about 1/sqrt(150) of itself from ring to ring.
    deviation = (1 / 11) / 150**0.5
    assert all(abs(share - 1 / 11) < 3 * deviation for share in moved)
    assert abs(statistics.mean(moved) - 1 / 11) < 3 * deviation / len(moved) ** 0.5


def test_ten_nodes_spread_within_a_quarter_of_the_mean() -> None:
    """A bound for plain names: node-1..node-10, max/mean at most 1.25 (the exact share of the circle, not a
    sample).
    """
    positions = list(ten())
    share = dict.fromkeys(ten().nodes, 0)
    previous = positions[-1][0] - 2**64
    for point, node in positions:
        share[node] += point - previous
        previous = point
    assert sum(share.values()) == 2**64
    assert max(share.values()) / (2**64 / 10) == pytest.approx(1.0, abs=0.25)


def test_errors_say_what_is_wrong() -> None:
    ring = HashRing()
    with pytest.raises(EmptyRing, match="nobody owns 'k': the ring has no nodes"):
        ring.get_node("k")
    with pytest.raises(EmptyRing):
        ring.get_nodes("k")
    with pytest.raises(ValueError, match="'a' is not on the ring; it has no nodes"):
        ring.remove_node(NodeId("a"))
    ring.add_node(NodeId("a"))
    with pytest.raises(ValueError, match="'a' is on the ring already"):
        ring.add_node(NodeId("a"))
    with pytest.raises(ValueError, match="'b' is not on the ring; it has a"):
        ring.remove_node(NodeId("b"))
    with pytest.raises(ValueError, match="needs a name"):
        ring.add_node(NodeId(""))
    with pytest.raises(ValueError, match="count is 0"):
        ring.get_nodes("k", 0)
    with pytest.raises(ValueError, match="between 1 and 10000"):
        HashRing(0)
    assert "a" in ring
    assert "b" not in ring
