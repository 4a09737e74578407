"""Strangers on the wire of a running cluster: what they recorded, what they make up, and what they hold open.

Real processes with a key, and one node in this process whose seal writes down every datagram that reaches it: a recording as
an eavesdropper would have it. Each attack ends the same way: every list is what it was, the node answers, and each packet is
counted under its reason. Nothing here waits for a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from durable.cluster import ClusterConfig, ClusterNode, LocalCluster, MemberStatus, NodeAddress, NodeView, ask_node
from durable.errors import ProtocolError, Unreachable
from durable.membership.member import Claim, NodeId
from durable.membership.messages import Packet, Ping, decode, encode
from durable.transports.seal import HELLO_BYTES, Keyring, Sealed
from durable.transports.sockets import SocketTransport
from durable.transports.tcp import FRAME_BYTES_MAX
from durable.world import SystemEntropy

ROOT = Path(__file__).resolve().parents[2]
ALIVE, SUSPECT, DEAD, LEFT = MemberStatus
SECRET, OTHER_SECRET = "a-secret-of-the-tests-1", "another-secret-of-tests"
PACE = {"gossip_interval": 0.5, "suspect_timeout": 1.0, "secret_key": SECRET}
"""Slow enough that a busy machine makes nobody a suspect, fast enough to be found dead within seconds."""

GROWTH_BYTES_MAX = 24 * 2**20
HELD, STRANGERS = 64, 1_000
Lists = dict[str, list[tuple[str, str, int, int]]]


class Recorder(Sealed):
    """A true seal that writes down what arrives, as it was on the wire."""

    def __init__(self) -> None:
        super().__init__(Keyring((SECRET,), "durable"), SystemEntropy())
        self.recorded: list[tuple[bytes, Packet]] = []
        self.heard = asyncio.Event()

    def open(self, datagram: bytes) -> bytes:
        packet = super().open(datagram)
        self.recorded.append((datagram, decode(packet)))
        self.heard.set()
        return packet

    async def until(self, holds: Callable[[Packet], bool]) -> None:
        """Until a packet of that kind has been recorded."""
        while not any(holds(packet) for _, packet in self.recorded):
            self.heard.clear()
            await self.heard.wait()


class Tap:
    """A relay before a node: what callers said, connection by connection."""

    def __init__(self, to: NodeAddress) -> None:
        self.said: list[bytearray] = []
        self._to = to

    @asynccontextmanager
    async def open(self) -> AsyncIterator[NodeAddress]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        yield NodeAddress(*server.sockets[0].getsockname()[:2])
        server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection(self._to.host, self._to.port)
        heard = bytearray()
        self.said.append(heard)
        await asyncio.gather(_copy(reader, back, heard), _copy(onward, writer, bytearray()))
        for one in (writer, back):
            one.close()


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter, heard: bytearray) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(65_536):
            heard += piece
            to.write(piece)
        to.write_eof()


def with_cluster(n: int, body: Callable[[LocalCluster], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(120), LocalCluster(n, preset="default", **PACE) as cluster:
            await body(cluster)

    asyncio.run(run())


async def lists(cluster: LocalCluster) -> Lists:
    """What every process believes now: each member's name, status, life and incarnation."""
    views = [await cluster.view(node) for node in cluster.running]
    return {view.node_id: [(m.node_id, m.status.name, m.boot, m.incarnation) for m in view.members] for view in views}


def believed(cluster: LocalCluster, node: str, status: MemberStatus) -> Callable[[], bool]:
    return lambda: set(cluster.beliefs_about(node).values()) == {status}


async def send(packets: list[bytes], to: NodeAddress, times: int = 1) -> None:
    """Datagrams from a stranger's socket; the node answers a true question after each handful, so none is lost in a full
    buffer.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(times):
            for begin in range(0, len(packets), 50):
                for packet in packets[begin : begin + 50]:
                    stranger.sendto(packet, (to.host, to.port))
                await look(to)


async def look(to: NodeAddress) -> NodeView:
    return await ask_node(to, secret_key=SECRET)


async def counted(to: NodeAddress, *reasons: str, times: int) -> Counter[str]:
    """What the node has dropped, once there are so many of these reasons together."""
    while True:
        dropped = Counter((await look(to)).dropped)
        if sum(dropped[reason] for reason in reasons) >= times:
            return dropped


async def say(words: bytes, to: NodeAddress) -> bytes:
    """Say it on a connection; all that is answered until the node hangs up."""
    reader, writer = await asyncio.open_connection(to.host, to.port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        writer.write(words)
        writer.write_eof()
        answer = await reader.read()
    writer.transport.abort()
    return answer


def test_what_was_recorded_and_is_sent_again_kills_nobody() -> None:
    """Deaths for real, recorded on their way: of a process that was then started again, and of one that was stopped, refuted
    and lives on. Sent again to everybody, in the next life and in the same one.
    """

    async def body(cluster: LocalCluster) -> None:
        recorder, tap = Recorder(), Tap(cluster.address("node-1"))
        async with tap.open() as seed:
            config = ClusterConfig.default("listener", bind_address=NodeAddress("127.0.0.1", 0), seed_nodes=[seed], **PACE)
            listener = ClusterNode(config, transport=SocketTransport(config.bind_address, recorder))
            address = await listener.start()
            await listener.join()

            await cluster.kill("node-3")
            await cluster.pause("node-2")
            for victim in ("node-2", "node-3"):
                await cluster.wait_until(believed(cluster, victim, DEAD))
                await recorder.until(lambda packet, victim=victim: _says(packet, victim, DEAD))  # type: ignore[misc]
            await cluster.resume("node-2")
            await cluster.restart("node-3")
            everybody = ("node-1", "node-2", "node-3", "node-4")
            await cluster.wait_until(lambda: all(believed(cluster, node, ALIVE)() for node in everybody))
            await recorder.until(lambda packet: any(_refutes(claim) for claim in packet.claims))

            before, beliefs = await lists(cluster), len(cluster.history)
            again = {line[3] for seen in before.values() for line in seen if line[0] == "node-3"}
            assert again == {0}, "a new life was let in as it is: it had nothing to answer for"
            recorded = [datagram for datagram, _ in recorder.recorded]
            assert sum(_says(packet, "node-3", DEAD) for _, packet in recorder.recorded) > 0
            targets = [*map(cluster.address, everybody), address]
            for target in targets:
                await send(recorded, target, times=2)
            for target in targets:  # each has seen every one of them at least once more than it may count
                await counted(target, "replayed", "too old", "own echo", times=len(recorded))
            for words in list(tap.said):
                await say(bytes(words), cluster.address("node-1"))
            assert (await counted(cluster.address("node-1"), "forged", times=1))["forged"] >= len(tap.said) - 1
            assert await lists(cluster) == before
            assert len(cluster.history) == beliefs, "nobody changed its mind about anybody"
            await listener.leave()

    with_cluster(4, body)


def _says(packet: Packet, name: str, status: MemberStatus) -> bool:
    return any(claim.node_id == name and claim.status is status for claim in packet.claims)


def _refutes(claim: Claim) -> bool:
    return claim.node_id == "node-2" and claim.status is ALIVE and claim.incarnation > 0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_strangers_without_end_cost_a_member_neither_its_place_nor_its_memory() -> None:
    async def body(cluster: LocalCluster) -> None:
        target, process_id = cluster.address("node-1"), cluster.process_id("node-1")
        tap = Tap(target)
        async with tap.open() as way:
            await look(way)
        words = bytes(tap.said[0])
        before, beliefs = await lists(cluster), len(cluster.history)
        await made_up_datagrams(target, count=500)
        await made_up_frames(target, words, count=50)
        peak = peak_bytes(process_id)
        with room_for_connections():
            for _ in range(3):
                await made_up_datagrams(target, count=1_500)
                await made_up_frames(target, words, count=150)
                await strangers_who_hold_on(target, words[:HELLO_BYTES])
                assert peak_bytes(process_id) - peak < GROWTH_BYTES_MAX
        await other_members(target)

        assert await lists(cluster) == before
        assert len(cluster.history) == beliefs
        dropped = (await look(target)).dropped
        expected = {"not sealed", "forged", "another key or cluster", "too long", "too short", "not one of ours"}
        assert expected | {"too many connections", "hung up"} <= set(dropped)
        shown = subprocess.run(
            [sys.executable, "-m", "durable", "members", "--seed", str(target)],
            env={"PYTHONPATH": str(ROOT), "CLUSTER_SECRET_KEY": SECRET}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for reason in expected:
            assert reason in shown

    with_cluster(3, body)


def peak_bytes(process_id: int) -> int:
    """The most memory that a process ever had."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextlib.contextmanager
def room_for_connections() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = STRANGERS + HELD + 256
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this user may open {hard} files; a thousand connections need {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def made_up_datagrams(to: NodeAddress, count: int) -> None:
    """Noise; true packets under a wrong key, of a wrong cluster, under no key; true ones with a byte changed, cut or grown."""
    chance = random.Random(count)
    dead = Claim(NodeId("node-2"), NodeAddress("127.0.0.1", 1), 2**52, 9, DEAD, NodeId("node-3"))
    packet = encode(Packet("durable", NodeId("node-3"), 2**52, Ping(1, NodeId("node-1")), (dead,)))
    foreign = [Sealed(Keyring((key,), name), SystemEntropy()) for key, name in ((OTHER_SECRET, "durable"), (SECRET, "other"))]
    true = Sealed(Keyring((SECRET,), "durable"), SystemEntropy())
    made: list[bytes] = []
    while len(made) < count:
        sealed = bytearray(true.seal(packet))
        sealed[chance.randrange(29, len(sealed))] ^= 1 << chance.randrange(8)
        grown = true.seal(packet) + chance.randbytes(chance.randrange(1, 2_000))
        cut, noise = true.seal(packet)[: chance.randrange(len(sealed))], chance.randbytes(chance.randrange(1_500))
        made += [bytes(sealed), grown, cut, noise]
        made += [one.seal(packet) for one in foreign] + [b"\0" + packet, b""]
    await send(made[:count], to)


async def made_up_frames(to: NodeAddress, words: bytes, count: int) -> None:
    """Conversations that begin as true ones and go wrong, or never began as one."""
    chance = random.Random(count)
    for number in range(count):
        changed = bytearray(words)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        cut, noise = words[: chance.randrange(len(words))], chance.randbytes(chance.randrange(200))
        too_long = words[:HELLO_BYTES] + b"\xff" * 400
        await say((bytes(changed), cut, noise, too_long)[number % 4], to)
    await look(to)


async def strangers_who_hold_on(to: NodeAddress, hello: bytes) -> None:
    """A thousand connections that say nothing or half a hello, and `HELD` that recorded a true one and then send, as far as they
    are read from, all but the last byte of the longest frame. A member asks between them, and is answered.
    """
    frame = (FRAME_BYTES_MAX + 16).to_bytes(4, "big") + bytes(FRAME_BYTES_MAX)
    writers: list[asyncio.StreamWriter] = []
    try:
        for number in range(STRANGERS):
            _, writer = await asyncio.open_connection(to.host, to.port)
            writers.append(writer)
            if number % 2:
                writer.write(hello[:20])
            if number % 100 == 99:
                await look(to)
        for _ in range(HELD):
            reader, writer = await asyncio.open_connection(to.host, to.port)
            writers.append(writer)
            writer.write(hello)
            await reader.readexactly(HELLO_BYTES)
            writer.write(frame)
        for _ in range(20):  # turns of the node's loop, in which it could read on
            await look(to)
    finally:
        for writer in writers:
            writer.transport.abort()
    await look(to)


async def other_members(to: NodeAddress) -> None:
    """Whole nodes with another key, of another cluster, or with no key: none is let in, and each is told what to compare."""
    for other in ({"secret_key": OTHER_SECRET}, {"secret_key": SECRET, "cluster_name": "other"}, {}):
        config = ClusterConfig.lan("node-9", bind_address=NodeAddress("127.0.0.1", 0), seed_nodes=[to], **other)
        node = ClusterNode(config)
        with pytest.raises(Unreachable, match="let node-9 in"):
            await node.join(timeout_s=0.5)
        assert len(node.members()) == 1
        await node.close()
        with pytest.raises((Unreachable, ProtocolError)):
            await ask_node(to, **other)
