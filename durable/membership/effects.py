"""Effects: what the membership core wants done. A shell carries them out in order, and decides nothing.

======================  ======================================================================================
effect                  the shell
======================  ======================================================================================
Send                    seals the packet and sends it as one datagram; a datagram may be lost
Stream                  sends it over a connection: to a new one, or back on the one that the request came by
MemberChanged           updates the ring and tells whoever listens
Joined                  a seed let us in: the list is here
JoinRefused             logs why; if it is final, stops
Displaced               another process runs under our name and outranks us: stops, loudly
Left                    our leaving has been told: may close
======================  ======================================================================================

Read next: `swim`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from durable.membership.member import Claim, Member, MemberStatus, NodeAddress, NodeId
    from durable.membership.messages import Packet


@dataclass(frozen=True, slots=True)
class Send:
    """One datagram."""

    to: NodeAddress
    packet: Packet


@dataclass(frozen=True, slots=True)
class Stream:
    """One frame on a connection."""

    to: NodeAddress
    packet: Packet


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member is new, or has another status, life or address. ``was`` is its status before, None if it was
    not in the list.
    """

    member: Member
    was: MemberStatus | None


@dataclass(frozen=True, slots=True)
class Joined:
    """``seed`` let us in."""

    seed: NodeId


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """A seed did not let us in. ``final``: it will not either way; otherwise the core goes on trying."""

    seed: NodeId
    why: str
    final: bool


@dataclass(frozen=True, slots=True)
class Displaced:
    """Another process uses our name. The core has stopped."""

    by: Claim


@dataclass(frozen=True, slots=True)
class Left:
    """We have told the others that we leave. The core has stopped."""


Effect: TypeAlias = Send | Stream | MemberChanged | Joined | JoinRefused | Displaced | Left
