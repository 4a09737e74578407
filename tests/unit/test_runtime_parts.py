"""The parts of a node, each alone: batches, scheduler, mailbox, threads, clock, lint."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from nodes import HeldLog, asynchronous, turns, until

from durable import NodeConfig, NodeStorage, workflow
from durable.bodies.threads import ThreadPool
from durable.errors import ClusterError, StoreFull, ValueTooLarge
from durable.journal.entries import Address, Envelope, EnvelopeKind, Mail
from durable.runtime.batches import Batches, size_of
from durable.runtime.mailbox import Mailbox, sender_row_key
from durable.runtime.scheduler import TURN_S, Scheduler
from durable.storage import InMemoryStore
from durable.workflows.definition import REGISTRY
from durable.world import SystemClock


def batches_on(log: Any, failed: Callable[[BaseException], None]) -> Batches:
    def lost(partition: int, error: Exception) -> None:
        raise AssertionError(f"nobody takes partition {partition}: {error}")

    return Batches(log, failed, lost, lambda partition: 0)


@asynchronous
async def test_effects_run_in_order_and_only_when_their_batch_is_durable() -> None:
    log = HeldLog(InMemoryStore.open())
    batches = batches_on(log, lambda error: None)
    done: list[int] = []
    log.hold()
    for n in range(3):
        batch = batches.of(7)
        batch.writes.append((b"k", b"%d" % n))
        batch.effects.append((done.append, n))
        batches.flush()
    barrier = batches.barrier(7)
    elsewhere = batches.barrier(8)
    await turns()
    assert (done, barrier.done(), elsewhere.done()) == ([], False, True)
    log.step()
    await turns()
    assert (done, barrier.done()) == ([0], False)
    log.release()
    await barrier
    assert done == [0, 1, 2]
    await batches.drained()


@asynchronous
async def test_one_effect_that_raises_does_not_keep_the_others() -> None:
    failed: list[BaseException] = []
    batches = batches_on(HeldLog(InMemoryStore.open()), failed.append)
    done: list[str] = []

    def bad(error: Exception) -> None:
        raise error

    batch = batches.of(1)
    batch.effects += [(bad, KeyError("a fault")), (done.append, "after"), (bad, StoreFull("full"))]
    await batches.drained()
    assert done == ["after"]
    assert [type(error) for error in failed] == [StoreFull]


@asynchronous
async def test_nothing_happens_for_a_batch_of_which_a_piece_was_refused(caplog: pytest.LogCaptureFixture) -> None:
    class Refuses(HeldLog):
        def append(self, partition: int, batch: Any) -> asyncio.Future[None]:
            if size_of(batch) < 6 << 20:
                return super().append(partition, batch)
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(ValueTooLarge("no frame carries it"))
            return refused

    lost: list[int] = []
    happened: list[int] = []

    def lose(partition: int, error: ClusterError) -> None:
        lost.append(partition)
        batches.drop(partition, error)

    batches = Batches(Refuses(InMemoryStore.open()), lambda error: pytest.fail(str(error)), lose, lambda partition: 0)
    for size in (1, 6, 1):
        batches.of(3).writes.append((b"k", bytes(size << 20)))
        batches.of(3).cut()
        batches.of(3).effects.append((happened.append, size))
    batches.of(4).effects.append((happened.append, 4))
    barrier = batches.barrier(3)
    await batches.drained()
    with pytest.raises(ClusterError, match="no frame carries it"):
        await barrier
    assert (lost, happened) == ([3], [4])
    assert "partition 3 stops here" in caplog.text


@asynchronous
async def test_a_failed_log_fails_every_barrier_and_every_promise() -> None:
    class Broken:
        def append(self, partition: int, batch: Any) -> asyncio.Future[None]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(StoreFull("full"))
            return future

    batches = batches_on(Broken(), lambda error: batches.fail(error))
    promise = batches.promise(1)
    batches.of(1).writes.append((b"k", b"v"))
    barrier = batches.barrier(1)
    for future in (barrier, promise):
        with pytest.raises(StoreFull):
            await asyncio.wait_for(future, 5)


def fake(name: str) -> Any:
    return SimpleNamespace(
        workflow_id=name, ready=False, queued=False, parking=None, has_slot=False, idle_since_s=0.0
    )


@asynchronous
async def test_a_turn_ends_after_a_while_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    begin, driven, between = loop.time(), 0, []

    def drive(_: Any) -> None:
        nonlocal driven
        driven += 1

    scheduler = Scheduler(NodeConfig(), drive, lambda: None, lambda e: None, lambda e: False)
    monkeypatch.setattr(loop, "time", lambda: begin + driven * TURN_S / 4)  # each takes a quarter of a turn
    for number in range(11):
        scheduler.wake(fake(str(number)))
    while driven < 11:
        await asyncio.sleep(0)
        between.append(driven)
    assert between == [5, 10, 11], "others have had the loop in between"


@asynchronous
async def test_slots_go_round_first_come_first_served() -> None:
    ran: list[str] = []
    config = NodeConfig(max_concurrent_workflows=2)
    scheduler = Scheduler(config, lambda e: ran.append(e.workflow_id), lambda: None, lambda e: None, lambda e: False)
    items = [fake(name) for name in "abcd"]
    for item in items:
        scheduler.wake(item)
        scheduler.wake(item)  # twice is once
    assert (scheduler.running, scheduler.queued) == (2, 2)
    await turns()
    assert ran == ["a", "b"]
    scheduler.release(items[1])
    scheduler.release(items[0])
    scheduler.release(items[0])
    await turns()
    assert ran == ["a", "b", "c", "d"]
    for item in items:
        scheduler.release(item)
    assert (scheduler.running, scheduler.queued) == (0, 0)


@asynchronous
async def test_the_one_that_waits_longest_is_parked_first() -> None:
    parked: list[str] = []
    config = NodeConfig(max_waiting_in_memory=2, park_after=60.0)
    scheduler = Scheduler(config, lambda e: None, lambda: None, lambda e: parked.append(e.workflow_id), lambda e: False)
    items = [fake(name) for name in "abcd"]
    for item in items:
        scheduler.waits(item)
    assert parked == ["a", "b"]
    scheduler.wake(items[2])
    scheduler.waits(fake("e"))
    assert parked == ["a", "b"]
    scheduler.close()


@asynchronous
async def test_an_execution_whose_timer_is_due_soon_stays_in_memory() -> None:
    parked: list[str] = []
    swept = asyncio.Event()
    config = NodeConfig(park_after=0.001)

    def park(item: Any) -> None:
        parked.append(item.workflow_id)
        swept.set()

    scheduler = Scheduler(config, lambda e: None, lambda: None, park, lambda e: e.workflow_id == "soon")
    scheduler.waits(fake("soon"))
    scheduler.waits(fake("late"))
    await swept.wait()
    assert parked == ["late"]
    scheduler.close()


def test_a_mailbox_keeps_order_over_channels_and_restarts() -> None:
    store = InMemoryStore.open()
    storage = NodeStorage.make(store)
    box = Mailbox("w", b"incarnat", storage)
    for n, channel in enumerate("abab"):
        store.write([box.accept(Mail(channel, b"%d" % n, "", 0))])
    again = Mailbox("w", b"incarnat", storage)
    assert again.unread == 4
    taken = []
    for channel in "bbaa":
        mail, write = again.take(channel)
        store.write([write])
        taken.append(mail.value_json)
    assert taken == [b"1", b"3", b"0", b"2"]
    assert not again.has("a")
    assert Mailbox("w", b"incarnat", storage).unread == 0
    assert Mailbox("w", b"another1", storage).unread == 0


def test_a_mailbox_remembers_its_senders() -> None:
    store = InMemoryStore.open()
    storage = NodeStorage.make(store)
    box = Mailbox("w", b"incarnat", storage)
    envelope = Envelope(EnvelopeKind.SEND, Address("s", b"sender01", 0, 3), "w", 4)
    key = sender_row_key(envelope)
    assert box.last_from(key) == 0
    store.write([box.heard(key, 4)])
    assert box.last_from(key) == 4
    assert Mailbox("w", b"incarnat", storage).last_from(key) == 4


@asynchronous
async def test_threads_are_bounded_and_report_what_a_body_raises() -> None:
    pool = ThreadPool(2)
    go = threading.Event()
    at_once: list[int] = []
    answers: list[tuple[Any, BaseException | None]] = []
    running = 0
    lock = threading.Lock()

    def body() -> int:
        nonlocal running
        with lock:
            running += 1
            at_once.append(running)
        go.wait(10)
        with lock:
            running -= 1
        return 1

    def leaves() -> None:
        raise SystemExit(3)

    for _ in range(5):
        pool.submit(body, contextvars.copy_context(), lambda *answer: answers.append(answer))
    pool.submit(leaves, contextvars.copy_context(), lambda *answer: answers.append(answer))
    await until(lambda: len(at_once) == 2, "two bodies run")
    go.set()
    await until(lambda: len(answers) == 6, "all came back")
    assert max(at_once) <= 2
    assert sorted(repr(error) for _, error in answers) == ["None"] * 5 + ["SystemExit(3)"]
    pool.close()


def test_a_clock_goes_on_when_it_is_set_back_and_believes_a_step_forward() -> None:
    walls = iter([1000.0, 1001.0, -2599.0, -2598.0, 5000.0])
    ticks = iter([0.0, 1.0, 2.0, 3.0, 4.0])
    clock = SystemClock(wall=lambda: next(walls), monotonic=lambda: next(ticks))
    assert [clock.now_ms() for _ in range(3)] == [1_001_000, 1_002_000, 1_003_000]
    assert clock.now_ms() > 5_000_000
    later = SystemClock(at_least_ms=9_000_000_000_000)
    assert later.now_ms() >= 9_000_000_000_000


def test_registering_never_raises_whatever_the_look_at_the_source_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(ast, "parse", broken)

    @workflow("unit-registered")
    async def registered(ctx: Any) -> None: ...

    assert REGISTRY.workflow("unit-registered") is registered


def test_a_node_whose_loop_is_gone_does_not_keep_others_from_registering() -> None:
    from nodes import open_node

    async def leave() -> Any:
        runtime = await open_node()
        runtime._engine.newcomers._waiting["unit-stuck"] = {"w": None}
        return runtime

    runtime = asyncio.run(leave())

    @workflow("unit-stuck")
    async def stuck(ctx: Any) -> None: ...

    assert REGISTRY.workflow("unit-stuck") is stuck
    assert runtime is not None
