"""Messages arrive once, in order per sender, or are refused; and what was accepted wakes its receiver, crash or not."""

from __future__ import annotations

import asyncio

import pytest
from nodes import asynchronous, held, open_node, reached, turns, until

from durable import Context, MailRefused, Status, workflow


@workflow("mail-collect")
async def collect(ctx: Context, count: int) -> list[int]:
    return [await ctx.receive("numbers", int) for _ in range(count)]


@workflow("mail-gate")
async def gated(ctx: Context) -> list[int]:
    await ctx.receive("go")
    return [await ctx.receive("numbers", int) for _ in range(3)]


@workflow("mail-burst")
async def burst(ctx: Context, to: str) -> int:
    sends = [ctx.send(to, "numbers", n) for n in range(20)]
    await asyncio.gather(*sends)
    return len(sends)


@asynchronous
async def test_messages_of_one_sender_arrive_in_order_and_once() -> None:
    async with await open_node() as runtime:
        receiver = await runtime.submit(collect, 20, workflow_id="m1")
        await runtime.submit(burst, "m1", workflow_id="m1-sender")
        assert await receiver.result() == list(range(20))


@asynchronous
async def test_mail_that_was_accepted_for_a_parked_execution_wakes_it_after_a_crash() -> None:
    """The message is durable, and the process dies before the receiver ran: nobody else will wake it."""
    log = held()
    runtime = await open_node(log=log, park_after=0.0)
    await runtime.submit(collect, 1, workflow_id="m2")
    await until(lambda: "m2" not in runtime._engine.live, "parking")
    log.hold()
    sent = asyncio.ensure_future(runtime.handle("m2").send("numbers", 5))
    await until(lambda: log.waiting, "the message was handed to the log")
    log.step()
    store = log.survivors()
    log.release()
    await sent
    await runtime.close()
    async with await open_node(store) as again:
        assert await again.handle("m2").result(timeout=5) == [5]


@asynchronous
async def test_a_refused_message_does_not_block_the_next_one() -> None:
    @workflow("mail-knock")
    async def knock(ctx: Context) -> str:
        try:
            await ctx.send("m3-late", "numbers", 1)
        except MailRefused:
            await ctx.receive("again")
        await ctx.send("m3-late", "numbers", 2)
        return "sent"

    async with await open_node() as runtime:
        sender = await runtime.submit(knock, workflow_id="m3")
        await reached(sender, Status.WAITING)
        receiver = await runtime.submit(collect, 1, workflow_id="m3-late")
        await sender.send("again")
        assert await sender.result(timeout=5) == "sent"
        assert await receiver.result(timeout=5) == [2]


@asynchronous
async def test_a_full_mailbox_refuses_and_takes_again_when_there_is_room() -> None:
    @workflow("mail-pusher")
    async def pusher(ctx: Context) -> list[str]:
        told = []
        for n in range(4):
            try:
                await ctx.send("m4", "numbers", n)
                told.append("ok")
            except MailRefused:
                told.append("refused")
        await ctx.receive("room")
        await ctx.send("m4", "numbers", 9)
        return told

    async with await open_node(mailbox_max=2) as runtime:
        receiver = await runtime.submit(gated, workflow_id="m4")
        await reached(receiver, Status.WAITING)
        sender = await runtime.submit(pusher, workflow_id="m4-sender")
        await until(lambda: "room" in runtime._engine.live["m4-sender"].receivers, "all four were answered")
        with pytest.raises(MailRefused, match="unread messages"):
            await receiver.send("numbers", 99)
        # both unread messages stay in the box until "go" is there, and the box is full: make room by draining it
        runtime._engine.config = type(runtime._engine.config)(mailbox_max=3)
        await receiver.send("go")
        await until(lambda: runtime._engine.live["m4"].mailbox.unread == 0, "the receiver took both")
        await sender.send("room")
        assert await sender.result(timeout=5) == ["ok", "ok", "refused", "refused"]
        assert await receiver.result(timeout=5) == [0, 1, 9]


@asynchronous
async def test_pipelined_messages_behind_a_refused_one_are_answered_too() -> None:
    """Messages sent before their sender knew of the refusal get an answer each; none of them hangs."""

    @workflow("mail-pipeline")
    async def pipeline(ctx: Context) -> list[str]:
        sends = [ctx.send("m5", "numbers", n) for n in range(4)]
        answers = await asyncio.gather(*sends, return_exceptions=True)
        return ["ok" if answer is None else type(answer).__name__ for answer in answers]

    async with await open_node(mailbox_max=2) as runtime:
        receiver = await runtime.submit(gated, workflow_id="m5")
        await reached(receiver, Status.WAITING)
        sender = await runtime.submit(pipeline, workflow_id="m5-sender")
        assert await sender.result(timeout=5) == ["ok", "ok", "MailRefused", "MailRefused"]


@asynchronous
async def test_mail_to_a_finished_or_unknown_execution_is_refused() -> None:
    @workflow("mail-nobody")
    async def nobody(ctx: Context, to: str) -> str:
        try:
            await ctx.send(to, "numbers", 1)
        except MailRefused as error:
            return str(error)
        return "accepted"

    async with await open_node() as runtime:
        done = await runtime.submit(collect, 0, workflow_id="m6-done")
        await done.result()
        assert "has finished" in await (await runtime.submit(nobody, "m6-done")).result()
        assert "does not exist" in await (await runtime.submit(nobody, "m6-unknown")).result()
        with pytest.raises(MailRefused, match="has finished"):
            await done.send("numbers", 1)
        with pytest.raises(MailRefused, match="does not exist"):
            await runtime.handle("m6-unknown").send("numbers", 1)


@asynchronous
async def test_a_send_from_outside_that_is_repeated_with_its_key_counts_once() -> None:
    async with await open_node() as runtime:
        receiver = await runtime.submit(collect, 2, workflow_id="m7")
        await receiver.send("numbers", 1, key="a")
        await receiver.send("numbers", 1, key="a")
        await receiver.send("numbers", 2, key="b")
        assert await receiver.result() == [1, 2]
        await receiver.send("numbers", 2, key="b")  # a late repetition of what was accepted: recognised, not refused
        with pytest.raises(MailRefused):
            await receiver.send("numbers", 3, key="c")


@asynchronous
async def test_a_receive_that_timed_out_takes_no_message() -> None:
    @workflow("mail-timeout")
    async def impatient(ctx: Context) -> list[object]:
        try:
            await ctx.receive("numbers", int, timeout=0.01)
        except TimeoutError as error:
            first = str(error)
        return [first, await ctx.receive("numbers", int)]

    async with await open_node() as runtime:
        handle = await runtime.submit(impatient, workflow_id="m8")
        await until(lambda: runtime._engine.live.get("m8") and runtime._engine.live["m8"].rows >= 5, "the timeout")
        await handle.send("numbers", 4)
        told, number = await handle.result(timeout=5)
        assert "numbers" in str(told)
        assert number == 4


@asynchronous
async def test_mail_survives_parking_and_continue_as_new() -> None:
    @workflow("mail-loop")
    async def loop(ctx: Context, total: int = 0) -> int:
        number = await ctx.receive("numbers", int)
        if number == 0:
            return total
        ctx.continue_as_new(total + number)
        raise AssertionError("not reached")

    async with await open_node(park_after=0.0, max_waiting_in_memory=0) as runtime:
        handle = await runtime.submit(loop, workflow_id="m9")
        for number in (1, 2, 3, 4):
            await handle.send("numbers", number)
            await turns(3)
        await handle.send("numbers", 0)
        assert await handle.result(timeout=5) == 10
        assert (await handle.metadata()).run == 4
