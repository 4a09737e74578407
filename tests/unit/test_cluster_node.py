"""The shell around the membership core: it speaks, listens, wakes, and decides nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durable.cluster import ClusterConfig, ClusterNode, MemberStatus, NodeAddress, ask_node
from durable.cluster import events as events_module
from durable.cluster import node as node_module
from durable.errors import ClusterError, JoinRejected, NameTaken, NotSecured, ProtocolError, Unreachable
from durable.membership.member import Claim, Member, NodeId
from durable.membership.messages import Packet, Ping, encode
from durable.rpc.frames import MEMBERSHIP
from durable.storage.memory import InMemoryStore
from durable.storage.node import NodeStorage
from durable.transports.seal import Keyring, Sealed
from durable.transports.sockets import SocketTransport
from durable.world import SystemEntropy

SECRET = "a-secret-of-the-tests-1"
ALIVE, LEFT = MemberStatus.ALIVE, MemberStatus.LEFT


def config(name: str, *seeds: NodeAddress, **changes: Any) -> ClusterConfig:
    return ClusterConfig.lan(name, bind_address=NodeAddress("127.0.0.1", 0), seed_nodes=seeds, **changes)


def within(body: Callable[[], Awaitable[None]], seconds: float = 20) -> None:
    async def run() -> None:
        async with asyncio.timeout(seconds):
            await body()

    asyncio.run(run())


async def until(node: ClusterNode, holds: Callable[[], bool]) -> None:
    """Until it holds; looked at after every change that the node tells."""
    changes = node.events()
    while not holds():
        await anext(changes)
    await changes.aclose()


def statuses(node: ClusterNode) -> dict[str, MemberStatus]:
    return {member.node_id: member.status for member in node.members()}


def test_a_node_alone_is_a_cluster_of_one() -> None:
    async def body() -> None:
        node = ClusterNode(config("a"))
        assert (node.members(), node.dropped()) == ((), {})
        async with node:
            assert statuses(node) == {"a": ALIVE}
            assert node.ring.nodes == ("a",) and node.ring.get_node("order-94") == "a"
        await node.leave()
        await node.closed()

    within(body)


@pytest.mark.parametrize("storage", [False, True])
def test_a_node_whose_only_seed_is_itself_by_another_name_waits_for_nobody(storage: bool) -> None:
    async def body() -> None:
        node = ClusterNode(config("a"), NodeStorage.make(InMemoryStore.open()) if storage else None)
        address = await node.start()
        await node.join(5, seeds=[NodeAddress("127.1", address.port)])
        assert node.waits_for() is None
        await node.close()

    within(body)


def test_nodes_join_see_each_other_and_leave() -> None:
    async def body() -> None:
        async with ClusterNode(config("a")) as a:
            seed = await a.start()
            b = ClusterNode(config("b", seed))
            changes = a.events()
            async with b:
                assert statuses(b) == {"a": ALIVE, "b": ALIVE}  # the seed's whole list, with the answer
                change = await anext(changes)
                assert (change.member.node_id, change.member.status, change.was) == ("b", ALIVE, None)
                assert a.ring.nodes == b.ring.nodes == ("a", "b")
                assert a.ring.get_nodes("x", 2) == b.ring.get_nodes("x", 2)
            await until(a, lambda: statuses(a)["b"] is LEFT)
            assert a.ring.nodes == ("a",)
            assert [status async for status in b.events()] == []

    within(body)


def test_a_seed_that_comes_later_is_asked_again() -> None:
    async def body() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = NodeAddress("127.0.0.1", free.getsockname()[1])
        a = ClusterNode(config("a", address))
        with pytest.raises(Unreachable, match="it goes on asking"):
            await a.join(timeout_s=0.05)
        b = ClusterNode(ClusterConfig.lan("b", bind_address=address))
        await b.join()
        await until(a, lambda: "b" in statuses(a))
        await b.close()
        await a.close()

    within(body)


def test_other_settings_are_refused_and_named() -> None:
    async def body() -> None:
        async with ClusterNode(config("a")) as a:
            seed = await a.start()
            with pytest.raises(JoinRejected, match="partitions is 256 here and 64 there"):
                async with ClusterNode(config("b", seed, partitions=64)):
                    pass

    within(body)


@pytest.mark.parametrize("storage", [False, True])
def test_a_node_that_ends_while_its_seeds_are_looked_up_joins_nobody(storage: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        asked.set()
        await answer.wait()
        return [(None, None, None, "", ("127.0.0.1", 1))]

    async def body() -> None:
        node = ClusterNode(config("a"), NodeStorage.make(InMemoryStore.open()) if storage else None)
        address = await node.start()
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        joining = asyncio.ensure_future(node.join(seeds=[NodeAddress("elsewhere", 1)]))
        await asyncio.wait_for(asked.wait(), 1)
        other = Claim(NodeId("a"), NodeAddress("127.0.0.1", 1), 2**52, 0, ALIVE, NodeId("a"))
        node.datagram(address, encode(Packet("durable", NodeId("b"), 1, None, (other,))))
        answer.set()
        with pytest.raises(NameTaken, match="another process runs as a"):
            await asyncio.wait_for(joining, 1)
        await node.close()

    within(body)


def test_of_two_with_one_name_the_later_one_waits(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with ClusterNode(config("a")) as a:
            seed = await a.start()
            twin = ClusterNode(config("a", seed))
            with pytest.raises((Unreachable, NameTaken)):
                await twin.join(timeout_s=0.3)
            await twin.close()
            assert statuses(a) == {"a": ALIVE}

    within(body)
    assert "already a member" in caplog.text


def test_a_node_whose_name_is_taken_stops_and_says_so() -> None:
    async def body() -> None:
        node = ClusterNode(config("a"))
        address = await node.start()
        other = Claim(NodeId("a"), NodeAddress("127.0.0.1", 1), 2**52, 0, ALIVE, NodeId("a"))
        stranger = SocketTransport(address)
        stopped = asyncio.ensure_future(node.closed())
        await asyncio.sleep(0)
        await stranger.ask(address, MEMBERSHIP + encode(Packet("durable", NodeId("b"), 1, None, (other,))))
        with pytest.raises(NameTaken, match="another process runs as a"):
            await stopped
        await node.close()

    within(body)


def test_intruders_change_nothing_and_are_counted() -> None:
    async def body() -> None:
        async with ClusterNode(config("a", secret_key=SECRET)) as a:
            address = await a.start()
            async with ClusterNode(config("b", address, secret_key=SECRET)) as b:
                before = [(one.node_id, one.status, one.incarnation) for one in a.members()]
                chance = random.Random(1)
                packet = encode(Packet("durable", NodeId("b"), 2**52, Ping(1, NodeId("a"))))
                foreign = Sealed(Keyring(("another-secret-of-tests",), "durable"), SystemEntropy())
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as intruder:
                    for count in range(300):
                        junk = chance.randbytes(chance.randrange(1_500))
                        for data in (junk, b"\x01" + junk, b"\x00" + packet, foreign.seal(packet)):
                            intruder.sendto(data, (address.host, address.port))
                        if count % 20 == 0:
                            await asyncio.sleep(0.01)
                with pytest.raises(Unreachable):
                    await ask_node(address)
                with pytest.raises(Unreachable):
                    await ask_node(address, secret_key="another-secret-of-tests")
                with pytest.raises(Unreachable):
                    await ask_node(address, secret_key=SECRET, cluster_name="other")
                assert [(one.node_id, one.status, one.incarnation) for one in a.members()] == before
                dropped = (await ask_node(address, secret_key=SECRET)).dropped
                assert {"not sealed", "forged", "another key or cluster", "too long"} >= set(dropped) - {"too short"}
                assert dropped["another key or cluster"] >= 200 and dropped["not sealed"] >= 200
                assert len(b.members()) == 2

    within(body)


def test_what_is_no_packet_is_counted() -> None:
    async def body() -> None:
        async with ClusterNode(config("a")) as a:
            address = await a.start()
            transport = SocketTransport(address)
            for question in (b"", b"?", MEMBERSHIP + b"junk"):
                with pytest.raises(Unreachable):
                    await transport.ask(address, question)
            assert a.dropped() == {"unknown question": 2, "unreadable": 1}

    within(body)


def test_whoever_has_the_key_may_look() -> None:
    async def body() -> None:
        async with ClusterNode(config("a", secret_key=SECRET)) as a:
            view = await ask_node(str(await a.start()), secret_key=f"{SECRET},{SECRET}-old")
            assert (view.node_id, [one.node_id for one in view.members], view.health) == ("a", ["a"], 0)
            assert view.members[0].since < 20
        with pytest.raises(Unreachable):
            await ask_node(str(view.members[0].address), secret_key=SECRET)

    within(body)


def test_an_answer_that_is_no_view_is_said_so() -> None:
    class Other:
        def datagram(self, sender: NodeAddress, data: bytes) -> None: ...

        async def question(self, sender: NodeAddress, data: bytes) -> bytes:
            return b"\xff"

    async def body() -> None:
        other = SocketTransport(NodeAddress("127.0.0.1", 0))
        address = await other.open(Other())
        with pytest.raises(ProtocolError, match="no view"):
            await ask_node(address)
        await other.close()

    within(body)


def test_a_loop_that_stood_still_counts_against_the_node_itself() -> None:
    async def body() -> None:
        # A period of 1 s: being woken 0.25 s late is a stall.
        async with ClusterNode(ClusterConfig.default("a", bind_address=NodeAddress("127.0.0.1", 0))) as a:
            await asyncio.sleep(0.01)
            time.sleep(0.8)
            await asyncio.sleep(0.1)  # the late timer
            assert a.view().health == 1

    within(body)


def test_a_listener_that_falls_behind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "EVENTS_MAX", 2)

    async def body() -> None:
        listeners: list[Any] = []
        stream = events_module.EventStream(listeners)
        for change in ("one", "two", "three", "four"):
            stream.put(change)  # type: ignore[arg-type]
        assert [await anext(stream), await anext(stream)] == ["one", "two"]
        with pytest.raises(ClusterError, match="listen anew"):
            await anext(stream)
        assert listeners == []

    within(body)


def test_a_node_that_others_can_reach_without_a_key_does_not_start_or_warns(caplog: pytest.LogCaptureFixture) -> None:
    wide = {"bind_address": NodeAddress("0.0.0.0", 0), "advertise_address": NodeAddress("127.0.0.1", 0)}
    with pytest.raises(NotSecured, match="CLUSTER_SECRET_KEY"):
        ClusterNode(ClusterConfig.lan("a", **wide))

    async def body() -> None:
        node = ClusterNode(ClusterConfig.lan("a", insecure=True, **wide))
        assert (await node.start()).port != 0
        while "without a key" not in caplog.text:
            await asyncio.sleep(0.01)
        await node.close()

    with caplog.at_level(logging.WARNING):
        within(body)


def test_a_node_that_was_not_started_says_so() -> None:
    with pytest.raises(ClusterError, match="has not been started"):
        ClusterNode(config("a")).view()


def test_questions_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "ASKING_MAX", 1)

    async def body() -> None:
        nobody = [NodeAddress("127.0.0.1", port) for port in (1, 2, 3)]
        node = ClusterNode(config("a", *nobody))
        with pytest.raises(Unreachable):
            await node.join(timeout_s=0.05)
        assert node.dropped()["not sent: too many questions"] >= 2
        await node.close()

    within(body)


def test_a_node_without_a_storage_owns_nothing_and_says_so_at_once() -> None:
    async def body() -> None:
        async with ClusterNode(config("a")) as node:
            assert [owned async for owned in node.ownership()] == []

    within(body)


def test_where_invented_members_listen_is_forgotten_and_where_the_real_ones_do_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.cluster.node.ADDRESSES_MAX", 10)

    async def body() -> None:
        first, second = ClusterNode(config("node-1")), ClusterNode(config("node-2"))
        seed = await first.start()
        await second.join(seeds=[seed])
        await until(first, lambda: len(first.members()) == 2)
        for number in range(100):
            gone = Member(NodeId(f"gone-{number}"), NodeAddress("127.0.0.1", 7800), MemberStatus.LEFT, 0, 1, 0.0)
            first._changed(gone)
        assert len(first._addresses) <= 10
        assert {member.node_id: member.address for member in second.members()}.items() <= first._addresses.items()
        await asyncio.gather(first.close(), second.close())

    within(body)
