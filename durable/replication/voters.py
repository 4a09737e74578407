"""The roster as one node knows it: how it hears of a change, makes it its own, and does its part in the next one.

==================  ================================================================================================
what                does
==================  ================================================================================================
birth               the first roster, when all founders have accepted: `birth`
news                the newest decided roster is kept, with this node's place in it: `rosterlog`
a Hello             of a node with another cluster: nothing of it is believed; with an older roster: it gets this one
its own partitions  copies for those whom the roster, or a plan, brings in; the seal when they are made: `owner`
the roster's log    if this node owns it, it plans the next change: `roster`
==================  ================================================================================================

Read next: `replication`.
"""

from __future__ import annotations

from typing import NamedTuple

from durable.copies.effects import RosterChanged
from durable.copies.messages import (
    Accepted,
    AskChange,
    Found,
    Hello,
    Members,
    Plan,
    PlanReady,
    Roster,
    RosterNews,
)
from durable.copies.rows import ROSTER, Loaded, Seal
from durable.membership.member import NodeId
from durable.replication.birth import Birth
from durable.replication.home import Home
from durable.replication.replica import Replica
from durable.replication.roster import FRESH_INTERVALS, Planner, is_sound, replica_sets
from durable.replication.rosterlog import begin_roster_generation, first_states
from durable.replication.standing import needed_copies

NEWS_INTERVALS = 0.25
"""A node that is behind is told at most so often."""
NAMES_MAX = 1_024
"""Of so many nodes something is remembered; or of twice as many as are needed, if that is more. A cluster has less, and whoever
holds the key can invent names without end."""


class _Planned(NamedTuple):
    """A plan as it was last heard, and of whom."""

    plan: Plan
    sets: list[Members]
    maker: NodeId
    at: float


class Voters:
    """The decided roster, the replica sets that follow from it, and what this node wants to have changed."""

    def __init__(
        self, home: Home, replicas: dict[int, Replica], replica_class: type[Replica], loaded: Loaded, witness: bool
    ) -> None:
        self.home = home
        self.replicas = replicas
        self.replica_class = replica_class
        self.witness = witness
        home.standing = not witness
        self.roster: Roster | None = None
        self.sets: list[Members] = []
        self.wishes: dict[NodeId, AskChange] = {}
        self._names_max = NAMES_MAX
        self.foreign: set[NodeId] = set()
        """Nodes of another cluster."""
        self.birth = Birth(home, loaded.found, witness=witness)
        self.planner = Planner(home)
        self._planned: _Planned | None = None
        self._told_at: dict[NodeId, float] = {}
        self._saved_before = 0
        self._saving = 0, loaded.roster.version if loaded.roster is not None else 0
        """The mark of the write of a roster, and its version; ``_saved_before`` is what was on stable storage then."""
        self._at_rest = -1
        """The count of changes at which every partition was where the roster says."""
        if loaded.roster is not None:
            self._use(loaded.roster)
            if home.me in loaded.roster.voters:
                self.want_in()

    @property
    def voter(self) -> bool:
        """Whether this node, with this disk, is in the roster."""
        return self.roster is not None and self.roster.voters.get(self.home.me) == self.home.store_id

    @property
    def asks_in(self) -> bool:
        wish = self.wishes.get(self.home.me)
        return wish is not None and wish.store_id is not None and not self.voter

    def may_leave(self) -> bool:
        """Whether no voter has its name, or is planned to, and others hold its copies; or no other voter could own anything."""
        home, voters = self.home, self.roster.voters if self.roster is not None else ()
        if home.me in voters and not any(home.may_own(node) for node in voters if node != home.me):
            return True
        return home.me not in voters and not self.is_planned(home.me) and not needed_copies(home, self.replicas)

    @property
    def leaving(self) -> str | None:
        """What it still waits for, if it wants out, in words."""
        wish = self.wishes.get(self.home.me)
        if wish is None or wish.store_id is not None or self.roster is None:
            return None
        if self.home.me not in self.roster.voters:
            copies = needed_copies(self.home, self.replicas)
            return f"the others do not hold {copies} of its copies yet" if copies else None
        voters, next_ones = self.roster.voters, self._planned.plan.roster.voters if self._planned is not None else {}
        away = ", ".join(node for node in voters if not self.home.is_live(node))
        first = ", ".join(node for node in next_ones if next_ones[node] != voters.get(node))
        return "a roster without it is not decided yet" + "".join(
            [
                f", and these voters are not there to do so: {away}" if away else "",
                f", and before it this one is to be let in: {first}" if first else "",
            ]
        )

    def is_planned(self, node: NodeId) -> bool:
        """Whether it would be a voter by the plan that was last heard."""
        return self._planned is not None and node in self._planned.plan.roster.voters

    @property
    def hello(self) -> Hello:
        """The first message of every frame."""
        home, roster = self.home, self.roster
        stands = home.standing and not self.witness
        return Hello(home.store_id, roster.cluster_id if roster else b"", self._saved_version(), stands)

    def _saved_version(self) -> int:
        """Of the roster that is on stable storage here: others count on what came with it."""
        mark, version = self._saving
        return version if self.home.synced_mark >= mark else self._saved_before

    def peers(self) -> list[NodeId]:
        """Everybody alive, and every voter."""
        nodes = {**self.home.live, **dict.fromkeys(self.roster.voters if self.roster else ())}
        return [node for node in nodes if node != self.home.me]

    def want_in(self) -> None:
        self.wish(AskChange(self.home.me, self.home.store_id, self.witness))

    def wish(self, change: AskChange) -> None:
        """Asked for until it is so."""
        self.wishes[change.node] = change

    def bootstrap(self) -> None:
        """A cluster of one. What its store holds already counts as entry 1 of each partition."""
        self._learn(self.birth.first_roster({self.home.me: self.home.store_id}), applied=1)

    def beat(self) -> None:
        """Every gossip interval."""
        roster = self.roster
        self.birth.beat()
        if roster is not None:
            self.planner.watch(roster)
            self._move_on(roster)
        for node, change in self.wishes.items():
            if roster is None or roster.voters.get(node) != change.store_id:
                self.planner.ask(change)
                for peer in self.peers():
                    self.home.send(peer, change)

    # Decided

    def decide(self, roster: Roster) -> None:
        """The seal of the roster's log is committed: this is the roster."""
        log = self.replicas[ROSTER]
        decided_here = log.owner is not None
        self._learn(roster)
        if decided_here:
            for node in self.peers():
                self.home.send_synced(node, RosterNews(roster))
            log.election.campaign()

    def _learn(self, roster: Roster, applied: int = 0) -> None:
        """A roster was decided. ``applied``: what a cluster of one begins with, its store as it is, counts as entry 1."""
        home, known = self.home, self.roster
        if known is not None and (roster.version <= known.version or roster.cluster_id != known.cluster_id):
            return
        if not is_sound(roster, known, home.tuning):
            home.dropped["no roster"] += 1
            return
        log = self.replicas.get(ROSTER)
        if log is None:
            log = self.replicas[ROSTER] = self.replica_class(home, ROSTER)
        writes = begin_roster_generation(log, roster)
        self._use(roster)
        if roster.version == 1 and self.voter:
            writes += first_states(home, self.replicas, self.sets, self.replica_class, applied)
        self._saved_before = self._saved_version()
        mark = home.persist(writes)  # in one batch: a roster without the copies that go with it would be a cluster without data
        self._saving = mark, roster.version
        self.planner.forget()
        if self.voter:
            self.wishes.setdefault(home.me, AskChange(home.me, home.store_id, self.witness))
        home.effects.append(RosterChanged(roster))

    def _use(self, roster: Roster) -> None:
        self.roster = roster
        self.home.changes += 1
        self.home.witnesses = roster.witnesses
        self.sets = replica_sets(roster)

    def settle_birth(self) -> None:
        birth = self.birth
        if self.roster is None:
            birth.settle(self.home.synced_mark)
            if birth.decided is not None:
                self._learn(birth.decided)
                for node in birth.decided.voters:
                    if node != self.home.me:
                        self.home.send_synced(node, RosterNews(birth.decided))

    # The next one

    def _move_on(self, roster: Roster) -> None:
        """R8, R9. Copies for those whom the roster, or its plan, brings in; the seal when they are made."""
        planned, home = self._planned, self.home
        fresh_s = FRESH_INTERVALS * home.tuning.gossip_interval_s
        if planned is not None and (planned.plan.roster.version <= roster.version or home.now - planned.at > fresh_s):
            planned = self._planned = None
        ready: list[int] = []
        owned: list[int] = []
        if planned is None and self._at_rest == home.changes:
            self._plan(roster)
            return
        at_rest, self._at_rest = home.changes, -1
        for partition, replica in self.replicas.items():
            owner = replica.owner
            if owner is None or partition == ROSTER or not owner.in_office:
                continue
            owned.append(partition)
            if replica.generation > roster.version:
                continue
            goal = self.sets[partition] if replica.generation < roster.version else replica.members
            then = goal if planned is None else planned.sets[partition]
            owner.learn({**goal, **then})
            if goal != replica.members:
                at_rest = -1
            if goal != replica.members and owner.copies_made(goal) and not owner.puts_off():
                owner.seal(Seal(roster.version, goal))
            elif planned is not None and owner.copies_made(then):
                ready.append(partition)
        if planned is None and at_rest == home.changes:
            self._at_rest = at_rest
        if planned is not None:
            self._report(planned.maker, PlanReady(planned.plan.roster.version, planned.plan.number, ready, owned))
        self._plan(roster)

    def _report(self, to: NodeId, ready: PlanReady) -> None:
        if to == self.home.me:
            self.planner.report(to, ready)
        else:
            self.home.send(to, ready)

    def _plan(self, roster: Roster) -> None:
        log = self.replicas.get(ROSTER)
        if log is None or log.owner is None or not log.owner.in_office:
            self.planner.forget()
            return
        decided = self.planner.beat(roster)
        if decided is not None:
            log.owner.seal(Seal(decided.version, decided.voters, decided))
        elif self.planner.plan is not None:
            self.on_plan(self.home.me, self.planner.plan)

    def _forget_strangers(self) -> None:
        """Of whoever is alive, a voter, or has to do with a copy that is here, everything is kept. Of all others nothing need be:
        the first message of every frame says again what there is to know of its sender.
        """
        home, needed = self.home, set(self.peers())
        needed.update([home.me], self.birth.founders, self._planned.plan.roster.voters if self._planned is not None else ())
        for replica in self.replicas.values():
            needed.update(replica.members, replica.next_members)
            needed.update(replica.owner.peers if replica.owner is not None else ())
            needed.update(replica.move.members if replica.move is not None else ())
        for node in {*home.stores, *self.foreign, *home.quiet.said} - needed:
            home.quiet.forget(node, self.replicas)
            home.stores.pop(node, None)
            home.resting.pop(node, None)
            self._told_at.pop(node, None)
            self.planner.forget_node(node)
            self.foreign.discard(node)
        self._names_max = max(NAMES_MAX, 2 * len(needed))

    # Messages

    def on_hello(self, sender: NodeId, hello: Hello) -> None:
        home, roster = self.home, self.roster
        if len(home.stores) + len(self.foreign) >= self._names_max:
            self._forget_strangers()
        if roster is not None and hello.cluster_id and hello.cluster_id != roster.cluster_id:
            self.foreign.add(sender)
            return
        self.foreign.discard(sender)
        if hello.roster_version and roster is not None and roster.voters.get(sender) == hello.store_id:
            self.planner.begun[sender] = None
        if hello.stands == (sender in home.resting):
            home.changes += 1
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
        if behind and home.now - self._told_at.get(sender, float("-inf")) >= NEWS_INTERVALS * self.home.tuning.gossip_interval_s:
            self._told_at[sender] = home.now
            home.send_synced(sender, RosterNews(roster))  # type: ignore[arg-type]

    def on_found(self, sender: NodeId, found: Found) -> None:
        if self.roster is not None:
            self.home.send_synced(sender, RosterNews(self.roster))  # a veto: there is a cluster
        else:
            self.birth.on_found(sender, found)

    def on_accepted(self, sender: NodeId, accepted: Accepted) -> None:
        self.birth.on_accepted(sender, accepted)
        self.settle_birth()

    def on_roster(self, sender: NodeId, news: RosterNews) -> None:
        self._learn(news.roster)

    def on_ask(self, sender: NodeId, change: AskChange) -> None:
        voters = self.roster.voters if self.roster is not None else ()
        out = change.store_id is None and change.node in voters
        if out or (sender == change.node and self.home.stores[sender] == change.store_id):
            self.planner.ask(change)

    def on_plan(self, sender: NodeId, plan: Plan) -> None:
        roster, known = plan.roster, self._planned
        if self.roster is None or roster.version != self.roster.version + 1 or not is_sound(roster, self.roster, self.home.tuning):
            return
        sets = known.sets if known is not None and known.plan.roster == roster else replica_sets(roster)
        self._planned = _Planned(plan, sets, sender, self.home.now)
