"""Real processes on this machine find each other, bury each other, and find each other again.

Waits are for what the nodes report, never for a time; each cluster is small, and all of it takes well under a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from durable.cluster import LocalCluster, MemberStatus
from durable.errors import ClusterError

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus
SECRET = "a-secret-of-the-tests-1"


def with_cluster(n: int, body: Callable[[LocalCluster], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), LocalCluster(n, **changes) as cluster:
            await body(cluster)
        assert [node for node in cluster.nodes if is_running(cluster.process_id(node))] == []

    asyncio.run(run())


def is_running(process_id: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, 0)
        return True
    return False


def all_believe(cluster: LocalCluster, node: str, status: MemberStatus) -> Callable[[], bool]:
    return lambda: set(cluster.beliefs_about(node).values()) == {status}


def test_five_nodes_find_each_other_and_see_who_is_killed_who_leaves_and_who_comes() -> None:
    async def body(cluster: LocalCluster) -> None:
        assert cluster.nodes == ("node-1", "node-2", "node-3", "node-4", "node-5")
        assert {len(seen) for seen in cluster.members().values()} == {5}

        await cluster.kill("node-3")
        await cluster.wait_until(all_believe(cluster, "node-3", DEAD))
        assert cluster.converged()

        await cluster.leave("node-2")
        await cluster.wait_until(all_believe(cluster, "node-2", LEFT))
        assert not any(
            belief.member.node_id == "node-2" and belief.member.status in (SUSPECT, DEAD) for belief in cluster.history
        ), "who leaves is never suspected"

        assert await cluster.add() == "node-6"
        await cluster.wait_until(all_believe(cluster, "node-6", ALIVE))
        await cluster.wait_converged()
        assert cluster.running == ("node-1", "node-4", "node-5", "node-6")

    with_cluster(5, body)


def test_a_node_killed_and_restarted_at_once_is_let_in_at_once_and_stays() -> None:
    async def body(cluster: LocalCluster) -> None:
        address = cluster.address("node-2")
        for _ in range(3):
            await cluster.restart("node-2")
            assert cluster.address("node-2") == address
            await cluster.wait_converged(timeout_s=3)
        heard = [belief for belief in cluster.history if belief.member.node_id == "node-2"]
        assert len({belief.member.boot for belief in heard}) == 4
        # Nothing that was said of an earlier life is believed of the present one.
        await cluster.kill("node-2")
        await cluster.wait_until(all_believe(cluster, "node-2", DEAD))
        await cluster.restart("node-2")
        await cluster.wait_converged(timeout_s=3)

    with_cluster(3, body)


def test_two_halves_bury_each_other_and_find_each_other_without_an_operator() -> None:
    async def body(cluster: LocalCluster) -> None:
        await cluster.partition([["node-1", "node-2", "node-3"], ["node-4", "node-5"]])
        await cluster.wait_converged()
        assert cluster.members()["node-1"][cluster.nodes[4]].status is DEAD
        assert cluster.members()["node-5"][cluster.nodes[0]].status is DEAD
        assert (await cluster.view("node-1")).dropped["cut"] > 0
        lives = {node: cluster.members()[node][node].boot for node in cluster.nodes}
        await cluster.heal()
        await cluster.wait_converged()
        assert {node: cluster.members()[node][node].boot for node in cluster.nodes} == lives

    with_cluster(5, body)


def test_a_node_that_stands_still_is_buried_and_refutes_it_when_it_goes_on() -> None:
    async def body(cluster: LocalCluster) -> None:
        await cluster.pause("node-2")
        with pytest.raises(ClusterError, match="paused"):
            await cluster.view("node-2")
        await cluster.wait_until(all_believe(cluster, "node-2", DEAD))
        await cluster.resume("node-2")
        await cluster.wait_converged()
        member = cluster.members()["node-1"][cluster.nodes[1]]
        assert member.incarnation > 0, "it refuted, it was not started again"
        view = await cluster.view("node-2")
        assert [one.status for one in view.members] == [ALIVE] * 3

    with_cluster(3, body)


def test_intruders_change_nothing_and_are_counted() -> None:
    async def body(cluster: LocalCluster) -> None:
        chance, beliefs = random.Random(1), len(cluster.history)
        target = cluster.address("node-1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as intruder:
            for _ in range(500):
                junk = bytes((chance.randrange(2),)) + chance.randbytes(chance.randrange(1_450))
                intruder.sendto(junk, (target.host, target.port))
        for _ in range(20):
            with socket.create_connection((target.host, target.port)) as intruder:
                intruder.sendall(chance.randbytes(41))
        view = await cluster.view("node-1")
        while sum(view.dropped.values()) < 300:
            view = await cluster.view("node-1")
        assert view.dropped["not sealed"] > 50 and view.dropped["another key or cluster"] > 50
        assert view.dropped["not one of ours"] > 0
        assert cluster.converged() and len(cluster.history) == beliefs

    with_cluster(3, body, secret_key=SECRET)


def test_a_node_that_cannot_start_says_why() -> None:
    async def body(cluster: LocalCluster) -> None:
        with pytest.raises(ClusterError, match="there is no 'node-9'"):
            await cluster.kill("node-9")
        with pytest.raises(ValueError, match="started already"):
            await cluster.add("node-1")
        with socket.socket() as taken:
            await cluster.kill("node-1")
            taken.bind(("127.0.0.1", cluster.address("node-1").port))
            with pytest.raises(ClusterError, match=r"node-1 did not start: .*in use"):
                await cluster.restart("node-1")

    with_cluster(1, body)
    for wrong in ({"n": 0}, {"n": 1, "preset": "wan"}):
        with pytest.raises(ValueError, match="must be"):
            LocalCluster(**wrong)  # type: ignore[arg-type]


PARENT = """
import asyncio, sys
from durable.cluster import LocalCluster

async def main():
    cluster = LocalCluster(2)
    await cluster.start()
    await cluster.pause("node-2")
    print(*[cluster.process_id(node) for node in cluster.nodes], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a stopped process ends with its parent on Linux only")
def test_children_end_with_their_parent_also_those_that_are_paused() -> None:
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    children = [int(word) for word in parent.stdout.readline().split()]
    assert len(children) == 2
    watched = [os.pidfd_open(child) for child in children]
    try:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        for descriptor in watched:
            assert select.select([descriptor], [], [], 10)[0], "a child outlived its parent"
    finally:
        for descriptor in watched:
            os.close(descriptor)
        parent.stdout.close()
