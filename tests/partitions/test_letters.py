"""Messages between executions whose partitions are on different nodes, or move while a message is on its way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twins import Twins

from durable import Context, Status, workflow
from durable.errors import MailRefused, NotOwner, Overloaded, Unanswered, WorkflowAlreadyExists
from durable.journal import failures, keys
from durable.journal.entries import Address, Envelope, EnvelopeKind
from durable.runtime import carrier
from durable.runtime.births import FORGOTTEN_MS, TOMBSTONE_MS
from durable.storage.node import journal_prefix
from durable.testing import run

SENDER = "letters-sender"
RECEIVER = "letters-receiver"
HERE, THERE = keys.partition_of(SENDER), keys.partition_of(RECEIVER)


@workflow("letters-takes")
async def takes(ctx: Context, count: int) -> list[int]:
    return [await ctx.receive("box", int) for _ in range(count)]


@workflow("letters-sends")
async def sends(ctx: Context, count: int) -> list[str]:
    """Sends ``count`` numbers at once, then others as it is told to."""
    told = [ctx.send(RECEIVER, "box", number) for number in range(count)]
    told += [ctx.send(RECEIVER, "box", await ctx.receive("more", int)) for _ in range(3 - count)]
    answers = []
    for one in told:
        try:
            await one
            answers.append("ok")
        except MailRefused as error:
            answers.append(str(error))
    return answers


@workflow("letters-parent")
async def parent(ctx: Context) -> int:
    return await ctx.start(child, workflow_id=RECEIVER)


@workflow("letters-child")
async def child(ctx: Context) -> int:
    return await ctx.receive("box", int)


async def begin(twins: Twins, receiver_at: str, count: int) -> None:
    twins.give("a")
    twins.move(THERE, receiver_at)
    await twins.node(RECEIVER).desk.submit("letters-takes", 1, b"3", RECEIVER)
    twins.hold(RECEIVER)
    await twins.nodes["a"].desk.submit("letters-sends", 1, b"%d" % count, SENDER)
    await asyncio.sleep(0.3)


async def all_arrived(twins: Twins) -> None:
    for name, wanted in ((RECEIVER, b"[0,1,2]"), (SENDER, b'["ok","ok","ok"]')):
        row = await twins.desk.outcome(name, 60.0)
        assert row.output_json == wanted
    assert not list(twins.nodes["a"].engine.storage.outbox(HERE))
    await twins.close()


def test_what_was_accepted_and_not_durable_starts_anew_when_its_receiver_leaves() -> None:
    async def main() -> None:
        twins = Twins()
        await begin(twins, "a", 3)
        assert twins.nodes["a"].log.waiting(THERE)
        twins.move(THERE, "b")  # the sender stays where it is, and nobody recovers it
        await all_arrived(twins)

    run(main())


def test_a_later_message_does_not_overtake_those_that_start_anew() -> None:
    async def main() -> None:
        twins = Twins()
        await begin(twins, "a", 3)
        engine = twins.nodes["a"].engine
        letters = list(engine.storage.outbox(HERE))
        twins.move(THERE, "b")
        engine.deliver(*letters[-1])  # its batch is durable in this very moment
        await all_arrived(twins)

    run(main())


def test_a_message_does_not_overtake_one_that_is_being_carried_to_where_its_receiver_was() -> None:
    async def main() -> None:
        twins = Twins()
        await begin(twins, "b", 1)
        twins.move(THERE, "a")
        for number in (1, 2):
            await twins.nodes["a"].desk.send(SENDER, "more", b"%d" % number, None)
        await all_arrived(twins)

    run(main())


def test_a_sender_that_leaves_is_carried_on_by_its_next_owner_alone() -> None:
    async def main() -> None:
        twins = Twins("abc")
        await begin(twins, "b", 3)
        twins.move(HERE, "c")
        assert twins.nodes["a"].engine.post._carrier._ways == {}
        twins.nodes["b"].log.let(THERE)
        for name, wanted in ((RECEIVER, b"[0,1,2]"), (SENDER, b'["ok","ok","ok"]')):
            row = await twins.desk.outcome(name, 60.0)
            assert row.output_json == wanted
        await twins.close()

    run(main())


def test_an_overtaken_node_refuses_nothing_in_the_name_of_the_owner() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        twins.move(THERE, "b", told=False)  # a still believes that it has the receiver's partition, where there is none
        await twins.nodes["b"].desk.submit("letters-takes", 1, b"3", RECEIVER)
        stale = twins.nodes["a"]
        twins.hide(RECEIVER)  # and its copy is behind: it has not seen the receiver
        await stale.desk.submit("letters-sends", 1, b"3", SENDER)
        with pytest.raises(NotOwner):
            await stale.desk.post(letter(7))
        await asyncio.sleep(3)
        twins.show()
        stale.engine.drop(THERE, twins.elsewhere(THERE))
        await all_arrived(twins)

    run(main())


def letter(number: int, previous: int = 0, **changes: Any) -> Envelope:
    sender = Address("far-away", b"12345678", 0, number)
    return Envelope(EnvelopeKind.SEND, sender, RECEIVER, number, "box", previous, b"%d" % (number - 1), **changes)


def test_the_same_letter_is_accepted_once_wherever_it_arrives_again() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        node = twins.nodes["a"]
        await node.desk.submit("letters-takes", 1, b"2", RECEIVER)
        gap = await node.desk.post(letter(2, previous=1))
        assert gap is not None
        assert isinstance(failures.rebuild(gap), MailRefused)
        twins.hold(RECEIVER)
        posted = [asyncio.ensure_future(node.desk.post(letter(n, n - 1))) for n in (1, 1, 2, 2)]
        await asyncio.sleep(0.1)
        assert not any(each.done() for each in posted)
        assert node.engine.live[RECEIVER].status is Status.COMPLETED  # in memory only
        posted.append(asyncio.ensure_future(node.desk.post(letter(2, 1))))
        posted[0].cancel()  # a caller that has gone does not take the answer from the other
        await asyncio.sleep(0.1)
        node.log.let(THERE)
        assert await asyncio.gather(*posted[1:]) == [None, None, None, None]
        assert await node.desk.outcome(RECEIVER, 5.0) is not None
        twins.move(THERE, "b")
        assert await twins.nodes["b"].desk.post(letter(2, 1)) is None
        refused = await twins.nodes["b"].desk.post(letter(3, 2))
        assert refused is not None
        assert "has finished" in refused.message
        await twins.close()

    run(main())


def test_a_letter_that_waits_for_long_waits_once() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        twins.move(THERE, "b")
        await twins.nodes["a"].desk.submit("letters-parent", 1, b"null", SENDER)
        await asyncio.sleep(1)
        await twins.nodes["a"].desk.pause(SENDER)
        await twins.nodes["b"].desk.send(RECEIVER, "box", b"5", None)
        await asyncio.sleep(100)  # the child's result was carried some ten times, and each try was given up
        assert len(twins.nodes["a"].engine.live[SENDER].inbox) == 1
        await twins.nodes["a"].desk.resume(SENDER)
        row = await twins.desk.outcome(SENDER, 60.0)
        assert row.output_json == b"5"
        await twins.close()

    run(main())


def test_where_there_is_too_much_to_do_a_letter_is_carried_again_and_nobody_is_alarmed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        twins.move(THERE, "b")
        carry, refused = twins.carry, 0

        async def full(envelope: Envelope) -> Any:
            nonlocal refused
            refused += 1
            if refused < 4:
                raise Overloaded("too many requests are under way")
            return await carry(envelope)

        twins.carry = full  # type: ignore[method-assign]
        await twins.nodes["b"].desk.submit("letters-takes", 1, b"3", RECEIVER)
        await twins.nodes["a"].desk.submit("letters-sends", 1, b"3", SENDER)
        row = await twins.nodes["b"].desk.outcome(RECEIVER, 60.0)
        assert row is not None and row.output_json == b"[0,1,2]" and refused >= 4
        await twins.close()

    run(main())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_letters_that_nobody_answers_do_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "CARRIED_AT_ONCE_MAX", 8)
    kept, under_way, most = [f"letters-kept-{n}" for n in range(40)], 0, 0

    async def main() -> None:
        twins = Twins()
        twins.give("a")
        carry, answers = twins.carry, asyncio.Event()

        async def slow(envelope: Envelope) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                async with asyncio.timeout(30):
                    if envelope.receiver in kept:
                        await answers.wait()
                    return await carry(envelope)
            except TimeoutError:
                raise Unanswered("its receiver is paused") from None
            finally:
                under_way -= 1

        twins.carry = slow  # type: ignore[method-assign]
        for partition in dict.fromkeys(map(keys.partition_of, [RECEIVER, *kept])):
            twins.move(partition, "b")
        for name in kept:
            await twins.node(name).desk.submit("letters-takes", 1, b"2", name)
        await twins.node(RECEIVER).desk.submit("letters-takes", 1, b"3", RECEIVER)
        engine, senders = twins.nodes["a"].engine, next(each for each in range(256) if each in twins.nodes["a"].engine.here)
        tenure = engine.here[senders]
        for name in kept:
            for number in (1, 2):
                post = Envelope(
                    EnvelopeKind.SEND, Address("letters-x", b"12345678", 0, number), name, number, "box", number - 1, b"%d" % number
                )
                engine.post._carrier.add(tenure, b"%d %s" % (number, name.encode()), post)
        await asyncio.sleep(0.1)
        await twins.node(SENDER).desk.submit("letters-sends", 1, b"3", SENDER)
        row = await twins.node(RECEIVER).desk.outcome(RECEIVER, 20.0)
        assert row is not None and row.output_json == b"[0,1,2]"
        await asyncio.sleep(100)
        assert most == 8
        answers.set()
        for name in kept:
            row = await twins.node(name).desk.outcome(name, 60.0)
            assert row is not None and row.output_json == b"[1,2]", "in their order"
        await twins.close()

    run(main())


def test_a_child_that_was_purged_is_not_started_again() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        node = twins.nodes["a"]
        start = Envelope(EnvelopeKind.START, Address("far-away", b"12345678", 0, 1), RECEIVER, 1, "letters-takes", 0, b"0")
        assert await node.desk.post(start) is None
        assert await node.desk.outcome(RECEIVER, 5.0) is not None
        node.engine.batches.of(THERE).writes.extend((key, None) for key, _ in node.engine.storage.outbox(THERE))
        assert await node.desk.purge(None, 0, "") == [RECEIVER]
        assert await node.desk.post(start) is None, "as if the first answer had arrived"
        other = Envelope(EnvelopeKind.START, Address("far-away", b"12345678", 0, 2), RECEIVER, 2, "letters-takes", 0, b"0")
        taken = await node.desk.post(other)
        assert taken is not None
        assert isinstance(failures.rebuild(taken), WorkflowAlreadyExists)
        await asyncio.sleep(TOMBSTONE_MS / 1000 + 1)
        assert await node.desk.post(start) is None, "also when its sender was cut off for longer than the id stays taken"
        assert await node.desk.listing(None, None, None, 10, None) == []
        await twins.close()

    run(main())


async def received_and_purged(twins: Twins) -> None:
    """Two letters and a request from outside were accepted; their receiver has finished, and is gone."""
    node = twins.nodes["a"]
    await node.desk.submit("letters-takes", 1, b"3", RECEIVER)
    assert await node.desk.post(letter(1)) is None
    assert await node.desk.post(letter(2, 1)) is None
    await node.desk.send(RECEIVER, "box", b"2", "a request")
    assert await node.desk.outcome(RECEIVER, 5.0) is not None
    assert await node.desk.purge(None, 0, "first") == [RECEIVER]


def test_who_repeats_himself_after_a_purge_is_told_what_he_would_have_been_told_before() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        await received_and_purged(twins)
        twins.move(THERE, "b")
        node = twins.nodes["b"]
        assert await node.desk.post(letter(2, 1)) is None, "it was accepted, and received"
        await node.desk.send(RECEIVER, "box", b"2", "a request")
        assert await node.desk.purge(None, 0, "first") == [RECEIVER] and await node.desk.purge(None, 0, "second") == []
        refused = await node.desk.post(letter(3, 2))
        assert refused is not None, "this one never was"
        assert isinstance(failures.rebuild(refused), MailRefused)
        with pytest.raises(MailRefused):
            await node.desk.send(RECEIVER, "box", b"2", "another request")
        await twins.close()

    run(main())


def test_a_sender_goes_on_in_its_order_when_its_receiver_was_purged_and_begins_again() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        await received_and_purged(twins)
        node = twins.nodes["a"]
        await asyncio.sleep(TOMBSTONE_MS / 1000 + 1)
        await node.desk.submit("letters-takes", 1, b"2", RECEIVER)
        assert await node.desk.post(letter(2, 1)) is None
        assert await node.desk.post(letter(3, 2)) is None
        await node.desk.send(RECEIVER, "box", b"9", "a request")
        row = await node.desk.outcome(RECEIVER, 5.0)
        assert row is not None
        assert row.output_json == b"[2,9]", "the letter of the first life is not for the second, and the request is a new one"
        await twins.close()

    run(main())


def test_what_a_purged_id_had_accepted_is_forgotten_in_the_end() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        await received_and_purged(twins)
        node = twins.nodes["a"]

        def known() -> int:
            tables = (keys.TOMBSTONE, *keys.OF_ONE_EXECUTION, *keys.OF_ONE_ID)
            return len(node.engine.storage.all_keys(RECEIVER, tables))

        assert known() == 3
        await asyncio.sleep(FORGOTTEN_MS / 1000 - 10)
        assert await node.desk.purge(None, 0, "another") == []
        assert known() == 3
        await asyncio.sleep(11)
        assert await node.desk.purge(None, 0, "") == []
        assert known() == 0
        await twins.close()

    run(main())


def test_a_request_to_a_new_life_is_not_taken_for_one_to_the_old_before_that_life_is_durable() -> None:
    async def main() -> None:
        twins = Twins()
        twins.give("a")
        await received_and_purged(twins)
        node = twins.nodes["a"]
        await asyncio.sleep(TOMBSTONE_MS / 1000 + 1)
        twins.hold(RECEIVER)
        begun = asyncio.ensure_future(node.desk.submit("letters-takes", 1, b"1", RECEIVER))
        await asyncio.sleep(0.01)
        sent = asyncio.ensure_future(node.desk.send(RECEIVER, "box", b"9", "a request"))
        await asyncio.sleep(0.01)
        node.log.let(THERE)
        await asyncio.gather(begun, sent)
        row = await node.desk.outcome(RECEIVER, 5.0)
        assert row is not None and row.output_json == b"[9]", "what was acknowledged arrives"
        await twins.close()

    run(main())


def test_a_tombstone_beside_an_execution_that_cannot_be_read_stops_no_purge() -> None:
    """An older version left the tombstone where it was when an id began again."""

    async def main() -> None:
        twins = Twins()
        twins.give("a")
        await received_and_purged(twins)
        node = twins.nodes["a"]
        tombstone = keys.of(THERE, keys.TOMBSTONE, RECEIVER)
        kept = node.engine.storage.number_at(tombstone)
        await asyncio.sleep(TOMBSTONE_MS / 1000 + 1)
        await node.desk.submit("letters-takes", 1, b"0", RECEIVER)
        row = await node.desk.outcome(RECEIVER, 5.0)
        assert row is not None and kept is not None
        start = journal_prefix(RECEIVER, row.incarnation, 0) + keys.number(0)
        twins.store.write([(tombstone, keys.number(kept, 8)), (start, b"?")])
        await asyncio.sleep(FORGOTTEN_MS / 1000 + 1)
        assert await node.desk.purge(None, 0, "later") == [RECEIVER]
        await twins.close()

    run(main())
