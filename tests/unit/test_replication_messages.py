"""Frames: what goes in comes out, and what does not fit the declared types changes nothing."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.copies.effects import SendSnapshot, snapshot_pieces
from durable.copies.messages import VERSION, Ack, Append, Hello, Message, Roster, RosterNews, Sync, decode, encode
from durable.errors import ProtocolError
from durable.membership.member import NodeId

A = NodeId("a")


def test_a_frame_keeps_its_messages_in_order_and_a_replica_set_in_the_order_of_the_ring() -> None:
    sync = Sync(3, 2, (5, A), {NodeId("z"): b"1", NodeId("a"): b"2"}, 7, 7)
    frame = [Hello(b"disk", b"cluster", 2, True), sync, Append(3, 2, (5, A), 7, [b"x", b"y"], 7)]
    decoded = decode(encode(frame))
    assert decoded == frame
    assert isinstance(decoded[1], Sync) and list(decoded[1].members) == ["z", "a"]


def test_every_message_has_a_tag_of_its_own() -> None:
    kinds = typing.get_args(Message)
    tags = [msgspec.inspect.type_info(kind).tag for kind in kinds]  # type: ignore[attr-defined]
    assert len(set(tags)) == len(kinds) == 27


def test_a_roster_travels_whole() -> None:
    roster = Roster(4, b"id", {A: b"disk"}, (A,), {"replicas": "3"})
    assert decode(encode([RosterNews(roster)])) == [RosterNews(roster)]


def test_an_acknowledgement_takes_few_bytes() -> None:
    one, two = (len(encode([Ack(7, 1, (3, NodeId("node-2")), 41)] * count)) for count in (1, 2))
    assert two - one == 14


@pytest.mark.parametrize(
    "data", [b"", b"\x09\x90", bytes((VERSION,)), bytes((VERSION,)) + b"\x91\x92\x0c\x01", bytes((VERSION,)) + b"\x91\xc0"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="dropped"):
        decode(data)


@pytest.mark.parametrize("message", [Ack(-1, 1, (3, A), 0), Ack(0x10000, 1, (3, A), 0), Ack(1, 1, (-3, A), 0)])
def test_numbers_out_of_range_are_refused(message: Message) -> None:
    with pytest.raises(ProtocolError):
        decode(encode([message]))


@given(st.binary(max_size=200))
def test_noise_raises_nothing_but_protocol_errors(data: bytes) -> None:
    try:
        decode(bytes((VERSION,)) + data)
    except ProtocolError:
        return


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=30), st.integers(1, 100))
def test_a_snapshot_arrives_in_pieces_of_bounded_size_that_make_it_up(rows: list[tuple[bytes, bytes]], piece_bytes: int) -> None:
    pieces = list(snapshot_pieces(SendSnapshot(A, 7, 0, (1, A)), {}.get, rows, piece_bytes))
    assert [row for piece in pieces for row in piece.rows] == rows
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    for piece in pieces:
        assert len(piece.rows) <= 1 or sum(len(key) + len(value) for key, value in piece.rows) <= piece_bytes
