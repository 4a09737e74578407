"""The cluster as one desk: the owner is found and followed, with one id, and the last word is never more than is known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nodes import asynchronous, until
from stations import ScriptedDesk, Station, stations
from towns import Town, in_town

from durable import Context, workflow
from durable.desk.face import Face
from durable.desk.listing import Executions
from durable.errors import (
    MailRefused,
    NoQuorum,
    NotOwner,
    OutcomeUnknown,
    Overloaded,
    StoreClosed,
    Unanswered,
    WorkflowAlreadyExists,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
)
from durable.journal.entries import Start, Status, StatusRow
from durable.membership.member import NodeAddress, NodeId
from durable.routing.partitions import PartitionRing
from durable.routing.router import Router
from durable.rpc.remote import RemoteDesk, RemoteExecutor
from durable.world import SystemEntropy

THREE = ("node-1", "node-2", "node-3")


@workflow
async def doubles(ctx: Context, number: int) -> int:
    return number * 2


@workflow
async def adds(ctx: Context) -> int:
    total = 0
    while (number := await ctx.receive("numbers", int)) != 0:
        total += number
    return total


@workflow
async def fails(ctx: Context) -> None:
    raise ValueError("as it should")


@workflow
async def asks_others(ctx: Context, others: list[str]) -> int:
    for other in others:
        await ctx.send(other, "numbers", 20)
        await ctx.send(other, "numbers", 1)
        await ctx.send(other, "numbers", 0)
    children = [ctx.start(doubles, n) for n in range(8)]
    return sum([await child for child in children])


# --- a town: whole workflows over sockets -------------------------------------------------------------------------------


@in_town(*THREE)
async def test_every_question_reaches_the_owner_from_every_node(town: Town) -> None:
    for owner in THREE:
        for asker, workflow_id in zip(THREE, town.id_at(owner, 3), strict=True):
            face = town[asker].face
            handle = await face.submit(adds, workflow_id=workflow_id)
            assert await handle.status() in (Status.PENDING, Status.RUNNING, Status.WAITING)
            await handle.send("numbers", 2)
            await handle.send("numbers", 3, key="three")
            await handle.send("numbers", 3, key="three")
            await handle.send("numbers", 0)
            assert await handle.result() == 5
            metadata = await handle.metadata()
            assert (metadata.owner, metadata.status) == (owner, Status.COMPLETED)
            assert [entry.entry_type.name for entry in await handle.journal()] == ["RECEIVE"] * 3
            assert '"durable_export":1' in (await face.export(workflow_id)).replace(" ", "")
            with pytest.raises(WorkflowAlreadyExists):
                await face.submit(doubles, 7, workflow_id=workflow_id)
            with pytest.raises(MailRefused):
                await handle.send("numbers", 1)
            forked = await handle.fork(1)
            await forked.send("numbers", 0)
            assert await forked.result() == 2, "its first message is in the journal, the others stayed behind"
            assert workflow_id in await face.purge()


@in_town(*THREE)
async def test_stopping_pausing_failing_and_not_being_there(town: Town) -> None:
    face = town["node-1"].face
    for workflow_id in [town.id_at(owner)[0] for owner in THREE]:
        handle = await face.submit(adds, workflow_id=workflow_id)
        await handle.pause()
        assert await handle.status() is Status.PAUSED
        await handle.resume()
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.01)
        await handle.cancel()
        with pytest.raises(WorkflowCancelled):
            await handle.result()
        await handle.cancel()
        with pytest.raises(WorkflowError, match="finished"):
            await handle.pause()
        failing = await face.submit(fails, workflow_id=workflow_id + "-fails")
        with pytest.raises(WorkflowFailed) as caught:
            await failing.result()
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(WorkflowNotFound):
            await face.handle(workflow_id + "-none").status()


@in_town(*THREE)
async def test_messages_and_children_cross_from_owner_to_owner(town: Town) -> None:
    receivers = [await town["node-1"].face.submit(adds, workflow_id=town.id_at(owner)[0]) for owner in THREE]
    names = [handle.workflow_id for handle in receivers]
    sender = await town["node-2"].face.submit(asks_others, names, workflow_id=town.id_at("node-2", 2)[1])
    assert await sender.result() == 2 * sum(range(8))
    for receiver in receivers:
        assert await receiver.result() == 21


@in_town(*THREE)
async def test_a_list_is_of_the_whole_town_and_pages_join(town: Town) -> None:
    ids = [f"order-{n}" for n in range(40)]
    await asyncio.gather(*[town["node-1"].face.submit(doubles, 1, workflow_id=one) for one in ids])
    await asyncio.gather(*[town["node-3"].face.handle(one).result() for one in ids])
    face = town["node-2"].face
    whole = await face.list()
    assert isinstance(whole, Executions)
    names = [one.workflow_id for one in whole]
    assert sorted(names) == sorted(ids)
    assert {one.owner for one in whole} == set(THREE)
    paged: list[str] = []
    while page := await face.list(limit=7, after=paged[-1] if paged else None):
        paged += [one.workflow_id for one in page]
    assert paged == names
    assert await face.list(status="FAILED") == [] and len(await face.list(workflow="doubles", limit=5)) == 5
    assert sorted(await face.purge()) == sorted(ids)
    assert await face.list() == []


@pytest.mark.parametrize("tells", [True, False])
def test_a_partition_that_moved_is_found_and_nothing_is_done_twice(tells: bool) -> None:
    @in_town(*THREE)
    async def body(town: Town) -> None:
        town.tells = tells
        face = town["node-1"].face
        workflow_id = town.id_at("node-1")[0]
        handle = await face.submit(adds, workflow_id=workflow_id)
        await handle.send("numbers", 4, key="four")
        for name in ("node-2", "node-3", "node-2"):
            town.give(town["node-1"].router.partition_of(workflow_id), name)
            await handle.send("numbers", 4, key="four")
            await face.submit(adds, workflow_id=workflow_id)
            assert (await handle.metadata()).owner == name
        assert [one.workflow_id for one in await face.list()] == [workflow_id]
        await handle.send("numbers", 0)
        assert await handle.result() == 4

    body()


@in_town(*THREE)
async def test_who_waits_for_a_result_outlives_its_owner(town: Town) -> None:
    face = town["node-1"].face
    handles = [await face.submit(adds, workflow_id=one) for one in town.id_at("node-2", 5)]
    waiting = [asyncio.create_task(handle.result()) for handle in handles]
    await until(lambda: len(town["node-2"].station.server) == 5)
    await town.kill("node-2")
    assert not any(wait.done() for wait in waiting)
    for handle in handles:
        await handle.send("numbers", 9)
        await handle.send("numbers", 0)
    assert await asyncio.gather(*waiting) == [9] * 5


@in_town(*THREE)
async def test_a_node_that_is_cut_off_is_gone_around(town: Town) -> None:
    one, two = town["node-1"], town["node-2"]
    workflow_id = town.id_at("node-2")[0]
    handle = await one.face.submit(adds, workflow_id=workflow_id)
    one.station.transport.cut([two.station.address])
    two.station.transport.cut([one.station.address])
    town.give(one.router.partition_of(workflow_id), "node-3")
    await handle.send("numbers", 1)
    await handle.send("numbers", 0)
    assert await handle.result() == 1


@in_town(*THREE)
async def test_an_executor_submits_where_it_is_told(town: Town) -> None:
    executor = RemoteExecutor(town["node-1"].station.client, town.address_of, within_s=5.0)
    workflow_id = town.id_at("node-2")[0]
    await executor.submit_workflow(NodeId("node-2"), doubles, workflow_id, 4)
    assert await town["node-3"].face.handle(workflow_id).result() == 8
    with pytest.raises(NotOwner) as caught:
        await executor.submit_workflow(NodeId("node-3"), doubles, town.id_at("node-1")[0], 4)
    assert caught.value.owner == "node-1"
    with pytest.raises(Exception, match="not known here"):
        await executor.submit_workflow(NodeId("node-9"), doubles, workflow_id, 4)


# --- one script a case: what is followed, and what is said at the end ---------------------------------------------------


def remote(caller: Station, others: dict[str, NodeAddress], **how: Any) -> RemoteDesk:
    ring = PartitionRing()
    for name in others:
        ring.add_node(NodeId(name))
    how = {"rpc_timeout_s": 0.6, **how}
    return RemoteDesk(Router(ring), caller.client, lambda node: others.get(node), SystemEntropy(), **how)


def raising(*errors: Any) -> ScriptedDesk:
    """A desk that says one after the other, the last for ever; what is no error is an answer."""
    left = list(errors)

    def script(*_: Any) -> Any:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return one

    return ScriptedDesk(script)


async def end_of(desk: ScriptedDesk, ask: Any) -> Any:
    async with stations(ScriptedDesk(lambda *_: None), desk) as (a, b):
        try:
            return await ask(remote(a, {"node-1": b.address}))
        except Exception as error:
            return error


def submits(desk: RemoteDesk) -> Any:
    return desk.submit("w", None, b"1", "id-1")


def sends(desk: RemoteDesk) -> Any:
    return desk.send("id-1", "c", b"1", None)


def looks(desk: RemoteDesk) -> Any:
    return desk.export("id-1")


NO_QUORUM = NoQuorum(3, 1, 2, 0.01)
UNKNOWN = OutcomeUnknown("written, not kept", "id-1")


@asynchronous
async def test_what_was_never_recorded_ends_as_no_quorum() -> None:
    error = await end_of(raising(NO_QUORUM), submits)
    assert isinstance(error, NoQuorum) and (error.have, error.need) == (1, 2), "as the owner said it"
    error = await end_of(raising(NotOwner(3)), submits)
    assert isinstance(error, NoQuorum) and (error.have, error.need) == (0, 2) and isinstance(error.__cause__, NotOwner)


@asynchronous
async def test_what_may_have_been_recorded_ends_as_unknown_with_the_id() -> None:
    for script in ([UNKNOWN], [UNKNOWN, NO_QUORUM], [UNKNOWN, NotOwner(3)], [StoreClosed("it closes"), NotOwner(3)]):
        error = await end_of(raising(*script), submits)
        assert isinstance(error, OutcomeUnknown) and error.request_id == "id-1", script
    desk = raising(UNKNOWN)
    error = await end_of(desk, sends)
    assert isinstance(error, OutcomeUnknown)
    assert {asked[4] for asked in desk.asked} == {error.request_id}, "every try had the one key, and the caller gets it"
    assert len(desk.asked) > 2


@asynchronous
async def test_a_question_that_only_reads_is_never_unknown() -> None:
    assert isinstance(await end_of(raising(NO_QUORUM), looks), NoQuorum)
    assert isinstance(await end_of(ScriptedDesk(lambda *_: asyncio.sleep(60)), looks), Unanswered)


@asynchronous
async def test_silence_after_a_request_is_unknown() -> None:
    desk = ScriptedDesk(lambda *_: asyncio.sleep(60))
    error = await end_of(desk, submits)
    assert isinstance(error, OutcomeUnknown) and error.request_id == "id-1"
    assert len(desk.asked) >= 2, "asked again, with the same id"


@asynchronous
async def test_it_is_tried_until_it_is_answered() -> None:
    desk = raising(StoreClosed("it closes"), NotOwner(3), UNKNOWN, NO_QUORUM, None)
    assert await end_of(desk, submits) is None
    assert desk.asked == [("submit", "w", None, b"1", "id-1")] * 5


@asynchronous
async def test_an_answer_is_an_answer_also_when_it_is_an_error() -> None:
    for error in (WorkflowAlreadyExists("taken"), WorkflowNotFound("none"), Overloaded("full")):
        desk = raising(error)
        assert str(await end_of(desk, submits)) == str(error)
        assert len(desk.asked) == 1
    desk = raising(Overloaded("full"), "text")
    assert await end_of(desk, looks) == "text" and len(desk.asked) == 2, "who only looks can wait"


@asynchronous
async def test_what_was_too_much_at_the_end_is_said_to_be_that_and_nobody_is_told_to_bring_back_nodes() -> None:
    for script in ([Overloaded("full")], [NO_QUORUM, Overloaded("full")]):
        assert isinstance(await end_of(raising(*script), looks), Overloaded), script
    assert isinstance(await end_of(raising(UNKNOWN, Overloaded("full")), submits), OutcomeUnknown)


@asynchronous
async def test_who_only_asked_is_not_told_that_nothing_was_accepted() -> None:
    for script in (NO_QUORUM, NotOwner(3)):
        asked, submitted = await end_of(raising(script), looks), await end_of(raising(script), submits)
        assert isinstance(asked, NoQuorum) and isinstance(submitted, NoQuorum)
        assert (asked.have, asked.need) == (submitted.have, submitted.need)
        assert "Nothing was accepted" in str(submitted) and "accepted" not in str(asked).replace("what was accepted waits", "")
        assert "Ask again" in str(asked) and type(asked.__cause__) is type(submitted.__cause__)


@asynchronous
async def test_a_fork_of_unknown_outcome_names_the_id_to_fork_to_again() -> None:
    rows = [Start("w", 1, b"1", 5, "3.11", b"12345678")]
    lost = ScriptedDesk(lambda name, *_: rows if name == "rows_before" else asyncio.sleep(60))
    async with stations(ScriptedDesk(lambda *_: None), lost) as (a, b):
        handle = Face(remote(a, {"node-1": b.address}), SystemEntropy(), 2**20).handle("o-7")
        with pytest.raises(OutcomeUnknown, match=r"workflow_id='o-7\.fork-[0-9a-f]{8}'") as caught:
            await handle.fork(0)
        named = caught.value.request_id
        assert named is not None
        lost.script = lambda name, *_: rows if name == "rows_before" else None
        assert (await handle.fork(0, workflow_id=named)).workflow_id == named
        asked = [one for one in lost.asked if one[0] == "fork"]
        assert len(asked) > 1 and all(one == asked[0] for one in asked), "the very same request, also with the id given"


@asynchronous
async def test_nobody_there_was_never_recorded() -> None:
    async with stations(ScriptedDesk(lambda *_: None)) as (a,):
        with pytest.raises(NoQuorum):
            await remote(a, {"node-1": NodeAddress("127.0.0.1", 1), "node-2": NodeAddress("127.0.0.1", 2)}).cancel("x")
        with pytest.raises(NoQuorum):
            await remote(a, {}).cancel("x")


@asynchronous
async def test_an_owner_that_was_silent_is_not_waited_for_by_every_call_and_is_asked_first_again_when_it_speaks() -> None:
    speaks = asyncio.Event()

    async def silent(*_: Any) -> str:
        await speaks.wait()
        return "from the first"

    first, second = ScriptedDesk(silent), raising("from the second")
    async with stations(ScriptedDesk(lambda *_: None), first, second) as (a, b, c):
        desk = remote(a, {"node-1": b.address, "node-2": c.address}, rpc_timeout_s=1.5)
        partition = desk.router.partition_of("id-1")
        desk.router.learn(partition, NodeId("node-1"), 7)
        for _ in range(5):
            assert await desk.export("id-1") == "from the second"
        assert len(first.asked) == 1, "once it was waited for"
        second_says = NotOwner(partition, "node-1", 7)
        second.script = raising(second_says).script
        asked = asyncio.create_task(desk.export("id-1"))
        await until(lambda: len(first.asked) == 2)
        speaks.set()
        assert await asked == "from the first"
        before = len(second.asked)
        assert await desk.export("id-1") == "from the first"
        assert (len(first.asked), len(second.asked)) == (3, before)


@asynchronous
async def test_a_posted_envelope_is_never_of_unknown_outcome() -> None:
    from durable.journal.entries import Address, Envelope, EnvelopeKind

    envelope = Envelope(EnvelopeKind.SEND, Address("a", b"12345678", 0, 1), "b", 1)
    error = await end_of(raising(UNKNOWN), lambda desk: desk.carry(envelope))
    assert isinstance(error, Unanswered), "the engine tries again after an error of the cluster"


@asynchronous
async def test_a_result_is_taken_from_the_own_copy() -> None:
    done = StatusRow("w", Status.COMPLETED, b"12345678", 0, 1, 2, "node-9", b"7")
    async with stations(ScriptedDesk(lambda *_: None)) as (a,):
        desk = remote(a, {}, copy=lambda workflow_id: done)
        assert await desk.outcome("x", None) == done


@asynchronous
async def test_an_own_desk_that_hangs_is_left() -> None:
    local, other = ScriptedDesk(lambda *_: asyncio.sleep(60)), raising(None)
    async with stations(ScriptedDesk(lambda *_: None), other) as (a, b):
        desk = remote(a, {"node-1": b.address, "me": a.address}, local=local)
        desk.router.me = NodeId("me")
        desk.router.learn(desk.router.partition_of("id-1"), NodeId("me"), 1)
        await desk.submit("w", None, b"1", "id-1")
        assert len(local.asked) == len(other.asked) == 1


@asynchronous
async def test_who_asks_all_waits_a_little_where_there_is_too_much_to_do() -> None:
    full, once = raising(Overloaded("full")), raising(Overloaded("full"), ["id-1"])
    async with stations(ScriptedDesk(lambda *_: None), full, once) as (a, b, c):
        desk = remote(a, {"node-1": b.address}, rpc_timeout_s=2.0)
        with pytest.raises(Overloaded, match="full"):
            await desk.listing(None, None, None, 10, None)
        assert 3 < len(full.asked) < 12, "with pauses that grow"
        desk = remote(a, {"node-1": c.address})
        assert await desk.purge(None, 0.0, "once") == ["id-1"], "elsewhere it may have deleted something already"
