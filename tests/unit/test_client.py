"""A client: the face of a node from outside, for as long as one node of the cluster lives."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from nodes import asynchronous, until
from stations import LOOPBACK
from towns import Town, in_town

from durable import Context, workflow
from durable.cluster.ask import ask_node, seal_of
from durable.cluster.client import ClusterClient, gathered
from durable.cluster.config import ClusterConfig
from durable.cluster.node import ClusterNode
from durable.cluster.sight import Sight
from durable.commands import look
from durable.errors import ClusterError, DurableError, NoQuorum, NotRegistered, Unreachable, WorkflowFailed
from durable.journal.entries import Status
from durable.membership.member import MemberStatus, NodeAddress
from durable.transports.sockets import SocketTransport

THREE = ("node-1", "node-2", "node-3")
NOBODY = NodeAddress("127.0.0.1", 1)


@workflow
async def collects(ctx: Context, most: int = 3) -> list[str]:
    found: list[str] = []
    while len(found) < most and (word := await ctx.receive("words", str)):
        found.append(word)
    return found


def client(town: Town, *names: str, **how: Any) -> ClusterClient:
    return ClusterClient([town[name].station.address for name in names or THREE], **{"rpc_timeout": 5.0, **how})


@in_town(*THREE)
async def test_one_address_is_enough_to_reach_all(town: Town) -> None:
    async with client(town, "node-3") as cluster:
        assert [one.node_id for one in await cluster.members()] == list(THREE)
        for owner in THREE:
            workflow_id = town.id_at(owner)[0]
            assert await cluster.owner(workflow_id) == owner
            handle = await cluster.submit(collects, 2, workflow_id=workflow_id)
            await handle.send("words", "a")
            await handle.send("words", "b")
            assert await handle.result() == ["a", "b"]
            assert (await handle.metadata()).owner == owner
            assert len(await handle.journal()) == 2
        assert len(await cluster.list()) == 3
        assert "node" not in repr(cluster) and str(town["node-3"].station.address) in repr(cluster)


@pytest.mark.parametrize("name", ["members", "owner"])
def test_a_node_says_at_once_what_it_knows_and_a_client_is_awaited_and_both_say_so(name: str) -> None:
    at_once, asks = getattr(ClusterNode, name), getattr(ClusterClient, name)
    assert not inspect.iscoroutinefunction(at_once) and not inspect.iscoroutinefunction(getattr(Sight, name))
    assert inspect.iscoroutinefunction(asks)
    assert f"await client.{name}(" in asks.__doc__ and f"node.{name}(" in asks.__doc__
    assert "await client.owner(" in (ClusterNode.owner.__doc__ or "") and "`members`" in (ClusterNode.owner.__doc__ or "")


@in_town(*THREE)
async def test_a_workflow_may_be_named_whose_code_is_elsewhere(town: Town) -> None:
    async with client(town) as cluster:
        handle = await cluster.submit("collects", 0)
        assert await handle.result() == []
        with pytest.raises(NotRegistered):
            await cluster.submit("nobody_has_this", 1)


@in_town(*THREE)
async def test_it_outlives_the_node_that_it_talks_to(town: Town) -> None:
    async with client(town, "node-2") as cluster:
        handles = [await cluster.submit(collects, 2, workflow_id=one) for name in THREE for one in town.id_at(name, 3)]
        waiting = [asyncio.create_task(handle.result()) for handle in handles]
        await until(lambda: sum(len(town[name].station.server) for name in THREE) == 9)
        for handle in handles:
            await handle.send("words", "before", key="before")
        await town.kill("node-2")
        for handle in handles:
            await handle.send("words", "before", key="before")
            await handle.send("words", "after")
        assert await asyncio.gather(*waiting) == [["before", "after"]] * 9
        await cluster.members()
        alive = [one.node_id for one in await cluster.members() if one.status is MemberStatus.ALIVE]
        assert alive == ["node-1", "node-3"]
        assert cluster._router.ring.nodes == ("node-1", "node-3")
        assert {one.owner for one in await cluster.list()} == {"node-1", "node-3"}
        await town.kill("node-1")
        assert await (await cluster.submit(collects, 0, workflow_id="late")).result() == []
        assert await cluster.owner("late") == "node-3"


@in_town(*THREE)
async def test_a_node_that_came_later_is_found_when_it_is_needed(town: Town) -> None:
    town.views(without="node-3")
    async with client(town, "node-1") as cluster:
        assert [one.node_id for one in await cluster.members()] == ["node-1", "node-2"]
        town.views()
        handle = await cluster.submit(collects, 0, workflow_id=town.id_at("node-3")[0])
        assert await handle.result() == [] and (await handle.metadata()).owner == "node-3"


@in_town(*THREE)
async def test_when_all_are_gone_it_says_so_in_time(town: Town) -> None:
    async with client(town, rpc_timeout=0.5) as cluster:
        for name in THREE:
            await town[name].stop()
        with pytest.raises(NoQuorum):
            await cluster.submit(collects, 0)
        with pytest.raises(Unreachable, match="none of"):
            await cluster.members()
        with pytest.raises(NoQuorum):
            await cluster.owner("x")


@in_town(*THREE)
async def test_nodes_that_hang_are_gone_around(town: Town) -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    deaf = NodeAddress("127.0.0.1", silent.sockets[0].getsockname()[1])
    async with ClusterClient([deaf, NOBODY, town["node-1"].station.address], rpc_timeout=5.0) as cluster:
        assert await (await cluster.submit(collects, 0)).result() == []
    silent.close()


@asynchronous
async def test_what_a_client_needs() -> None:
    with pytest.raises(ValueError, match="at least one node"):
        ClusterClient([])
    with pytest.raises(ValueError, match="host:port"):
        ClusterClient(["nowhere"])
    with pytest.raises(ValueError, match="rpc_timeout"):
        ClusterClient(["a:1"], rpc_timeout=0)
    with pytest.raises(Unreachable, match=r"none of 127\.0\.0\.1:1 answers"):
        async with ClusterClient([NOBODY]):
            raise AssertionError("nobody is there")


@in_town(*THREE)
async def test_closed_means_closed(town: Town) -> None:
    cluster = client(town, "node-1", rpc_timeout=20.0)
    await cluster.open()
    handles = [await cluster.submit(collects, 2, workflow_id=town.id_at(name)[0]) for name in THREE]
    waiting = [asyncio.create_task(handle.result()) for handle in handles]
    await until(lambda: sum(len(town[name].station.server) for name in THREE) == 3)
    looking = asyncio.create_task(cluster.members())
    await asyncio.sleep(0)
    await asyncio.gather(cluster.close(), cluster.close())
    await cluster.close()
    for ended in await asyncio.wait_for(asyncio.gather(*waiting, looking, return_exceptions=True), 2.0):
        assert type(ended) is ClusterError and "this client is closed" in str(ended)
    for ask in (
        lambda: cluster.submit(collects, 0),
        lambda: handles[0].status(),
        lambda: cluster.list(),
        lambda: cluster.purge(3600.0),
        lambda: cluster.members(),
        lambda: cluster.views(),
        lambda: cluster.owner("x"),
        lambda: cluster.open(),
    ):
        with pytest.raises(ClusterError, match="this client is closed") as caught:
            await asyncio.wait_for(ask(), 2.0)
        assert type(caught.value) is ClusterError
    await until(lambda: not any(len(town[name].station.server) for name in THREE))
    assert not cluster._transport._streams.links and not cluster._peers._dialling  # type: ignore[attr-defined]
    assert await town["node-1"].face.handle(handles[0].workflow_id).status() is not Status.CANCELLED, "it goes on"


@in_town(*THREE)
async def test_a_client_that_is_not_open_says_what_to_write_and_may_be_opened_again_after_it_failed(town: Town) -> None:
    cluster = client(town, "node-1", rpc_timeout=20.0)
    for ask in (
        lambda: cluster.submit(collects, 0),
        lambda: cluster.handle("x").status(),
        lambda: cluster.list(),
        lambda: cluster.owner("x"),
        lambda: cluster.members(),
    ):
        with pytest.raises(ClusterError, match=r"not open: .*`async with .*`await client\.open\(\)`"):
            await asyncio.wait_for(ask(), 2.0)
    seeds, cluster._seeds = cluster._seeds, [NOBODY]
    with pytest.raises(Unreachable):
        await cluster.open()
    with pytest.raises(ClusterError, match="not open"):
        await cluster.list()
    cluster._seeds = seeds
    await cluster.open()
    assert await cluster.list() == []
    await cluster.close()
    never = client(town)
    await never.close()
    with pytest.raises(ClusterError, match="closed"):
        await never.open()


@asynchronous
async def test_only_with_the_key_is_anything_told() -> None:
    secret, other = "a-secret-of-the-tests-1", "another-secret-of-tests"
    transport = SocketTransport(LOOPBACK, seal_of([secret], "durable"))
    node = ClusterNode(ClusterConfig(node_id="node-1", bind_address=LOOPBACK, secret_key=secret), transport=transport)
    address = await node.start()
    try:
        async with ClusterClient([address], secret_key=f"{secret},{other}") as cluster:
            assert [one.node_id for one in await cluster.members()] == ["node-1"]
        for wrong in ({"secret_key": other}, {"secret_key": None}, {"secret_key": secret, "cluster_name": "other"}):
            with pytest.raises(Unreachable):
                async with ClusterClient([str(address)], **wrong):  # type: ignore[arg-type]
                    raise AssertionError("this was a stranger")
    finally:
        await node.close()


@asynchronous
async def test_a_cluster_of_another_name_is_not_asked_also_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [ClusterNode(ClusterConfig(node_id="node-1", bind_address=LOOPBACK, cluster_name=name)) for name in ("prod", "staging")]
    prod, staging = [await node.start() for node in nodes]
    try:
        with pytest.raises(Unreachable, match="of the cluster 'staging', and not of 'prod'"):
            async with ClusterClient([staging], cluster_name="prod"):
                raise AssertionError("this was another cluster")
        async with ClusterClient([staging, prod], cluster_name="prod") as cluster:
            assert [one.address for one in await cluster.members()] == [prod]
        with pytest.raises(Unreachable, match="of the cluster 'staging', and not of 'prod'"):
            await ask_node(staging, cluster_name="prod")
        assert (await ask_node(staging, cluster_name="staging")).cluster_name == "staging"
        monkeypatch.setenv("CLUSTER_NAME", "prod")
        view, _ = await look(f"{staging},{prod}", None)
        assert view.cluster_name == "prod"
    finally:
        for node in nodes:
            await node.close()


@in_town(*THREE)
async def test_errors_of_the_code_come_back_as_they_were(town: Town) -> None:
    @workflow("breaks")
    async def breaks(ctx: Context) -> None:
        raise LookupError("no such thing")

    async with client(town) as cluster:
        handle = await cluster.submit("breaks")
        with pytest.raises(WorkflowFailed) as caught:
            await handle.result()
        assert isinstance(caught.value.__cause__, LookupError)
        assert await handle.status() is Status.FAILED


@asynchronous
async def test_the_first_answers_are_gathered_and_nobody_is_waited_for_long() -> None:
    async def answer(value: int) -> int:
        return value

    async def refuse(error: Exception) -> int:
        raise error

    async def hang() -> int:
        await asyncio.sleep(3600)
        return 0

    assert await gathered([hang(), answer(1), refuse(ClusterError("no")), answer(2)]) == [1, 2]
    assert await gathered([refuse(DurableError("no")), refuse(ClusterError("no"))]) == []
    assert await gathered([]) == []
    with pytest.raises(ZeroDivisionError):
        await gathered([refuse(ZeroDivisionError())])
