"""Links: frames both ways and in order, over sockets that break, with strangers at the door."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nodes import asynchronous, turns, until

from durable.errors import Unreachable
from durable.membership.member import NodeAddress
from durable.ports import Link
from durable.transports import links as links_module
from durable.transports import tcp
from durable.transports.cut import CutTransport
from durable.transports.framing import Splitter, pack_frames
from durable.transports.seal import WELCOME_BYTES, Keyring, Rejected, Seal, Sealed, Unsealed
from durable.transports.sockets import NOWHERE, SocketTransport
from durable.world import SystemEntropy

LOOPBACK = NodeAddress("127.0.0.1", 0)
SECRET = "a-secret-of-the-tests-1"


def key(secret: str = SECRET, cluster: str = "durable") -> Sealed:
    return Sealed(Keyring((secret,), cluster), SystemEntropy())


class Ear:
    """A receiver that keeps frames, and the links on which they came."""

    def __init__(self, answers: bool = False) -> None:
        self.heard: list[bytes] = []
        self.links: dict[Link, None] = {}
        self.lost: list[Link] = []
        self.answers = answers

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        self.heard.append(data)

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        return b"answer to " + data

    def frame(self, link: Link, data: bytes) -> None:
        assert link not in self.lost, "nothing comes from a link that is lost"
        self.links[link] = None
        self.heard.append(data)
        if self.answers:
            link.send(b"re: " + data)

    def link_lost(self, link: Link) -> None:
        assert link not in self.lost, "told once"
        self.lost.append(link)


class End:
    """A transport and its ear."""

    def __init__(self, transport: Any, ear: Ear, at: NodeAddress) -> None:
        self.transport, self.ear, self.at = transport, ear, at

    @property
    def dropped(self) -> Counter[str]:
        return self.transport.dropped  # type: ignore[no-any-return]


async def end(seal: Seal | None = None, *, answers: bool = False, cut: bool = False, bind: NodeAddress | None = LOOPBACK) -> End:
    transport: Any = SocketTransport(bind, seal)
    transport = CutTransport(transport) if cut else transport
    ear = Ear(answers)
    return End(transport, ear, await transport.open(ear))


Body = Callable[[End, End], Awaitable[None]]


def between(body: Body, seal: Callable[[], Seal] = Unsealed, **how: Any) -> None:
    """Run with two ends, the second of which answers."""

    async def run() -> None:
        a, b = await end(seal(), **how), await end(seal(), answers=True, **how)
        try:
            async with asyncio.timeout(20):
                await body(a, b)
        finally:
            await a.transport.close()
            await b.transport.close()

    asyncio.run(run())


@pytest.mark.parametrize("seal", [Unsealed, key])
def test_frames_travel_both_ways_in_order_and_every_size(seal: Any) -> None:
    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        sent = [str(n).encode() * (1 + n % 7) for n in range(3_000)] + [b"x" * 3_000_000, b"last"]
        assert all(link.send(frame) for frame in sent)
        await until(lambda: len(a.ear.heard) == len(sent))
        assert b.ear.heard == sent
        assert a.ear.heard == [b"re: " + frame for frame in sent]
        assert list(a.ear.links) == [link], "one link, both ways"
        assert not a.dropped and not b.dropped

    between(body, seal)


def test_each_side_knows_who_the_other_is() -> None:
    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        assert link.peer == b.at
        link.send(b"hello")
        await until(lambda: b.ear.links)
        assert next(iter(b.ear.links)).peer == a.at, "where it listens, not where it calls from"
        outside = await end(bind=None)
        assert outside.at == NOWHERE
        (await outside.transport.connect(b.at)).send(b"hello")
        await until(lambda: len(b.ear.links) == 2)
        assert list(b.ear.links)[1].peer not in (a.at, NOWHERE)
        await outside.transport.close()

    between(body)


def test_an_advertised_address_is_what_others_hear() -> None:
    async def run() -> None:
        b = await end()
        ear = Ear()
        a = SocketTransport(LOOPBACK, advertise=NodeAddress("node-7.internal", 0))
        bound = await a.open(ear)
        (await a.connect(b.at)).send(b"hello")
        await until(lambda: b.ear.links)
        assert next(iter(b.ear.links)).peer == NodeAddress("node-7.internal", bound.port)
        await a.close()
        await b.transport.close()

    asyncio.run(run())


def test_what_is_sent_in_one_moment_is_one_write() -> None:
    async def body(a: End, b: End) -> None:
        link: Any = await a.transport.connect(b.at)
        written: list[int] = []
        write = link._writer.write

        def counted(data: bytes) -> None:
            written.append(len(data))
            write(data)

        link._writer.write = counted
        for _ in range(500):
            link.send(b"small")
        await until(lambda: len(b.ear.heard) == 500)
        assert len(written) == 1

    between(body, key)


def test_a_lost_link_is_told_once_to_both_and_takes_nothing_more() -> None:
    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        link.send(b"hello")
        await until(lambda: a.ear.heard)
        link.send(b"goodbye")
        await link.close()
        await link.close()
        assert link.closed and not link.send(b"more")
        await until(lambda: a.ear.lost and b.ear.lost)
        assert b.ear.heard == [b"hello", b"goodbye"], "closing sends what waits"
        assert a.ear.lost == [link] and b.ear.lost == list(b.ear.links)
        await until(lambda: not len(a.transport._streams.links) and not len(b.transport._streams.links))

    between(body)


def test_a_transport_that_closes_ends_its_links() -> None:
    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        link.send(b"hello")
        await until(lambda: a.ear.heard)
        await b.transport.close()
        await until(lambda: a.ear.lost == [link])
        assert b.ear.lost == list(b.ear.links)
        with pytest.raises(Unreachable, match="cannot connect"):
            await a.transport.connect(b.at)

    between(body)


def test_a_full_link_says_so_and_keeps_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "LINK_BYTES_MAX", 1_000)

    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        took = [link.send(b"x" * 300) for _ in range(5)]
        assert took == [True, True, True, False, False]
        assert a.dropped["not sent: link is full"] == 2
        await until(lambda: len(b.ear.heard) == 3)
        assert link.send(b"again")

    between(body)


def test_frames_that_are_empty_or_too_long_are_refused_where_they_are_made() -> None:
    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        for size in (0, links_module.LINK_FRAME_BYTES_MAX + 1):
            with pytest.raises(ValueError, match="must be 1 to"):
                link.send(bytes(size))

    between(body)


def test_idle_links_live_and_silent_ones_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "KEEPALIVE_S", 0.01)

    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not link.closed and not b.ear.heard, "kept alive by frames that nobody hears of"
        accepted = next(iter(b.transport._streams.links._links))
        accepted._timer.cancel()  # it falls silent
        await until(lambda: a.ear.lost == [link])
        assert a.dropped == {"link is silent": 1}

    between(body)


def test_links_have_a_cap_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "LINKS_MAX", 3)

    async def body(a: End, b: End) -> None:
        others = [await end(bind=None) for _ in range(4)]
        for other in others[:3]:
            (await other.transport.connect(b.at)).send(b"hello")
        with pytest.raises(Unreachable, match="closed the connection"):
            await others[3].transport.connect(b.at)
        assert b.dropped == {"too many links": 1}
        assert await a.transport.ask(b.at, b"?") == b"answer to ?", "questions have room all the same"
        for other in others:
            await other.transport.close()
        await until(lambda: len(b.ear.lost) == 3)
        await a.transport.connect(b.at)

    between(body)


@pytest.mark.parametrize(
    ("mine", "theirs", "reason"),
    [
        (Unsealed, key, "not sealed"),
        (key, Unsealed, "sealed, and no key here"),
        (lambda: key("another-secret-of-tests"), key, "another key or cluster"),
        (lambda: key(cluster="other"), key, "another key or cluster"),
    ],
)
def test_strangers_get_no_link(mine: Any, theirs: Any, reason: str) -> None:
    async def run() -> None:
        a, b = await end(mine()), await end(theirs())
        with pytest.raises(Unreachable, match="another key or cluster"):
            await a.transport.connect(b.at)
        assert b.dropped == {reason: 1}
        assert not len(b.transport._streams.links) and not b.ear.lost
        await a.transport.close()
        await b.transport.close()

    asyncio.run(run())


# --- fuzz: whatever bytes arrive, nothing changes but a counter ---------------------------------------------------------


async def raw(b: End, seal: Seal) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]:
    """A connection that was greeted by hand."""
    reader, writer = await asyncio.open_connection(b.at.host, b.at.port)
    hello = seal.hello()
    writer.write(hello)
    return reader, writer, seal.enter(hello, await reader.readexactly(WELCOME_BYTES))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(noise=st.binary(min_size=1, max_size=400), linked=st.booleans())
def test_noise_at_any_stage_is_counted_and_changes_nothing(noise: bytes, linked: bool) -> None:
    async def body(a: End, b: End) -> None:
        good = await a.transport.connect(b.at)
        reader, writer, channel = await raw(b, key())
        if linked:
            writer.write(pack_frames(channel, [tcp.LINK + b"\xc0"]))
            await reader.readexactly(4 + 1 + 16)
        writer.write(noise)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await until(lambda: sum(b.dropped.values()) == 1)
        assert set(b.dropped) <= {"too long", "too short", "forged", "hung up"}
        assert not b.ear.heard, "not a byte of it was believed"
        good.send(b"still here")
        await until(lambda: a.ear.heard == [b"re: still here"])
        assert len(b.ear.lost) == linked

    between(body, key)


@settings(max_examples=40, deadline=None)
@given(
    frames=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=8),
    at=st.integers(min_value=0),
    bit=st.integers(min_value=0, max_value=7),
)
def test_a_flipped_bit_ends_the_stream_there(frames: list[bytes], at: int, bit: int) -> None:
    mine, theirs = key(), key()
    hello = mine.hello()
    welcome, acceptor = theirs.welcome(hello)
    caller = mine.enter(hello, welcome)
    stream = bytearray(pack_frames(caller, frames))
    stream[at % len(stream)] ^= 1 << bit
    heard: list[bytes] = []
    splitter = Splitter(acceptor, 1_000)
    try:
        for frame in splitter.feed(bytes(stream)):
            heard.append(frame)
    except Rejected:
        pass
    assert heard == frames[: len(heard)] and len(heard) < len(frames)


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.binary(max_size=60), max_size=10), cuts=st.lists(st.integers(min_value=1, max_value=70), min_size=1))
def test_frames_are_the_same_however_the_stream_is_cut(frames: list[bytes], cuts: list[int]) -> None:
    mine, theirs = key(), key()
    hello = mine.hello()
    welcome, acceptor = theirs.welcome(hello)
    stream = pack_frames(mine.enter(hello, welcome), frames)
    splitter, heard, position, turn = Splitter(acceptor, 60), list[bytes](), 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        heard.extend(splitter.feed(stream[position : position + size]))
        position, turn = position + size, turn + 1
    assert heard == frames and not splitter.inside


def test_a_replayed_frame_ends_the_link_and_is_not_heard_twice() -> None:
    async def body(a: End, b: End) -> None:
        reader, writer, channel = await raw(b, key())
        writer.write(pack_frames(channel, [tcp.LINK + b"\xc0"]))
        recorded = pack_frames(channel, [b"pay"])
        writer.write(recorded + recorded)
        await reader.read()
        await until(lambda: b.ear.lost)
        assert b.ear.heard == [b"pay"] and b.dropped == {"forged": 1}
        writer.close()

    between(body, key)


def test_a_whole_connection_that_is_replayed_says_nothing() -> None:
    async def body(a: End, b: End) -> None:
        _, writer, channel = await raw(b, key())
        told = pack_frames(channel, [tcp.LINK + b"\xc0", b"pay"])
        writer.write(told)
        await until(lambda: b.ear.heard == [b"pay"])
        writer.close()
        again, out = await asyncio.open_connection(b.at.host, b.at.port)
        out.write(key().hello() + told)
        await again.read()
        await until(lambda: b.dropped["forged"])
        assert b.ear.heard == [b"pay"], "the acceptor's part of the greeting was new"
        out.close()

    between(body, key)


def test_a_length_beyond_the_bound_is_refused_before_anything_is_allocated() -> None:
    async def body(a: End, b: End) -> None:
        for first in (b"", pack_frames(Unsealed().welcome(Unsealed().hello())[1], [tcp.LINK + b"\xc0"])):
            reader, writer, _ = await raw(b, Unsealed())
            writer.write(first + b"\xff\xff\xff\xff" + b"x" * 100)
            await reader.read()
            writer.close()
        await until(lambda: b.dropped == {"too long": 2})

    between(body)


def test_what_comes_before_the_proof_is_short() -> None:
    async def body(a: End, b: End) -> None:
        reader, writer, _ = await raw(b, key())
        writer.write((tcp.FIRST_BYTES_MAX + 100).to_bytes(4, "big"))
        assert await reader.read() == b""
        assert b.dropped == {"too long": 1}
        writer.close()

    between(body, key)


@pytest.mark.parametrize("first", [b"z", b"", b"l", b"l\xff", b"l\x92\xa0", b"q and more"])
def test_an_unknown_first_frame_ends_it(first: bytes) -> None:
    async def body(a: End, b: End) -> None:
        reader, writer, channel = await raw(b, key())
        writer.write(pack_frames(channel, [first]))
        assert await reader.read() == b""
        assert sum(b.dropped.values()) == 1 and set(b.dropped) <= {"not one of ours", "unreadable"}
        writer.close()

    between(body, key)


def test_who_does_not_finish_greeting_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "QUESTION_S", 0.05)

    async def body(a: End, b: End) -> None:
        reader, writer, _ = await raw(b, key())
        assert await reader.read() == b""
        await until(lambda: b.dropped == {"too slow": 1})
        silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="did not answer"):
            await a.transport.connect(NodeAddress("127.0.0.1", port))
        silent.close()
        writer.close()

    between(body, key)


def test_a_thousand_strangers_cost_a_link_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "CONNECTIONS_MAX", 32)

    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        link.send(b"before")
        await until(lambda: a.ear.heard)
        gc.collect()
        tracemalloc.start()
        for _ in range(20):
            callers = [await asyncio.open_connection(b.at.host, b.at.port) for _ in range(50)]
            for _, writer in callers:
                writer.write(b"dur1 and what a stranger may say" * 2)
            await asyncio.gather(*[reader.read() for reader, _ in callers], return_exceptions=True)
            for _, writer in callers:
                writer.close()
        await until(lambda: sum(b.dropped.values()) >= 1_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert grown < 2_000_000
        assert not link.closed and len(b.transport._streams) <= 32 and len(b.transport._streams.links) == 1
        link.send(b"after")
        await until(lambda: len(a.ear.heard) == 2)

    between(body, key)


# --- a network that is cut, or bad ---------------------------------------------------------------------------------------


def test_a_cut_ends_links_from_either_side_and_refuses_new_ones() -> None:
    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        link.send(b"before")
        await until(lambda: a.ear.heard)
        b.transport.cut([a.at])  # the side that accepted it
        assert not next(iter(b.ear.links)).send(b"lost")
        await until(lambda: a.ear.lost == [link] and b.ear.lost == list(b.ear.links))
        with pytest.raises(Unreachable, match="cut off"):
            await b.transport.connect(a.at)
        silent = await a.transport.connect(b.at)  # its first frame says who it is, and ends it
        silent.send(b"who is it?")
        await until(lambda: silent.closed)
        assert b.ear.heard == [b"before"]
        b.transport.cut([])
        a.transport.cut([b.at])
        with pytest.raises(Unreachable, match="cut off"):
            await a.transport.connect(b.at)
        a.transport.cut([])
        (await a.transport.connect(b.at)).send(b"healed")
        await until(lambda: b.ear.heard == [b"before", b"healed"])

    between(body, cut=True)


def test_a_link_goes_on_one_way_through_a_cut_of_the_other_and_ends_with_it() -> None:
    async def body(a: End, b: End) -> None:
        link = await a.transport.connect(b.at)
        link.send(b"before")
        await until(lambda: a.ear.heard == [b"re: before"])
        (back,) = b.ear.links
        a.transport.cut([], deaf=[b.at])
        link.send(b"this way")
        await until(lambda: b"this way" in b.ear.heard)
        assert back.send(b"lost")
        await until(lambda: a.dropped["cut"] == 2)
        assert a.ear.heard == [b"re: before"] and not link.closed and not back.closed
        with pytest.raises(Unreachable, match="cut off"):
            await a.transport.connect(b.at)
        b.transport.cut([], mute=[a.at])
        assert back.send(b"lost") and b.dropped["cut"] == 1
        with pytest.raises(Unreachable, match="cut off"):
            await b.transport.connect(a.at)
        a.transport.cut([])
        await until(lambda: link.closed and back.closed)  # something is missing in it
        b.transport.cut([])
        (await a.transport.connect(b.at)).send(b"healed")
        await until(lambda: b"healed" in b.ear.heard)

    between(body, cut=True)


def test_late_frames_keep_their_order_and_breaks_break() -> None:
    async def body(a: End, b: End) -> None:
        a.transport.faults(delay_s=0.02, seed=7)
        link = await a.transport.connect(b.at)
        sent = [str(n).encode() for n in range(200)]
        assert all(link.send(frame) for frame in sent)
        assert not b.ear.heard
        await until(lambda: b.ear.heard == sent)
        a.transport.faults(breaks=0.5, seed=7)
        survived = 0
        while link.send(b"more"):
            survived += 1
        assert link.closed and a.dropped["broken"] == 1 and survived < 20
        await until(lambda: a.ear.lost == [link])
        a.transport.faults()
        assert (await a.transport.connect(b.at)).send(b"good again")

    between(body, cut=True)


def test_datagrams_are_lost_as_the_seed_says() -> None:
    async def body(a: End, b: End) -> None:
        a.transport.faults(loss=0.5, seed=3)
        for n in range(100):
            a.transport.send(b.at, bytes([n]))
        lost = a.dropped["lost"]
        assert 30 < lost < 70
        await until(lambda: len(b.ear.heard) == 100 - lost)
        a.transport.faults(loss=0.0, delay_s=0.01)
        a.transport.send(b.at, b"late")
        await until(lambda: b.ear.heard[-1] == b"late")
        with pytest.raises(ValueError, match="within 0 and 1"):
            a.transport.faults(loss=2)

    between(body, cut=True)


@asynchronous
async def test_a_link_that_dies_while_frames_are_late_sends_none_of_them() -> None:
    a, b = await end(cut=True), await end(answers=True)
    a.transport.faults(delay_s=5.0)
    link = await a.transport.connect(b.at)
    assert link.send(b"late")
    link.abort()
    await until(lambda: a.ear.lost == [link])
    await turns()
    assert not b.ear.heard and not link._late
    await a.transport.close()
    await b.transport.close()
