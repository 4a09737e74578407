"""Partitions: equal slices, and a ring that places slices instead of keys."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.membership.member import NodeId
from durable.routing.partitions import PARTITIONS, PartitionRing, first_hash, partition_of
from durable.routing.ring import hash_of


def ten() -> PartitionRing:
    ring = PartitionRing()
    for i in range(1, 11):
        ring.add_node(NodeId(f"node-{i}"))
    return ring


def test_the_partition_of_256_is_the_first_byte_of_the_hash() -> None:
    assert partition_of("workflow-123") == 0x85
    assert first_hash(0x85) == 0x85 << 56


@given(st.text(), st.integers(1, 1000))
def test_a_key_lies_in_its_slice(key: str, partitions: int) -> None:
    partition = partition_of(key, partitions)
    assert first_hash(partition, partitions) <= hash_of(key)
    if partition + 1 < partitions:
        assert hash_of(key) < first_hash(partition + 1, partitions)


@given(st.integers(1, 1000))
def test_slices_are_equal_to_within_one_value(partitions: int) -> None:
    starts = [first_hash(partition, partitions) for partition in range(partitions)] + [2**64]
    widths = {after - before for before, after in pairwise(starts)}
    assert max(widths) - min(widths) <= 1


@given(st.text())
def test_every_key_of_a_partition_has_the_same_nodes(key: str) -> None:
    ring = ten()
    twin = next(f"k{i}" for i in range(100_000) if partition_of(f"k{i}") == partition_of(key))
    assert ring.get_nodes(key) == ring.get_nodes(twin)
    assert ring.get_node(key) == ring.get_nodes(key)[0]


def test_256_partitions_on_ten_nodes_stay_within_half_of_the_mean() -> None:
    """The bound of chapter 5 for node-1..node-10: max/mean at most 1.5."""
    ring = ten()
    key_of = {partition_of(f"k{i}"): f"k{i}" for i in range(5_000)}
    assert len(key_of) == PARTITIONS
    owned = Counter(ring.get_node(key) for key in key_of.values())
    assert max(owned.values()) / (PARTITIONS / 10) <= 1.5


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="partition 256 does not exist: there are 256"):
        first_hash(256)
    with pytest.raises(ValueError, match="between 1 and 65536"):
        PartitionRing(partitions=0)
