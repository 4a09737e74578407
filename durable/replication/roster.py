"""Who may vote: changed one node at a time, by the voters, after the data is where it will be needed.

**Why it exists.** Replica sets come from the decided roster, never from who seems alive: two nodes that see different members
must still agree on who holds which partition. And a change that comes before its copies would leave partitions with a majority
of empty disks.

**How it works.** The roster's log is one more partition, owned like any other; its generations are the roster's versions, and
each holds one entry, the seal that names the next. Its owner changes one thing at a time, always the first of these that is
wished for:

==================  ========================================================  ===============================================
why                 next roster                                               given up when
==================  ========================================================  ===============================================
a voter is back     with the disk that it has now: its copies are lacking     it is not alive, asks no more, has another disk
a node asks out     without it, if R voters that are alive remain             it asks no more
a node asks in      with it, and the disk that it has now                     it is not alive, asks no more, has another disk
a node asks out     without it, also if less remain: who stays has the data   it asks no more
a voter is dead     without it, if R voters remain: after ``replace_after``   it is back
==================  ========================================================  ===============================================

Nobody is let out if a majority of the others is not alive, or none that could own a partition. The plan is told to all; the owner
of each partition makes copies (learners) at those who would come in, and says when they are made. When all partitions are ready,
the seal is written; decided, it spreads with everything that is sent. A partition that nobody owns is not waited for: it moves when
it has an owner. A plan for which no further partition gets ready for a third of ``rpc_timeout`` is put off until the others have
had their turn, and then has twice as long.

**Limits.** A lost majority is nothing that this can mend: it takes an operator's word (`durable.storage.recovery`). What is
wished for is kept in memory: it is asked for until it is so. Read next: `reads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from durable.copies.messages import AskChange, Members, Plan, PlanReady, Roster
from durable.copies.tuning import ReplicationTuning
from durable.membership.member import NodeId
from durable.replication.home import Home
from durable.routing.placement import place
from durable.routing.ring import VIRTUAL_NODES_MAX

FRESH_INTERVALS = 5
"""A wish, a plan or a report that was not repeated for so long is forgotten."""
DOUBLINGS_MAX = 5
"""The longest turn of a plan that comes no nearer is so many times twice the first."""


class Why(IntEnum):
    """The rows of the table, the first first."""

    RETURN = 0
    OUT = 1
    IN = 2
    LOSS = 3
    DEAD = 4


class Wish(NamedTuple):
    """A change that may be planned now."""

    why: Why
    change: AskChange


def is_sound(roster: Roster, known: Roster | None, tuning: ReplicationTuning) -> bool:
    """Whether replica sets can be made of it, and it does not change what was fixed at birth."""
    if known is not None:
        return bool(roster.voters) and roster.settings == known.settings
    try:
        numbers = {name: int(roster.settings[name]) for name in tuning.settings}
    except (KeyError, ValueError):
        return False
    ring = 0 < numbers["virtual_nodes_per_node"] <= VIRTUAL_NODES_MAX and numbers["replicas"] > 0
    return ring and bool(roster.voters) and roster.version > 0 and numbers["partitions"] == tuning.partitions


def replica_sets(roster: Roster) -> list[Members]:
    """For each partition: R voters in the order of the ring, with their disks; few of them witnesses (`placement`)."""
    voters, settings = roster.voters, roster.settings
    numbers = [int(settings[name]) for name in ("virtual_nodes_per_node", "partitions", "replicas")]
    return [{node: voters[node] for node in nodes} for nodes in place(tuple(voters), roster.witnesses, *numbers)]


class Planner:
    """What the roster's owner wants to change."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._asks: dict[NodeId, tuple[AskChange, float]] = {}
        self._down_since: dict[NodeId, float] = {}
        self._ready: dict[NodeId, tuple[frozenset[int], float]] = {}
        self._owned_at: dict[int, float] = {}
        """When it was last said of a partition that somebody owns it."""
        self._change: AskChange | None = None
        self._planned_at = self._grew_at = 0.0
        self._most = 0
        self._put_off: dict[NodeId, int] = {}
        """How often the plan for a node did not get ready."""
        self._spent: dict[NodeId, float] = {}
        """For how long its plans came no nearer before they were given up, since it was put off the last time."""
        self.begun: dict[NodeId, None] = {}
        """Who is known to have a roster on its disk, and so has begun what is its own."""
        self._number = 0
        self.plan: Plan | None = None

    def ask(self, change: AskChange) -> None:
        self._asks[change.node] = (change, self._home.now)

    def report(self, sender: NodeId, ready: PlanReady) -> None:
        plan, now = self.plan, self._home.now
        if plan is not None and (ready.version, ready.number) == (plan.roster.version, plan.number):
            self._ready[sender] = (frozenset(ready.partitions), now)
            self._owned_at.update(dict.fromkeys(ready.owned, now))

    def forget_node(self, node: NodeId) -> None:
        """Nobody needs to know what it has said."""
        for known in (self._asks, self._ready, self.begun):
            known.pop(node, None)

    def forget(self) -> None:
        """A roster was decided, or this node does not own the roster any more."""
        self.plan = self._change = None
        self._ready.clear()

    def watch(self, roster: Roster) -> None:
        """Every gossip interval, everywhere: who is down, and since when."""
        home, since = self._home, self._down_since
        self._down_since = {node: since.get(node, home.now) for node in roster.voters if not home.is_live(node)}
        fresh_s = FRESH_INTERVALS * home.tuning.gossip_interval_s
        self._asks = {node: ask for node, ask in self._asks.items() if home.now - ask[1] <= fresh_s}

    def beat(self, roster: Roster) -> Roster | None:
        """Every gossip interval, at the owner: the next roster, if it may be written now."""
        wishes, home = self._wishes(roster), self._home
        if self.plan is not None:
            if self._is_void(wishes):
                self._give_up()
            elif self._is_ready(roster):
                return self.plan.roster
            else:
                self._count_waiting()
        if self.plan is None and wishes:
            for kept in (self._put_off, self._spent):
                for node in kept.keys() - wishes.keys() - roster.voters.keys():
                    del kept[node]
            node = min(wishes, key=lambda node: (*self._turn(node, wishes), node))
            self._plan(roster, wishes[node].change)
        if self.plan is not None:
            for node in sorted({*roster.voters, *self.plan.roster.voters}):
                if node != home.me:
                    home.send(node, self.plan)
        return None

    def _is_void(self, wishes: Mapping[NodeId, Wish]) -> bool:
        """Whether it is not wished for any more, or something else is more urgent."""
        change = self._change
        if change is None or change.node not in wishes or wishes[change.node].change != change:
            return True
        turn = self._turn(change.node, wishes)
        return any(self._turn(node, wishes) < turn for node in wishes)

    def _turn(self, node: NodeId, wishes: Mapping[NodeId, Wish]) -> tuple[int, Why]:
        return self._put_off.get(node, 0), wishes[node].why

    def _give_up(self) -> None:
        """The time that it took counts: who comes and goes could make the others wait for ever."""
        change, home = self._change, self._home
        if change is not None:
            spent_s = self._spent.pop(change.node, 0.0) + home.now - self._grew_at
            if spent_s > home.tuning.planning_patience_s:
                self._put_off[change.node] = self._put_off.get(change.node, 0) + 1
            else:
                self._spent[change.node] = spent_s
        self.forget()

    def _is_ready(self, roster: Roster) -> bool:
        home, partitions = self._home, int(roster.settings["partitions"])
        fresh_s = FRESH_INTERVALS * home.tuning.gossip_interval_s
        ready: set[int] = set()
        for some, said_at in self._ready.values():
            if home.now - said_at <= fresh_s:
                ready |= some
        if len(ready) > self._most:
            self._most, self._grew_at = len(ready), home.now
        ready.update(self._without_owner(roster, partitions))
        return len(ready) >= partitions

    def _without_owner(self, roster: Roster, partitions: int) -> list[int]:
        """Partitions that are not waited for: nobody has owned them for long, and what they begin with is somewhere."""
        now, waits_s = self._home.now, self._home.tuning.planning_patience_s
        long = [n for n in range(partitions) if now - max(self._owned_at.get(n, 0.0), self._planned_at) > waits_s]
        if roster.version > 1 or not long:
            return long
        sets, begun = replica_sets(roster), {*self.begun, self._home.me}
        return [n for n in long if not begun.isdisjoint(sets[n])]

    def _count_waiting(self) -> None:
        """No further partition has got ready for long: whoever was put off less comes first; then this one has twice as long."""
        change, home = self._change, self._home
        if change is not None:
            times = self._put_off.get(change.node, 0)
            if home.now - self._grew_at > home.tuning.planning_patience_s * (1 << min(times, DOUBLINGS_MAX)):
                self._put_off[change.node] = times + 1
                self._grew_at = home.now

    def _wishes(self, roster: Roster) -> dict[NodeId, Wish]:
        home, tuning, copies = self._home, self._home.tuning, int(roster.settings["replicas"])
        wishes: dict[NodeId, Wish] = {}
        for node, since in self._down_since.items():
            if node in roster.voters and home.now - since >= tuning.replace_after_s and len(roster.voters) > copies:
                wishes[node] = Wish(Why.DEAD, AskChange(node, None, False))
        for node, (change, _) in self._asks.items():
            store, known = change.store_id, roster.voters.get(node)
            if known == store:
                self._put_off.pop(node, None)
                self._spent.pop(node, None)
            elif store is None:
                others = [other for other in roster.voters if other != node]
                alive = [other for other in others if home.is_live(other)]
                if 2 * len(alive) > len(others) and any(other not in roster.witnesses for other in alive):
                    wishes[node] = Wish(Why.OUT if len(alive) >= copies else Why.LOSS, change)
            elif home.is_live(node) and home.stores.get(node, store) == store:
                wishes[node] = Wish(Why.IN if known is None else Why.RETURN, change)
        return wishes

    def _plan(self, roster: Roster, change: AskChange) -> None:
        node = change.node
        voters = {name: store for name, store in roster.voters.items() if name != node}
        witnesses = tuple(name for name in roster.witnesses if name != node)
        if change.store_id is not None:
            voters[node] = change.store_id
            witnesses = tuple(sorted((*witnesses, node))) if change.witness else witnesses
        self._change = change
        self._ready.clear()
        self._planned_at = self._grew_at = self._home.now
        self._most = 0
        self._number += 1
        after = Roster(roster.version + 1, roster.cluster_id, dict(sorted(voters.items())), witnesses, roster.settings)
        self.plan = Plan(after, self._number)
