"""Owning an epoch: append, send at once, count the copies, say what is committed.

**How it works.** The owner first makes a majority adopt its log: what it took over counts as committed when they hold it in its
own epoch, and only then is it in office. From then on each turn's appends of a partition leave in one message while the own
disk still syncs; an entry is committed when a majority has it on stable storage, the own copy counting like any other.

===============================  ===================================================================================
a peer                           gets
===============================  ===================================================================================
whose log is not of the epoch    Sync, again with each digest that shows it
whose log is                     every Append; what it missed it fetches by itself
that is no member (a learner)    the same, and is not counted
===============================  ===================================================================================

**When it ends.** Another epoch was promised here; no majority was heard for a third of ``rpc_timeout``; the partition was
handed over to the first of the ring, which is alive and holds everything; its seal is committed.

**Limits.** Entries under way are bounded: past ``in_flight_entries_max``, `append` raises Overloaded.

Source: Viewstamped Replication Revisited, section 4.1. Read next: `moving`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.copies.effects import Committed, Owned
from durable.copies.frames import ENTRY_BYTES_MAX, FRAME_BYTES
from durable.copies.lines import Lines, checksum
from durable.copies.messages import ZERO, Ack, Answer, Append, Epoch, HandOver, Members, Row, Sync
from durable.copies.rows import Seal, encode_entry, encode_row
from durable.errors import NoQuorum, NotOwner, Overloaded, ValueTooLarge
from durable.membership.member import NodeId
from durable.ports import Batch
from durable.replication.home import doubled

if TYPE_CHECKING:
    from durable.replication.replica import Replica

NOT_ADOPTED = -1
LAG_ENTRIES = 64
"""A copy that lacks no more than so many committed entries is good enough to move to."""
SETTLED_INTERVALS = 5
"""How long an owner is in office at least before it hands over by itself; longer, if that came to nothing before."""


class Peer:
    """What the owner knows of another copy: up to where it has adopted the epoch's log, and when it was heard."""

    __slots__ = ("heard_at", "listed", "match", "promised")

    def __init__(self, now: float) -> None:
        self.listed = 0
        """The checksum of the line that the last digest had for it."""
        self.match = NOT_ADOPTED
        self.heard_at = now
        self.promised: Epoch = ZERO


class Owner:
    """The owner of ``epoch``. ``floor``: where its log ended when the epoch began."""

    __slots__ = (
        "adopted", "commit", "epoch", "floor", "have", "in_office", "learners", "own_last", "peers", "put_off_at", "quorum_at",
        "replica", "reported", "sent", "since", "successor",
    )  # fmt: skip

    def __init__(self, replica: Replica, epoch: Epoch) -> None:
        now = replica.home.now
        self.replica = replica
        self.epoch = epoch
        self.floor = self.sent = replica.log.last
        self.commit = replica.commit
        self.own_last = NOT_ADOPTED
        self.peers = {node: Peer(now) for node in replica.order if node != replica.home.me}
        self.learners: Members = {}
        self.adopted = False
        """Whether a majority has the log that the epoch began with: what was taken over is committed."""
        self.in_office = False
        self.reported = replica.applied
        self.have = replica.quorum()
        self.since = self.quorum_at = now
        self.put_off_at: float | None = None
        """Since when it would give the partition away, and waits for what is under way."""
        self.successor: NodeId | None = None

    def begin(self) -> None:
        """The log was swapped in as that of the epoch, in the batch before this."""
        self.replica.home.when_synced(self.replica, self.epoch, self.floor)
        for node in self.peers:
            self.sync(node)

    # The others' copies

    def speaks(self, node: NodeId) -> bool:
        """Whether there is traffic with a node: with a wiped disk under a member's name there is none, until it is a learner."""
        store = self.replica.home.stores.get(node)
        return store is None or store in (self.replica.members.get(node), self.learners.get(node))

    def follows(self, peer: Peer) -> bool:
        """Whether entries are sent to it as they come: not before it has adopted what they build on."""
        return peer.match != NOT_ADOPTED

    def sync(self, node: NodeId) -> None:
        replica = self.replica
        if self.speaks(node):
            sync = Sync(replica.partition, replica.generation, self.epoch, replica.members, self.floor, replica.commit)
            replica.home.send(node, sync)

    def row(self) -> Row:
        replica = self.replica
        return replica.partition, replica.generation, self.epoch, replica.log.last, replica.commit

    def on_ack(self, sender: NodeId, ack: Ack) -> None:
        peer = self.peers.get(sender)
        if peer is None or ack.epoch != self.epoch or ack.generation != self.replica.generation or not self.speaks(sender):
            return
        peer.heard_at = self.replica.home.now
        if ack.last > peer.match:
            starts = peer.match == NOT_ADOPTED
            peer.match = ack.last
            self.replica.home.dirty[self.replica.partition] = self.replica
            if starts:
                self._send_missed(sender, ack.last)

    def _send_missed(self, node: NodeId, last: int) -> None:
        """It has adopted the log. What was appended meanwhile was not sent to it."""
        replica = self.replica
        if replica.log.base <= last < self.sent:
            entries = replica.log.slice(last + 1, replica.home.tuning.piece_bytes)[: self.sent - last]
            append = Append(replica.partition, replica.generation, self.epoch, last, entries, replica.commit)
            replica.home.send(node, append)

    def on_answer(self, sender: NodeId, answer: Answer) -> None:
        """How far it is, by its answer to the digest."""
        partition, generation, promised, log_epoch, last = answer
        peer = self.peers.get(sender)
        if peer is None or not self.speaks(sender) or generation > self.replica.generation:
            return
        if promised > self.epoch:
            self.on_higher(sender, promised)
            return
        peer.heard_at = self.replica.home.now
        if generation == self.replica.generation and log_epoch == self.epoch:
            self.on_ack(sender, Ack(partition, generation, log_epoch, last))
            self._settle(sender, peer, promised, last)
        else:
            self.sync(sender)

    def _settle(self, node: NodeId, peer: Peer, promised: Epoch, last: int) -> None:
        """If that copy is where the last digest said that we are, and nothing has happened since, it need not be said again."""
        replica, row = self.replica, self.row()
        if promised == self.epoch and last == replica.log.last and peer.listed == checksum(row) and self.sent == last:
            replica.home.quiet.said.setdefault(node, Lines()).put(replica.partition, peer.listed)

    def stir(self, *, was_calm: bool) -> None:
        """Something changes: what was known to be alike at the others has to be said again."""
        replica = self.replica
        for node, peer in self.peers.items():
            peer.heard_at = self.heard(node, peer)
            lines = replica.home.quiet.said.get(node)
            if lines is not None:
                lines.drop(replica.partition)
        if was_calm:
            self.quorum_at = replica.home.now

    def heard(self, node: NodeId, peer: Peer) -> float:
        """When that copy was heard."""
        return self.replica.home.quiet.last_answered(self.replica.partition, node, peer.heard_at)

    def is_calm(self) -> bool:
        """Whether enough copies are known to be alike, and all others down."""
        replica, home, have = self.replica, self.replica.home, 1
        for node, peer in self.peers.items():
            lines = home.quiet.said.get(node)
            if lines is not None and replica.partition in lines.rows:
                have += replica.is_member(node)
            elif home.is_live(node):
                return False
            if peer.promised > self.epoch:
                return False
        return min(have, self.have) >= replica.quorum() and self.in_office and self.successor is None and not replica.closed()

    def on_higher(self, sender: NodeId, promised: Epoch) -> None:
        """That copy follows us no more."""
        peer = self.peers.get(sender)
        if peer is not None and self.replica.believes(promised):
            self.replica.home.quiet.stir(self.replica)
            peer.promised = max(peer.promised, promised)
            self.replica.election.seen = max(self.replica.election.seen, promised)

    def disk_changed(self, node: NodeId) -> None:
        """Under that name another disk speaks: what the old one held says nothing about it."""
        if node in self.peers:
            self.replica.home.quiet.stir(self.replica)
            self.peers[node] = Peer(self.replica.home.now)

    # Entries

    def append(self, writes: Batch) -> int:
        """An entry at the end of the log; its index.

        Raises:
            NotOwner: not in office, or no longer.
            Overloaded: too many entries are under way.
            ValueTooLarge: no frame could carry it.
        """
        replica = self.replica
        if not self.in_office or self.successor is not None or replica.closed():
            raise NotOwner(replica.partition, self.successor, self.epoch[0])
        if replica.log.last - replica.commit >= replica.home.tuning.in_flight_entries_max:
            raise Overloaded(
                f"partition {replica.partition} has {replica.log.last - replica.commit} entries under way. Nothing was appended: "
                "try again when some are committed"
            )
        entry = encode_entry(writes)
        if len(entry) > ENTRY_BYTES_MAX:
            raise ValueTooLarge(f"{len(entry):,} bytes at once; a copy is sent {ENTRY_BYTES_MAX:,} at most. Nothing was appended")
        replica.extend((entry,))
        replica.home.dirty[replica.partition] = replica
        return replica.log.last

    def check(self) -> None:
        """Raises `NoQuorum` when too few copies were heard lately: what is appended now is committed late, or never."""
        replica = self.replica
        if self.have < replica.quorum():
            raise NoQuorum(replica.partition, self.have, replica.quorum(), replica.home.tuning.gossip_interval_s)

    def seal(self, seal: Seal) -> None:
        """R8. The last entry of the generation."""
        if not self.replica.closed():
            self.replica.extend((encode_row(seal),))
            self.replica.home.dirty[self.replica.partition] = self.replica

    def own_durable(self, last: int) -> None:
        """R4. The own copy counts after its own fsync."""
        if last > self.own_last:
            self.own_last = last
            self.replica.home.dirty[self.replica.partition] = self.replica

    def flush(self) -> None:
        """The end of a turn: send what was appended in it, and count."""
        replica, home, last = self.replica, self.replica.home, self.replica.log.last
        if self.sent < last:
            home.quiet.stir(replica)
            while self.sent < last:
                self._send_next()
            home.when_synced(replica, self.epoch, last)
        self._count()
        if replica.commit != self.commit:
            self.commit = replica.commit
            home.quiet.stir(replica)

    def _send_next(self) -> None:
        """Entries that were not sent yet, as many as one message carries."""
        replica = self.replica
        entries = replica.log.slice(self.sent + 1, FRAME_BYTES)
        append = Append(replica.partition, replica.generation, self.epoch, self.sent, entries, replica.commit)
        for node, peer in self.peers.items():
            if self.follows(peer) and self.speaks(node):
                replica.home.send(node, append)
        self.sent += len(entries)

    def _held_by_enough(self) -> int:
        """The last index that as many copies as are needed hold in this epoch."""
        replica = self.replica
        copies = [peer.match for node, peer in self.peers.items() if replica.is_member(node)]
        copies.append(self.own_last)
        copies.sort(reverse=True)
        need = replica.copies_needed()
        return copies[need - 1] if len(copies) >= need else NOT_ADOPTED

    def _count(self) -> None:
        held = self._held_by_enough()
        if held >= self.floor:
            self.adopted = True
            self.replica.commit = max(self.replica.commit, min(held, self.replica.log.last))

    def report(self) -> None:
        """After what is committed was applied."""
        replica, home = self.replica, self.replica.home
        if not self.in_office:
            if not self.adopted or replica.applied < self.floor or replica.closed():
                return
            self.in_office = True
            home.changes += 1
            self.reported = replica.applied
            home.tell(Owned(replica.partition, self.epoch))
        elif replica.applied > self.reported:
            self.reported = replica.applied
            home.tell(Committed(replica.partition, replica.applied))
        if self.successor is not None and replica.commit == replica.log.last:
            home.send(self.successor, HandOver(replica.partition, replica.generation, self.epoch))
            replica.step_down(f"handed over to {self.successor}")
            replica.election.backoff += 1

    # Once in a gossip interval

    def watch(self) -> None:
        """Is a majority still there?"""
        replica, tuning, now = self.replica, self.replica.home.tuning, self.replica.home.now
        self.have = 1
        for node, peer in self.peers.items():
            if replica.is_member(node) and peer.promised <= self.epoch:
                self.have += now - self.heard(node, peer) <= tuning.owner_timeout_s
        if self.have >= replica.quorum():
            self.quorum_at = now
        lost = max(peer.promised for peer in self.peers.values()) > self.epoch if self.peers else False
        patience_s = tuning.owner_timeout_s if lost else max(tuning.rpc_timeout_s / 3, tuning.owner_timeout_s)
        if now - self.quorum_at > patience_s:
            replica.step_down(f"{self.have} of its {replica.quorum()} copies can be reached")
        elif lost and now - self.since > SETTLED_INTERVALS * tuning.gossip_interval_s:
            # A copy has promised an epoch that nobody owns: it follows again only in one above that.
            replica.step_down("a copy has promised another epoch")
            replica.election.campaign()

    def may_hand_over_to(self, node: NodeId) -> bool:
        """Whether it holds everything, and is heard."""
        peer, tuning = self.peers.get(node), self.replica.home.tuning
        if peer is None or not self.in_office or self.successor is not None or self.replica.closed():
            return False
        heard = self.replica.home.now - self.heard(node, peer) <= tuning.owner_timeout_s
        return heard and self.replica.is_member(node) and peer.match >= self.replica.commit

    def is_settled(self) -> bool:
        settled_s = SETTLED_INTERVALS * self.replica.home.tuning.gossip_interval_s * doubled(self.replica.election.backoff)
        return self.replica.home.now - self.since >= settled_s

    def puts_off(self) -> bool:
        """Whether to give the partition away a little later: what is under way in it would have to be done again."""
        home = self.replica.home
        if not home.is_busy(self.replica.partition):
            self.put_off_at = None
            return False
        if self.put_off_at is None:
            self.put_off_at = home.now
        return home.now - self.put_off_at < home.tuning.handover_patience_s

    def hand_over(self, node: NodeId) -> None:
        """Stop to append; when everything is committed, `report` tells the other to campaign."""
        self.replica.home.quiet.stir(self.replica)
        self.successor = node
        self.replica.home.dirty[self.replica.partition] = self.replica

    # Learners

    def learn(self, goal: Members) -> None:
        """Make copies at those of ``goal`` who are no members."""
        replica, home = self.replica, self.replica.home
        learners = {node: store for node, store in goal.items() if replica.members.get(node) != store}
        if learners == self.learners:
            return
        home.quiet.stir(replica)
        home.changes += 1
        self.learners = learners
        for node in [node for node in self.peers if node not in learners and node not in replica.members]:
            del self.peers[node]
        for node in learners:
            if node != home.me and node not in self.peers:
                self.peers[node] = Peer(home.now)
                self.sync(node)

    def copies_made(self, goal: Members) -> bool:
        """Whether all of ``goal`` that are alive, and a majority of it, hold what is committed, or nearly.

        A disk that is no more, because another one speaks under its node's name, is not waited for: it may be that it can only be
        replaced when this partition has moved.
        """
        replica, home, made = self.replica, self.replica.home, 0
        for node, store in goal.items():
            peer = self.peers.get(node)
            there = home.stores.get(node) == store
            heard = there and peer is not None and peer.match != NOT_ADOPTED
            if node == home.me or (heard and peer is not None and peer.match >= replica.commit - LAG_ENTRIES):
                made += 1
            elif home.is_live(node) and (there or node not in home.stores):
                return False
        return made > len(goal) // 2

