"""What a `LocalCluster` shows and does beside breaking things: the ring, the balance, and asking as a program in a node does.

The workflow is defined here, in no module that a child could import: it travels, as a notebook's does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import durable
from durable import Context
from durable.cluster import LocalCluster, process
from durable.errors import ClusterError
from durable.storage import open_store

cloudpickle = pytest.importorskip("cloudpickle", reason="needs cloudpickle (durable[notebook])")


@pytest.fixture(autouse=True, scope="module")
def as_in_a_notebook() -> Iterator[None]:
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    yield
    cloudpickle.unregister_pickle_by_value(here)


@durable.function
async def where() -> str:
    return os.environ["CLUSTER_NODE_ID"]


@durable.workflow("local-where")
async def asking(ctx: Context, word: str) -> tuple[str, str]:
    return word, await ctx.call(where)


@durable.workflow("local-late")
async def late(ctx: Context, letters: int) -> str:
    await ctx.receive("go")
    return "ä" * letters


def on_cluster(n: int, body: Callable[[LocalCluster], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(100), LocalCluster(n, app=[asking, late], rpc_timeout=5.0) as cluster:
            await cluster.wait_balanced()
            await body(cluster)

    asyncio.run(run())


def test_what_is_handed_to_any_node_runs_where_the_ring_says_and_all_tell_the_same() -> None:
    async def body(cluster: LocalCluster) -> None:
        ring, told = cluster.ring(), {}
        assert ring.nodes == cluster.nodes == cluster.ring("node-3").nodes
        for number in range(12):
            name = f"w{number}"
            handle = await cluster.submit(asking, "ä", name, at=f"node-{number % 3 + 1}")
            told[name] = list(await handle.result())
            assert told[name] == ["ä", ring.get_node(name)] == ["ä", cluster.owner(name)]
            assert (await handle.metadata()).epoch == cluster.epoch(name)
        assert len({node for _, node in told.values()}) == 3
        for node in cluster.nodes:
            assert {name: await cluster.result(name, at=node) for name in told} == told

    on_cluster(3, body)


def test_what_a_node_refuses_is_said_here_and_a_node_that_is_down_is_not_asked() -> None:
    async def body(cluster: LocalCluster) -> None:
        with pytest.raises(ClusterError, match="no execution"):
            await cluster.result("nobody", at="node-2")
        await (await cluster.submit(asking, "a", "w", at="node-1")).result()
        with pytest.raises(ClusterError, match="w"):
            await cluster.submit(asking, "b", "w", at="node-2")
        await cluster.kill("node-2")
        with pytest.raises(ClusterError, match="gone"):
            await cluster.submit(asking, "a", "x", at="node-2")

    on_cluster(3, body)


def test_what_is_no_longer_waited_for_is_answered_and_harms_nothing() -> None:
    async def body(cluster: LocalCluster) -> None:
        handle = await cluster.submit(late, 1, "w")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cluster.result("w", at="node-2"), 0.1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cluster._process("node-2").gone(), 0.1)
        await handle.send("go")
        assert await handle.result() == await cluster.result("w", at="node-2") == "ä"
        await cluster.kill("node-2")
        assert cluster.states() == {"node-1": "running", "node-2": "gone"}
        assert list(process._running) == [cluster.process_id("node-1")]

    on_cluster(2, body)
    assert not process._running


def test_a_result_of_2_mib_arrives_from_a_node() -> None:
    async def body(cluster: LocalCluster) -> None:
        handle = await cluster.submit(late, 2**20, "w")
        await handle.send("go")
        assert await cluster.result("w", at="node-1") == "ä" * 2**20

    on_cluster(1, body)


def test_a_network_cannot_be_worse_than_broken_and_what_a_node_cannot_do_it_says() -> None:
    async def body(cluster: LocalCluster) -> None:
        for wrong in ({"loss": 5}, {"breaks": -0.1}, {"delay_s": float("inf")}):
            with pytest.raises(ValueError, match="must be within 0 and 1"):
                await cluster.disturb(**wrong)
        with pytest.raises(ClusterError, match="ValueError: loss 5"):
            await cluster._process("node-1").order("disturb", faults={"loss": 5})
        await cluster.disturb(delay_s=0.001)
        await cluster.heal()
        assert (await cluster.view("node-1")).node_id == "node-1"

    on_cluster(1, body)


def test_a_node_whose_reports_cannot_be_read_is_ended_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(cluster: LocalCluster) -> None:
        def hear(report: object) -> None:
            raise RuntimeError("not understood")

        monkeypatch.setattr(cluster._process("node-1"), "_hear", hear)
        with pytest.raises(ClusterError, match="not understood"):
            await cluster.view("node-1")
        assert cluster.states() == {"node-1": "gone"}
        assert not process._running
        await cluster.restart("node-1")
        unlisten = cluster.listen(lambda: hear("a mistake of whoever listens, which harms no process"))
        await cluster.add()
        await cluster.wait_converged()
        unlisten()
        assert (await cluster.view("node-1")).node_id == "node-1"

    on_cluster(1, body)


def test_a_cluster_that_cannot_start_leaves_no_process_behind(tmp_path: Path) -> None:
    async def run() -> None:
        cluster = LocalCluster(3, app=[asking], data=tmp_path)
        with pytest.raises(ClusterError, match=r"node-2 did not start: .* is held by another process"):
            await cluster.start()
        assert not process._running
        assert cluster.closed

    held = open_store(f"rocksdb:{tmp_path / 'node-2'}")
    try:
        asyncio.run(run())
    finally:
        held.close()


def test_a_cluster_is_closed_also_when_a_listener_fails() -> None:
    def fails() -> None:
        raise RuntimeError("a mistake of whoever listens")

    async def run() -> None:
        cluster = LocalCluster(1)
        await cluster.start()
        cluster.listen(fails)
        with pytest.raises(RuntimeError, match="whoever listens"):
            await cluster.close()
        assert not process._running

    asyncio.run(run())


def test_the_balance_is_lost_with_a_node_and_comes_back_without_it_and_with_it() -> None:
    async def body(cluster: LocalCluster) -> None:
        before = cluster.owners()
        await cluster.kill("node-2")
        assert not cluster.balanced()
        await cluster.wait_balanced()
        assert cluster.ring().nodes == ("node-1", "node-3")
        moved = [number for number, owner in cluster.owners().items() if owner[0] != before[number][0]]
        assert moved == [number for number, owner in before.items() if owner[0] == "node-2"]
        assert all(cluster.owners()[number][1] > before[number][1] for number in moved)
        await cluster.restart("node-2")
        await cluster.wait_balanced()
        assert {number: owner for number, (owner, _) in cluster.owners().items()} == {n: owner for n, (owner, _) in before.items()}

    on_cluster(3, body)


def test_a_founder_without_its_disk_is_let_in_when_all_other_founders_have_left() -> None:
    async def body(cluster: LocalCluster) -> None:
        for _ in range(2):
            await cluster.add()
        await cluster.wait_balanced()
        await cluster.leave("node-1")
        await cluster.wait_balanced()
        await cluster.wipe("node-2")
        await cluster.restart("node-2")
        await cluster.wait_balanced()
        assert cluster.ring().nodes == ("node-2", "node-3", "node-4")

    on_cluster(2, body)


def test_without_a_key_each_cluster_has_a_name_of_its_own() -> None:
    names = [LocalCluster(1).cluster_name for _ in range(2)]
    assert names[0] != names[1] and "durable" not in names
    assert LocalCluster(1, cluster_name="shop").cluster_name == "shop"
    assert LocalCluster(1, secret_key="a-secret-of-the-tests-1").cluster_name == "durable", "the key keeps others away"
