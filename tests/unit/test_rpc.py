"""Requests and answers over links: by number, in any order, with deadlines, and errors that arrive as they were."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodes import asynchronous, turns, until
from stations import LOOPBACK, ScriptedDesk, stations

from durable import errors
from durable.desk.desk import Desk
from durable.errors import (
    ClusterError,
    DurableError,
    EncodingError,
    NoQuorum,
    NotOwner,
    OutcomeUnknown,
    Overloaded,
    Unanswered,
    Unreachable,
    WorkflowAlreadyExists,
    WorkflowNotFound,
)
from durable.journal.entries import Command, EntryType, Start, Status, StatusRow
from durable.membership.member import NodeAddress
from durable.rpc import calls as rpc
from durable.rpc import peers
from durable.rpc.frames import ANSWER, REQUEST
from durable.rpc.requests import (
    ANSWERS,
    KINDS,
    Cancel,
    Export,
    Fault,
    Fork,
    Listing,
    Metadata,
    Outcome,
    Owners,
    Request,
    SendMessage,
    Submit,
    error_of,
    fault_of,
)

SOON = 10.0


def nobody(*_: Any) -> None:
    raise AssertionError("this desk is not to be asked")


def row(status: Status, output: bytes | None = None) -> StatusRow:
    return StatusRow("hello", status, b"12345678", 0, 1, 2, "node-1", output)


def test_every_question_of_a_desk_can_be_asked_and_nothing_else() -> None:
    methods = {name for name in vars(Desk) if not name.startswith("_")}
    tags = {str(kind.__struct_config__.tag) for kind in ANSWERS}
    assert tags == methods | {"owners"}
    for kind in ANSWERS:
        name = str(kind.__struct_config__.tag)
        if name != "owners":
            code = getattr(Desk, name).__code__
            assert kind.__struct_fields__ == code.co_varnames[1 : code.co_argcount], f"{name}: the arguments, in order"


@asynchronous
async def test_an_answer_has_its_declared_type() -> None:
    rows = [Start("hello", 1, b"1", 5, "3.11", b"12345678"), Command(EntryType.SLEEP, "", b"2", 6)]
    answers = {"outcome": row(Status.COMPLETED, b'"hi"'), "export": "text", "rows_before": rows, "submit": None}
    desk = ScriptedDesk(lambda name, *_: answers[name])
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        assert await a.client.call(b.address, Outcome("x", 1.5), SOON) == answers["outcome"]
        assert await a.client.call(b.address, Export("x"), SOON) == "text"
        assert await a.client.call(b.address, Submit("hello", None, b"1", "x"), SOON) is None
        answers["fork"] = None
        await a.client.call(b.address, Fork("y", 1, rows, "r"), SOON)  # type: ignore[arg-type]
        assert desk.asked == [
            ("outcome", "x", 1.5), ("export", "x"), ("submit", "hello", None, b"1", "x"), ("fork", "y", 1, rows, "r"),
        ]  # fmt: skip
        assert len(b.links) == 1, "one link, for all of them"
        assert await a.client.call(b.address, Owners(), SOON) == []


@asynchronous
async def test_answers_come_in_any_order_and_a_late_one_is_in_nobodys_way() -> None:
    gates = {str(n): asyncio.get_running_loop().create_future() for n in range(50)}
    desk = ScriptedDesk(lambda name, workflow_id: gates[workflow_id] if name == "export" else None)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        calls = {n: asyncio.create_task(a.client.call(b.address, Export(n), SOON)) for n in gates}
        await until(lambda: len(desk.asked) == 50)
        await a.client.call(b.address, Cancel("quick"), SOON)
        for n in reversed(gates):
            gates[n].set_result(f"answer {n}")
            assert await calls[n] == f"answer {n}"
        await until(lambda: len(b.server) == 0)


ERRORS: list[Exception] = [
    NotOwner(7, "node-2", 3),
    NotOwner(7),
    NoQuorum(7, 1, 2, 0.5),
    NoQuorum(7, 1, 2, asked=True),
    OutcomeUnknown("nobody knows", "request-1"),
    WorkflowAlreadyExists("taken"),
    WorkflowNotFound("there is none"),
    Overloaded("later"),
    errors.MailRefused("finished"),
    errors.FunctionFailed("ValueError", "no such order"),
    errors.StoreFull("no space"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_arrive_as_they_were(error: Exception) -> None:
    async def run() -> None:
        def refuse(*_: Any) -> None:
            raise error

        async with stations(ScriptedDesk(nobody), ScriptedDesk(refuse)) as (a, b):
            with pytest.raises(type(error)) as caught:
                await a.client.call(b.address, Cancel("x"), SOON)
            assert type(caught.value) is type(error)
            assert vars(caught.value) == vars(error) and str(caught.value) == str(error)

    asyncio.run(run())


@asynchronous
async def test_what_is_no_error_of_ours_arrives_as_text(caplog: pytest.LogCaptureFixture) -> None:
    class Own(DurableError):
        pass

    for error in (RuntimeError("a fault in the node"), Own("made here"), errors.SagaRollbackFailed("both", (("x", OSError()),))):

        def refuse(*_: Any, error: Exception = error) -> None:
            raise error

        async with stations(ScriptedDesk(nobody), ScriptedDesk(refuse)) as (a, b):
            with pytest.raises(DurableError, match=r"a fault in the node|made here|both"):
                await a.client.call(b.address, Cancel("x"), SOON)
    assert "could not be answered" in caplog.text


ARGUMENTS = st.none() | st.text() | st.integers(-(2**63), 2**63) | st.floats()


@settings(deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)) | st.text(), args=st.lists(ARGUMENTS))
def test_any_fault_becomes_an_error(kind: str, args: list[Any]) -> None:
    error = error_of(Fault(kind, tuple(args), "what it said"))
    assert isinstance(error, DurableError)
    assert str(error) is not None
    again = fault_of(error)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(again), type=Fault).kind == again.kind


@asynchronous
async def test_a_deadline_ends_the_wait_on_both_sides() -> None:
    desk = ScriptedDesk(lambda *_: asyncio.sleep(3600))
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        with pytest.raises(Unanswered, match="may have done"):
            await a.client.call(b.address, Cancel("x"), 0.05)
        await until(lambda: desk.asked and len(b.server) == 0)
        assert not any(a.client._under_way.values())


@asynchronous
async def test_a_caller_that_is_cancelled_frees_its_place() -> None:
    desk = ScriptedDesk(lambda *_: asyncio.sleep(3600))
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        calls = [asyncio.create_task(a.client.call(b.address, Cancel(str(n)), SOON)) for n in range(5)]
        await until(lambda: len(b.server) == 5)
        for call in calls[:4]:
            call.cancel()
        await until(lambda: len(b.server) == 1)
        at_once = asyncio.create_task(a.client.call(b.address, Cancel("at once"), SOON))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        at_once.cancel()
        calls[4].cancel()
        await until(lambda: len(b.server) == 0)
        assert not any(a.client._under_way.values())


@asynchronous
async def test_only_so_many_are_under_way_on_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "CALLS_MAX", 3)
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    desk = ScriptedDesk(lambda *_: asyncio.shield(gate))
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        calls = [asyncio.create_task(a.client.call(b.address, Cancel(str(n)), SOON)) for n in range(3)]
        await until(lambda: len(b.server) == 3)
        with pytest.raises(Overloaded, match="Nothing was sent"):
            await a.client.call(b.address, Cancel("4"), SOON)
        link = await a.peers.link(b.address)
        heard: list[bytes] = []
        a.client.frame = lambda link, data: heard.append(data)  # type: ignore[method-assign]
        link.send(REQUEST + msgspec.msgpack.encode(rpc.Ask(99, Cancel("5"))))  # a caller that does not count
        await until(lambda: heard)
        assert isinstance(error_of(msgspec.msgpack.decode(heard[0], type=rpc.Answer).fault), Overloaded)  # type: ignore[arg-type]
        del a.client.frame
        gate.set_result(None)
        await asyncio.gather(*calls)
        await a.client.call(b.address, Cancel("6"), SOON)


@asynchronous
async def test_waits_for_results_are_in_nobodys_way_and_nobody_is_in_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "CALLS_MAX", 2)
    monkeypatch.setattr(rpc, "WAITS_MAX", 3, raising=False)
    gates = {name: asyncio.get_running_loop().create_future() for name in ("outcome", "cancel")}
    desk = ScriptedDesk(lambda name, *_: asyncio.shield(gates[name]))
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        calls = [asyncio.create_task(a.client.call(b.address, Outcome("x", None), SOON)) for _ in range(3)]
        await until(lambda: len(b.server) == 3)
        calls += [asyncio.create_task(a.client.call(b.address, Cancel(str(n)), SOON)) for n in range(2)]
        await until(lambda: len(b.server) == 5)
        for one, why in ((Outcome("x", None), "3 waits for results"), (Cancel("3"), "2 requests")):
            with pytest.raises(Overloaded, match=why):
                await a.client.call(b.address, one, SOON)
        link = await a.peers.link(b.address)
        heard: list[bytes] = []
        a.client.frame = lambda link, data: heard.append(data)  # type: ignore[method-assign]
        for number, one in ((98, Outcome("x", None)), (99, Cancel("4"))):  # a caller that does not count
            link.send(REQUEST + msgspec.msgpack.encode(rpc.Ask(number, one)))
        await until(lambda: len(heard) == 2)
        faults = [msgspec.msgpack.decode(data, type=rpc.Answer).fault for data in heard]
        assert [fault.kind for fault in faults if fault] == ["Overloaded"] * 2
        assert [fault.text.split(" are ")[0] for fault in faults if fault] == ["3 waits for results", "2 requests"]
        del a.client.frame
        calls.pop(0).cancel()
        await until(lambda: len(b.server) == 4)
        calls.append(asyncio.create_task(a.client.call(b.address, Outcome("y", None), SOON)))
        await until(lambda: len(b.server) == 5)
        for gate in gates.values():
            gate.set_result(None)
        await asyncio.gather(*calls)
        await a.client.call(b.address, Outcome("x", None), SOON)


@asynchronous
async def test_who_waits_for_a_node_that_is_held_dead_is_told_at_once_and_others_wait_on() -> None:
    desks = [ScriptedDesk(lambda *_: asyncio.sleep(3600)) for _ in range(2)]
    async with stations(ScriptedDesk(nobody), *desks) as (a, dead, alive):
        lost, kept = (asyncio.create_task(a.client.call(one.address, Cancel("x"), SOON)) for one in (dead, alive))
        await until(lambda: len(dead.server) == len(alive.server) == 1)
        a.client.gone(dead.address)
        with pytest.raises(Unanswered, match="seems to be dead; it may have done"):
            await lost
        await turns(5)
        assert not kept.done()
        kept.cancel()


@asynchronous
async def test_a_link_that_breaks_tells_all_who_wait_and_is_dialled_anew() -> None:
    waits = True
    desk = ScriptedDesk(lambda *_: asyncio.sleep(3600) if waits else None)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        calls = [asyncio.create_task(a.client.call(b.address, Cancel(str(n)), SOON)) for n in range(3)]
        await until(lambda: len(b.server) == 3)
        b.links[0].abort()
        for call in calls:
            with pytest.raises(Unanswered, match="lost"):
                await call
        await until(lambda: len(b.server) == 0)
        waits = False
        await a.client.call(b.address, Cancel("again"), SOON)
        assert len(b.links) == 2


@asynchronous
async def test_nobody_there_is_unreachable_and_never_unanswered() -> None:
    async with stations(ScriptedDesk(nobody), ScriptedDesk(nobody)) as (a, b):
        await b.close()
        with pytest.raises(Unreachable) as caught:
            await a.client.call(b.address, Cancel("x"), SOON)
        assert not isinstance(caught.value, Unanswered)
        silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        deaf = NodeAddress("127.0.0.1", silent.sockets[0].getsockname()[1])
        with pytest.raises(Unreachable, match="could not be called within") as caught:
            await a.client.call(deaf, Cancel("x"), 0.05)
        assert not isinstance(caught.value, Unanswered)
        silent.close()


@asynchronous
async def test_many_who_want_a_link_share_one_dial() -> None:
    desk = ScriptedDesk(lambda *_: None)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        await asyncio.gather(*[a.client.call(b.address, Cancel(str(n)), SOON) for n in range(200)])
        assert len(b.links) == 1
        assert [asked[1] for asked in desk.asked] == [str(n) for n in range(200)], "begun in order"


@asynchronous
async def test_a_value_too_long_for_a_link_is_an_error_and_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    from durable.transports import links

    monkeypatch.setattr(links, "LINK_FRAME_BYTES_MAX", 10_000)
    async with stations(ScriptedDesk(nobody), ScriptedDesk(lambda *_: "x" * 20_000)) as (a, b):
        with pytest.raises(ClusterError, match="too long"):
            await a.client.call(b.address, Export("x"), SOON)
        with pytest.raises(Overloaded, match="too long to be sent"):
            await a.client.call(b.address, SendMessage("x", "c", b"x" * 20_000, None), SOON)


@asynchronous
async def test_a_finished_result_is_told_from_a_copy() -> None:
    copies = {"done": row(Status.COMPLETED, b"1")}
    desk = ScriptedDesk(lambda *_: None)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        b.server._copy = copies.get
        assert await a.client.call(b.address, Outcome("done", 0.0), SOON) == copies["done"]
        assert not desk.asked
        assert await a.client.call(b.address, Outcome("unknown", 0.0), SOON) is None
        assert len(desk.asked) == 1


@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=60), as_request=st.booleans())
def test_noise_on_a_link_asks_nothing_and_answers_nothing(noise: bytes, as_request: bool) -> None:
    async def run() -> None:
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        desk = ScriptedDesk(lambda name, workflow_id: gate if workflow_id == "x" else "told")
        async with stations(ScriptedDesk(nobody), desk) as (a, b):
            call = asyncio.create_task(a.client.call(b.address, Export("x"), SOON))
            await until(lambda: desk.asked)
            link = (await a.peers.link(b.address)) if as_request else b.links[0]
            link.send((REQUEST if as_request else ANSWER) + noise)
            try:
                assert await a.client.call(b.address, Export("y"), SOON) == "told"
            except Unanswered:  # the noise had ended the link
                assert await a.client.call(b.address, Export("y"), SOON) == "told"
            if not gate.cancelled():  # the link lives, and so does the question
                gate.set_result("told")
            results = await asyncio.gather(call, return_exceptions=True)
            assert results == ["told"] or isinstance(results[0], Unanswered)
            assert [asked[1] for asked in desk.asked] in (["x", "y"], ["x", "y", "y"]), "nothing else was asked"

    asyncio.run(asyncio.wait_for(run(), 20))


@asynchronous
async def test_a_request_that_cannot_be_read_is_answered_and_the_others_on_its_link_go_on() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    desk = ScriptedDesk(lambda *_: gate)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        other = asyncio.create_task(a.client.call(b.address, Export("x"), SOON))
        await until(lambda: desk.asked)
        for mistyped in (Cancel(7), SendMessage("x", "c", b"1", 7)):  # type: ignore[arg-type]
            with pytest.raises(ClusterError, match=r"cannot be read: Expected `str.*Nothing was done") as caught:
                await a.client.call(b.address, mistyped, SOON)
            assert type(caught.value) is ClusterError, "nobody else is to be asked"
        link = await a.peers.link(b.address)
        link.send(REQUEST + msgspec.msgpack.encode([1, ["no such question"]]))  # a number that is another's
        await until(lambda: b.transport.dropped["unreadable request"] == 3)
        gate.set_result("told")
        assert await other == "told" and len(b.links) == 1 and len(desk.asked) == 1
        link.send(REQUEST + b"\x92\xa1x")
        await until(lambda: link.closed)


@asynchronous
async def test_a_request_that_cannot_be_written_is_not_sent() -> None:
    async with stations(ScriptedDesk(nobody), ScriptedDesk(nobody)) as (a, b):
        for wrong in (Cancel("\ud800"), Listing(None, None, None, 10**30, None)):
            with pytest.raises(EncodingError, match=r"cannot be written.*Nothing was sent"):
                await a.client.call(b.address, wrong, SOON)


@asynchronous
async def test_who_is_cancelled_while_a_link_is_dialled_is_cancelled_whatever_becomes_of_the_dial() -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    deaf = NodeAddress("127.0.0.1", silent.sockets[0].getsockname()[1])
    for dial_first in (True, False):
        async with stations(ScriptedDesk(nobody)) as (a,):
            call = asyncio.create_task(a.client.call(deaf, Cancel("x"), SOON))
            await until(lambda: a.peers._dialling)
            await turns(3)
            both = [next(iter(a.peers._dialling.values())), call]
            for task in both if dial_first else reversed(both):
                task.cancel()
            await asyncio.wait([call])
            assert call.cancelled(), dial_first
    async with stations(ScriptedDesk(nobody)) as (a,):
        call = asyncio.create_task(a.client.call(deaf, Cancel("x"), SOON))
        await until(lambda: a.peers._dialling)
        await a.peers.close()
        with pytest.raises(Unreachable, match="not called any more"):
            await call
    silent.close()


@asynchronous
async def test_who_has_ended_asks_nothing_not_even_on_a_link_that_comes_late() -> None:
    desk = ScriptedDesk(lambda *_: asyncio.sleep(3600))
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        asked = asyncio.create_task(a.client.call(b.address, Export("asked"), SOON))
        await until(lambda: desk.asked)
        b.links[0].abort()
        with pytest.raises(Unanswered):
            await asked
        waits = asyncio.create_task(a.client.call(b.address, Export("waits"), SOON))
        await until(lambda: len(desk.asked) == 2)
        a.peers.link_lost(await a.peers.link(b.address))
        dials = asyncio.create_task(a.client.call(b.address, Export("late"), SOON))
        while not a.peers._dialling:  # looked at in each turn of the loop: on loopback it is soon over
            assert not dials.done()
            await asyncio.sleep(0)
        a.client.end("it is over")
        for call in (waits, dials, asyncio.create_task(a.client.call(b.address, Export("after"), SOON))):
            with pytest.raises(ClusterError, match=r"^it is over$"):
                await call
        await until(lambda: len(b.server) == 0)
        assert [one[1] for one in desk.asked] == ["asked", "waits"]


@asynchronous
async def test_an_answer_that_nobody_asked_for_or_of_a_wrong_type_is_not_believed() -> None:
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    desk = ScriptedDesk(lambda *_: gate)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        call = asyncio.create_task(a.client.call(b.address, Metadata("x"), SOON))
        await until(lambda: b.links)
        value = msgspec.Raw(msgspec.msgpack.encode({"workflow_id": 7}))
        b.links[0].send(ANSWER + msgspec.msgpack.encode(rpc.Answer(12345, value)))
        await turns(5)
        assert not call.done()
        number = next(iter(a.client._under_way.values())).copy().popitem()[0]
        b.links[0].send(ANSWER + msgspec.msgpack.encode(rpc.Answer(number, value)))
        with pytest.raises(Unanswered, match="lost"):
            await call
        assert a.transport.dropped["unreadable answer"] == 1


@asynchronous
async def test_what_is_said_while_a_link_is_dialled_arrives_in_order_or_is_counted() -> None:
    desk = ScriptedDesk(lambda *_: None)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        heard: list[bytes] = []
        frame = b.frame
        b.frame = lambda link, data: heard.append(data) if data[:1] == b"r" else frame(link, data)  # type: ignore[method-assign]
        for n in range(5):
            a.peers.send(b.address, b"r" + bytes([n]))
        await until(lambda: len(heard) == 5)
        a.peers.send(b.address, b"r" + bytes([5]))
        await until(lambda: len(heard) == 6)
        assert heard == [b"r" + bytes([n]) for n in range(6)]
        gone = NodeAddress("127.0.0.1", 1)
        a.peers.send(gone, b"r")
        a.peers.send(gone, b"r" * 9_000_000)
        await until(lambda: a.transport.dropped["not sent: nobody there"] == 1)
        assert a.transport.dropped["not sent: peer is not there yet"] == 1


@asynchronous
async def test_what_a_link_refuses_is_lost_and_counted_and_the_rest_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    from durable.transports import links

    monkeypatch.setattr(links, "LINK_FRAME_BYTES_MAX", 10_000)
    desk = ScriptedDesk(lambda *_: None)
    async with stations(ScriptedDesk(nobody), desk) as (a, b):
        heard: list[bytes] = []
        frame = b.frame
        b.frame = lambda link, data: heard.append(data) if data[:1] == b"r" else frame(link, data)  # type: ignore[method-assign]
        for data in (b"r" * 20_000, b"r1"):  # kept while it is dialled
            assert a.peers.send(b.address, data)
        await until(lambda: heard)
        assert not a.peers.send(b.address, b"r" * 20_000)
        assert a.peers.send(b.address, b"r2")
        await until(lambda: len(heard) == 2)
        assert heard == [b"r1", b"r2"]
        assert a.transport.dropped["not sent: refused by the link"] == 2


@asynchronous
async def test_a_peer_that_is_down_is_not_knocked_at_for_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stations(ScriptedDesk(nobody)) as (a,):
        gone, knocks = NodeAddress("127.0.0.1", 1), 0
        connect = a.transport.connect

        async def knock(to: NodeAddress) -> Any:
            nonlocal knocks
            knocks += 1
            return await connect(to)

        monkeypatch.setattr(a.transport, "connect", knock)
        monkeypatch.setattr(peers, "REDIAL_S", 3600.0)
        for _ in range(50):
            a.peers.send(gone, b"r")
            with pytest.raises(Unreachable):
                await a.client.call(gone, Cancel("x"), SOON)
        assert knocks == 1 and a.transport.dropped["not sent: nobody there"] == 50
        monkeypatch.setattr(peers, "REDIAL_S", 0.0)
        with pytest.raises(Unreachable):
            await a.client.call(gone, Cancel("x"), SOON)
        assert knocks == 2, "after a while it is tried again"


def test_a_request_is_one_of_the_declared() -> None:
    assert set(ANSWERS) | {rpc.Forget} == set(Request.__args__)  # type: ignore[attr-defined]
    for wrong in (b"", b"\x92\x01\x91\xa4open", msgspec.msgpack.encode([1, ["submit", 1, 2, 3, 4]])):
        with pytest.raises(msgspec.MsgspecError):
            rpc._asks.decode(wrong)
    assert LOOPBACK.port == 0
