"""What `durable.runtime.tenure` says of a partition that comes and goes, line by line."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from twins import Twin, Twins

from durable import Context, RetryPolicy, Status, current_call, function, workflow
from durable.errors import NoQuorum, NotOwner, OutcomeUnknown, StoreFull
from durable.journal import keys
from durable.testing import run
from durable.workflows.definition import REGISTRY

BEGAN: list[int] = []
STOPPED: list[int] = []


@function("tenures-slow")
async def slow(seconds: float) -> int:
    BEGAN.append(current_call().epoch)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        STOPPED.append(current_call().epoch)
        raise
    return len(BEGAN)


@function("tenures-blocking")
def blocking(seconds: float) -> int:
    BEGAN.append(current_call().epoch)
    time.sleep(seconds)
    if current_call().cancelled:
        STOPPED.append(current_call().epoch)
    return len(BEGAN)


@workflow("tenures-work")
async def work(ctx: Context, seconds: float) -> int:
    return await ctx.call(slow, seconds)


@workflow("tenures-thread")
async def thread(ctx: Context, seconds: float) -> int:
    return await ctx.call(blocking, seconds)


@workflow("tenures-nap")
async def nap(ctx: Context) -> str:
    await ctx.sleep(1)
    return "rested"


@workflow("tenures-long")
async def long(ctx: Context, seconds: float) -> None:
    await ctx.sleep(seconds)


@function("tenures-second-time", retry=RetryPolicy(max_attempts=2, initial_delay=60.0, jitter=0.0))
async def second_time() -> int:
    if current_call().attempt == 1:
        raise ConnectionError
    return current_call().attempt


@workflow("tenures-again")
async def once_more(ctx: Context) -> int:
    return await ctx.call(second_time)


@workflow("tenures-waits")
async def waits(ctx: Context) -> Any:
    return await ctx.receive("box", int)


def twins_of(name: str) -> tuple[Twins, Twin, int]:
    BEGAN.clear()
    STOPPED.clear()
    twins = Twins()
    twins.give("a")
    return twins, twins.nodes["a"], keys.partition_of(name)


def idle(node: Twin) -> bool:
    return (node.engine.scheduler.running, node.engine.scheduler.queued, len(node.engine.live)) == (0, 0, 0)


def test_a_batch_that_is_durable_after_its_tenure_has_no_effect() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w1")
        twins.hold("w1")
        submitted = asyncio.ensure_future(node.desk.submit("tenures-work", 1, b"0.1", "w1"))
        await asyncio.sleep(0.1)
        node.engine.drop(partition, NotOwner(partition, "b", 2))
        node.engine.adopt(partition, 3)
        with pytest.raises(OutcomeUnknown) as told:
            await submitted
        why = told.value.__cause__
        assert isinstance(why, NotOwner) and (why.owner, why.epoch) == ("b", 2)
        node.log.let(partition)
        await asyncio.sleep(5)
        assert BEGAN == []
        assert idle(node)
        await twins.close()

    run(main())


def test_the_failure_of_an_old_batch_does_not_end_the_next_tenure() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w2")
        twins.hold("w2")
        submitted = asyncio.ensure_future(node.desk.submit("tenures-work", 1, b"0.1", "w2"))
        await asyncio.sleep(0.1)
        node.engine.drop(partition, NotOwner(partition, "b", 2))
        node.engine.adopt(partition, 3)
        node.log.lose(partition, NotOwner(partition, "b", 2))
        node.log.regain(partition)
        with pytest.raises(OutcomeUnknown):
            await submitted
        await node.desk.submit("tenures-work", 1, b"0.1", "w2")
        row = await node.desk.outcome("w2", 5.0)
        assert row is not None
        assert row.status is Status.COMPLETED
        assert BEGAN == [3]
        await twins.close()

    run(main())


@pytest.mark.parametrize("name", ["tenures-work", "tenures-thread"])
def test_a_function_is_cancelled_its_answer_is_nothing_and_its_slot_is_released_once(name: str) -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w3")
        await node.desk.submit(name, 1, b"0.2", "w3")
        result = asyncio.ensure_future(node.desk.outcome("w3", None))
        while not BEGAN:
            await asyncio.sleep(0)
        twins.move(partition, "b")
        with pytest.raises(NotOwner):
            await result
        assert idle(node)
        row = await twins.nodes["b"].desk.outcome("w3", 5.0)
        assert row is not None
        assert row.output_json == b"2"
        await asyncio.sleep(1)
        assert (BEGAN, STOPPED) == ([1, 2], [1])  # the epochs in which it ran, and was told to stop
        assert idle(node)
        assert node.engine.runner.threads.stuck == 0
        await twins.close()

    run(main())


def test_queued_and_ready_executions_leave_without_a_trace() -> None:
    async def main() -> None:
        BEGAN.clear()
        twins = Twins(max_concurrent_workflows=1)
        twins.give("a")
        node = twins.nodes["a"]
        names = [f"q{number}" for number in range(6)]
        for name in names:
            await node.desk.submit("tenures-work", 1, b"0.1", name)
        for name in names[:5]:
            twins.move(keys.partition_of(name), "b")
        assert (await node.desk.outcome("q5", 5.0)) is not None
        assert idle(node)
        assert sorted(twins.nodes["b"].engine.live) == names[:5]
        for name in names[:5]:
            assert (await twins.nodes["b"].desk.outcome(name, 5.0)) is not None
        await twins.close()

    run(main())


def test_a_timer_does_not_ring_where_it_was_armed_but_where_its_partition_is() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w4")
        await node.desk.submit("tenures-nap", 1, b"null", "w4")
        await asyncio.sleep(0.5)
        await node.desk.submit("tenures-nap", 1, b"null", "stays")
        node.engine.drop(partition, NotOwner(partition))
        assert (await node.desk.outcome("stays", 5.0)) is not None  # its timer rings after the other one would have
        written = node.log.applied
        await asyncio.sleep(5)
        assert node.log.applied == written
        twins.move(partition, "b")
        row = await twins.nodes["b"].desk.outcome("w4", 0.1)
        assert row is not None
        assert row.output_json == b'"rested"'
        await twins.close()

    run(main())


def test_time_does_not_go_back_with_a_new_owner() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w5")
        twins.move(partition, "b")  # its clock is 700 ms ahead
        await twins.nodes["b"].desk.submit("tenures-waits", 1, b"null", "w5")
        began = twins.nodes["b"].engine.storage.clock_ms(partition)
        assert node.engine.clock.now_ms() < began
        twins.move(partition, "a")
        assert node.engine.now_ms(partition) >= began
        await twins.close()

    run(main())


def test_a_clock_that_is_a_day_ahead_moves_what_it_has_owned_and_nothing_else() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w7")
        loop = asyncio.get_running_loop()
        ahead: Any = twins.nodes["b"].engine.clock
        ahead._ahead_ms = 86_400_000
        here = next(name for name in map("w8-{}".format, range(99)) if keys.partition_of(name) != partition)
        later = next(name for name in map("w7-{}".format, range(9_999)) if keys.partition_of(name) == partition)
        twins.move(partition, "b")
        await node.desk.submit("tenures-long", 1, b"21600", here)
        await twins.nodes["b"].desk.submit("tenures-long", 1, b"21600", "w7")
        began = loop.time()
        await asyncio.sleep(60)
        seen = twins.nodes["b"].engine.storage.clock_ms(partition)
        twins.move(partition, "a")
        assert node.engine.now_ms(partition) >= seen
        await node.desk.submit("tenures-long", 1, b"3600", later)

        async def ended_after_s(name: str) -> float:
            assert await node.desk.outcome(name, None) is not None
            return loop.time() - began

        ended = await asyncio.gather(*map(ended_after_s, (later, "w7", here)))
        assert ended == pytest.approx([3_660, 21_660, 21_600], abs=5), "the minute in which nothing was recorded was seen by nobody"
        await twins.close()

    run(main())


def test_who_waits_for_another_attempt_where_the_time_is_ahead_waits_as_long_as_elsewhere() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w9")
        ahead: Any = twins.nodes["b"].engine.clock
        ahead._ahead_ms = 86_400_000
        twins.move(partition, "b")
        await twins.nodes["b"].desk.submit("tenures-waits", 1, b"null", "w9")
        twins.move(partition, "a")
        began = asyncio.get_running_loop().time()
        again = next(name for name in map("w9-{}".format, range(9_999)) if keys.partition_of(name) == partition)
        await node.desk.submit("tenures-again", 1, b"null", again)
        row = await node.desk.outcome(again, None)
        assert row is not None and row.output_json == b"2"
        assert 60 <= asyncio.get_running_loop().time() - began <= 65
        await twins.close()

    run(main())


def test_one_lost_partition_leaves_the_node_the_others_and_a_failed_disk_does_not() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w6")
        node.log.lose(partition, NotOwner(partition, "b", 2))
        with pytest.raises(OutcomeUnknown):
            await node.desk.submit("tenures-work", 1, b"0.1", "w6")
        assert partition not in node.engine.here
        await node.desk.submit("tenures-work", 1, b"0.1", "another")
        assert (await node.desk.outcome("another", 5.0)) is not None
        other = keys.partition_of("third")
        node.log.lose(other, StoreFull("full"))  # type: ignore[arg-type]
        with pytest.raises(StoreFull):
            await node.desk.submit("tenures-work", 1, b"0.1", "third")
        assert isinstance(node.engine.failure, StoreFull)
        await twins.close()

    run(main())


def test_without_a_quorum_what_was_written_is_unknown_and_may_be_asked_again_with_its_id() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w7")
        twins.hold("w7")
        submitted = asyncio.ensure_future(node.desk.submit("tenures-waits", 1, b"null", "w7"))
        await asyncio.sleep(0.1)
        node.engine.drop(partition, NoQuorum(partition, 1, 2, 0.5))
        with pytest.raises(OutcomeUnknown, match="'w7'") as unknown:
            await submitted
        assert unknown.value.request_id == "w7"
        with pytest.raises(NotOwner):
            await node.desk.metadata("w7")
        await twins.close()

    run(main())


def test_code_that_is_registered_late_does_not_wake_what_has_left() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w8")
        for name in ("w8", "stays"):
            await node.desk.submit("tenures-late", 1, b"null", name)
        await asyncio.sleep(0.1)
        twins.move(partition, "b")

        @workflow("tenures-late")
        async def late(ctx: Context) -> str:
            return ctx.workflow_id

        try:
            for owner, name in (("a", "stays"), ("b", "w8")):
                row = await twins.nodes[owner].desk.outcome(name, 5.0)
                assert row is not None
                assert row.output_json == f'"{name}"'.encode()
        finally:
            REGISTRY.workflows.pop("tenures-late", None)
        await twins.close()

    run(main())


def test_the_owner_that_answers_and_its_epoch_are_in_the_metadata() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w9")
        await node.desk.submit("tenures-waits", 1, b"null", "w9")
        seen = [await node.desk.metadata("w9")]
        twins.move(partition, "b")
        seen.append(await twins.nodes["b"].desk.metadata("w9"))
        assert [(each.owner, each.epoch) for each in seen] == [("a", 1), ("b", 2)]
        await twins.close()

    run(main())


def test_a_partition_is_busy_from_the_step_that_calls_a_function_until_its_result_is_handed_to_the_log() -> None:
    async def main() -> None:
        twins, node, partition = twins_of("w1")
        seen: list[bool] = []
        twins.hold("w1")
        submitted = asyncio.ensure_future(node.desk.submit("tenures-work", 1, b"1.0", "w1"))
        await asyncio.sleep(0.1)
        seen.append(partition in node.engine.busy())  # the command is on its way to the log
        node.log.let(partition)
        await submitted
        await asyncio.sleep(0.5)
        assert len(BEGAN) == 1
        seen.append(partition in node.engine.busy())
        await asyncio.sleep(2)
        seen.append(partition in node.engine.busy())
        await node.desk.submit("tenures-nap", 1, b"null", "w1-nap")
        await asyncio.sleep(0.5)
        assert seen == [True, True, False] and list(node.engine.busy()) == [], "who waits for a timer is not busy"
        await twins.close()

    run(main())
