"""A member, and the total order over what is claimed about it: the greater claim wins, whoever hears it, in
whatever order.

**Why it exists.** Gossip arrives late, twice, and in any order. If any two members who heard the same claims
are to believe the same, merging must commute. It does when claims are totally ordered and merging is "keep
the greater": no vote, no clock.

**How it works.** A claim is compared field by field, in the order of `SUPERSEDES`. Only the member itself
raises its boot number and its incarnation, so only the member itself can overrule what others say about it.

Before it is compared, a claim passes `HEARD`: what somebody else calls dead becomes a suspicion here, which
the member can still refute and which this node's own timer confirms; and nobody can say of another that it
left.

===========  ===================  ====================  ======================================================
claimed      by the member        by another            because
===========  ===================  ====================  ======================================================
ALIVE        ALIVE                ALIVE                 the incarnation in it was raised by the member itself
SUSPECT      (ignored)            SUSPECT               nobody suspects itself
DEAD         (ignored)            SUSPECT               one slow observer must not bury a member for everyone
LEFT         LEFT                 (ignored)             leaving is a decision of the one who leaves
===========  ===================  ====================  ======================================================

**Limits.** A member that lies about another's incarnation with the cluster's key in hand is believed; SWIM is
not Byzantine.

Source: SWIM (Das, Gupta, Motivala 2002), section 4.2, where incarnation numbers order claims. The boot number
is ours: without it an old suspicion with a high incarnation would kill a process that was just restarted
under the same name. Read next: `messages`.
"""

from __future__ import annotations

from enum import IntEnum
from operator import attrgetter
from typing import Annotated, NewType

from msgspec import Meta, Struct

NodeId = NewType("NodeId", str)
"""A member's name, unique in its cluster: 1 to 64 characters."""

NAME_CHARS_MAX = 64
COUNTER_MAX = 2**53 - 1
_Name = Annotated[NodeId, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
_Counter = Annotated[int, Meta(ge=0, le=COUNTER_MAX)]


class NodeAddress(Struct, frozen=True, order=True, array_like=True):
    """Where a member listens: the same port number for datagrams and streams.

    >>> str(NodeAddress("10.0.0.7", 7800)), str(NodeAddress.parse("[::1]:7801"))
    ('10.0.0.7:7800', '[::1]:7801')
    """

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Annotated[int, Meta(ge=0, le=65535)] = 7800

    @classmethod
    def parse(cls, text: str) -> NodeAddress:
        """From ``host:port`` or ``[ipv6]:port``. Raises `ValueError` for anything else."""
        host, colon, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isdecimal() and int(port) <= 65535):
            raise ValueError(f"{text!r} is not an address; write it as host:port, for example 10.0.0.7:7800")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MemberStatus(IntEnum):
    """What is believed of a member. The numbers are the order in which claims of one incarnation win, and
    travel on the wire.
    """

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3

    @property
    def is_live(self) -> bool:
        """ALIVE or SUSPECT: still probed, still on the ring."""
        return self <= MemberStatus.SUSPECT


class Member(Struct, frozen=True):
    """A member as this node sees it. ``since`` is when it took on its status, in seconds of this node's own
    clock.
    """

    node_id: NodeId
    address: NodeAddress
    status: MemberStatus
    incarnation: int
    boot: int
    since: float


class Claim(Struct, frozen=True, array_like=True):
    """What ``origin`` says about ``node_id``: the unit of gossip.

    ``boot`` is the number of the member's life: greater for each restart of its process. ``incarnation``
    starts at 0 in each life, and the member raises it to refute.
    """

    node_id: _Name
    address: NodeAddress
    boot: _Counter
    incarnation: _Counter
    status: MemberStatus
    origin: _Name


SUPERSEDES = (
    ("boot", "a restart outranks everything that was said of earlier lives"),
    ("incarnation", "the member itself answered what was said before"),
    ("status", "of one incarnation: ALIVE < SUSPECT < DEAD < LEFT"),
    ("address", "two processes with one name and one boot number: any rule will do, if it is everybody's"),
)
"""The order over claims, most important first: (field, why)."""

rank = attrgetter(*(field for field, _ in SUPERSEDES))
"""The sort key of a `Claim` or a `Member` in that order."""


def supersedes(claim: Claim, known: Claim | Member) -> bool:
    """Whether the claim is strictly greater than what is known of the same member.

    >>> alive = Claim(NodeId("b"), NodeAddress("b"), 1, 0, MemberStatus.ALIVE, NodeId("b"))
    >>> suspect = Claim(NodeId("b"), NodeAddress("b"), 1, 0, MemberStatus.SUSPECT, NodeId("a"))
    >>> supersedes(suspect, alive), supersedes(alive, alive)
    (True, False)
    """
    return bool(rank(claim) > rank(known))


BY_ITSELF, BY_ANOTHER = True, False

HEARD: dict[tuple[MemberStatus, bool], MemberStatus | None] = {
    (MemberStatus.ALIVE, BY_ITSELF): MemberStatus.ALIVE,
    (MemberStatus.ALIVE, BY_ANOTHER): MemberStatus.ALIVE,
    (MemberStatus.SUSPECT, BY_ITSELF): None,
    (MemberStatus.SUSPECT, BY_ANOTHER): MemberStatus.SUSPECT,
    (MemberStatus.DEAD, BY_ITSELF): None,
    (MemberStatus.DEAD, BY_ANOTHER): MemberStatus.SUSPECT,
    (MemberStatus.LEFT, BY_ITSELF): MemberStatus.LEFT,
    (MemberStatus.LEFT, BY_ANOTHER): None,
}
"""What a claimed status is entered as, or None where it is ignored."""


def as_heard(claim: Claim) -> Claim | None:
    """The claim as it is entered here, or None if nobody may claim that."""
    status = HEARD[claim.status, claim.origin == claim.node_id]
    if status is None or status is claim.status:
        return claim if status is not None else None
    return Claim(claim.node_id, claim.address, claim.boot, claim.incarnation, status, claim.origin)
