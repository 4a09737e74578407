"""What a cluster of real sockets comes back from by itself: a loop that stands still, halves that forgot each other, and a
start of everybody at once.

Minutes and thousands of members are simulated (`tests/simulation`); longer runs of these, with a process for each node, are
in ``tests/chaos/members.py``.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable

import pytest
from chaos.members import FAULTS, storms

from durable.cluster import ClusterConfig, ClusterNode, EventStream, LocalCluster, MemberChanged, MemberStatus, NodeAddress

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus
NAMES = tuple(f"node-{number}" for number in range(1, 6))


async def until(nodes: list[ClusterNode], holds: Callable[[], bool]) -> None:
    """Until it holds; looked at after every change that any of the nodes tells."""
    changed = asyncio.Event()

    async def listen(node: ClusterNode) -> None:
        async for _ in node.events():
            changed.set()

    listening = [asyncio.create_task(listen(node)) for node in nodes]
    await asyncio.sleep(0)
    while not holds():
        changed.clear()
        await changed.wait()
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)


def test_a_loop_blocked_for_three_seconds_inside_a_cluster_costs_nobody_its_life() -> None:
    """Four processes and, in this one, a fifth member whose loop computes for three seconds, at the defaults. A suspect has 5 s
    to refute, so it lives; and what it finds unread when it comes back is no evidence against the others.
    """

    async def run() -> None:
        async with asyncio.timeout(60), LocalCluster(4, preset="default") as cluster:
            seed = cluster.address("node-1")
            here = NodeAddress("127.0.0.1", 0)
            config = ClusterConfig.default("blocked", bind_address=here, seed_nodes=[seed], cluster_name=cluster.cluster_name)
            blocked = ClusterNode(config)
            changes = blocked.events()
            await blocked.join()
            await cluster.wait_until(lambda: set(cluster.beliefs_about("blocked").values()) == {ALIVE})
            life = blocked.members()[0].boot
            time.sleep(3.0)  # the whole loop stands still: nothing is read, no timer fires
            heard = asyncio.create_task(_listen(changes))
            later = await cluster.add()  # by the time that all know of it, all that the silence was to them has been said
            for name in ("blocked", later):
                await cluster.wait_until(lambda name=name: set(cluster.beliefs_about(name).values()) == {ALIVE})  # type: ignore[misc]
            await until([blocked], lambda: [one.status for one in blocked.members()] == [ALIVE] * 6)
            await blocked.leave()
            told = await heard
            beliefs = [(one.observer, one.member) for one in cluster.history] + [("blocked", one.member) for one in told]
            assert {one.boot for _, one in beliefs if one.node_id == "blocked"} == {life}
            assert [belief for belief in beliefs if belief[1].status is DEAD] == []
            accused = {one.node_id for _, one in beliefs if one.status is SUSPECT}
            assert accused <= {"blocked"}, "and it accuses nobody of its own silence"

    asyncio.run(run())


async def _listen(changes: EventStream) -> list[MemberChanged]:
    return [change async for change in changes]


def test_two_halves_that_have_forgotten_each_other_meet_again() -> None:
    """SWIM has no way back from a death that everybody has forgotten. Here tombstones keep the address, and one believed dead is
    called again every exchange interval.
    """

    async def run() -> None:
        async with asyncio.timeout(60), LocalCluster(5, dead_timeout=0.5) as cluster:
            halves = (NAMES[:3], NAMES[3:])
            await cluster.partition(halves)
            await cluster.wait_converged()
            views = [await cluster.view(name) for name in NAMES]
            while [len(view.members) for view in views] != [3, 3, 3, 2, 2]:  # nothing is told of forgetting, so this looks
                views = [await cluster.view(name) for name in NAMES]
            lives = {one.node_id: one.boot for view in views for one in view.members}
            await cluster.heal()
            await cluster.wait_until(lambda: cluster.converged() and {len(seen) for seen in cluster.members().values()} == {5})
            assert {name: cluster.members()[name][name].boot for name in cluster.nodes} == lives, "nobody was started again"

    asyncio.run(run())


@pytest.mark.parametrize("secret_key", [None, "a-secret-of-the-tests-1"])
def test_five_empty_nodes_started_at_once_with_one_list_of_seeds_find_each_other_each_time(secret_key: str | None) -> None:
    """Fifty starts in all, over real sockets: nobody is first, every list names all five, and some ask before others listen."""

    async def run() -> None:
        for start in range(25):
            async with asyncio.timeout(30):
                await start_once(random.Random(start), secret_key)

    asyncio.run(run())


async def start_once(chance: random.Random, secret_key: str | None) -> None:
    addresses = free_addresses(len(NAMES))
    nodes = [
        ClusterNode(ClusterConfig.lan(name, bind_address=address, seed_nodes=addresses, secret_key=secret_key))
        for name, address in zip(NAMES, addresses, strict=True)
    ]
    chance.shuffle(nodes)

    async def start(node: ClusterNode) -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)  # a turn of the loop later than another
        await node.join()

    try:
        await asyncio.gather(*map(start, nodes))
        await until(nodes, lambda: all([one.status for one in node.members()] == [ALIVE] * 5 for node in nodes))
        assert {node.ring.nodes for node in nodes} == {NAMES}
        assert {tuple(one.incarnation for one in node.members()) for node in nodes} == {(0,) * 5}, "nobody was suspected"
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


def free_addresses(count: int) -> list[NodeAddress]:
    """Port numbers that nobody has now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [NodeAddress(*one.getsockname()) for one in held]
    finally:
        for one in held:
            one.close()


def test_a_storm_of_kills_stops_and_partitions_ends_with_everybody_alive() -> None:
    """One round of what ``tests/chaos/members.py`` does by the dozen."""
    assert asyncio.run(storms(1, seed=3, say=False)) == FAULTS
