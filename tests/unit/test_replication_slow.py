"""Disks that take about as long as the gossip interval, or three times that: somebody comes to own all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import replicacluster
from replicacluster import Cluster

from durable.copies.messages import DigestAnswer, Message, decode
from durable.membership.member import NodeId

FAST_S = 0.002
PARTITIONS = 6


@pytest.fixture(autouse=True)
def _fast_again() -> Iterator[None]:
    yield
    replicacluster.FSYNC_S = FAST_S


def born(count: int, name: str = "n") -> Cluster:
    replicacluster.FSYNC_S = FAST_S
    names = [f"{name}{number}" for number in range(count)]
    cluster = Cluster(*names, partitions=PARTITIONS, replicas=count).born(*names)
    cluster.run(10)
    return cluster


def said(cluster: Cluster, kind: type[Message]) -> list[tuple[float, NodeId, NodeId, Any]]:
    """When, who, to whom, what: all messages of that kind from here on."""
    found: list[tuple[float, NodeId, NodeId, Any]] = []
    carry = cluster.carry

    def carry_and_note(sender: NodeId, to: NodeId, frame: bytes) -> None:
        found.extend((cluster.now, sender, to, message) for message in decode(frame) if isinstance(message, kind))
        carry(sender, to, frame)

    cluster.carry = carry_and_note  # type: ignore[method-assign]
    return found


def test_a_copy_that_knows_other_lines_says_so_before_its_disk_is_done() -> None:
    """Until the owner lists its lines again, that copy does not hear it: three intervals of that, and it would campaign."""
    cluster = born(5)
    cluster.run(30)
    replicacluster.FSYNC_S = 3.0
    cluster["n0"].stop()
    cluster.start("n0")
    answers = said(cluster, DigestAnswer)
    cluster.run(1.5)
    told = {to for _, sender, to, answer in answers if sender == "n0" and not answer.known}
    assert told == set(cluster.owners().values()) - {"n0"}
