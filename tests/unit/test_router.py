"""The router: the ring's word until something better is heard, and the higher epoch whatever the order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import EmptyRing
from durable.membership.member import NodeId
from durable.routing.partitions import PartitionRing, first_hash
from durable.routing.router import Local, Remote, Router

NAMES = [NodeId(f"node-{n}") for n in range(1, 5)]
CLAIMS = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(NAMES)), max_size=8)


def ring(*nodes: NodeId) -> PartitionRing:
    made = PartitionRing()
    for node in nodes or NAMES:
        made.add_node(node)
    return made


RING = ring()


def test_without_news_the_ring_decides() -> None:
    router = Router(ring(), me=NodeId("node-2"))
    for n in range(200):
        owner = router.ring.get_node(f"order-{n}")
        assert router.route(f"order-{n}") == (Local() if owner == "node-2" else Remote(owner))


def test_candidates_are_the_ring_in_order() -> None:
    router = Router(ring())
    for n in range(200):
        key = f"order-{n}"
        assert router.candidates(router.partition_of(key), 3) == router.ring.get_nodes(key, 3)
    assert first_hash(7) >> 56 == 7


def test_what_was_learned_counts_while_its_owner_is_on_the_ring() -> None:
    router = Router(ring())
    first, second, third, _ = router.candidates(133, 4)
    assert router.learn(133, second, 4)
    assert router.route("workflow-123") == Remote(second, 4)
    router.ring.remove_node(second)
    assert router.route("workflow-123") == Remote(first)
    router.ring.remove_node(first)
    assert router.route("workflow-123") == Remote(third), "who takes over is next on the ring"
    router.ring.add_node(second)
    assert router.route("workflow-123") == Remote(second, 4)


def test_a_client_owns_nothing_and_an_empty_ring_says_so() -> None:
    router = Router(PartitionRing())
    with pytest.raises(EmptyRing, match="partition 133"):
        router.route("workflow-123")
    router.ring.add_node(NAMES[0])
    assert router.route("workflow-123") == Remote(NAMES[0])


@given(CLAIMS)
def test_the_order_of_news_never_matters(claims: list[tuple[int, NodeId]]) -> None:
    routes = set()
    for order in itertools.islice(itertools.permutations(claims), 24):
        router = Router(RING)
        news = [router.learn(9, owner, epoch) for epoch, owner in order]
        assert news[:1] == [True] * bool(order)
        routes.add(router.route_partition(9))
    assert len(routes) == 1
    if claims:
        epoch, owner = max(claims)
        assert routes == {Remote(owner, epoch)}
