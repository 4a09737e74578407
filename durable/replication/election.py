"""Becoming the owner: ask whether it would be welcome, ask for promises, take the best log, say that it is the log now.

**Why it exists.** SWIM says who should try; here it is decided. The pre-vote keeps a node that was cut off, or that only thinks
the owner dead, from ending an epoch in which all is well: it must first find a majority that hears no owner either.

=========  ===================================================  =======================================================
stage      leaves it when                                       to
=========  ===================================================  =======================================================
IDLE       no owner is heard, and its turn has come             ASKING, or (handed over) PREPARING
ASKING     a majority would promise                             PREPARING, in an epoch above all that it heard of
PREPARING  a majority has promised, itself included             FETCHING if another's log is better, else it owns
FETCHING   that log is here, and swapped in                     it owns: `owner`
any        a higher epoch, or time                              IDLE
=========  ===================================================  =======================================================

**Turns.** The first live node of the ring campaigns at once, each next one half a gossip interval later, so that two seldom
meet; after a failure it waits a random time. Who waits for promises grants nobody a pre-vote, and who has given one waits for that
candidate as for an owner. These three waits double with each epoch that comes to no owner, because fsyncs may take longer than
gossip intervals. An owner that has come to office so, or got back what it gave away, keeps it so much longer, and then leaves the
heir so much longer before its own turn.

**Limits.** An election takes three fsyncs in a row (promise, swap, the others' swap); of more than five intervals each, it may
never come to an end. Read next: `owner`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from durable.copies.messages import ZERO, Behind, Epoch, HandOver, Prepare, PreVote, PreVoted, Promise, Refused
from durable.membership.member import NodeId
from durable.replication.home import PROMISED, doubled
from durable.replication.transfer import Kind, Transfer

if TYPE_CHECKING:
    from durable.replication.replica import Replica

PATIENCE_INTERVALS = 4
"""How many gossip intervals a candidacy may take, if the one before it came to an owner."""


class Stage(IntEnum):
    IDLE = 0
    ASKING = 1
    PREPARING = 2
    FETCHING = 3


class Election:
    """The candidacies of one replica."""

    __slots__ = ("backoff", "due_at", "epoch", "give_up_at", "granted", "promises", "replica", "round", "seen", "stage", "vain")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.stage = Stage.IDLE
        self.epoch: Epoch = ZERO
        self.seen: Epoch = ZERO
        """The highest epoch that was heard of."""
        self.round = 0
        self.granted: set[NodeId] = set()
        self.promises: dict[NodeId, Promise] = {}
        self.due_at: float | None = None
        self.give_up_at = 0.0
        self.vain = 0
        """How many epochs were promised since this log became that of one."""
        self.backoff = 0
        """How often the time is doubled for which this node keeps what the first of the ring should own."""

    # When

    def owner_seems_gone(self) -> bool:
        """Nobody was promised anything, or the one who was is dead, or silent, or this node itself, which has given up."""
        replica, home = self.replica, self.replica.home
        if replica.promised[1] == home.me:
            return self.stage < Stage.PREPARING
        silent_s = home.now - home.quiet.last_heard(replica)
        return not home.is_live(replica.promised[1]) or silent_s > doubled(self.vain - 1) * home.tuning.owner_timeout_s

    def has_owner(self, node: NodeId) -> None:
        """This log is that of a node's epoch now."""
        if node == self.replica.preferred():
            self.backoff = 0
        elif node == self.replica.home.me:
            self.backoff = max(self.backoff, self.vain - 1)
        self.vain = 0

    def may_campaign(self) -> bool:
        replica, home = self.replica, self.replica.home
        if not home.standing or home.me in home.witnesses or replica.owner is not None:
            return False
        return replica.may_vote()

    def consider(self) -> None:
        """A few times in a gossip interval: is it time to campaign, to give up, or to ask again?"""
        home = self.replica.home
        if self.stage:
            if home.now >= self.give_up_at:
                self._fail()
        elif not self.may_campaign() or not self.owner_seems_gone():
            self.due_at = None
        elif self.due_at is None:
            self.due_at = home.now + self._place() * home.tuning.stagger_s * doubled(self.backoff)
        if self.due_at is not None and home.now >= self.due_at and not self.stage:
            self.ask()

    def inquire(self) -> None:
        """Who does not campaign asks all the same, when no owner is heard: the partition may have moved, and this copy be free. So
        does a member by name whose disk is another now: nobody else would tell it. And who waits for promises asks for them again.
        """
        replica, home = self.replica, self.replica.home
        if home.me in replica.members and not self.may_campaign() and self.owner_seems_gone():
            self._send(PreVote(replica.partition, replica.generation, 0))
        for node in replica.order if self.stage is Stage.PREPARING and home.me in self.promises else ():
            if node not in self.promises:
                home.send(node, Prepare(replica.partition, replica.generation, self.epoch))

    def _place(self) -> int:
        home, place = self.replica.home, 0
        for node in self.replica.order:
            if node == home.me:
                break
            if home.may_own(node):
                place += 1
        return place

    def stop(self) -> None:
        self.stage = Stage.IDLE
        self.due_at = None
        self.granted.clear()
        self.promises.clear()

    def _fail(self) -> None:
        """Try again after a random time: two that have met should not meet again."""
        replica, home = self.replica, self.replica.home
        home.quiet.stir(replica)
        self.stop()
        if replica.transfer is not None and replica.transfer.kind is Kind.CANDIDATE:
            replica.transfer = None
        self.due_at = home.now + (1 + doubled(self.vain - 1) * home.random.random()) * home.tuning.gossip_interval_s

    def _start(self, stage: Stage) -> None:
        home = self.replica.home
        home.quiet.stir(self.replica)
        self.stage = stage
        self.due_at = None
        self.wait_on()

    def wait_on(self) -> None:
        """Something came: a long log or snapshot takes as long as it takes."""
        home, failures = self.replica.home, self.vain - 1 if self.stage is Stage.PREPARING else 0
        self.give_up_at = home.now + PATIENCE_INTERVALS * doubled(failures) * home.tuning.gossip_interval_s

    # The pre-vote

    def ask(self) -> None:
        """Would a majority promise?"""
        replica, home = self.replica, self.replica.home
        self._start(Stage.ASKING)
        self.round = home.random.getrandbits(32)
        self.granted = {home.me}
        self._send(PreVote(replica.partition, replica.generation, self.round))
        self._count_granted()

    def on_pre_vote(self, sender: NodeId, vote: PreVote) -> None:
        replica = self.replica
        if vote.generation > replica.known_generation:
            replica.home.send(sender, Behind(replica.partition, vote.generation, ZERO))  # it never got what that began with
            return
        if replica.is_past(sender, vote.generation) or not replica.may_vote() or not replica.is_member(sender):
            return
        gone = self.owner_seems_gone() or sender == replica.promised[1]
        granted = vote.generation == replica.generation and replica.owner is None and gone
        answer = PreVoted(replica.partition, replica.generation, vote.round, granted, max(replica.promised, self.seen))
        replica.home.send(sender, answer)

    def on_pre_voted(self, sender: NodeId, vote: PreVoted) -> None:
        if self.stage is not Stage.ASKING or vote.round != self.round or vote.generation != self.replica.generation:
            return
        if not self.replica.believes(vote.promised):
            return
        self.seen = max(self.seen, vote.promised)
        if vote.granted and self.replica.is_member(sender):
            self.granted.add(sender)
            self._count_granted()

    def _count_granted(self) -> None:
        if len(self.granted) >= self.replica.quorum():
            self.campaign()

    # R2

    def campaign(self) -> None:
        """Choose an epoch above all that was heard of, make it durable, and ask for promises."""
        replica, home = self.replica, self.replica.home
        if not self.may_campaign():
            return
        epoch = (max(replica.promised[0], self.seen[0]) + 1, home.me)
        replica.promise(epoch, "campaigns itself")
        self._start(Stage.PREPARING)
        self.epoch = epoch
        home.when_synced(replica, epoch, PROMISED)
        for node in replica.order:
            if node != home.me:
                home.send_synced(node, Prepare(replica.partition, replica.generation, epoch))

    def own_promise(self, epoch: Epoch) -> None:
        """The own promise is on stable storage: it counts."""
        replica = self.replica
        if self.stage is Stage.PREPARING and epoch == self.epoch == replica.promised:
            log = replica.log
            promise = Promise(replica.partition, replica.generation, epoch, replica.log_epoch, log.last, replica.commit)
            self.on_promise(replica.home.me, promise)

    def on_promise(self, sender: NodeId, promise: Promise) -> None:
        replica = self.replica
        if self.stage is not Stage.PREPARING or promise.epoch != self.epoch or promise.generation != replica.generation:
            return
        if not replica.is_member(sender):
            return
        self.promises[sender] = promise
        if replica.home.me in self.promises and len(self.promises) >= replica.quorum():
            self._choose()

    def best(self) -> NodeId:
        """Of the logs promised, the one to take; the own one if it is as good."""
        replica, me = self.replica, self.replica.home.me
        best = me
        for node in replica.order:
            if node in self.promises and replica.rank(self.promises[node]) > replica.rank(self.promises[best]):
                best = node
        return best

    def _choose(self) -> None:
        replica, best = self.replica, self.best()
        if best == replica.home.me:
            replica.adopt(self.epoch)
            replica.save()
            self.win()
            return
        self._start(Stage.FETCHING)
        last = self.promises[best].last
        Transfer(replica, Kind.CANDIDATE, best, replica.generation, replica.members, self.epoch, last).begin()

    def win(self) -> None:
        """The best log is this one, of this epoch: tell the others to adopt it."""
        replica, epoch = self.replica, self.epoch
        replica.home.quiet.stir(replica)
        self.stop()
        replica.owner = replica.owner_class(replica, epoch)
        replica.owner.begin()

    def on_refused(self, refused: Refused) -> None:
        """Somebody was promised more. The next candidacy goes above that."""
        if not self.replica.believes(refused.promised):
            return
        self.seen = max(self.seen, refused.promised)
        if self.stage >= Stage.PREPARING and refused.epoch == self.epoch:
            self._fail()

    def on_hand_over(self, sender: NodeId, order: HandOver) -> None:
        """The owner has stopped for us. Not a word of an older owner: then nothing is free."""
        replica = self.replica
        current = order.generation == replica.generation and order.epoch == replica.log_epoch
        if current and (order.epoch == ZERO or order.epoch[1] == sender) and not self.stage:
            self.campaign()

    def _send(self, message: PreVote) -> None:
        home = self.replica.home
        for node in self.replica.order:
            if node != home.me:
                home.send(node, message)


