"""Bytes between two transports: what arrives, what is dropped and counted, and the bounds on strangers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durable.errors import Unreachable
from durable.membership.member import NodeAddress
from durable.ports import Link
from durable.transports import tcp
from durable.transports.cut import CutTransport
from durable.transports.names import Names
from durable.transports.seal import Keyring, Seal, Sealed, Unsealed
from durable.transports.sockets import SocketTransport
from durable.world import SystemEntropy

LOOPBACK = NodeAddress("127.0.0.1", 0)
SECRET = "a-secret-of-the-tests-1"


class Heard:
    """A receiver that keeps what it hears, and says everything back."""

    def __init__(self) -> None:
        self.datagrams: asyncio.Queue[tuple[NodeAddress, bytes]] = asyncio.Queue()
        self.answer: bytes | None = b"heard: "

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        self.datagrams.put_nowait((sender, data))

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        return None if self.answer is None else self.answer + data

    def frame(self, link: Link, data: bytes) -> None:
        raise AssertionError("no links here: see test_links")

    def link_lost(self, link: Link) -> None:
        raise AssertionError("no links here: see test_links")


def key(secret: str = SECRET, cluster: str = "durable") -> Sealed:
    return Sealed(Keyring((secret,), cluster), SystemEntropy())


Pair = tuple[SocketTransport, NodeAddress, SocketTransport, NodeAddress, Heard]


def between(body: Callable[..., Awaitable[None]], seals: Callable[[], tuple[Seal, Seal]]) -> None:
    """Run with two transports; the second one's receiver is the one to look at."""

    async def run() -> None:
        a, b = (SocketTransport(LOOPBACK, seal) for seal in seals())
        heard = Heard()
        at_a, at_b = await a.open(Heard()), await b.open(heard)
        try:
            async with asyncio.timeout(20):
                await body(a, at_a, b, at_b, heard)
        finally:
            await a.close()
            await b.close()
            await b.close()

    asyncio.run(run())


async def counted(dropped: Any, reason: str, times: int = 1) -> None:
    """Until so many were dropped for that reason. Nothing tells of it, so this looks."""
    while dropped[reason] < times:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("seals", [lambda: (Unsealed(), Unsealed()), lambda: (key(), key())], ids=["open", "sealed"])
def test_datagrams_and_questions_arrive_on_one_port_number(seals: Any) -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        a.send(at_b, b"hello")
        assert await heard.datagrams.get() == (at_a, b"hello")
        assert await a.ask(at_b, b"who?") == b"heard: who?"
        long = b"x" * (tcp.FRAME_BYTES_MAX // 2)
        assert await a.ask(at_b, long) == b"heard: " + long
        assert not b.dropped

    between(body, seals)


def test_the_same_port_can_be_bound_again_at_once_and_not_twice() -> None:
    async def run() -> None:
        first = SocketTransport(LOOPBACK)
        address = await first.open(Heard())
        with pytest.raises(OSError, match="in use"):
            await SocketTransport(address).open(Heard())
        await SocketTransport(LOOPBACK).ask(address, b"x")  # leaves a connection behind
        await first.close()
        second = SocketTransport(address)
        assert await second.open(Heard()) == address
        await second.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("seals", "reason"),
    [
        (lambda: (Unsealed(), key()), "not sealed"),
        (lambda: (key(), Unsealed()), "sealed, and no key here"),
        (lambda: (key("another-secret-of-tests"), key()), "another key or cluster"),
        (lambda: (key(cluster="other"), key()), "another key or cluster"),
    ],
)
def test_strangers_are_counted_and_not_heard(seals: Any, reason: str) -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        a.send(at_b, b"hello")
        await counted(b.dropped, reason)
        with pytest.raises(Unreachable, match="another key or cluster"):
            await a.ask(at_b, b"who?")
        await counted(b.dropped, reason, 2)
        assert heard.datagrams.empty()

    between(body, seals)


def test_a_cluster_of_another_name_is_told_who_is_there_and_gets_no_link() -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        assert await a.ask(at_b, b"who?") == b"heard: who?"
        with pytest.raises(Unreachable, match=r"not as one of ours \(another cluster\)"):
            await a.connect(at_b)
        await counted(b.dropped, "another cluster")
        assert a.dropped["another cluster"] == 1

    between(body, lambda: (Unsealed("prod"), Unsealed("staging")))


def test_a_recorded_datagram_counts_once_and_a_long_one_never() -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        recorded = key().seal(b"node-3 is dead")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for data in (recorded, recorded, b"\x01" * 1_401, b"", b"\x00junk"):
                stranger.sendto(data, (at_b.host, at_b.port))
        await counted(b.dropped, "replayed")
        await counted(b.dropped, "too long")
        await counted(b.dropped, "not sealed", 2)
        assert heard.datagrams.qsize() == 1

    between(body, lambda: (key(), key()))


def test_nobody_there_is_unreachable_and_a_datagram_to_nobody_is_lost() -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        await b.close()
        with pytest.raises(Unreachable, match="cannot connect"):
            await a.ask(at_b, b"who?")
        a.send(at_b, b"hello")
        a.send(at_b, b"hello")
        await a.close()
        a.send(at_b, b"hello")

    between(body, lambda: (key(), key()))


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_name_that_no_host_can_have_is_unreachable_and_a_datagram_to_it_is_lost(host: str) -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        nobody = NodeAddress(host, 1)
        with pytest.raises(Unreachable, match="cannot connect"):
            await SocketTransport(None).ask(nobody, b"?")
        with pytest.raises(Unreachable, match="cannot connect"):
            await a.connect(nobody)
        a.send(nobody, b"hello")
        with pytest.raises(OSError, match=f"cannot listen on {host}:1: .*Nothing was started"):
            await SocketTransport(nobody).open(heard)

    between(body, lambda: (Unsealed(), Unsealed()))


def test_a_name_that_no_host_can_have_is_not_known_when_it_was_looked_up() -> None:
    async def run() -> None:
        names = Names(socket.AF_INET)
        assert names.address("a..b") is None
        assert await asyncio.gather(*names._asking.values()) == [None]
        assert names.address("a..b") is None
        names.close()

    asyncio.run(run())


def test_no_answer_is_unreachable() -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        heard.answer = None
        with pytest.raises(Unreachable, match="no answer"):
            await a.ask(at_b, b"who?")

    between(body, lambda: (key(), key()))


def test_a_length_beyond_the_bound_closes_the_connection_before_anything_is_read() -> None:
    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        reader, writer = await asyncio.open_connection(at_b.host, at_b.port)
        writer.write(Unsealed().hello())
        await reader.readexactly(tcp.WELCOME_BYTES)
        writer.write(b"\xff\xff\xff\xff")
        assert await reader.read() == b""
        await counted(b.dropped, "too long")
        writer.close()

    between(body, lambda: (Unsealed(), Unsealed()))


def test_a_slow_greeting_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "QUESTION_S", 0.05)

    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        reader, writer = await asyncio.open_connection(at_b.host, at_b.port)
        writer.write(b"dur1")
        assert await reader.read() == b""
        await counted(b.dropped, "too slow")
        writer.close()

    between(body, lambda: (key(), key()))


def test_connections_that_say_nothing_make_room_for_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "CONNECTIONS_MAX", 10)

    async def body(a: Any, at_a: Any, b: Any, at_b: Any, heard: Heard) -> None:
        strangers = [await asyncio.open_connection(at_b.host, at_b.port) for _ in range(50)]
        assert await a.ask(at_b, b"who?") == b"heard: who?"
        await counted(b.dropped, "too many connections", 40)
        assert len(b._streams) <= 10
        for _, writer in strangers:
            writer.close()

    between(body, lambda: (key(), key()))


def test_a_cut_stops_both_ways_until_it_is_taken_back() -> None:
    async def run() -> None:
        heard_a, heard_b = Heard(), Heard()
        a, b = CutTransport(SocketTransport(LOOPBACK)), CutTransport(SocketTransport(LOOPBACK))
        at_a, at_b = await a.open(heard_a), await b.open(heard_b)
        a.cut([at_b])
        a.send(at_b, b"lost")
        b.send(at_a, b"lost")
        with pytest.raises(Unreachable, match="cut off"):
            await a.ask(at_b, b"who?")
        await counted(a.dropped, "cut", 3)
        a.cut([])
        a.send(at_b, b"heard")
        assert (await heard_b.datagrams.get())[1] == b"heard"
        assert await a.ask(at_b, b"who?") == b"heard: who?"
        assert heard_a.datagrams.empty()
        await a.close()
        await b.close()

    asyncio.run(run())


def test_a_cut_of_one_way_lets_the_other_way_through() -> None:
    async def run() -> None:
        heard_a, heard_b = Heard(), Heard()
        a, b = CutTransport(SocketTransport(LOOPBACK)), CutTransport(SocketTransport(LOOPBACK))
        at_a, at_b = await a.open(heard_a), await b.open(heard_b)
        a.cut([], deaf=[at_b])
        b.cut([], mute=[at_a])
        a.send(at_b, b"heard")
        assert (await heard_b.datagrams.get())[1] == b"heard"
        b.send(at_a, b"lost")
        with pytest.raises(Unreachable, match="cut off"):
            await b.ask(at_a, b"who?")
        with pytest.raises(Unreachable, match="cut off"):
            await a.ask(at_b, b"who?")  # heard, and the answer is lost
        assert (a.dropped["cut"], b.dropped["cut"]) == (1, 2)
        b.cut([])
        b.send(at_a, b"lost at its end")
        await counted(a.dropped, "cut", 2)
        assert heard_a.datagrams.empty()
        a.cut([])
        b.send(at_a, b"healed")
        assert (await heard_a.datagrams.get())[1] == b"healed"
        assert await a.ask(at_b, b"who?") == b"heard: who?"
        await a.close()
        await b.close()

    asyncio.run(run())


def test_a_name_is_looked_up_beside_the_loop() -> None:
    async def run() -> None:
        names = Names(socket.AF_INET)
        assert names.address("127.0.0.1") == "127.0.0.1"
        assert names.address("localhost") is None
        await asyncio.gather(*names._asking.values())
        assert names.address("localhost") == "127.0.0.1"
        names.close()

    asyncio.run(run())
