"""Who may vote: changed one node at a time, by the voters, after the data is where it will be needed.

**Why it exists.** Replica sets come from the decided roster, never from who seems alive: two nodes that see different members
must still agree on who holds which partition. And a change that comes before its copies would leave partitions with a majority
of empty disks.

**How it works.** The roster's log is one more partition, owned like any other; its generations are the roster's versions, and
each holds one entry, the seal that names the next. Its owner changes one thing at a time:

==================  ========================================================  =======================================
why                 next roster                                               given up when
==================  ========================================================  =======================================
a node asks in      with it, and the disk that it has now                     it is not alive; a voter's disk was replaced
a node asks out     without it                                                (asks no more)
a voter is dead     without it, if R voters remain: after ``replace_after``   it is back
==================  ========================================================  =======================================

A voter that is back with another disk comes first, and last who asks out when fewer than R would remain: a machine that takes
the place of another is let in before the other goes, and no partition has a copy less in between.

The plan is told to all; the owner of each partition makes copies (learners) at those who would come in, and says when they are
made. When all partitions are ready, the seal is written; decided, it spreads with everything that is sent.

**Limits.** A lost majority is nothing that this can mend: an operator's explicit command, never automatic. Read next: `reads`.
"""

from __future__ import annotations

from functools import lru_cache

from durable.copies.messages import AskChange, Members, Plan, PlanReady, Roster
from durable.copies.tuning import ReplicationTuning
from durable.membership.member import NodeId
from durable.replication.home import Home
from durable.routing.partitions import first_hash
from durable.routing.ring import VIRTUAL_NODES_MAX, HashRing

SETS_REMEMBERED = 16
FRESH_INTERVALS = 5
"""A wish, a plan or a report that was not repeated for so long is forgotten."""


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
    """For each partition: the first R voters of the ring, in its order, with their disks."""
    voters, settings = roster.voters, roster.settings
    numbers = [int(settings[name]) for name in ("virtual_nodes_per_node", "partitions", "replicas")]
    return [{node: voters[node] for node in nodes} for nodes in _placed(tuple(voters), *numbers)]


@lru_cache(maxsize=SETS_REMEMBERED)
def _placed(voters: tuple[NodeId, ...], virtual_nodes: int, partitions: int, replicas: int) -> tuple[tuple[NodeId, ...], ...]:
    """It depends on names only, and is asked for with a plan, with the roster that follows, and again at each restart."""
    ring = HashRing(virtual_nodes)
    for node in voters:
        ring.add_node(node)
    firsts = [first_hash(partition, partitions) for partition in range(partitions)]
    return tuple([tuple(ring.nodes_from(first, replicas)) if voters else () for first in firsts])


class Planner:
    """What the roster's owner wants to change."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._asks: dict[NodeId, tuple[AskChange, float]] = {}
        self._down_since: dict[NodeId, float] = {}
        self._ready: dict[NodeId, tuple[frozenset[int], float]] = {}
        self._node: NodeId | None = None
        self._why = ""
        self.plan: Roster | None = None

    def ask(self, change: AskChange) -> None:
        self._asks[change.node] = (change, self._home.now)

    def report(self, sender: NodeId, ready: PlanReady) -> None:
        if self.plan is not None and ready.version == self.plan.version:
            self._ready[sender] = (frozenset(ready.partitions), self._home.now)

    def forget_node(self, node: NodeId) -> None:
        """Nobody needs to know what it has said."""
        self._asks.pop(node, None)
        self._ready.pop(node, None)

    def forget(self) -> None:
        """A roster was decided, or this node does not own the roster any more."""
        self.plan = self._node = None
        self._ready.clear()

    def watch(self, roster: Roster) -> None:
        """Every gossip interval, everywhere: who is down, and since when."""
        home, since = self._home, self._down_since
        self._down_since = {node: since.get(node, home.now) for node in roster.voters if not home.is_live(node)}

    def beat(self, roster: Roster) -> Roster | None:
        """Every gossip interval, at the owner: the next roster, if it may be written now."""
        home = self._home
        if self.plan is not None and self._is_void(roster):
            self.forget()
        if self.plan is None:
            self._choose(roster)
        plan = self.plan
        if plan is None:
            return None
        for node in sorted({*roster.voters, *plan.voters}):
            if node != home.me:
                home.send(node, Plan(plan))
        fresh_s = FRESH_INTERVALS * home.tuning.gossip_interval_s
        ready: set[int] = set()
        for partitions, said_at in self._ready.values():
            if home.now - said_at <= fresh_s:
                ready |= partitions
        return plan if len(ready) >= int(roster.settings["partitions"]) else None

    def _is_void(self, roster: Roster) -> bool:
        node, live = self._node, self._node is not None and self._home.is_live(self._node)
        if node is None or (self._why == "in" and not live) or (self._why == "dead" and live):
            return True
        return node not in roster.voters and any(self._is_return(roster, other) for other in self._asks)

    def _is_return(self, roster: Roster, node: NodeId) -> bool:
        """Whether a voter asks, alive, to be let in with another disk: partitions lack a copy until it is, so that comes first."""
        store = self._asks[node][0].store_id
        return store is not None and roster.voters.get(node, store) != store and self._home.is_live(node)

    def _is_loss(self, roster: Roster, node: NodeId) -> bool:
        """Whether it asks out, and its partitions would have a copy less."""
        return self._asks[node][0].store_id is None and len(roster.voters) <= self._home.tuning.replicas

    def _choose(self, roster: Roster) -> None:
        home, tuning = self._home, self._home.tuning
        for node in sorted(self._asks, key=lambda node: (not self._is_return(roster, node), self._is_loss(roster, node), node)):
            change, asked_at = self._asks[node]
            known = roster.voters.get(node)
            if home.now - asked_at > FRESH_INTERVALS * tuning.gossip_interval_s or known == change.store_id:
                del self._asks[node]
            elif change.store_id is not None and home.is_live(node):
                return self._plan(roster, node, "in", change)
            elif change.store_id is None and len(roster.voters) > 1:
                return self._plan(roster, node, "out", change)
        for node, since in sorted(self._down_since.items()):
            if node in roster.voters and home.now - since >= tuning.replace_after_s and len(roster.voters) > tuning.replicas:
                return self._plan(roster, node, "dead", AskChange(node, None, False))
        return None

    def _plan(self, roster: Roster, node: NodeId, why: str, change: AskChange) -> None:
        voters = {name: store for name, store in roster.voters.items() if name != node}
        witnesses = tuple(name for name in roster.witnesses if name != node)
        if change.store_id is not None:
            voters[node] = change.store_id
            witnesses = tuple(sorted((*witnesses, node))) if change.witness else witnesses
        self._node, self._why = node, why
        self._ready.clear()
        self.plan = Roster(roster.version + 1, roster.cluster_id, dict(sorted(voters.items())), witnesses, roster.settings)
