"""What a desk says: asked twice it is asked once, and what it says is durable and not yesterday's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from twins import Twin, Twins

from durable import Context, NodeStorage, Status, workflow
from durable.errors import MailRefused, NotOwner, WorkflowAlreadyExists, WorkflowError, WorkflowNotFound
from durable.journal import keys
from durable.journal.entries import Row
from durable.runtime.births import TOMBSTONE_MS
from durable.runtime.desk import LocalDesk
from durable.storage import InMemoryStore
from durable.testing import run


@workflow("desk-takes")
async def takes(ctx: Context, count: int) -> list[int]:
    return [await ctx.receive("box", int) for _ in range(count)]


@workflow("desk-rounds")
async def rounds(ctx: Context, number: int) -> int:
    await ctx.sleep(0.001)
    return number if number >= 60 else ctx.continue_as_new(number + 1)


def twins_with(name: str) -> tuple[Twins, Twin, int]:
    twins = Twins()
    twins.give("a")
    return twins, twins.nodes["a"], keys.partition_of(name)


async def overtaken(twins: Twins, name: str) -> Twin:
    """The node that had the partition, and does not know yet that another one has it: it has nothing to write."""
    await asyncio.sleep(0.1)
    before = twins.node(name)
    twins.move(keys.partition_of(name), "b", told=False)
    return before


async def started(task: asyncio.Future[Any]) -> None:
    await asyncio.sleep(0.05)
    assert not task.done()


def test_a_message_with_a_key_is_one_also_when_its_receiver_has_finished_meanwhile() -> None:
    async def main() -> None:
        twins, node, partition = twins_with("k1")
        await node.desk.submit("desk-takes", 1, b"1", "k1")
        twins.hold("k1")
        tasks = [asyncio.ensure_future(node.desk.send("k1", "box", b"7", "once")) for _ in range(2)]
        await asyncio.gather(*map(started, tasks))
        assert node.engine.live["k1"].status is Status.COMPLETED  # in memory; nobody knows it yet
        tasks.append(asyncio.ensure_future(node.desk.send("k1", "box", b"7", "once")))
        await started(tasks[2])
        refused = asyncio.ensure_future(node.desk.send("k1", "box", b"7", "another"))
        await started(refused)
        node.log.let(partition)
        await asyncio.gather(*tasks)
        with pytest.raises(MailRefused):
            await refused
        row = await node.desk.outcome("k1", 5.0)
        assert row is not None
        assert row.output_json == b"[7]"
        await twins.close()

    run(main())


def test_a_fork_is_recognised_by_its_request_before_and_after_it_is_durable() -> None:
    async def main() -> None:
        twins, node, partition = twins_with("f1-copy")
        await node.desk.submit("desk-takes", 1, b"1", "f1")
        rows = await node.desk.rows_before("f1", 0)
        twins.hold("f1-copy")
        tasks = [asyncio.ensure_future(node.desk.fork("f1-copy", 0, rows, "r1")) for _ in range(2)]
        other = asyncio.ensure_future(node.desk.fork("f1-copy", 0, rows, "r2"))
        submitted = asyncio.ensure_future(node.desk.submit("desk-takes", 1, b"5", "f1-copy"))
        await asyncio.gather(*map(started, [*tasks, other, submitted]))
        node.log.let(partition)
        await asyncio.gather(*tasks)
        for taken in (other, submitted):
            with pytest.raises(WorkflowAlreadyExists):
                await taken
        first = await node.desk.metadata("f1-copy")
        await node.desk.fork("f1-copy", 0, rows, "r1")
        assert (await node.desk.metadata("f1-copy")).incarnation == first.incarnation
        await node.desk.send("f1-copy", "box", b"3", None)
        row = await node.desk.outcome("f1-copy", 5.0)
        assert row is not None
        assert row.output_json == b"[3]"
        await twins.close()

    run(main())


def test_a_fork_that_was_purged_is_known_for_as_long_as_its_id_is_taken_and_then_begins_anew() -> None:
    async def main() -> None:
        twins, node, _ = twins_with("f2-copy")
        await node.desk.submit("desk-takes", 1, b"0", "f2")
        rows = await node.desk.rows_before("f2", 0)
        await node.desk.fork("f2-copy", 0, rows, "r1")
        assert await node.desk.outcome("f2-copy", 5.0) is not None
        await node.desk.purge(None, 0, "")
        await node.desk.fork("f2-copy", 0, rows, "r1")
        with pytest.raises(WorkflowNotFound):
            await node.desk.metadata("f2-copy")
        with pytest.raises(WorkflowAlreadyExists):
            await node.desk.fork("f2-copy", 0, rows, "r2")
        await asyncio.sleep(TOMBSTONE_MS / 1000 + 1)
        await node.desk.fork("f2-copy", 0, rows, "r1")
        assert await node.desk.outcome("f2-copy", 5.0) is not None
        await twins.close()

    run(main())


def test_an_overtaken_node_tells_nothing_of_what_it_cannot_know() -> None:
    async def main() -> None:
        twins, node, partition = twins_with("s1")
        await node.desk.submit("desk-takes", 1, b"1", "s1")
        stale = await overtaken(twins, "s1")
        gone = next(name for name in map(str, range(9_999)) if keys.partition_of(name) == partition)
        for question in (
            stale.desk.metadata("s1"),
            stale.desk.journal("s1"),
            stale.desk.export("s1"),
            stale.desk.rows_before("s1", 0),
            stale.desk.metadata(gone),
            stale.desk.outcome(gone, 1.0),
            stale.desk.send(gone, "box", b"1", None),
            stale.desk.cancel(gone),
            stale.desk.submit("desk-takes", 1, b"2", "s1"),
            stale.desk.listing([partition], None, None, 10, None),
        ):
            with pytest.raises(NotOwner):
                await question
            assert partition in stale.engine.here
        assert await stale.desk.listing(None, None, None, 10, None) == []
        assert [each.owner for each in await twins.desk.listing(None, None, None, 10, None)] == ["b"]
        await twins.close()

    run(main())


IDLE = "d1"
ENDED = next(name for name in (f"d1-{n}" for n in range(9_999)) if keys.partition_of(name) == keys.partition_of(IDLE))
NOTHING_TO_DO: dict[str, Callable[[LocalDesk, list[Row]], Awaitable[Any]]] = {
    "submitted before": lambda desk, _: desk.submit("desk-takes", 1, b"1", IDLE),
    "sent before": lambda desk, _: desk.send(IDLE, "other", b"1", "once"),
    "forked before": lambda desk, rows: desk.fork(ENDED, 0, rows, "r1"),
    "ended before it is cancelled": lambda desk, _: desk.cancel(ENDED),
    "ended before it is resumed": lambda desk, _: desk.resume(ENDED),
    "paused already": lambda desk, _: desk.pause(IDLE),
    "not paused": lambda desk, _: desk.resume(IDLE),
    "nothing to purge": lambda desk, _: desk.purge([keys.partition_of(IDLE)], 3_600.0, "r1"),
    "stopped": lambda desk, _: desk.pause(IDLE),
    "no such entry": lambda desk, _: desk.rows_before(IDLE, 99),
}


@pytest.mark.parametrize("said", NOTHING_TO_DO)
def test_that_there_is_nothing_to_do_is_said_by_no_node_that_was_overtaken(said: str) -> None:
    async def main() -> None:
        twins, node, partition = twins_with(IDLE)
        await node.desk.submit("desk-takes", 1, b"1", IDLE)
        await node.desk.send(IDLE, "other", b"1", "once")
        rows = await node.desk.rows_before(IDLE, 0)
        await node.desk.fork(ENDED, 0, rows, "r1")
        await node.desk.send(ENDED, "box", b"1", None)
        assert await node.desk.outcome(ENDED, 5.0) is not None
        if said == "paused already":
            await node.desk.pause(IDLE)
        elif said == "stopped":
            node.engine.live[IDLE].status = Status.DIVERGED
        with pytest.raises(WorkflowError) if said in ("stopped", "no such entry") else nullcontext():
            await NOTHING_TO_DO[said](node.desk, rows)
        stale = await overtaken(twins, IDLE)
        with pytest.raises(NotOwner):
            await NOTHING_TO_DO[said](stale.desk, rows)
        assert partition in stale.engine.here, "it has written nothing by which it could have learned it"
        await twins.close()

    run(main())


def test_a_purge_of_all_that_is_here_is_silent_of_what_may_be_elsewhere_and_asks_again_of_nothing_that_it_wrote() -> None:
    async def main() -> None:
        twins, node, partition = twins_with("u1")
        for name in ("u1", "u2"):
            await node.desk.submit("desk-takes", 1, b"0", name)
            assert await node.desk.outcome(name, 5.0) is not None
        assert await node.desk.purge([partition], 0.0, "r1") == ["u1"]
        stale, asked = await overtaken(twins, "u1"), []
        confirm = stale.log.confirm
        stale.log.confirm = lambda partition: asked.append(partition) or confirm(partition)  # type: ignore[func-returns-value]
        assert await stale.desk.purge(None, 0.0, "r1") == ["u2"]
        assert sorted([*asked, keys.partition_of("u2")]) == list(range(keys.PARTITIONS))
        await twins.close()

    run(main())


def test_a_list_does_not_mix_what_was_read_before_a_partition_was_away_with_a_confirmation_after() -> None:
    async def main() -> None:
        twins, node, first = twins_with("l1")
        second = keys.partition_of("l2")
        twins.hold("l1")
        submitted = [asyncio.ensure_future(node.desk.submit("desk-takes", 1, b"1", "l1"))]
        listing = asyncio.ensure_future(node.desk.listing([first, second], None, None, 10, None))
        purging = asyncio.ensure_future(node.desk.purge([first, second], 0.0, ""))
        await started(listing)
        twins.hold("l2")
        submitted.append(asyncio.ensure_future(node.desk.submit("desk-takes", 1, b"1", "l2")))
        await started(submitted[1])
        node.log.let(first)
        await submitted[0]
        await started(listing)  # it has read, and waits for the second partition
        twins.move(first, "b")
        twins.move(first, "a")
        node.log.let(second)
        for question in (listing, purging):
            with pytest.raises(NotOwner):
                await question
        await twins.close()

    run(main())


def test_a_final_result_is_told_by_whoever_has_it_until_its_id_may_be_another_ones() -> None:
    async def main() -> None:
        twins, node, _ = twins_with("s2")
        await node.desk.submit("desk-takes", 1, b"0", "s2")
        await node.desk.outcome("s2", 5.0)
        stale = await overtaken(twins, "s2")
        row = await stale.desk.outcome("s2", 5.0)
        assert row is not None
        assert row.output_json == b"[]"
        cut_off = InMemoryStore.open()
        cut_off.write(list(twins.store.scan(b"")))
        stale.engine.storage = NodeStorage(cut_off)
        await twins.nodes["b"].desk.purge(None, 0.0, "")
        await asyncio.sleep(TOMBSTONE_MS / 3_000)
        assert await stale.desk.outcome("s2", 5.0) == row
        await asyncio.sleep(TOMBSTONE_MS / 1_500 + 1)
        await twins.nodes["b"].desk.submit("desk-takes", 1, b"1", "s2")
        with pytest.raises(NotOwner):
            await stale.desk.outcome("s2", 5.0)
        await twins.close()

    run(main())


def test_what_is_read_of_one_execution_is_of_one_moment() -> None:
    async def main() -> None:
        twins, node, _ = twins_with("n1")
        await node.desk.submit("desk-rounds", 1, b"0", "n1")
        seen = set()
        while (await node.desk.metadata("n1")).status is not Status.COMPLETED:
            rows, _ = await node.desk.journal("n1")
            seen.add(rows[0].run)  # type: ignore[union-attr]
            assert "desk-rounds" in await node.desk.export("n1")
            await asyncio.sleep(0.0003)  # virtual time passes only when everything waits
        assert len(seen) > 10
        await twins.close()

    run(main())


def test_a_cancel_without_code_waits_for_the_rows_that_say_what_is_under_way(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        twins, node, partition = twins_with("c1")
        twins.hold("c1")
        submitted = asyncio.ensure_future(node.desk.submit("desk-nowhere", 1, b"0", "c1"))
        cancelled = asyncio.ensure_future(node.desk.cancel("c1"))
        await asyncio.gather(started(submitted), started(cancelled))
        node.log.let(partition)
        await asyncio.gather(submitted, cancelled)
        row = await node.desk.outcome("c1", 5.0)
        assert row is not None
        assert row.status is Status.CANCELLED
        await twins.close()

    with caplog.at_level(logging.ERROR, "durable"):
        run(main())
    assert caplog.text == ""


def test_a_partition_that_is_elsewhere_is_named_with_its_owner() -> None:
    async def main() -> None:
        twins, node, partition = twins_with("o1")
        twins.move(partition, "b")
        with pytest.raises(NotOwner, match=rf"partition {partition} .* node 'b' \(epoch 2\)") as told:
            await node.desk.metadata("o1")
        assert (told.value.partition, told.value.owner, told.value.epoch) == (partition, "b", 2)
        with pytest.raises(WorkflowNotFound):
            await twins.nodes["b"].desk.metadata("o1")
        await twins.close()

    run(main())
