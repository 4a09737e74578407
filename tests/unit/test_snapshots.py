"""A snapshot larger than what a link queues arrives whole, and leaves room for what others have to say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from durable.cluster import snapshots
from durable.cluster.snapshots import SnapshotSender
from durable.copies.effects import SendSnapshot
from durable.copies.messages import ZERO, Epoch, SnapshotPiece
from durable.copies.rows import Seal, State, applied_row, encode_row, log_key, snapshot_index, state_key
from durable.membership.member import NodeId
from durable.storage.memory import InMemoryStore

A, B = NodeId("a"), NodeId("b")
ROWS = [(b"\0\7%04d" % number, b"x" * 100) for number in range(400)]


class SlowLink:
    """Queues ``room`` pieces; somebody takes them out one by one."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.queue: list[SnapshotPiece] = []
        self.arrived: list[SnapshotPiece] = []
        self.refused = 0
        self.last_refused: int | None = None

    def say(self, to: NodeId, piece: SnapshotPiece) -> bool:
        if len(self.queue) >= self.room:
            self.refused += 1
            self.last_refused = piece.partition
            return False
        self.queue.append(piece)
        return True

    async def drain(self, until: Callable[[], bool]) -> None:
        while not until():
            if self.queue:
                self.arrived.append(self.queue.pop(0))
            await asyncio.sleep(0)


def with_sender(link: SlowLink, body: Callable[[SnapshotSender, InMemoryStore], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            store = InMemoryStore.open()
            store.write([*ROWS, (b"\0\x08other", b"partition")])
            sender = SnapshotSender(store, link.say, 300)
            await body(sender, store)
            sender.close()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "PAUSE_S", 0.001)


def order(partition: int = 7) -> SendSnapshot:
    return SendSnapshot(B, partition, 0, (1, A))


def test_a_snapshot_of_many_times_what_the_link_queues_arrives_whole_and_in_order() -> None:
    link = SlowLink(room=3)

    async def body(sender: SnapshotSender, store: InMemoryStore) -> None:
        sender.send(order())
        store.write([(ROWS[-1][0], b"newer")])  # after the snapshot was taken: not in it
        await link.drain(lambda: bool(link.arrived) and not link.arrived[-1].more)

    with_sender(link, body)
    assert [piece.number for piece in link.arrived] == list(range(len(link.arrived)))
    assert [row for piece in link.arrived for row in piece.rows] == ROWS
    assert len(link.arrived) > 100 and link.refused > 10


def test_who_asks_anew_gets_a_newer_snapshot_from_its_beginning() -> None:
    link = SlowLink(room=3)

    async def body(sender: SnapshotSender, store: InMemoryStore) -> None:
        sender.send(order())
        store.write([(ROWS[-1][0], b"newer")])
        link.queue.clear()
        sender.send(order())
        await link.drain(lambda: bool(link.arrived) and not link.arrived[-1].more)

    with_sender(link, body)
    assert [row for piece in link.arrived for row in piece.rows] == [*ROWS[:-1], (ROWS[-1][0], b"newer")]


def test_a_link_that_takes_nothing_is_given_up_and_the_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "GIVEN_UP_S", 0.01)
    monkeypatch.setattr(snapshots, "SNAPSHOTS_MAX", 1)
    link = SlowLink(room=0)

    async def body(sender: SnapshotSender, store: InMemoryStore) -> None:
        sender.send(order())
        sender.send(order(8))
        while link.last_refused != 8:
            await asyncio.sleep(0.001)
        link.room = 3
        await link.drain(lambda: bool(link.arrived) and not link.arrived[-1].more)

    with_sender(link, body)
    assert {piece.partition for piece in link.arrived} == {8}


def test_what_is_read_late_is_not_given_under_the_name_of_a_generation_that_was_left() -> None:
    """Others were in the queue before it, and meanwhile the seal was applied: without it, somebody would write behind it."""
    link = SlowLink(room=3)

    async def body(sender: SnapshotSender, store: InMemoryStore) -> None:
        store.write([(state_key(7), encode_row(State(2, {A: b"disk"}))), applied_row(7, 13)])
        sender.send(SendSnapshot(B, 7, 1, (1, A)))
        sender.send(SendSnapshot(B, 8, 0, (1, A)))
        await link.drain(lambda: bool(link.arrived) and not link.arrived[-1].more)

    with_sender(link, body)
    assert {piece.partition for piece in link.arrived} == {8}


SEAL = encode_row(Seal(2, {A: b"disk"}))


@pytest.mark.parametrize(
    ("state", "generation", "epoch", "index"),
    [
        (State(1, {A: b"disk"}), 1, (1, A), 13),
        (State(2, {A: b"disk"}), 1, (1, A), None),
        (State(1, {A: b"disk"}, next_generation=2), 1, (1, A), None),
        (State(1, {A: b"disk"}, next_generation=2), 2, ZERO, 13),
        (State(2, {A: b"disk"}), 2, ZERO, 13),
        (State(1, {A: b"disk"}), 2, ZERO, None),
    ],
)
def test_what_is_applied_is_given_as_a_log_of_its_generation(
    state: State, generation: int, epoch: Epoch, index: int | None
) -> None:
    rows = dict([(state_key(7), encode_row(state)), applied_row(7, 13)])
    assert snapshot_index(rows.get, 7, generation, epoch) == index


def test_between_a_seal_that_is_applied_and_the_next_generation_all_but_the_seal_is_given() -> None:
    rows = dict([(state_key(7), encode_row(State(1, {A: b"disk"}))), applied_row(7, 13), (log_key(7, 13), SEAL)])
    assert snapshot_index(rows.get, 7, 1, (1, A)) == 12
