"""A fork goes its own way: it shares a past with its origin, and nothing else."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from nodes import Gate, asynchronous, open_node, reached, turns, until

from durable import (
    Context,
    JournalCorrupted,
    Status,
    WorkflowAlreadyExists,
    WorkflowCancelled,
    WorkflowError,
    WorkflowHandle,
    WorkflowNotFound,
    function,
    workflow,
)
from durable.journal import forks, keys
from durable.journal.entries import EntryType
from durable.storage import InMemoryStore


@workflow("fork-collect")
async def collect(ctx: Context, count: int) -> list[str]:
    return [await ctx.receive("box", str) for _ in range(count)]


@asynchronous
async def test_a_fork_runs_afresh_from_its_place_at_the_start_in_the_middle_and_at_the_end() -> None:
    runs: list[int] = []

    @function("fork-step")
    async def step(n: int) -> int:
        runs.append(n)
        return n * 10

    @workflow("fork-steps")
    async def steps(ctx: Context) -> list[int]:
        return [await ctx.call(step, n) for n in range(4)]

    async with await open_node() as runtime:
        origin = await runtime.submit(steps, workflow_id="f1")
        await origin.result()
        for at in range(5):
            runs.clear()
            fork = await origin.fork(at=at, workflow_id=f"f1-{at}")
            assert await fork.result() == [0, 10, 20, 30]
            assert runs == list(range(at, 4))
        with pytest.raises(WorkflowError, match="0 to 4, not at 5"):
            await origin.fork(at=5)
        with pytest.raises(WorkflowAlreadyExists):
            await origin.fork(at=0, workflow_id="f1-1")


@asynchronous
async def test_a_fork_to_an_id_can_be_asked_twice_and_another_one_under_that_id_is_refused() -> None:
    async with await open_node() as runtime:
        origin = await runtime.submit(collect, 2, workflow_id="f0")
        await origin.send("box", "one")
        await runtime.submit(collect, 2, workflow_id="f0-other")
        while len(await origin.journal()) < 2:
            await asyncio.sleep(0.001)
        fork = await origin.fork(1, workflow_id="f0-copy")
        begun = (await fork.metadata()).incarnation
        assert (await origin.fork(1, workflow_id="f0-copy")).workflow_id == "f0-copy"
        assert (await runtime.handle("f0-copy").metadata()).incarnation == begun
        for other, at in ((origin, 0), (runtime.handle("f0-other"), 0)):
            with pytest.raises(WorkflowAlreadyExists):
                await other.fork(at, workflow_id="f0-copy")
        first, second = await origin.fork(1), await origin.fork(1)
        assert first.workflow_id != second.workflow_id, "without an id, each is a new one"
        await fork.send("box", "two")
        assert await fork.result(timeout=5) == ["one", "two"]
        assert await (await origin.fork(1, workflow_id="f0-copy")).result(timeout=5) == ["one", "two"], "also when it has ended"


@asynchronous
async def test_a_fork_after_a_send_can_send_to_the_same_receiver() -> None:
    @workflow("fork-sender")
    async def sender(ctx: Context) -> str:
        await ctx.send("f2-box", "box", "one")
        await ctx.send("f2-box", "box", "two")
        return "sent"

    async with await open_node() as runtime:
        box = await runtime.submit(collect, 3, workflow_id="f2-box")
        origin = await runtime.submit(sender, workflow_id="f2")
        await origin.result()
        fork = await origin.fork(at=1)
        assert await fork.result(timeout=5) == "sent"
        assert await box.result(timeout=5) == ["one", "two", "two"]


@asynchronous
async def test_a_fork_with_a_send_in_flight_sends_it_itself() -> None:
    @function("fork-slow")
    async def slow() -> None:
        await gate.wait()

    @workflow("fork-in-flight")
    async def in_flight(ctx: Context) -> str:
        sent = ctx.send("f3-box", "box", "mine")
        await ctx.call(slow)
        await sent
        return "sent"

    gate = Gate()
    async with await open_node() as runtime:
        box = await runtime.submit(collect, 2, workflow_id="f3-box")
        origin = await runtime.submit(in_flight, workflow_id="f3")
        await gate.entered()
        fork = await origin.fork(at=1)
        gate.open()
        assert await fork.result(timeout=5) == "sent"
        assert await origin.result(timeout=5) == "sent"
        assert await box.result(timeout=5) == ["mine", "mine"]


@asynchronous
async def test_cancelling_a_fork_leaves_its_origins_child_alone() -> None:
    @workflow("fork-child")
    async def child(ctx: Context) -> str:
        return await ctx.receive("box", str)

    @workflow("fork-parent")
    async def parent(ctx: Context) -> str:
        running = ctx.start(child, workflow_id="f4-child")
        await ctx.sleep(0.001)
        return await running

    async with await open_node() as runtime:
        origin = await runtime.submit(parent, workflow_id="f4")
        await until(lambda: runtime._engine.storage.status("f4-child"), "the child began")
        await reached(origin, Status.WAITING)
        fork = await origin.fork(at=2)
        await reached(fork, Status.WAITING)
        await turns()
        await fork.cancel()
        await reached(fork, Status.CANCELLED)
        await turns()
        assert await runtime.handle("f4-child").status() is Status.WAITING
        await runtime.handle("f4-child").send("box", "alive")
        assert await origin.result(timeout=5) == "alive"


@workflow("fork-words")
async def words(ctx: Context) -> list[str]:
    got: list[str] = []
    while not got or got[-1] != "end":
        got.append(await ctx.receive("words", str))
    return got


@workflow("fork-talks")
async def talks(ctx: Context) -> list[str]:
    child = ctx.start(words)
    first = await ctx.receive("go", str)
    await child.send("words", first)
    await ctx.call(note, child.workflow_id)
    second = await ctx.receive("go", str)
    await ctx.send(child.workflow_id, "words", second)
    await child.send("words", "end")
    return await child


@function("fork-note")
async def note(child_id: str) -> str:
    return child_id


async def waits_for(handle: WorkflowHandle[list[str]], entries: int) -> None:
    while len(await handle.journal()) < entries:
        await asyncio.sleep(0.001)
    await reached(handle, Status.WAITING)


@asynchronous
async def test_a_fork_talks_to_its_own_child_and_not_to_its_origins() -> None:
    """Also the fork of a fork, and also when its journal is replayed, in which its origin's words went to its origin's child."""
    async with await open_node(park_after=0.0) as runtime:
        origin = await runtime.submit(talks, workflow_id="f9")
        await waits_for(origin, 2)
        fork = await origin.fork(at=1)
        for handle, word in ((origin, "origin"), (fork, "fork")):
            await handle.send("go", word)
            await waits_for(handle, 5)
        again = await fork.fork(at=5)
        await waits_for(again, 5)
        for handle, word in ((again, "of the third"), (fork, "of the fork"), (origin, "of the origin")):
            await handle.send("go", word)
        assert await origin.result(timeout=5) == ["origin", "of the origin", "end"]
        assert await fork.result(timeout=5) == ["fork", "of the fork", "end"]
        assert await again.result(timeout=5) == ["of the third", "end"]
        assert len({json.loads(str((await each.journal())[3].output_json)) for each in (origin, fork)}) == 2


@asynchronous
async def test_a_fork_whose_start_names_no_child_of_its_own_replays_what_it_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """So were they begun once: their journals say that they wrote to their origin's child."""
    start_of = forks.start_of
    monkeypatch.setattr(forks, "start_of", lambda *args: msgspec.structs.replace(start_of(*args), restarted=()))
    async with await open_node(park_after=0.0) as runtime:
        origin = await runtime.submit(talks, workflow_id="f12")
        await waits_for(origin, 2)
        fork = await origin.fork(at=1, workflow_id="other-f12")
        await fork.send("go", "fork")
        await waits_for(fork, 5)
        await until(lambda: not runtime._engine.live, "parking")
        await fork.send("go", "again")
        assert await origin.status() is Status.WAITING
        await waits_for(fork, 7)
        told = [json.loads(entry.input_json)[0] for entry in await fork.journal() if entry.entry_type is EntryType.SEND]
        assert len(told) == 3
        assert all(one.startswith("f12.") for one in told)


@asynchronous
async def test_a_fork_sends_to_its_own_child_what_was_under_way_to_its_origins() -> None:
    @workflow("fork-hurries")
    async def hurries(ctx: Context) -> list[str]:
        child = ctx.start(words)
        sent = [child.send("words", word) for word in ("one", "two")]
        await ctx.receive("go")
        await asyncio.gather(*sent)
        await child.send("words", "end")
        return await child

    async with await open_node(park_after=0.0) as runtime:
        origin = await runtime.submit(hurries, workflow_id="f10")
        await waits_for(origin, 4)
        fork = await origin.fork(at=3)
        await waits_for(fork, 4)
        for handle in (origin, fork):
            await handle.send("go")
            assert await handle.result(timeout=5) == ["one", "two", "end"]


@asynchronous
async def test_cancelling_a_fork_without_its_code_cancels_its_own_child_only() -> None:
    variant = ["a"]

    @workflow("fork-changes")
    async def changes(ctx: Context) -> list[str]:
        child = ctx.start(words, workflow_id="f11-child")
        await ctx.receive(variant[0])
        return await child

    async with await open_node(park_after=0.0) as runtime:
        origin = await runtime.submit(changes, workflow_id="f11")
        await waits_for(origin, 2)
        fork = await origin.fork(at=1, workflow_id="f11-fork")
        await waits_for(fork, 2)
        (own,) = [each.workflow_id for each in await runtime.list() if each.workflow_id.startswith("f11-fork.")]
        variant[0] = "b"
        await fork.send("b")
        await reached(fork, Status.DIVERGED)
        await fork.cancel()
        with pytest.raises(WorkflowCancelled):
            await runtime.handle(own).result(timeout=5)
        assert await runtime.handle("f11-child").status() is Status.WAITING


@asynchronous
async def test_a_fork_of_a_fork_knows_the_ids_of_all_its_children() -> None:
    @workflow("fork-leaf")
    async def leaf(ctx: Context, n: int) -> int:
        return n

    @workflow("fork-tree")
    async def tree(ctx: Context) -> list[int]:
        return [await ctx.start(leaf, n) for n in range(4)]

    async with await open_node() as runtime:
        origin = await runtime.submit(tree, workflow_id="f5")
        await origin.result()
        first = await origin.fork(at=1)
        assert await first.result(timeout=5) == [0, 1, 2, 3]
        second = await first.fork(at=3)
        assert await second.result(timeout=5) == [0, 1, 2, 3]
        third = await second.fork(at=2)
        assert await third.result(timeout=5) == [0, 1, 2, 3]


@asynchronous
async def test_unread_mail_stays_behind() -> None:
    async with await open_node() as runtime:
        origin = await runtime.submit(collect, 2, workflow_id="f6")
        await origin.send("box", "a")
        await reached(origin, Status.WAITING)
        fork = await origin.fork(at=1)
        await fork.send("box", "b")
        assert await fork.result(timeout=5) == ["a", "b"]
        assert await origin.status() is Status.WAITING
        assert len(await asyncio.gather(origin.journal(), fork.journal())) == 2


@asynchronous
async def test_a_journal_is_forked_before_an_entry_that_cannot_be_read() -> None:
    runs: list[int] = []

    @function("fork-kept")
    async def kept(n: int) -> int:
        runs.append(n)
        return n

    @workflow("fork-damaged")
    async def damaged(ctx: Context) -> list[int]:
        return [await ctx.call(kept, n) for n in range(3)]

    store = InMemoryStore.open()
    async with await open_node(store) as runtime:
        origin = await runtime.submit(damaged, workflow_id="f-damaged")
        await origin.result()
        rows = list(store.scan(keys.of(keys.partition_of("f-damaged"), keys.JOURNAL, "f-damaged")))
        key, value = rows[3]  # the start, entry 0 and its answer, then entry 1
        store.write([(key, value[:-1] + bytes([value[-1] ^ 1]))])
        with pytest.raises(JournalCorrupted, match="row 3 of the journal of 'f-damaged'"):
            await origin.journal()
        with pytest.raises(JournalCorrupted):
            await origin.fork(at=2)
        runs.clear()
        fork = await origin.fork(at=1)
        assert await fork.result(timeout=5) == [0, 1, 2]
        assert runs == [1, 2]


@asynchronous
async def test_a_fork_that_is_asked_again_is_recognised_although_its_origin_has_gone_on_or_is_gone() -> None:
    @workflow("fork-goes-on")
    async def goes_on(ctx: Context, run: int) -> int:
        if run == 0:
            await ctx.receive("go")
            await ctx.sleep(0)
            await ctx.sleep(0)
            await ctx.receive("go")
            ctx.continue_as_new(1)
        await ctx.receive("end")
        return run

    async with await open_node() as runtime:
        origin = await runtime.submit(goes_on, 0, workflow_id="fork-origin")
        await origin.send("go")
        while len(await origin.journal()) < 4:
            await turns()
        await origin.fork(2, workflow_id="fork-new")
        await origin.send("go")
        while len(await origin.journal()) != 1:
            await turns()
        assert (await origin.fork(2, workflow_id="fork-new")).workflow_id == "fork-new"
        with pytest.raises(WorkflowError, match="forked at 0 to 1, not at 2"):
            await origin.fork(2, workflow_id="fork-never")
        with pytest.raises(WorkflowError, match="forked at 0 to 1, not at 3"):
            await origin.fork(3, workflow_id="fork-new")
        await origin.send("end")
        assert await origin.result() == 1
        assert list(await runtime.purge()) == ["fork-origin"]
        assert (await origin.fork(2, workflow_id="fork-new")).workflow_id == "fork-new"
        with pytest.raises(WorkflowNotFound, match="fork-origin"):
            await origin.fork(2, workflow_id="fork-never")
        with pytest.raises(WorkflowNotFound):
            await runtime.handle("fork-never").status()
