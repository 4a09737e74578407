"""Packets: they read back as written, fit, and nothing else is taken for one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import ProtocolError
from durable.membership.member import COUNTER_MAX, Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import (
    DATAGRAM_BYTES_MAX,
    PACKET_BYTES_MAX,
    SEAL_BYTES_MAX,
    VERSION,
    Ack,
    Exchange,
    Join,
    JoinAck,
    Message,
    Nack,
    Packet,
    Ping,
    PingReq,
    Refused,
    claim_bytes,
    decode,
    encode,
    room_bytes,
)

NAMES = st.text(min_size=1, max_size=64).map(NodeId)
COUNTERS = st.integers(0, COUNTER_MAX)
ADDRESSES = st.builds(NodeAddress, st.text(min_size=1, max_size=40), st.integers(0, 65535))
CLAIMS = st.builds(Claim, NAMES, ADDRESSES, COUNTERS, COUNTERS, st.sampled_from(MemberStatus), NAMES)
MANY = st.lists(CLAIMS, max_size=4).map(tuple)
SETTINGS = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
MESSAGES: st.SearchStrategy[Message | None] = st.one_of(
    st.none(),
    st.builds(Ping, COUNTERS, NAMES),
    st.builds(Ack, COUNTERS),
    st.builds(PingReq, COUNTERS, NAMES, ADDRESSES),
    st.builds(Nack, COUNTERS),
    st.builds(Join, COUNTERS, CLAIMS, SETTINGS),
    st.builds(JoinAck, COUNTERS, MANY),
    st.builds(Refused, COUNTERS, st.text(max_size=50), st.booleans()),
    st.builds(Exchange, MANY, SETTINGS, st.booleans()),
)
PACKETS = st.builds(Packet, st.text(max_size=20), NAMES, COUNTERS, MESSAGES, MANY)

PING = Packet("durable", NodeId("node-1"), 1, Ping(7, NodeId("node-2")))


@given(PACKETS)
def test_a_packet_reads_back_as_written(packet: Packet) -> None:
    assert decode(encode(packet)) == packet


def test_the_bytes_of_a_ping_are_fixed_for_ever() -> None:
    assert encode(PING).hex() == "0195a764757261626c65a66e6f64652d31019301" + "07a66e6f64652d3290"


@given(st.binary(max_size=80))
def test_noise_is_refused_and_never_anything_else_raised(data: bytes) -> None:
    try:
        assert isinstance(decode(data), Packet)
    except ProtocolError as error:
        assert "dropped" in str(error)


@given(PACKETS, st.data())
def test_a_truncated_or_damaged_packet_is_refused_or_still_a_packet(packet: Packet, data) -> None:  # type: ignore[no-untyped-def]
    raw = bytearray(encode(packet))
    if data.draw(st.booleans()):
        with pytest.raises(ProtocolError):
            decode(bytes(raw[: data.draw(st.integers(0, len(raw) - 1))]))
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            assert isinstance(decode(bytes(raw)), Packet)
        except ProtocolError:
            pass


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(ProtocolError, match=f"speaks version 9, this node version {VERSION}"):
        decode(b"\x09" + encode(PING)[1:])
    with pytest.raises(ProtocolError, match="speaks nothing"):
        decode(b"")


@pytest.mark.parametrize(
    "bad",
    [
        Packet("durable", NodeId(""), 1, None),
        Packet("durable", NodeId("x" * 65), 1, None),
        Packet("durable", NodeId("a"), -1, None),
        Packet("durable", NodeId("a"), 2**60, None),
        Packet("durable", NodeId("a"), 1, Ping(1, NodeId(""))),
        Packet("x" * 65, NodeId("a"), 1, None),
    ],
)
def test_values_out_of_range_are_refused(bad: Packet) -> None:
    with pytest.raises(ProtocolError, match="dropped"):
        decode(encode(bad))


def test_an_unknown_message_is_refused() -> None:
    raw = bytes((VERSION,)) + msgspec.msgpack.encode(["durable", "a", 1, [99, 1], []])
    with pytest.raises(ProtocolError, match="99"):
        decode(raw)


@given(MESSAGES, st.lists(CLAIMS, max_size=30))
def test_claims_that_fit_the_room_make_a_packet_that_fits(
    message: Message | None, claims: list[Claim]
) -> None:
    packet = Packet("durable", NodeId("node-1"), 1, message)
    room, riders = room_bytes(packet, PACKET_BYTES_MAX), []
    for one in claims:
        if claim_bytes(one) <= room:
            room -= claim_bytes(one)
            riders.append(one)
    full = Packet("durable", NodeId("node-1"), 1, message, tuple(riders))
    if riders:
        assert len(encode(full)) <= PACKET_BYTES_MAX == DATAGRAM_BYTES_MAX - SEAL_BYTES_MAX
