"""What members say to each other, and how it is written.

**How it works.** A packet is one version byte, then a msgpack array: the cluster's name, who sends, in which
life, one message or none, and as many claims as fit. Claims ride on whatever is sent anyway; that is why SWIM
needs no broadcast.

============  ========  ===================================================  =================================
message       travels   says                                                 is answered by
============  ========  ===================================================  =================================
Ping          datagram  are you there?                                       Ack
Ack           datagram  yes (or: yes, says the one you asked me to ping)
PingReq       datagram  please ping that one for me                          Ack, or Nack
Nack          datagram  it has not answered me yet, but I heard you
(none)        datagram  only claims: the extra gossip tick
Join          stream    let me in; this is me                                JoinAck, or Refused
JoinAck       stream    welcome; this is everybody
Refused       stream    no, and why
Exchange      stream    this is everybody I know; and you?                   Exchange
============  ========  ===================================================  =================================

**Limits.** A datagram with its seal stays within 1,400 bytes, so that no path fragments it; streams carry
whole lists. A list is bounded by ``members_max``, a frame by the transport. A packet of another version, or
that does not fit the declared types, raises `ProtocolError` and changes nothing.

Source: SWIM, sections 3.1 and 4.1; Nack from Lifeguard (Dadgar, Phillips, Currey 2017), "Local Health Aware
Probe". Read next: `gossip`.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from durable.errors import ProtocolError
from durable.membership.member import Claim, NodeAddress, _Counter, _Name

VERSION = 1
DATAGRAM_BYTES_MAX = 1_400
SEAL_BYTES_MAX = 64
"""What sealing may add to a packet: nonce, tag, key number, boot and counter."""

PACKET_BYTES_MAX = DATAGRAM_BYTES_MAX - SEAL_BYTES_MAX

Settings: TypeAlias = Annotated[dict[str, str], Meta(max_length=32)]
"""What was fixed at the cluster's birth and must be equal everywhere, by name."""


class Ping(Struct, frozen=True, array_like=True, tag=1):
    """Are you there? ``target`` is named because another process may have taken over the port."""

    sequence: _Counter
    target: _Name


class Ack(Struct, frozen=True, array_like=True, tag=2):
    """Yes. ``sequence`` is that of the Ping or PingReq."""

    sequence: _Counter


class PingReq(Struct, frozen=True, array_like=True, tag=3):
    """Please ping ``target`` for me, and pass on its Ack; send a Nack if it takes long."""

    sequence: _Counter
    target: _Name
    address: NodeAddress


class Nack(Struct, frozen=True, array_like=True, tag=4):
    """The target has not answered me either. Proves that the helper, and the way to it, are well."""

    sequence: _Counter


class Join(Struct, frozen=True, array_like=True, tag=5):
    """Let me in. ``joiner`` is my own claim."""

    sequence: _Counter
    joiner: Claim
    settings: Settings


class JoinAck(Struct, frozen=True, array_like=True, tag=6):
    """Welcome: everybody I know, the dead of the last ``dead_timeout`` among them, and me."""

    sequence: _Counter
    members: tuple[Claim, ...]


class Refused(Struct, frozen=True, array_like=True, tag=7):
    """No. ``final``: trying again will not help. ``why`` is for the operator of the joiner."""

    sequence: _Counter
    why: Annotated[str, Meta(max_length=1_000)]
    final: bool


class Exchange(Struct, frozen=True, array_like=True, tag=8):
    """Everybody I know. ``answer`` says that it is the second half, so that it is not answered again."""

    members: tuple[Claim, ...]
    settings: Settings
    answer: bool


Message: TypeAlias = Ping | Ack | PingReq | Nack | Join | JoinAck | Refused | Exchange


class Packet(Struct, frozen=True, array_like=True):
    """One datagram or stream frame: who sends, one message or none, and the claims that ride along."""

    cluster: Annotated[str, Meta(max_length=64)]
    sender: _Name
    boot: _Counter
    message: Message | None
    claims: tuple[Claim, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packet)


def encode(packet: Packet) -> bytes:
    """The packet as it travels, before it is sealed."""
    return bytes((VERSION,)) + _encoder.encode(packet)


def decode(data: bytes) -> Packet:
    """The packet in ``data``.

    >>> packet = Packet("durable", "node-1", 1, Ping(7, "node-2"))
    >>> decode(encode(packet)) == packet, len(encode(packet))
    (True, 29)

    Raises:
        ProtocolError: it is of another version, or does not hold what a packet holds. Nothing of it is used.
    """
    if not data or data[0] != VERSION:
        spoken = f"version {data[0]}" if data else "nothing"
        raise ProtocolError(
            f"a peer speaks {spoken}, this node version {VERSION}; the packet was dropped. Run one version"
        )
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a packet of {len(data)} bytes was dropped: {error}") from error


def claim_bytes(claim: Claim) -> int:
    """How much room a claim takes in a packet."""
    return len(_encoder.encode(claim))


def room_bytes(packet: Packet, packet_bytes_max: int) -> int:
    """How many bytes of claims still fit into a packet that has none yet. The list's header may grow from one
    byte to three.
    """
    return packet_bytes_max - len(_encoder.encode(packet)) - 1 - 2
