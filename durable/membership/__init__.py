"""Chapter 4: who is there. SWIM with Lifeguard, as a pure state machine.

Read in this order: `member` (what is claimed about whom, and which claim wins), `messages` (what travels),
`gossip` (how news spreads), `suspicion` and `health` (how a slow member is kept from burying a healthy one),
`probe` (whom to ask next), `view` (what one member believes), `joining` (who gets in), `swim` (all of it
together: the class that a shell drives).
"""

from durable.membership.effects import (
    Displaced,
    Effect,
    Joined,
    JoinRefused,
    Left,
    MemberChanged,
    Send,
    Stream,
)
from durable.membership.member import Claim, Member, MemberStatus, NodeAddress, NodeId
from durable.membership.swim import Swim
from durable.membership.tuning import Tuning

__all__ = [
    "Claim",
    "Displaced",
    "Effect",
    "JoinRefused",
    "Joined",
    "Left",
    "Member",
    "MemberChanged",
    "MemberStatus",
    "NodeAddress",
    "NodeId",
    "Send",
    "Stream",
    "Swim",
    "Tuning",
]
