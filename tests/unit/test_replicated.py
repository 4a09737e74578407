"""The shell around the replication core: what is written, synced, sent and answered, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from stores import FailingStore

from durable.cluster.replicated import WARN_EVERY_S, ReplicatedLog
from durable.copies.frames import ENTRY_BYTES_MAX, FRAME_BYTES, FRAME_MESSAGES_MAX, frames
from durable.copies.messages import Ack, Append, Epoch, Hello, Message, Roster, decode
from durable.copies.tuning import ReplicationTuning
from durable.errors import ClusterError, NotOwner, Overloaded, ProtocolError, StoreError, StoreFull, ValueTooLarge
from durable.journal.keys import table
from durable.membership.member import NodeId
from durable.ports import Store
from durable.replication.replication import Replication
from durable.storage.memory import InMemoryStore
from durable.storage.syncer import Done, Syncer
from durable.transports.links import LINK_FRAME_BYTES_MAX

KEY = table(7, b"e") + b"order-7\0"
A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
TUNING = ReplicationTuning(gossip_interval_s=0.05, rpc_timeout_s=3.0, partitions=8)


class Node:
    """One log, with its store, and what it told its owner."""

    def __init__(self, net: Net, name: NodeId, store: Store, syncer: Any = None) -> None:
        self.told: list[tuple[str, Any]] = []
        self.owns: dict[int, Epoch] = {}
        self.store = store
        core = Replication(name, name.encode() * 16, tuning=TUNING, random=Random(name), rows=(), now=net.loop.time())
        self.log = ReplicatedLog(
            core, store, syncer or Syncer(store, inline=True), lambda to, frame: net.post(name, to, frame), self
        )

    def owned(self, partition: int, epoch: Epoch) -> None:
        self.owns[partition] = epoch

    def lost(self, partition: int, why: ClusterError) -> None:
        self.owns.pop(partition, None)
        self.told.append(("lost", why))

    def roster_changed(self, roster: Roster) -> None:
        self.told.append(("roster", roster.version))

    def failed(self, error: BaseException) -> None:
        self.told.append(("failed", error))


class Net:
    """Frames between nodes of one loop; a node that is cut hears nothing and is not heard."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.nodes: dict[NodeId, Node] = {}
        self.cut: set[NodeId] = set()
        self.frames: list[tuple[NodeId, NodeId, bytes]] = []

    def add(self, name: NodeId, store: Store | None = None, syncer: Any = None) -> Node:
        node = self.nodes[name] = Node(self, name, store or InMemoryStore.open(), syncer)
        return node

    def post(self, sender: NodeId, to: NodeId, frame: bytes) -> bool:
        self.frames.append((sender, to, frame))
        if sender not in self.cut and to not in self.cut:
            self.loop.call_soon(self.nodes[to].log.receive, sender, frame)
        return True

    async def born(self) -> None:
        names = tuple(self.nodes)
        for node in self.nodes.values():
            for other in names:
                node.log.seen(other, True)
        for node in self.nodes.values():
            node.log.tell(lambda now, core=node.log.core: core.birth(now, names, names))
        await self.until(lambda: sum(len(node.owns) for node in self.nodes.values()) == TUNING.partitions)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.001)

    def owner(self, partition: int) -> Node:
        [found] = [node for node in self.nodes.values() if partition in node.owns]
        return found

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.log.close()


def with_net(body: Callable[[Net], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            net = Net()
            await body(net)
            await net.close()

    asyncio.run(run())


def test_what_is_done_can_be_read_here_and_is_at_a_majority() -> None:
    async def body(net: Net) -> None:
        for name in (A, B, C):
            net.add(name)
        await net.born()
        owner = net.owner(7)
        await owner.log.append(7, [(KEY, b"one")])
        assert owner.store.get(KEY) == b"one"
        await owner.log.confirm(7)
        await net.until(lambda: all(node.store.get(KEY) == b"one" for node in net.nodes.values()))

    with_net(body)


def test_without_a_majority_nothing_is_done_and_then_the_partition_is_lost() -> None:
    async def body(net: Net) -> None:
        for name in (A, B, C):
            net.add(name)
        await net.born()
        owner = net.owner(7)
        net.cut = {node for node in net.nodes if net.nodes[node] is not owner}
        waiting = owner.log.append(7, [(KEY, b"one")])
        asked = owner.log.confirm(7)
        for future in (waiting, asked):
            with pytest.raises(ClusterError):
                await future
        assert owner.store.get(KEY) is None, "what is not committed is not shown"
        assert 7 not in owner.owns
        with pytest.raises(ClusterError):
            await owner.log.append(7, [(KEY, b"two")])

    with_net(body)


def test_another_takes_over_what_was_done_and_the_old_owner_is_refused() -> None:
    async def body(net: Net) -> None:
        for name in (A, B, C):
            net.add(name)
        await net.born()
        old = net.owner(7)
        await old.log.append(7, [(KEY, b"one")])
        [name] = [name for name, node in net.nodes.items() if node is old]
        before = old.owns[7]
        net.cut = {name}
        for node in net.nodes.values():
            if node is not old:
                node.log.seen(name, False)
        others = [node for node in net.nodes.values() if node is not old]
        await net.until(lambda: any(7 in node.owns for node in others))
        [new] = [node for node in others if 7 in node.owns]
        assert new.owns[7] > before
        assert new.store.get(KEY) == b"one"
        late = old.log.append(7, [(KEY, b"late")])
        net.cut = set()
        with pytest.raises(NotOwner) as refused:
            await late
        assert refused.value.partition == 7
        await new.log.append(7, [(KEY, b"two")])
        await net.until(lambda: old.store.get(KEY) == b"two")

    with_net(body)


def test_a_store_that_fails_ends_the_nodes_part_and_everybody_is_told() -> None:
    async def body(net: Net) -> None:
        store = FailingStore(InMemoryStore.open(), "sync", 10**9)
        node = net.add(A, store)
        await net.born()
        store.left = 0
        waiting = node.log.append(7, [(KEY, b"one")])
        with pytest.raises(StoreFull):
            await waiting
        assert [kind for kind, _ in node.told if kind == "failed"] == ["failed"]
        with pytest.raises(StoreError):
            await node.log.append(3, [(KEY, b"two")])

    with_net(body)


class Fault(Exception):
    """A bug of whoever is told."""


def test_a_partition_that_cannot_be_begun_is_given_up_and_the_rest_of_the_turn_is_told() -> None:
    async def body(net: Net) -> None:
        failed: list[int] = []
        raised: list[Any] = []
        net.loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        for node in map(net.add, (A, B, C)):

            def fails_first(partition: int, epoch: Epoch, owned: Callable[[int, Epoch], None] = node.owned) -> None:
                if len(failed) < 3:
                    failed.append(partition)
                    raise Fault
                owned(partition, epoch)

            node.owned = fails_first  # type: ignore[method-assign]
        await net.born()
        assert [type(fault) for fault in raised] == [Fault] * 3
        for partition in range(TUNING.partitions):
            owner = net.owner(partition)
            await owner.log.append(partition, [(KEY, b"one")])
            assert partition in owner.log.core.owned, "whoever runs it is who owns it"

    with_net(body)


def test_who_waits_for_a_partition_that_is_lost_is_told_also_when_the_owner_fails_to_let_go() -> None:
    async def body(net: Net) -> None:
        node = net.add(A)
        raised: list[Any] = []
        net.loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        await net.born()

        def fails(partition: int, why: ClusterError) -> None:
            node.told.append(("lost", partition))
            raise Fault

        node.lost = fails  # type: ignore[method-assign]
        late = [node.log.append(partition, [(KEY, b"late")]) for partition in range(TUNING.partitions)]
        node.log.tell(lambda _: [node.log.core.replicas[partition].step_down("a test") for partition in range(TUNING.partitions)])
        for done in late:
            with pytest.raises(NotOwner):
                await done
        assert node.told[-TUNING.partitions :] == [("lost", partition) for partition in range(TUNING.partitions)]
        assert [type(fault) for fault in raised] == [Fault] * TUNING.partitions

    with_net(body)


class SlowSyncer:
    """An fsync that ends when it is told to."""

    def __init__(self) -> None:
        self.busy = False
        self.last_s = 0.0
        self.waiting: list[Done] = []
        self.by_itself = True

    def start(self, done: Done) -> None:
        self.busy = True
        self.waiting.append(done)
        if self.by_itself:
            asyncio.get_running_loop().call_soon(self.finish)

    def finish(self) -> None:
        self.busy = False
        self.waiting.pop(0)(None)

    def close(self) -> None:
        self.busy = True


def test_a_majority_of_others_commits_while_the_own_disk_is_slow_and_none_commits_on_its_own_copy() -> None:
    async def body(net: Net) -> None:
        syncers = {name: SlowSyncer() for name in (A, B, C)}
        for name, syncer in syncers.items():
            net.add(name, syncer=syncer)
        await net.born()
        owner = net.owner(7)
        [name] = [name for name, node in net.nodes.items() if node is owner]
        others = [syncers[other] for other in syncers if other != name]
        await net.until(lambda: not any(syncer.waiting for syncer in syncers.values()))
        for syncer in syncers.values():
            syncer.by_itself = False
        waiting = owner.log.append(7, [(KEY, b"one")])
        await net.until(lambda: all(syncer.waiting for syncer in syncers.values()))
        assert not waiting.done(), "nobody has it on the disk"
        others[0].finish()
        await asyncio.sleep(0.02)
        assert not waiting.done(), "one copy is no majority"
        others[1].finish()
        await waiting
        assert owner.store.get(KEY) == b"one" and syncers[name].waiting, "two others are one"
        for syncer in syncers.values():
            syncer.by_itself = True
            while syncer.waiting:
                syncer.finish()

    with_net(body)


def test_what_was_found_is_not_answered_for_before_the_first_fsync() -> None:
    """A process that was killed leaves rows that a power failure would still take. Seed 60000731 of `durable.sim`."""

    async def body(net: Net) -> None:
        disk = SlowSyncer()
        disk.by_itself = False
        node = net.add(A, syncer=disk)
        net.add(B)
        node.log.tell(lambda now: node.log.core.home.send_synced(B, Ack(7, 1, (1, B), 3)))
        await asyncio.sleep(0)
        assert len(disk.waiting) == 1 and not net.frames
        disk.finish()
        assert [message for _, _, frame in net.frames for message in decode(frame)[1:]] == [Ack(7, 1, (1, B), 3)]
        node.log.tell(lambda now: node.log.core.home.send_synced(B, Ack(7, 1, (1, B), 3)))
        await asyncio.sleep(0)
        assert len(net.frames) == 2, "nothing was written since: it is on the disk"

    with_net(body)


def test_appends_past_the_bound_wait_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TUNING", replace(TUNING, in_flight_entries_max=3))

    async def body(net: Net) -> None:
        node = net.add(A)
        await net.born()
        done: list[int] = []
        futures = []
        for number in range(10):
            future = node.log.append(7, [(KEY, b"%d" % number)])
            future.add_done_callback(lambda _, number=number: done.append(number))
            futures.append(future)
        with pytest.raises(Overloaded):
            node.log.core.append(net.loop.time(), 7, [(KEY, b"one more")])
        await asyncio.gather(*futures)
        assert done == list(range(10))
        assert node.store.get(KEY) == b"9"

    with_net(body)


def test_a_frame_that_cannot_be_read_changes_nothing() -> None:
    async def body(net: Net) -> None:
        node = net.add(A)
        await net.born()
        before = list(node.store.scan(b""))
        with pytest.raises(ProtocolError):
            node.log.receive(B, b"\xc1 no frame")
        await asyncio.sleep(0.01)
        assert list(node.store.scan(b"")) == before

    with_net(body)


class LinkNet(Net):
    """What is posted is taken as a link takes it."""

    def post(self, sender: NodeId, to: NodeId, frame: bytes) -> bool:
        if len(frame) > LINK_FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {len(frame):,} bytes")
        return super().post(sender, to, frame)


def with_links(body: Callable[[Net], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Net", LinkNet)
    with_net(body)


def appends(frame: bytes) -> list[Append]:
    return [message for message in decode(frame) if isinstance(message, Append) and message.entries]


@pytest.mark.parametrize("everywhere", [False, True])
def test_large_entries_of_one_turn_travel_in_frames_of_their_own(everywhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    size, count = 12 << 20, 4

    async def body(net: Net) -> None:
        for name in (A, B, C):
            net.add(name)
        await net.born()
        owner = max(net.nodes.values(), key=lambda node: len(node.owns))
        mine = sorted(owner.owns)
        where = [mine[number % len(mine) if everywhere else 0] for number in range(count)]
        net.frames.clear()
        writes = [(partition, (table(partition, b"e") + b"%d" % number, bytes(size))) for number, partition in enumerate(where)]
        async with asyncio.timeout(10):
            await asyncio.gather(*(owner.log.append(partition, [write]) for partition, write in writes))
        await net.until(lambda: all(node.store.get(key) for node in net.nodes.values() for _, (key, _) in writes))
        sent = [appends(frame) for _, to, frame in net.frames if to == next(n for n in net.nodes if net.nodes[n] is not owner)]
        assert sum(len(append.entries) for part in sent for append in part) >= count
        assert all(sum(len(append.entries) for append in part) <= 1 for part in sent), "each alone"

    with_links(body, monkeypatch)


def test_an_entry_that_no_frame_carries_is_refused_with_all_behind_it_and_the_partition_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(net: Net) -> None:
        for name in (A, B, C):
            net.add(name)
        await net.born()
        owner = net.owner(7)
        await asyncio.gather(
            owner.log.append(7, [(KEY, b"one")]), owner.log.append(7, [(KEY + b"2", bytes(ENTRY_BYTES_MAX - 100))])
        )
        epoch = owner.owns[7]
        refused = owner.log.append(7, [(KEY + b"3", bytes(ENTRY_BYTES_MAX))])
        behind = owner.log.append(7, [(KEY + b"4", b"four")])
        with pytest.raises(ValueTooLarge, match="Nothing was appended"):
            await refused
        with pytest.raises(NotOwner):
            await behind
        await net.until(lambda: any(node.owns.get(7, epoch) > epoch for node in net.nodes.values()))
        await net.owner(7).log.append(7, [(KEY + b"5", b"five")])
        assert not any(node.store.get(KEY + gone) for node in net.nodes.values() for gone in (b"3", b"4"))

    with_links(body, monkeypatch)


def test_what_waits_behind_an_entry_that_is_refused_is_not_appended() -> None:
    async def body(net: Net) -> None:
        for name in (A, B, C):
            net.add(name)
        await net.born()
        owner = net.owner(7)
        for _ in range(TUNING.in_flight_entries_max):
            owner.log.append(7, [(KEY, b"fills it")]).add_done_callback(lambda done: done.exception())
        refused = owner.log.append(7, [(KEY + b"2", bytes(ENTRY_BYTES_MAX))])
        behind = owner.log.append(7, [(KEY + b"3", b"three")])
        with pytest.raises(ValueTooLarge):
            await refused
        with pytest.raises(NotOwner):
            await behind
        await net.until(lambda: any(7 in node.owns for node in net.nodes.values()))
        await net.owner(7).log.append(7, [(KEY + b"4", b"four")])
        assert not any(node.store.get(KEY + b"3") for node in net.nodes.values())

    with_net(body)


@pytest.mark.parametrize("error", [ValueError("a frame of 35,202,815 bytes"), OSError("gone"), KeyError("a bug")])
def test_a_frame_that_cannot_be_sent_is_lost_and_the_turn_is_not(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: Net) -> None:
        for name in (A, B, C):
            net.add(name)
        await net.born()
        owner = net.owner(7)
        [me] = [name for name in net.nodes if net.nodes[name] is owner]
        post, refused = net.post, []

        def refuse(sender: NodeId, to: NodeId, frame: bytes) -> bool:
            if sender == me and not refused:
                refused.append(to)
                raise error
            return post(sender, to, frame)

        net.post = refuse  # type: ignore[method-assign]
        raised: list[Any] = []
        net.loop.set_exception_handler(lambda _, context: raised.append(context))
        async with asyncio.timeout(2):
            await owner.log.append(7, [(KEY, b"one")])
            await net.until(lambda: all(node.store.get(KEY) == b"one" for node in net.nodes.values()))
        assert refused and not raised and 7 in owner.owns

    with_net(body)
    assert "is lost" in caplog.text and str(error) in caplog.text, "nobody hides a bug"


def test_frames_are_cut_where_they_would_be_too_many_or_too_long_and_lose_nothing() -> None:
    def append(size: int) -> Append:
        return Append(7, 1, (3, A), 0, [bytes(size)], 0)

    def cut(messages: list[Message]) -> list[list[Message]]:
        parts = [decode(frame) for frame in frames(hello, messages)]
        assert all(part[0] == hello for part in parts)
        return [part[1:] for part in parts]

    hello = Hello(b"disk", b"cluster", 1, True)
    assert cut([]) == []
    assert [len(part) for part in cut([Ack(7, 1, (3, A), n) for n in range(2 * FRAME_MESSAGES_MAX + 1)])] == [512, 512, 1]
    mixed = [append(10), append(FRAME_BYTES + 1), append(10), append(FRAME_BYTES - 20), append(10), append(1)]
    assert [len(part) for part in cut(mixed)] == [1, 1, 3, 1]
    assert [message for part in cut(mixed) for message in part] == mixed
    assert ENTRY_BYTES_MAX + FRAME_BYTES <= LINK_FRAME_BYTES_MAX, "what is said around an entry fits with it"


def test_a_disk_on_which_elections_may_not_end_is_named_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    async def body(net: Net) -> None:
        syncer = SlowSyncer()
        net.add(A, syncer=syncer)
        await net.born()
        await net.until(lambda: not syncer.busy)
        caplog.clear()
        log = net.owner(0).log
        for number, took_s in enumerate((3 * TUNING.gossip_interval_s, 0.5, 0.6, 0.7)):
            if took_s == 0.7:
                assert log._warn_at > net.loop.time() + WARN_EVERY_S / 2
                log._warn_at = net.loop.time()  # a minute later
            syncer.last_s = took_s
            await log.append(0, [(table(0, b"e") + b"%d\0" % number, b"")])
        warned = [record.getMessage() for record in caplog.records if "fsync" in record.getMessage()]
        assert len(warned) == 2 and "an fsync of a took 0.5 s, and elections count on less than 0.2 s" in warned[0]
        assert "took 0.7 s" in warned[1]

    with_net(body)
