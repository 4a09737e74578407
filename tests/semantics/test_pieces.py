"""What is recorded in one moment may be more than a log takes at once: it is recorded in pieces, or refused where it cannot be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nodes import HeldLog, asynchronous, open_node

from durable import Context, current_call, function, workflow
from durable.errors import ValueTooLarge, WorkflowAlreadyExists, WorkflowFailed, WorkflowNotFound
from durable.journal import keys
from durable.runtime import batches, births
from durable.runtime.batches import PartitionBatch, size_of
from durable.storage import InMemoryStore


def test_a_batch_is_cut_only_where_it_may_be_and_only_when_it_is_long() -> None:
    batch = PartitionBatch(7)
    batch.cut()
    for number in range(6):
        batch.writes += [(b"%d" % number, bytes(2 << 20)), (b"beside %d" % number, None)]
        if number != 3:
            batch.cut()
            batch.cut()
    pieces = batch.pieces()
    assert [len(piece) for piece in pieces] == [2, 2, 2, 4, 2], "two are above the bound, and 3 and 4 belong together"
    assert [write for piece in pieces for write in piece] == batch.writes
    assert size_of(pieces[0]) == (2 << 20) + len(b"0beside 0")
    alone = PartitionBatch(7)
    alone.writes.append((b"long", bytes(12 << 20)))
    alone.cut()
    assert alone.pieces() == [alone.writes], "nothing comes behind it"
    short = PartitionBatch(7)
    for number in range(100):
        short.writes.append((b"%d" % number, b"small"))
        short.cut()
    assert short.pieces() == [short.writes]


@asynchronous
async def test_after_a_crash_between_any_two_pieces_of_a_step_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PIECE_BYTES", 0)
    ran: list[int] = []

    @function("piece-double")
    async def double(number: int) -> int:
        ran.append(number)
        return 2 * number

    @workflow("piece-child")
    async def child(ctx: Context, number: int) -> int:
        return number + await ctx.receive("more", int)

    @workflow("piece-parent")
    async def parent(ctx: Context) -> list[Any]:
        first = await ctx.call(double, 1)
        started = ctx.start(child, 5, workflow_id="piece-one")
        late = asyncio.ensure_future(ctx.sleep(3_600))
        calls = [ctx.call(double, number) for number in (first, 3, 4)]
        sent = ctx.send("piece-one", "more", 10)
        results = [await each for each in calls]
        late.cancel()
        await sent
        return [*results, await started]

    log = HeldLog(InMemoryStore.open())
    async with await open_node(log=log) as runtime:
        wanted = await (await runtime.submit(parent, workflow_id="piece-parent-1")).result()
    assert wanted[:3] == [4, 6, 8]
    whole = len(log.durable)
    assert whole > 12, "each command is a piece"
    for kept in range(1, whole):
        store = InMemoryStore.open()
        for batch in log.durable[:kept]:
            store.write(batch)
        async with await open_node(store) as again:
            assert await (await again.submit(parent, workflow_id="piece-parent-1")).result() == wanted, f"{kept} of {whole}"


@asynchronous
async def test_a_run_that_would_begin_with_too_much_fails_and_says_what_to_do() -> None:
    @workflow("piece-runs")
    async def runs(ctx: Context, data: str) -> str:
        ctx.state["kept"] = "x" * 4_000
        ctx.checkpoint("y" * 4_000)
        if len(data) == 2_500:
            ctx.continue_as_new(data)
        if len(data) == 1_500:
            ctx.continue_as_new("over")
        return data

    async with await open_node() as runtime:
        runtime._engine.log.batch_bytes_max = 10_000  # type: ignore[misc]
        assert await (await runtime.submit(runs, "z" * 1_500)).result() == "over"
        handle = await runtime.submit(runs, "z" * 2_500)
        with pytest.raises(WorkflowFailed, match="continue_as_new: the input, the last checkpoint") as failed:
            await handle.result()
        assert isinstance(failed.value.__cause__, ValueTooLarge)


@asynchronous
async def test_however_often_a_heart_beats_the_next_run_has_one_row_of_it_to_delete() -> None:
    @function("piece-beats")
    async def beats() -> None:
        for number in range(300):
            current_call().heartbeat(number)
            await asyncio.sleep(0)

    @workflow("piece-beating")
    async def beating(ctx: Context, again: bool) -> str:
        if again:
            await ctx.call(beats)
            ctx.continue_as_new(False)
        return "next"

    async with await open_node() as runtime:
        runtime._engine.log.batch_bytes_max = 10_000  # type: ignore[misc]
        assert await (await runtime.submit(beating, True, workflow_id="piece-beating-1")).result() == "next"
        left = [key for key, _ in runtime._engine.storage.store.scan(b"") if key[2:3] == keys.HEARTBEAT]
        assert left == []


@asynchronous
async def test_a_fork_of_too_much_is_refused_and_leaves_nothing() -> None:
    @workflow("piece-forked")
    async def forked(ctx: Context) -> int:
        for number in range(4):
            await ctx.side_effect(f"piece {number}", lambda: "x" * 3_000)
        return 7

    async with await open_node() as runtime:
        handle = await runtime.submit(forked)
        assert await handle.result() == 7
        runtime._engine.log.batch_bytes_max = 10_000  # type: ignore[misc]
        with pytest.raises(ValueTooLarge, match="fork at an earlier entry"):
            await handle.fork(at=4, workflow_id="piece-fork")
        assert await (await handle.fork(at=2, workflow_id="piece-fork")).result() == 7


@workflow("piece-kept")
async def keeps(ctx: Context, number: int) -> int:
    await ctx.receive("box", int)
    for each in range(30):
        ctx.state["kept"] = each
    return number


def one_partition(count: int) -> list[str]:
    """Ids that share a partition."""
    return sorted([name for name in map("piece-kept-{}".format, range(9_999)) if keys.partition_of(name) == 7][:count])


async def all_end(runtime: Any, ids: list[str]) -> None:
    for number, each in enumerate(ids):
        handle = await runtime.submit(keeps, number, workflow_id=each)
        await handle.send("box", 1, key="once")
        assert await handle.result() == number


@asynchronous
async def test_a_purge_of_much_is_recorded_in_pieces_of_which_each_is_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PIECE_BYTES", 400)
    ids, log = one_partition(5), HeldLog(InMemoryStore.open())
    async with await open_node(log=log) as runtime:
        await all_end(runtime, ids)
        ended = len(log.durable)
        assert list(await runtime.purge(request_id="r")) == ids
        assert list(await runtime.purge(request_id="r")) == ids
        assert max(map(size_of, log.durable[ended:])) < 1_000
    assert len(log.durable) - ended > 15
    for kept in range(ended, len(log.durable)):
        store = InMemoryStore.open()
        for batch in log.durable[:kept]:
            store.write(batch)
        async with await open_node(store) as again:
            for number, each in enumerate(ids):
                try:
                    assert await again.handle(each).result() == number
                except WorkflowNotFound:
                    with pytest.raises(WorkflowAlreadyExists, match="purged"):
                        await again.submit(keeps, number, workflow_id=each)
                await again.handle(each).send("box", 1, key="once")
            assert sorted(await again.purge(request_id="r")) == ids, f"{kept} of {len(log.durable)}"
            assert list(await again.purge()) == []


@asynchronous
async def test_an_id_that_was_purged_begins_again_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    @workflow("piece-many")
    async def many(ctx: Context) -> int:
        return sum([await ctx.receive("box", int) for _ in range(40)])

    log = HeldLog(InMemoryStore.open())
    async with await open_node(log=log) as runtime:
        handle = await runtime.submit(many, workflow_id="piece-many-1")
        for number in range(40):
            await handle.send("box", 1, key=f"once {number}")
        assert await handle.result() == 40
        await runtime.purge()
        monkeypatch.setattr(births, "TOMBSTONE_MS", 0)
        monkeypatch.setattr(batches, "PIECE_BYTES", 400)
        before = len(log.durable)
        await runtime.submit(many, workflow_id="piece-many-1")
        assert max(map(size_of, log.durable[before:])) < 1_000
        tables = [[key[2:3] for key, _ in batch] for batch in log.durable]
        began = next(at for at in range(before, len(tables)) if keys.TOMBSTONE in tables[at])
        assert began > before + 1
        assert keys.STATUS in tables[began], "the new one is there when the tombstone is not"
        for number in range(40):
            await handle.send("box", 2, key=f"once {number}")
        assert await handle.result() == 80


@asynchronous
async def test_what_a_crash_left_of_a_purge_goes_with_the_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PIECE_BYTES", 400)
    [name], log = one_partition(1), HeldLog(InMemoryStore.open())
    async with await open_node(log=log) as runtime:
        await all_end(runtime, [name])
        ended = len(log.durable)
        await runtime.purge()
    store = InMemoryStore.open()
    for batch in log.durable[: ended + 2]:
        store.write(batch)
    async with await open_node(store) as again:
        assert again._engine.storage.all_keys(name)
        monkeypatch.setattr(births, "FORGOTTEN_MS", 0)
        monkeypatch.setattr(births, "TOMBSTONE_MS", 0)
        await again.purge()
        left = [key for key, _ in store.scan(keys.number(7, 2)) if key[2:3] != keys.CLOCK]
        assert left == []
