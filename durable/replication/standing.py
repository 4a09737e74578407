"""What a node is to the journals, for those who look: does it vote, does it wait to be let in, and what copies has it?

**Limits.** It is what one node knows: the newest roster that it heard of, and the disk that the other last said it has.

Read next: `replication`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from durable.copies.messages import Members, Roster
from durable.copies.rows import ROSTER
from durable.membership.member import NodeId
from durable.replication.home import Home
from durable.replication.replica import Replica


class Role(StrEnum):
    """What a node is to the journals of a cluster."""

    VOTER = "voter"
    """Keeps copies, votes, and may own."""
    WITNESS = "witness"
    """Keeps copies and votes, and owns nothing."""
    LEARNER = "learner"
    """Is no voter yet: it is let in when its copies are made."""
    NEW_DISK = "new disk"
    """Is a voter by name, with a disk that the roster does not know: the old one was lost, or is not to be trusted. It is let back
    when it was filled."""
    MEMBER = "member"
    """Has not said that it keeps anything."""


def role_of(home: Home, roster: Roster | None, node: NodeId) -> Role:
    """By the roster, and by the disk that it last said it has."""
    store = home.stores.get(node)
    known = roster.voters.get(node) if roster is not None else None
    if roster is None or known is None:
        return Role.LEARNER if store is not None else Role.MEMBER
    if store not in (None, known):
        return Role.NEW_DISK
    return Role.WITNESS if node in roster.witnesses else Role.VOTER


def copies_of(home: Home, replicas: Mapping[int, Replica], sets: Sequence[Members]) -> tuple[int, int]:
    """Of how many partitions there is a whole copy here; and how many should be here, by the replica sets, that do not vote yet."""
    whole = {number for number, replica in replicas.items() if replica.ready and number != ROSTER}
    voting = {number for number in whole if replicas[number].is_member(home.me)}
    wanted = {number for number, members in enumerate(sets) if home.me in members}
    return len(whole), len(wanted - voting)


def needed_copies(home: Home, replicas: Mapping[int, Replica]) -> int:
    """How many copies here another must still take over: a member's, or one that it offers to the next. A learner's is nobody's: it
    was made for a plan, and if that was given up it lies about until it is litter.
    """
    copies = (replica for number, replica in replicas.items() if replica.ready and number != ROSTER)
    return sum([replica.is_member(home.me) or replica.move is not None for replica in copies])
