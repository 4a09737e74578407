"""A partition moves to another replica set: the last entry of the old one names it, and carries everything over.

**Why it exists.** Two majorities of different sets need not share a node. So a set does not change in place. The log of the old
generation ends with a seal, which is committed like any entry; whoever knows it to be committed knows that nothing was, or will
be, committed behind it: the log up to there is what the next generation begins with.

====================  =====================================================================================================
who                   does
====================  =====================================================================================================
member of both        is in the next generation at once: it holds what that begins with
member of the old     keeps its copy, offers it, and deletes it when a majority of the new set holds its own
member of the new     fetches from whom offers; it votes when that is on stable storage
the old owner         when a majority holds it, asks the first of the new set to campaign
====================  =====================================================================================================

**Limits.** Between the seal and the next election nobody owns the partition: a few round trips, because copies are made before
the seal is written. Source: the reconfiguration of Viewstamped Replication Revisited, section 7. Read next: `roster`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.copies.messages import ZERO, Base, BaseHeld, HandOver, Members
from durable.membership.member import NodeId

if TYPE_CHECKING:
    from durable.replication.replica import Replica


class Move:
    """The partition goes to ``generation``, which began with everything up to ``index``."""

    __slots__ = ("generation", "hand_over", "held", "holders", "index", "members", "replica")

    def __init__(
        self, replica: Replica, generation: int, members: Members, index: int, *, hand_over: bool, held: bool = True
    ) -> None:
        self.replica = replica
        self.generation = generation
        self.members = members
        self.index = index
        self.hand_over = hand_over
        self.held = held
        """Whether this node has what the generation begins with."""
        self.holders: set[NodeId] = set()

    def holds(self, generation: int) -> bool:
        """Whether the base of that generation can be had here: the log has not grown beyond it."""
        return (self.held and generation == self.generation and self.replica.log_epoch == ZERO) or self._retired(generation)

    def _retired(self, generation: int) -> bool:
        return self.held and generation == self.generation == self.replica.next_generation

    def offer(self) -> None:
        """Every gossip interval, and at once: to each of whom it is not known that it holds its base."""
        replica, home = self.replica, self.replica.home
        if replica.generation == self.generation and replica.log_epoch != ZERO:
            replica.move = None  # somebody owns the new generation, and sees to the rest
            return
        offer = Base(replica.partition, self.generation, self.members, self.index, replica.promised, self.held)
        for node in self.members:
            if node not in self.holders and node != home.me:
                home.send_synced(node, offer)
        self._judge()

    def on_held(self, sender: NodeId, held: BaseHeld) -> None:
        disk = self.members.get(sender)
        if held.generation == self.generation and disk is not None and self.replica.home.stores.get(sender, disk) == disk:
            self.holders.add(sender)
            self._judge()

    def _judge(self) -> None:
        replica, stores = self.replica, self.replica.home.stores
        mine = replica.generation == self.generation
        holders = [node for node in self.holders if stores.get(node, self.members[node]) == self.members[node]]  # not wiped since
        if len(holders) + mine < len(self.members) // 2 + 1:
            return
        if self.hand_over:
            self.hand_over = False
            self._call_successor(mine)
        if not mine:
            replica.forget()
        elif len(holders) + 1 >= len(self.members):
            replica.move = None

    def _call_successor(self, mine: bool) -> None:
        replica, home = self.replica, self.replica.home
        for node in self.members:
            if not home.may_own(node):
                continue
            if node == home.me and mine:
                replica.election.campaign()
                return
            if node in self.holders:
                home.send(node, HandOver(replica.partition, self.generation, ZERO))
                return
