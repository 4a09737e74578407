"""All replicas of one node: the state machine that a shell drives, and that does nothing by itself.

**Why it exists.** A partition's rules are in `replica`. This module is what they have in common on a node: who gets which
message, what is said once for all partitions (digests, rounds of reads, the roster), and when.

**How it works.** A shell calls `receive` for what arrives, `tick` at `next_deadline`, `synced` after an fsync, and carries out
`effects` after each turn of calls. Appends, acknowledgements and commits of a turn come together in `effects`: one message a
partition and peer, however many there were.

================  ==========================================  =========================================================
beat              every                                       does
================  ==========================================  =========================================================
short             a quarter of a gossip interval              campaigns whose turn has come; transfers that stand still
long              a gossip interval                           digests; owners look for their majority; hand-overs;
                                                              moves, plans, birth; reads that were not answered
================  ==========================================  =========================================================

**Limits.** Work per beat grows with the partitions that something happens to (`quiet`), not with all.

Read next: `durable.cluster`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from durable.copies import messages
from durable.copies.effects import Effect
from durable.copies.messages import (
    ZERO,
    AskChange,
    Base,
    Epoch,
    Hello,
    Message,
    Roster,
    Sync,
)
from durable.copies.rows import ROSTER, Loaded
from durable.copies.tuning import ReplicationTuning
from durable.errors import NoQuorum, NotOwner
from durable.membership.member import NodeId
from durable.ports import Batch
from durable.replication import following
from durable.replication.digests import Digests
from durable.replication.home import Home
from durable.replication.owner import Owner
from durable.replication.reads import Reads
from durable.replication.replica import Replica
from durable.replication.standing import Role, copies_of, role_of
from durable.replication.transfer import serve
from durable.replication.voters import Voters

if TYPE_CHECKING:
    from random import Random

BEATS = 4
"""Short beats in a long one."""
LEARNER_FORGOTTEN_INTERVALS = 60
"""A copy that nobody asked for so long, and that is no member's, is deleted."""

OfReplica: TypeAlias = Callable[[Replica, NodeId, Any], None]
OfNode: TypeAlias = Callable[[NodeId, Any], None]


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One copy, for those who look."""

    role: str
    generation: int
    epoch: Epoch
    last: int
    commit: int
    applied: int
    members: tuple[NodeId, ...]


class Replication:
    """One node's part in the replicated journal.

    >>> from random import Random
    >>> from durable.copies.effects import Persist
    >>> core = Replication(NodeId("a"), b"disk-a", tuning=ReplicationTuning(partitions=2), random=Random(1))
    >>> core.birth(0.0, (), ())                        # no seeds: a cluster of one
    >>> for now in (1.0, 2.0):
    ...     core.tick(now)
    ...     core.synced(now, max(effect.mark for effect in core.effects() if isinstance(effect, Persist)))
    >>> _ = core.effects()
    >>> core.owned, core.append(2.0, 0, [(b"key", b"value")])
    ((0, 1), 2)

    Args:
        me: this node's name.
        store_id: the id of its disk: a wiped one has another.
        tuning: the numbers.
        random: the only source of chance.
        rows: what the store holds under `durable.copies.rows.PREFIX`.
        witness: a voter that keeps logs and owns nothing.
        busy: which partitions have something under way that a new owner would begin again; with those it waits a little before
            it gives them away.
        now: the caller's clock.

    Raises:
        StoreCorrupted: the rows do not fit together.
    """

    replica_class = Replica

    def __init__(
        self,
        me: NodeId,
        store_id: bytes,
        *,
        tuning: ReplicationTuning,
        random: Random,
        rows: Iterable[tuple[bytes, bytes]] = (),
        witness: bool = False,
        busy: Callable[[], Container[int]] = tuple,
        now: float = 0.0,
    ) -> None:
        self.home = Home(me, store_id, tuning, random)
        self.home.busy = busy
        self.home.now = now
        self.tuning = tuning
        loaded = Loaded(rows)
        self.replicas: dict[int, Replica] = {}
        for partition, state in sorted(loaded.states.items()):
            applied, entries = loaded.applied.get(partition, 0), loaded.logs.get(partition, [])
            self.replicas[partition] = self.replica_class(self.home, partition, state, applied, entries)
        self._digests = Digests(self.home, self.replicas)
        self._reads = Reads(self.home, self.replicas)
        self._voters = Voters(self.home, self.replicas, self.replica_class, loaded, witness)
        self._beat_at = now
        self._beats = 0
        self._content = -1
        """The count of changes at which nothing was left to be handed over."""
        self._of_replica, self._of_node = self._tables()

    # What a shell asks

    @property
    def dropped(self) -> Counter[str]:
        """What was not believed, by reason."""
        return self.home.dropped

    @property
    def hello(self) -> Hello:
        """The first message of every frame."""
        return self._voters.hello

    @property
    def roster(self) -> Roster | None:
        """The newest decided roster that is known here."""
        return self._voters.roster

    @property
    def voter(self) -> bool:
        """Whether this node, with this disk, is in the roster."""
        return self._voters.voter

    @property
    def asks_in(self) -> bool:
        """Whether it is no voter, and waits for the others to let it in."""
        return self._voters.asks_in

    def role(self, node: NodeId) -> Role:
        """What a node is by the roster that is known here, and by the disk that it last said it has."""
        return role_of(self.home, self.roster, node)

    @property
    def copies(self) -> tuple[int, int, int]:
        """How many partitions are owned here, of how many there is a whole copy, and how many the roster wants and has not yet."""
        return len(self.owned), *copies_of(self.home, self.replicas, self._voters.sets)

    @property
    def may_leave(self) -> bool:
        """Whether nobody needs this node, or nobody is there who could take over what it holds."""
        return self._voters.may_leave()

    @property
    def leaving(self) -> str | None:
        """What it still waits for, if it has been told to leave, in words."""
        return self._voters.leaving

    @property
    def owned(self) -> tuple[int, ...]:
        """The partitions in office here."""
        owned = [p for p, replica in self.replicas.items() if replica.owner is not None and replica.owner.in_office]
        return tuple(sorted(p for p in owned if p != ROSTER))

    def epoch(self, partition: int) -> Epoch:
        """The newest epoch that this node has promised for a partition."""
        return self.replicas[partition].promised if partition in self.replicas else ZERO

    def owner(self, partition: int) -> tuple[NodeId | None, Epoch]:
        """Who owns a partition, as far as is known here: a guess, to be corrected by whom one asks."""
        replica = self.replicas.get(partition)
        if replica is not None and replica.owner is not None:
            return (self.home.me if replica.owner.in_office else None), replica.owner.epoch
        if replica is not None and not replica.election.owner_seems_gone():
            return replica.promised[1], replica.promised
        for node in self.replica_set(partition):
            if node != self.home.me and self.home.may_own(node):
                return node, self.epoch(partition)
        return None, self.epoch(partition)

    def replica_set(self, partition: int) -> tuple[NodeId, ...]:
        """R9. Who keeps a partition by the decided roster, in the order of the ring."""
        return tuple(self._voters.sets[partition]) if partition < len(self._voters.sets) else ()

    def status(self, partition: int) -> ReplicaStatus | None:
        """A copy as it stands here; None if there is none."""
        replica = self.replicas.get(partition)
        if replica is None:
            return None
        stage = replica.election.stage
        role = "owner" if replica.owner is not None else stage.name.lower() if stage else "following"
        return ReplicaStatus(
            role, replica.generation, replica.promised, replica.log.last, replica.commit, replica.applied, replica.order
        )

    def next_deadline(self) -> float:
        """When `tick` wants to be called."""
        return self._beat_at

    def effects(self) -> list[Effect]:
        """The end of a turn: what is to be done, in order. Each is handed out once."""
        home = self.home
        while home.dirty or home.decided:
            dirty, home.dirty = home.dirty, {}
            for replica in dirty.values():
                replica.flush()
            while home.decided:
                self._voters.decide(home.decided.pop(0))
        self._reads.flush()
        taken, home.effects = home.effects, []
        return taken

    # What a shell tells

    def birth(self, now: float, seeds: tuple[str, ...], founders: tuple[NodeId, ...]) -> None:
        """Every seed address is a live member: these. No seeds: a cluster of one. Without effect once a roster is known."""
        self.home.now = now
        if self.roster is None and not seeds:
            self.bootstrap(now)
        elif self.roster is None and self.home.me in founders:
            self._voters.birth.want(seeds, founders)
            self._voters.settle_birth()

    def bootstrap(self, now: float) -> None:
        """An operator's word: found a cluster of one."""
        self.home.now = now
        if self.roster is None:
            self._voters.bootstrap()

    def ask_in(self, now: float) -> None:
        """Become a voter, with this disk; asked again until it is so."""
        self.home.now = now
        self._voters.want_in()

    def ask_out(self, now: float, node: NodeId | None = None) -> None:
        """Let this node, or another, leave the roster; asked again until it is so."""
        self.home.now = now
        self._voters.wish(AskChange(node or self.home.me, None, False))

    def hand_over_all(self, now: float) -> None:
        """Own nothing more: each partition goes to another of its replica set as soon as that holds everything."""
        self.home.now = now
        self.home.standing = False
        self._hand_over(len(self.replicas))

    def distrust(self, now: float, why: str) -> None:
        """R7. The disk lost something, or may have: no vote, no acknowledgement, no candidacy any more."""
        self.home.now = now
        self.home.suspect = why
        for replica in self.replicas.values():
            replica.step_down(why)
            replica.transfer = None

    def seen(self, now: float, node: NodeId, live: bool) -> None:
        """Membership holds a node alive, or not."""
        home = self.home
        home.now = now
        if home.is_live(node) == live or node == home.me:
            return
        if live:
            home.live[node] = None
        else:
            del home.live[node]
        home.changes += 1
        if not live:
            home.quiet.forget_heard(node, self.replicas)
        for replica in self.replicas.values():
            if replica.owner is not None and node in replica.owner.peers:
                home.quiet.stir(replica)

    def append(self, now: float, partition: int, writes: Batch) -> int:
        """Put a batch at the end of a partition's log; its index. `Committed` tells when it is safe.

        An owner that hears too few copies goes on appending until it resigns: what it runs is not given up for a pause of the
        network. Who has something new asks `check` before.

        Raises:
            NotOwner, NoQuorum, Overloaded, ValueTooLarge: nothing was appended.
        """
        self.home.now = now
        return self._owner_of(partition).append(writes)

    def check(self, partition: int) -> None:
        """Whether there is sense in appending something new.

        Raises:
            NotOwner, NoQuorum: there is none, now or here.
        """
        self._owner_of(partition).check()

    def confirm(self, now: float, partition: int) -> int:
        """Ask a majority whether this node still owns a partition; the number of the round that `Confirmed` will name.

        Raises:
            NotOwner, NoQuorum: it does not, or nobody could say.
        """
        self.home.now = now
        owner = self._owner_of(partition)
        if not owner.in_office:
            raise NotOwner(partition, None, owner.epoch[0])
        return self._reads.ask(partition, owner.epoch)

    def error(self, partition: int) -> NotOwner | NoQuorum:
        """What to answer for a partition that is not owned here: who has it, or that those who must agree on that are not there."""
        replica = self.replicas.get(partition)
        members = replica.order if replica is not None and replica.may_vote() else self.replica_set(partition)
        have, need = sum([self.home.is_live(node) for node in members]), len(members) // 2 + 1
        if have < need and self.home.me in members:
            return NoQuorum(partition, have, need, self.tuning.gossip_interval_s)
        owner, epoch = self.owner(partition)
        return NotOwner(partition, owner, epoch[0])

    def _owner_of(self, partition: int) -> Owner:
        replica = self.replicas.get(partition)
        if replica is None or replica.owner is None:
            raise self.error(partition)
        return replica.owner

    def synced(self, now: float, mark: int) -> None:
        """All writes up to ``mark`` are on stable storage."""
        self.home.now = now
        self.home.synced(mark)
        self._voters.settle_birth()

    def receive(self, now: float, sender: NodeId, message: Message) -> None:
        """A message arrived. Never raises: what makes no sense is counted in ``dropped``."""
        home = self.home
        home.now = now
        kind = type(message)
        if kind is Hello and sender:  # no name is that of no epoch
            self._voters.on_hello(sender, message)  # type: ignore[arg-type]
        elif sender in self._voters.foreign or sender not in home.stores or sender == home.me:
            home.dropped["stranger"] += 1
        elif kind in self._of_node:
            self._of_node[kind](sender, message)
        else:
            partition = message.partition  # type: ignore[union-attr]
            replica = self.replicas.get(partition)
            if replica is None and kind in (Sync, Base) and (partition < self.tuning.partitions or partition == ROSTER):
                replica = self.replicas[partition] = self.replica_class(home, partition)
            if replica is not None:
                self._of_replica[kind](replica, sender, message)
            elif kind is messages.PreVote:
                home.send(sender, messages.Behind(partition, message.generation, ZERO))  # type: ignore[union-attr]

    def tick(self, now: float) -> None:
        """Do what is due. Calling it early, or twice, does nothing."""
        self.home.now = now
        if now < self._beat_at:
            return
        self._beat_at = now + self.tuning.gossip_interval_s / BEATS
        if self._beats % BEATS == 0:
            self._long_beat()
        self._beats += 1
        quiet = self.home.quiet
        self._digests.miss_owners()
        for replica in list(quiet.restless.values()):
            if replica.transfer is not None and replica.transfer.is_overdue():
                self._urge(replica)
            if replica.owner is None:
                replica.election.consider()
            if quiet.is_calm(replica):
                del quiet.restless[replica.partition]

    def _urge(self, replica: Replica) -> None:
        transfer = replica.transfer
        wanted = transfer is not None and transfer.still_wanted() and not transfer.is_hopeless()
        if transfer is not None and wanted and self.home.is_live(transfer.source):
            transfer.again()
        else:
            replica.transfer = None

    # The long beat

    def _long_beat(self) -> None:
        self._digests.miss_copies()
        for replica in list(self.home.quiet.restless.values()):
            if replica.move is not None:
                replica.move.offer()
            if replica.owner is not None:
                replica.owner.watch()
            elif self._is_litter(replica):
                replica.forget()
            else:
                replica.election.inquire()
        self._voters.beat()
        self._hand_over(self.tuning.handovers_max)
        self._reads.repeat()
        self._digests.send(self._voters.peers())

    def _is_litter(self, replica: Replica) -> bool:
        """Never a copy whose members name this node, whatever its disk is called now: one that was marked (R7) may be the last."""
        idle_s = self.home.now - self.home.quiet.last_heard(replica)
        if replica.partition == ROSTER or replica.move is not None or not replica.ready or self.home.me in replica.members:
            return False
        return idle_s > LEARNER_FORGOTTEN_INTERVALS * self.tuning.gossip_interval_s

    def _hand_over(self, count_max: int) -> None:
        home, count = self.home, 0
        if home.standing and self._content == home.changes:
            return
        self._content = home.changes
        for replica in list(self.replicas.values()):
            owner = replica.owner
            if owner is None:
                continue
            # Its first choice, or, when this node leaves, whoever holds everything.
            heirs = [node for node in replica.order if home.may_own(node)]
            if heirs[:1] != [home.me]:
                self._content = -1
            if count >= count_max or not (owner.is_settled() or not home.standing):
                continue
            for node in heirs[:1] if home.standing else heirs:
                if node != home.me and owner.may_hand_over_to(node) and not owner.puts_off():
                    owner.hand_over(node)
                    count += 1
                    break

    def _tables(self) -> tuple[dict[type, OfReplica], dict[type, OfNode]]:
        """What is done for each message."""
        return {
            messages.PreVote: lambda replica, sender, m: replica.election.on_pre_vote(sender, m),
            messages.PreVoted: lambda replica, sender, m: replica.election.on_pre_voted(sender, m),
            messages.Prepare: following.on_prepare,
            messages.Promise: lambda replica, sender, m: replica.election.on_promise(sender, m),
            messages.Refused: _on_refused,
            messages.Fetch: serve,
            messages.Piece: following.on_piece,
            messages.SnapshotPiece: following.on_piece,
            messages.Sync: following.on_sync,
            messages.Append: following.on_append,
            messages.Ack: lambda replica, sender, m: replica.owner.on_ack(sender, m) if replica.owner is not None else None,
            messages.Behind: _on_behind,
            messages.HandOver: lambda replica, sender, m: replica.election.on_hand_over(sender, m),
            messages.Base: following.on_base,
            messages.BaseHeld: lambda replica, sender, m: replica.move.on_held(sender, m) if replica.move is not None else None,
            messages.Superseded: following.on_superseded,
        }, {
            messages.Digest: self._digests.on_digest,
            messages.DigestAnswer: self._digests.on_answer,
            messages.Confirm: self._reads.answer,
            messages.Confirmed: self._reads.on_confirmed,
            messages.Found: self._voters.on_found,
            messages.Accepted: self._voters.on_accepted,
            messages.RosterNews: self._voters.on_roster,
            messages.AskChange: self._voters.on_ask,
            messages.Plan: self._voters.on_plan,
            messages.PlanReady: self._voters.planner.report,
        }


def _on_refused(replica: Replica, sender: NodeId, refused: messages.Refused) -> None:
    replica.election.on_refused(refused)
    if replica.owner is not None and refused.epoch == replica.owner.epoch:
        replica.owner.on_higher(sender, refused.promised)
    if replica.transfer is not None and replica.transfer.source == sender and refused.epoch == replica.transfer.epoch:
        replica.transfer = None


def _on_behind(replica: Replica, sender: NodeId, behind: messages.Behind) -> None:
    if replica.owner is not None and behind.epoch == replica.owner.epoch:
        replica.owner.sync(sender)
    elif behind.generation == replica.generation and replica.may_give_whole(sender, replica.log_epoch):
        last, log_epoch = replica.log.last, replica.log_epoch
        base = messages.Base(
            replica.partition, replica.generation, replica.members, last, replica.promised, True, log_epoch
        )
        replica.home.send_synced(sender, base)
    elif behind.generation == replica.generation:
        replica.offer_beginning()
