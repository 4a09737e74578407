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

**Limits.** Work per append does not grow with the number of partitions; work per beat does.

Read next: `durable.cluster`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from durable.errors import NoQuorum, NotOwner
from durable.membership.member import NodeId
from durable.ports import Batch
from durable.replication import following
from durable.replication.birth import Birth
from durable.replication.effects import Effect, RosterChanged
from durable.replication.home import Home
from durable.replication.messages import (
    ZERO,
    Accepted,
    Ack,
    Append,
    AskChange,
    Base,
    BaseHeld,
    Behind,
    Confirm,
    Confirmed,
    Digest,
    DigestAnswer,
    Epoch,
    Fetch,
    Found,
    HandOver,
    Hello,
    Members,
    Message,
    Piece,
    Plan,
    PlanReady,
    Prepare,
    PreVote,
    PreVoted,
    Promise,
    Refused,
    Roster,
    RosterNews,
    Row,
    SnapshotPiece,
    Superseded,
    Sync,
)
from durable.replication.owner import Owner
from durable.replication.reads import Reads
from durable.replication.replica import Replica
from durable.replication.roster import FRESH_INTERVALS, Planner, replica_sets
from durable.replication.rosterlog import begin_roster_generation, first_states
from durable.replication.rows import ROSTER, Loaded, Seal
from durable.replication.transfer import serve
from durable.replication.tuning import ReplicationTuning

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
    >>> from durable.replication.effects import Persist
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
        rows: what the store holds under `durable.replication.rows.PREFIX`.
        witness: a voter that keeps logs and owns nothing.
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
        now: float = 0.0,
    ) -> None:
        self.home = Home(me, store_id, tuning, random)
        self.home.now = now
        self.tuning = tuning
        self.witness = witness
        loaded = Loaded(rows)
        self.roster: Roster | None = loaded.roster
        self._sets: list[Members] = []
        self._planned: tuple[Roster, list[Members], NodeId, float] | None = None
        self.replicas: dict[int, Replica] = {}
        for partition, state in sorted(loaded.states.items()):
            applied, entries = loaded.applied.get(partition, 0), loaded.logs.get(partition, [])
            self.replicas[partition] = self.replica_class(self.home, partition, state, applied, entries)
        self._reads = Reads(self.home, self.replicas)
        self._birth = Birth(self.home, loaded.found, witness=witness)
        self._planner = Planner(self.home)
        self._wishes: dict[NodeId, AskChange] = {}
        self._foreign: set[NodeId] = set()
        self._told_at: dict[NodeId, float] = {}
        self._beat_at = now
        self._beats = 0
        self._of_replica, self._of_node = self._tables()
        if self.roster is not None:
            self._use(self.roster)
            if me in self.roster.voters:
                self.ask_in(now)

    # What a shell asks

    @property
    def dropped(self) -> Counter[str]:
        """What was not believed, by reason."""
        return self.home.dropped

    @property
    def hello(self) -> Hello:
        """The first message of every frame."""
        roster = self.roster
        home = self.home
        stands = home.standing and not self.witness
        return Hello(home.store_id, roster.cluster_id if roster else b"", roster.version if roster else 0, stands)

    @property
    def voter(self) -> bool:
        """Whether this node, with this disk, is in the roster."""
        return self.roster is not None and self.roster.voters.get(self.home.me) == self.home.store_id

    @property
    def may_leave(self) -> bool:
        """Whether nobody needs this node: it is no voter, and has no copy that another must still take over."""
        return not self.voter and not any(replica.ready for p, replica in self.replicas.items() if p != ROSTER)

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
        return tuple(self._sets[partition]) if partition < len(self._sets) else ()

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
                self._decide(home.decided.pop(0))
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
            self._birth.want(seeds, founders)
            self._settle_birth()

    def bootstrap(self, now: float) -> None:
        """An operator's word: found a cluster of one."""
        self.home.now = now
        if self.roster is None:
            self._learn(self._birth.first_roster({self.home.me: self.home.store_id}), applied=1)

    def ask_in(self, now: float) -> None:
        """Become a voter, with this disk; asked again until it is so."""
        self._wish(now, AskChange(self.home.me, self.home.store_id, self.witness))

    def ask_out(self, now: float, node: NodeId | None = None) -> None:
        """Let this node, or another, leave the roster; asked again until it is so."""
        self._wish(now, AskChange(node or self.home.me, None, False))

    def _wish(self, now: float, change: AskChange) -> None:
        self.home.now = now
        self._wishes[change.node] = change

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
        self.home.now = now
        self.home.live[node] = live or node == self.home.me

    def append(self, now: float, partition: int, writes: Batch) -> int:
        """Put a batch at the end of a partition's log; its index. `Committed` tells when it is safe.

        An owner that hears too few copies goes on appending until it resigns: what it runs is not given up for a pause of the
        network. Who has something new asks `check` before.

        Raises:
            NotOwner, NoQuorum, Overloaded: nothing was appended.
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
        """What to answer for a partition that is not owned here: who has it, or that nobody can have it now."""
        members = self.replica_set(partition)
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
        self._settle_birth()

    def receive(self, now: float, sender: NodeId, message: Message) -> None:
        """A message arrived. Never raises: what makes no sense is counted in ``dropped``."""
        home = self.home
        home.now = now
        kind = type(message)
        if kind is Hello:
            self._on_hello(sender, message)  # type: ignore[arg-type]
        elif sender in self._foreign or sender not in home.stores or sender == home.me:
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

    def tick(self, now: float) -> None:
        """Do what is due. Calling it early, or twice, does nothing."""
        self.home.now = now
        if now < self._beat_at:
            return
        self._beat_at = now + self.tuning.gossip_interval_s / BEATS
        if self._beats % BEATS == 0:
            self._long_beat()
        self._beats += 1
        patience_s = self.tuning.gossip_interval_s
        for replica in self.replicas.values():
            if replica.transfer is not None and now - replica.transfer.heard_at > patience_s:
                self._urge(replica)
            if replica.owner is None:
                replica.election.consider()

    def _urge(self, replica: Replica) -> None:
        transfer = replica.transfer
        if transfer is not None and transfer.still_wanted() and self.home.is_live(transfer.source):
            transfer.again()
        else:
            replica.transfer = None

    # The long beat

    def _long_beat(self) -> None:
        home, roster = self.home, self.roster
        for replica in list(self.replicas.values()):
            if replica.move is not None:
                replica.move.offer()
            if replica.owner is not None:
                replica.owner.watch()
            elif self._is_litter(replica):
                replica.forget()
            else:
                replica.election.inquire()
        self._birth.beat()
        if roster is not None:
            self._planner.watch(roster)
            self._move_on(roster)
        self._hand_over(self.tuning.handovers_max)
        self._reads.repeat()
        self._send_digests()
        for node, change in list(self._wishes.items()):
            if roster is not None and roster.voters.get(node) == change.store_id:
                continue
            self._planner.ask(change)
            for peer in self._peers():
                home.send(peer, change)

    def _is_litter(self, replica: Replica) -> bool:
        idle_s = self.home.now - replica.heard_at
        if replica.partition == ROSTER or replica.move is not None or not replica.ready or replica.is_member(self.home.me):
            return False
        return idle_s > LEARNER_FORGOTTEN_INTERVALS * self.tuning.gossip_interval_s

    def _peers(self) -> list[NodeId]:
        """Everybody alive, and every voter."""
        home = self.home
        nodes = {node: None for node, live in home.live.items() if live}
        nodes.update(dict.fromkeys(self.roster.voters if self.roster else ()))
        return [node for node in nodes if node != home.me]

    def _send_digests(self) -> None:
        rows: dict[NodeId, list[Row]] = {node: [] for node in self._peers()}
        for replica in self.replicas.values():
            owner = replica.owner
            if owner is not None:
                row = owner.row()
                for node in owner.peers:
                    if owner.speaks(node):
                        rows.setdefault(node, []).append(row)
        for node, mine in rows.items():
            self.home.send(node, Digest(mine))

    def _hand_over(self, count_max: int) -> None:
        home, count = self.home, 0
        for replica in list(self.replicas.values()):
            owner = replica.owner
            if owner is None or count >= count_max or not (owner.is_settled() or not home.standing):
                continue
            # Its first choice, or, when this node leaves, whoever holds everything.
            heirs = [node for node in replica.order if home.may_own(node)]
            for node in heirs[:1] if home.standing else heirs:
                if node != home.me and owner.may_hand_over_to(node):
                    owner.hand_over(node)
                    count += 1
                    break

    # The roster

    def _move_on(self, roster: Roster) -> None:
        """R8, R9. Copies for those whom the roster, or its plan, brings in; the seal when they are made."""
        planned, home = self._planned, self.home
        if planned is not None and (
            planned[0].version <= roster.version or home.now - planned[3] > FRESH_INTERVALS * self.tuning.gossip_interval_s
        ):
            planned = self._planned = None
        ready: list[int] = []
        for partition, replica in self.replicas.items():
            owner = replica.owner
            if owner is None or partition == ROSTER or replica.generation > roster.version or not owner.in_office:
                continue
            goal = self._sets[partition]
            if goal != replica.members:
                owner.learn(goal)
                if owner.copies_made(goal):
                    owner.seal(Seal(roster.version, goal))
            elif planned is not None:
                owner.learn(planned[1][partition])
                if owner.copies_made(planned[1][partition]):
                    ready.append(partition)
            else:
                owner.learn({})
        if planned is not None:
            self._report(planned[2], PlanReady(planned[0].version, ready))
        self._plan(roster)

    def _report(self, to: NodeId, ready: PlanReady) -> None:
        if to == self.home.me:
            self._planner.report(to, ready)
        else:
            self.home.send(to, ready)

    def _plan(self, roster: Roster) -> None:
        log = self.replicas.get(ROSTER)
        if log is None or log.owner is None or not log.owner.in_office:
            self._planner.forget()
            return
        decided = self._planner.beat(roster)
        if decided is not None:
            log.owner.seal(Seal(decided.version, decided.voters, decided))
        elif self._planner.plan is not None:
            self._on_plan(self.home.me, Plan(self._planner.plan))

    def _decide(self, roster: Roster) -> None:
        """The seal of the roster's log is committed: this is the roster."""
        log = self.replicas[ROSTER]
        decided_here = log.owner is not None
        self._learn(roster)
        if decided_here:
            for node in self._peers():
                self.home.send_synced(node, RosterNews(roster))
            log.election.campaign()

    def _learn(self, roster: Roster, applied: int = 0) -> None:
        """A roster was decided. ``applied``: what a cluster of one begins with, its store as it is, counts as entry 1."""
        home, known = self.home, self.roster
        if known is not None and (roster.version <= known.version or roster.cluster_id != known.cluster_id):
            return
        self.roster = roster
        log = self.replicas.get(ROSTER)
        if log is None:
            log = self.replicas[ROSTER] = self.replica_class(home, ROSTER)
        writes = begin_roster_generation(log, roster)
        self._use(roster)
        if roster.version == 1 and self.voter:
            writes += first_states(home, self.replicas, self._sets, self.replica_class, applied)
        home.persist(writes)  # in one batch: a roster without the copies that go with it would be a cluster without data
        self._planner.forget()
        if self.voter:
            self._wishes.setdefault(home.me, AskChange(home.me, home.store_id, self.witness))
        home.effects.append(RosterChanged(roster))

    def _use(self, roster: Roster) -> None:
        self.home.witnesses = roster.witnesses
        self._sets = replica_sets(roster)

    def _settle_birth(self) -> None:
        birth = self._birth
        if self.roster is None:
            birth.settle(self.home.synced_mark)
            if birth.decided is not None:
                self._learn(birth.decided)
                for node in birth.decided.voters:
                    if node != self.home.me:
                        self.home.send_synced(node, RosterNews(birth.decided))

    # Messages that are not about one replica

    def _on_hello(self, sender: NodeId, hello: Hello) -> None:
        home, roster = self.home, self.roster
        if roster is not None and hello.cluster_id and hello.cluster_id != roster.cluster_id:
            self._foreign.add(sender)
            return
        self._foreign.discard(sender)
        if hello.stands:
            home.resting.pop(sender, None)
        else:
            home.resting[sender] = None
        known = home.stores.get(sender)
        if known != hello.store_id and sender != home.me:
            home.stores[sender] = hello.store_id
            if known is not None:
                for replica in self.replicas.values():
                    if replica.owner is not None:
                        replica.owner.disk_changed(sender)
        behind = roster is not None and hello.roster_version < roster.version
        if behind and home.now - self._told_at.get(sender, float("-inf")) >= self.tuning.gossip_interval_s / BEATS:
            self._told_at[sender] = home.now
            home.send_synced(sender, RosterNews(roster))  # type: ignore[arg-type]

    def _on_digest(self, sender: NodeId, digest: Digest) -> None:
        answers = [following.on_row(self.replicas.get(row[0]), sender, row) for row in digest.rows]
        if answers and not self.home.suspect:
            self.home.send_synced(sender, DigestAnswer(answers))

    def _on_digest_answer(self, sender: NodeId, answer: DigestAnswer) -> None:
        for row in answer.rows:
            replica = self.replicas.get(row[0])
            if replica is not None and replica.owner is not None:
                replica.owner.on_answer(sender, row)

    def _on_found(self, sender: NodeId, found: Found) -> None:
        if self.roster is not None:
            self.home.send_synced(sender, RosterNews(self.roster))  # a veto: there is a cluster
        else:
            self._birth.on_found(sender, found)

    def _on_accepted(self, sender: NodeId, accepted: Accepted) -> None:
        self._birth.on_accepted(sender, accepted)
        self._settle_birth()

    def _on_roster(self, sender: NodeId, news: RosterNews) -> None:
        self._learn(news.roster)

    def _on_ask(self, sender: NodeId, change: AskChange) -> None:
        if change.store_id is None or (sender == change.node and self.home.stores[sender] == change.store_id):
            self._planner.ask(change)

    def _on_plan(self, sender: NodeId, plan: Plan) -> None:
        roster, known = plan.roster, self._planned
        if self.roster is None or roster.version != self.roster.version + 1:
            return
        sets = known[1] if known is not None and known[0] == roster else replica_sets(roster)
        self._planned = (roster, sets, sender, self.home.now)

    def _tables(self) -> tuple[dict[type, OfReplica], dict[type, OfNode]]:
        """What is done for each message."""
        return {
            PreVote: lambda replica, sender, m: replica.election.on_pre_vote(sender, m),
            PreVoted: lambda replica, sender, m: replica.election.on_pre_voted(sender, m),
            Prepare: following.on_prepare,
            Promise: lambda replica, sender, m: replica.election.on_promise(sender, m),
            Refused: _on_refused,
            Fetch: serve,
            Piece: following.on_piece,
            SnapshotPiece: following.on_piece,
            Sync: following.on_sync,
            Append: following.on_append,
            Ack: lambda replica, sender, m: replica.owner.on_ack(sender, m) if replica.owner is not None else None,
            Behind: _on_behind,
            HandOver: lambda replica, sender, m: replica.election.on_hand_over(sender, m),
            Base: following.on_base,
            BaseHeld: lambda replica, sender, m: replica.move.on_held(sender, m) if replica.move is not None else None,
            Superseded: following.on_superseded,
        }, {
            Digest: self._on_digest,
            DigestAnswer: self._on_digest_answer,
            Confirm: self._reads.answer,
            Confirmed: self._reads.on_confirmed,
            Found: self._on_found,
            Accepted: self._on_accepted,
            RosterNews: self._on_roster,
            AskChange: self._on_ask,
            Plan: self._on_plan,
            PlanReady: self._planner.report,
        }


def _on_refused(replica: Replica, sender: NodeId, refused: Refused) -> None:
    replica.election.on_refused(refused)
    if replica.owner is not None and refused.epoch == replica.owner.epoch:
        replica.owner.on_higher(sender, refused.promised)
    if replica.transfer is not None and replica.transfer.source == sender and refused.epoch == replica.transfer.epoch:
        replica.transfer = None


def _on_behind(replica: Replica, sender: NodeId, behind: Behind) -> None:
    if replica.owner is not None and behind.epoch == replica.owner.epoch:
        replica.owner.sync(sender)
