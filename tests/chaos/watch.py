"""What is seen while a fault lasts: how long others take to own what a lost node owned, and what becomes of a partial cut.

==================  ===================================================================================================
`replica_sets`      who keeps which partition, by the roster that the cluster has decided
`Failover`          one lost node: the seconds until all of its partitions had a new epoch
`PartialCut`        an owner cut off from the others of a replica set: was it believed alive, and was it replaced?
==================  ===================================================================================================

**Limits.** All of it is read from the reports of nodes: a measured time includes that of the report.

Read next: `chaos.faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from durable.errors import ClusterError
from durable.replication.standing import Role
from durable.routing.partitions import PARTITIONS, PartitionRing, first_hash

REPLICAS = 3
FAILOVER_BOUND_S = 3.0
"""What the LAN preset promises from the kill of a node until others own what it owned."""
ASK_AGAIN_S = 0.1


@dataclass
class Failover:
    """Others take over ``partitions`` from ``node``, lost at ``began``. ``alone``: no other fault lasted at any time until then.
    ``took_s`` is infinite if it did not come about.
    """

    kind: str
    node: str
    partitions: int
    began: float
    took_s: float
    alone: bool = False

    @property
    def slow(self) -> bool:
        """Whether it is a kill, alone, after which more time passed than is promised."""
        return self.kind == "kill" and self.alone and self.took_s > FAILOVER_BOUND_S


@dataclass
class PartialCut:
    """``owner`` is cut off from all others that keep the partitions ``held``, with the epochs in which it owns them."""

    owner: str
    companions: tuple[str, ...]
    held: Mapping[int, int]
    observers: tuple[str, ...]
    moved: set[int] = field(default_factory=set)
    """Those of them that another node came to own in a higher epoch."""
    doubters: set[str] = field(default_factory=set)
    """Observers that held the owner dead, or gone, at some time."""

    def look(self, cluster: Any) -> None:
        """At every report of a node, while the cut lasts."""
        beliefs = cluster.beliefs_about(self.owner)
        for observer in self.observers:
            status = beliefs.get(observer)
            if status is not None and not status.is_live:
                self.doubters.add(observer)
        owners = cluster.owners()
        for partition, epoch in self.held.items():
            node, current = owners.get(partition, (self.owner, 0))
            if node != self.owner and current > epoch:
                self.moved.add(partition)

    @property
    def shown(self) -> bool:
        """Whether everybody else believed it alive, and all that it could not commit any more got another owner."""
        return bool(self.held) and not self.doubters and len(self.moved) == len(self.held)

    def __str__(self) -> str:
        doubted = f"held dead by {', '.join(sorted(self.doubters))}" if self.doubters else "believed alive by all others"
        return (
            f"{self.owner} cut off from {' and '.join(self.companions)}: {doubted}; {len(self.moved)} of the {len(self.held)} "
            "partitions that they keep with it got a new epoch and owner"
        )


def sets_of(voters: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """The replica set of each partition, by the ring of these voters."""
    ring = PartitionRing()
    for node in sorted(voters):
        ring.add_node(node)  # type: ignore[arg-type]
    return {number: tuple(map(str, ring.nodes_from(first_hash(number), REPLICAS))) for number in range(PARTITIONS)}


async def voters_of(cluster: Any, node: str) -> tuple[str, ...]:
    """Who votes, by the newest roster that this node knows."""
    view = await cluster.view(node)
    return tuple(sorted(str(name) for name, role in view.roles.items() if role in (Role.VOTER, Role.NEW_DISK)))


async def replica_sets(cluster: Any, node: str) -> dict[int, tuple[str, ...]]:
    """The replica set of each partition, as this node knows it."""
    return sets_of(await voters_of(cluster, node))


async def whole_sets(cluster: Any, patience_s: float) -> dict[int, tuple[str, ...]]:
    """The replica sets, when all that run are the voters, say so, and lack no copy; after ``patience_s``, as they are."""
    with suppress(TimeoutError):
        await until_whole(cluster, patience_s)
    return sets_of(cluster.running)


async def until_whole(cluster: Any, patience_s: float) -> None:
    """Return when all that run are the voters, say so, and lack no copy. Raises `TimeoutError`.

    No node tells of copies that it got: so this asks, again and again.
    """
    async with asyncio.timeout(patience_s):
        while not await _is_whole(cluster):
            await asyncio.sleep(ASK_AGAIN_S)


async def _is_whole(cluster: Any) -> bool:
    running = sorted(map(str, cluster.running))
    try:
        for node in running:
            view = await cluster.view(node)
            voters = sorted(str(name) for name, role in view.roles.items() if role is Role.VOTER)
            if voters != running or view.copies is None or view.copies.lacking:
                return False
    except ClusterError:
        return False
    return True


def cuts_to_choose(
    sets: Mapping[int, tuple[str, ...]], owners: Mapping[int, tuple[str, int]], free: Iterable[str]
) -> dict[tuple[str, ...], dict[int, int]]:
    """Every owner with the others of a replica set, all of them free and somebody else too, and the partitions with the epochs
    that it owns and that exactly they keep.
    """
    able = set(free)
    found: dict[tuple[str, ...], dict[int, int]] = {}
    for partition, members in sets.items():
        owner, epoch = owners.get(partition, ("", 0))
        others = tuple(sorted(node for node in members if node != owner))
        if owner in members and len(others) == REPLICAS - 1 and set(members) < able:
            found.setdefault((str(owner), *others), {})[partition] = epoch
    return found


async def until_taken(cluster: Any, node: str, clock: Callable[[], float], patience_s: float) -> tuple[int, float]:
    """Wait until everything that this node owns now has another owner, or itself under a new epoch: how many partitions, and how
    many seconds; infinite if it was not so within ``patience_s``.
    """
    owned = {partition: held for partition, held in cluster.owners().items() if held[0] == node}
    began = clock()

    def taken() -> bool:
        owners = cluster.owners()
        return all(owners.get(partition, held) != held for partition, held in owned.items())

    try:
        await cluster.wait_until(taken, patience_s)
    except TimeoutError:
        return len(owned), float("inf")
    return len(owned), clock() - began
