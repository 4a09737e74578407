"""A world for the replication core: nodes with disks that forget, a network that loses, doubles and reorders, and the laws.

One seed is one run. Every step delivers a message, crashes or restarts a node, syncs a disk, lets time pass, appends, or begins
a candidacy out of turn. After each step the laws are checked on the very objects that production drives.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

from durable.copies.effects import (
    Apply,
    Committed,
    Confirmed,
    Drop,
    InstallSnapshot,
    Owned,
    Persist,
    Send,
    SendSnapshot,
    SendSynced,
    snapshot_pieces,
)
from durable.copies.messages import RosterNews, decode, encode
from durable.copies.rows import PREFIX, Seal, decode_entry, decode_seal, is_seal
from durable.errors import NoQuorum, NotOwner
from durable.membership.member import NodeId
from durable.replication import ZERO, Replication, ReplicationTuning, Roster
from durable.replication.replica import Replica
from durable.replication.roster import replica_sets

P = 0
"""The one partition that these worlds have, beside the roster's."""


class Violation(AssertionError):
    """A law was broken."""


class Disk:
    """Rows; what was written since the last sync is lost at a crash, but for a random prefix of it."""

    def __init__(self, store_id: bytes) -> None:
        self.store_id = store_id
        self.safe: dict[bytes, bytes] = {}
        self.rows: dict[bytes, bytes] = {}
        self.unsynced: list[tuple[tuple[bytes, ...], Any]] = []
        self.past: list[dict[bytes, bytes]] | None = None
        """What was safe once, if somebody wants to go back to it."""

    def write(self, clear: tuple[bytes, ...], writes: Any) -> None:
        self.unsynced.append((clear, writes))
        put(self.rows, clear, writes)

    def sync(self) -> None:
        for clear, writes in self.unsynced:
            put(self.safe, clear, writes)
        self.unsynced.clear()
        if self.past is not None:
            self.past = [*self.past[-5:], dict(self.safe)]

    def lose(self, random: Random) -> None:
        """An fsync has failed, and took along some of what was safe before. The process that opens it next knows."""
        self.safe = dict(random.choice(self.past or [self.safe]))
        self.rows = dict(self.safe)

    def crash(self, random: Random) -> None:
        kept = random.randrange(len(self.unsynced) + 1)
        for clear, writes in self.unsynced[:kept]:
            put(self.safe, clear, writes)
        self.unsynced.clear()
        self.rows = dict(self.safe)


def put(rows: dict[bytes, bytes], clear: tuple[bytes, ...], writes: Any) -> None:
    if clear:
        for key in [key for key in rows if key.startswith(clear)]:
            del rows[key]
    for key, value in writes:
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value


class Laws:
    """What must hold, whatever happens."""

    def __init__(self) -> None:
        self.committed: dict[int, tuple[bytes, int]] = {}
        """By index: the entry that was committed first, and in which generation."""
        self.last = 0
        self.seals: dict[int, int] = {}
        """By generation: where its base ends."""
        self.owners: dict[Any, NodeId] = {}
        self.logs: dict[Any, dict[int, bytes]] = {}
        """By epoch: what its owner's log held."""
        self.promised: dict[NodeId, Any] = {}
        self.seen: dict[NodeId, tuple[Any, int]] = {}
        self.rosters: dict[int, Roster] = {}

    def restarted(self, node: NodeId, core: Replication) -> None:
        self.seen.pop(node, None)
        promised = core.epoch(P)
        if promised < self.promised.get(node, ZERO):
            raise Violation(f"{node} promised {self.promised[node]} durably, and woke up with {promised}")

    def synced(self, node: NodeId, core: Replication) -> None:
        if P in core.replicas:
            self.promised[node] = core.replicas[P].promised

    def check(self, node: NodeId, core: Replication) -> None:
        replica = core.replicas.get(P)
        if replica is None:
            return
        self._logs_are_prefixes(node, replica)
        self.commits_agree(node, replica)
        if core.roster is not None and self.rosters.setdefault(core.roster.version, core.roster) != core.roster:
            raise Violation(f"two rosters of version {core.roster.version}")

    def _logs_are_prefixes(self, node: NodeId, replica: Replica) -> None:
        log, epoch = replica.log, replica.log_epoch
        key = (epoch, replica.generation)
        owned = replica.owner is not None and replica.owner.epoch == epoch
        state, last = self.seen.get(node, (None, 0))
        start = last + 1 if state == key and log.last >= last else log.base + 1
        if state == key and log.last < last and replica.ready:
            raise Violation(f"{node} lost entries {log.last + 1}..{last} of epoch {epoch}")
        if owned and self.owners.setdefault(epoch, node) != node:
            raise Violation(f"{node} and {self.owners[epoch]} own epoch {epoch}")
        if epoch != ZERO:
            whole = self.logs.setdefault(epoch, {})
            if owned and state != key:
                self._holds_all(node, replica)
            for index in range(max(start, log.base + 1), log.last + 1):
                entry = log.entry(index)
                if owned:
                    if whole.setdefault(index, entry) != entry:
                        raise Violation(f"{node} rewrote entry {index} of its epoch {epoch}")
                elif whole.get(index, entry) != entry or (index not in whole and index > replica.commit):
                    raise Violation(f"{node}'s log is no prefix of that of the owner of {epoch}, at {index}")
        elif replica.ready and replica.generation > 1 and state != key and not replica.next_generation:
            base = self.seals.get(replica.generation)
            if log.last != base:
                raise Violation(f"{node} began generation {replica.generation} with {log.last} entries; it has {base}")
        self.seen[node] = (key, log.last)

    def _holds_all(self, node: NodeId, replica: Replica) -> None:
        """What is committed, in its own generation or an older one, is in every later owner's log."""
        last = self.last
        while self.committed[last][1] > replica.generation:
            last -= 1
        if replica.log.last < last:
            raise Violation(f"{node} owns {replica.log_epoch} with {replica.log.last} entries; {last} are committed")
        for index in range(replica.log.base + 1, last + 1):
            if replica.log.entry(index) != self.committed[index][0]:
                raise Violation(f"{node} owns {replica.log_epoch} without the committed entry {index}")

    def commits_agree(self, node: NodeId, replica: Replica) -> None:
        owner = replica.owner
        if owner is not None and owner.epoch == replica.promised:
            for index in range(self.last + 1, replica.commit + 1):
                if index > replica.log.base:
                    self._commit(index, replica.log.entry(index), replica.generation, node)
        for index in range(max(replica.log.base, min(replica.applied, replica.commit - 3)) + 1, replica.commit + 1):
            if index > self.last:
                raise Violation(f"{node} believes that {index} is committed; {self.last} are")
            if replica.log.entry(index) != self.committed[index][0]:
                raise Violation(f"{node} has another entry {index} than was committed")

    def _commit(self, index: int, entry: bytes, generation: int, node: NodeId) -> None:
        before = self.committed.get(index - 1)
        if before is not None:
            expected = decode_seal(before[0]).version if is_seal(before[0]) else before[1]
            if generation != expected:
                raise Violation(f"{node} committed {index} in generation {generation}; it belongs to {expected}")
        self.committed[index] = (entry, generation)
        self.last = index
        if is_seal(entry):
            self.seals[decode_seal(entry).version] = index

    def applied(self, node: NodeId, index: int, rows: dict[bytes, bytes]) -> None:
        """The applied range is what the committed entries up to the index make of nothing."""
        expected: dict[bytes, bytes] = {}
        for number in range(1, index + 1):
            entry = self.committed[number][0]
            if not is_seal(entry):
                put(expected, (), decode_entry(entry))
        found = {key: value for key, value in rows.items() if key.startswith(b"\0\0")}
        if found != expected:
            raise Violation(f"{node} applied up to {index}, and has other rows than the committed entries make")


class WatchedReplica(Replica):
    """Tells the laws what an owner commits, at that instant."""

    __slots__ = ()

    def apply(self) -> None:
        if self.partition == P:
            self.home.laws.commits_agree(self.home.me, self)  # type: ignore[attr-defined]
        super().apply()


class WatchedReplication(Replication):
    replica_class = WatchedReplica

    def __init__(self, *args: Any, laws: Laws, **kwargs: Any) -> None:
        self.laws = laws
        super().__init__(*args, **kwargs)
        self.home.laws = laws  # type: ignore[attr-defined]


class Node:
    """A core, its disk, and what waits for its disk."""

    def __init__(self, name: NodeId, disk: Disk) -> None:
        self.name = name
        self.disk = disk
        self.core: Replication | None = None
        self.held: list[Send | SendSynced] = []
        self.mark = 0
        self.rounds: dict[int, int] = {}
        """By round of reads: how many entries were committed anywhere when it was asked for."""


class ReplicaWorld:
    """Nodes ``n0 .. n(count-1)``; the first ``voters`` of them are in roster 1."""

    core_class: type[WatchedReplication] = WatchedReplication

    def __init__(
        self,
        seed: int,
        *,
        count: int = 3,
        voters: int = 3,
        steps: int = 400,
        loss: float = 0.15,
        double: float = 0.15,
        crash: float = 0.01,
        campaign: float = 0.03,
        change: float = 0.0,
        wishes: float = 0.0,
        tail: int = 6,
        piece: int = 60,
        replicas: int = 3,
        distrust: float = 0.0,
        mutation: str = "",
    ) -> None:
        self.random = Random(seed)
        self.distrust = distrust
        self.steps, self.loss, self.double, self.crash, self.change = steps, loss, double, crash, change
        self.mutation = mutation
        self.wishes, self.campaign = wishes, campaign
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        """Ways on which messages wait until they are open again."""
        self.tuning = ReplicationTuning(
            replicas=replicas,
            partitions=1,
            virtual_nodes_per_node=3,
            gossip_interval_s=1.0,
            tail_entries=tail,
            piece_bytes=piece,
            handovers_max=1,
        )
        self.now = 0.0
        self.laws = Laws()
        self.net: list[tuple[NodeId, NodeId, Any, Any]] = []
        self.value = 0
        self.counts = {"commits": 0, "owned": 0, "snapshots": 0, "reads": 0}
        names = [NodeId(f"n{place}") for place in range(count)]
        self.nodes = [Node(name, Disk(name.encode())) for name in names]
        self.by_name = {node.name: node for node in self.nodes}
        self.names = names
        roster = Roster(1, b"cluster", {name: name.encode() for name in names[:voters]}, (), self.tuning.settings)
        self.laws.rosters[1] = roster
        self.rosters = [roster]
        for node in self.nodes:
            node.disk.past = [] if distrust else None
            self.start(node)
            self.hear_roster(node, roster)
            self.sync(node)
        self.first_rows = {node.name: dict(node.disk.safe) for node in self.nodes}
        self.laws.committed[0] = (b"\x90", 1)

    # Nodes

    def start(self, node: Node) -> None:
        core = self.core_class(
            node.name, node.disk.store_id, laws=self.laws, tuning=self.tuning, random=self.random, now=self.now,
            rows=sorted(item for item in node.disk.rows.items() if item[0].startswith(PREFIX)),
        )  # fmt: skip
        node.core, node.mark, node.rounds = core, 0, {}
        if self.change:  # rosters fall from the sky: nobody plans any
            core._voters.planner.ask = lambda change: None  # type: ignore[method-assign]
        for other in self.names:
            core.seen(self.now, other, True)
        self.laws.restarted(node.name, core)

    def stop(self, node: Node) -> None:
        node.core = None
        node.held.clear()
        node.disk.crash(self.random)

    def hear_roster(self, node: Node, roster: Roster) -> None:
        core = node.core
        assert core is not None
        core.home.stores.setdefault(NodeId("operator"), b"")
        core.receive(self.now, NodeId("operator"), RosterNews(roster))
        self.take(node)

    def sync(self, node: Node) -> None:
        core = node.core
        if core is None or not (node.disk.unsynced or node.held):
            return
        node.disk.sync()
        held, node.held = node.held, []
        for send in held:
            self.put_on_net(node, send)
        core.synced(self.now, node.mark)
        self.laws.synced(node.name, core)
        self.take(node)

    def take(self, node: Node) -> None:
        """Carry out the effects of a turn, as a shell does, and look at the laws."""
        core = node.core
        assert core is not None
        for effect in core.effects():
            kind = type(effect)
            if kind is Send:
                self.put_on_net(node, effect)
            elif kind is SendSynced:
                self.send_synced(node, effect)
            elif kind is Persist:
                node.disk.write((), effect.writes)
                node.mark = effect.mark
            elif kind is Apply:
                node.disk.write((), effect.writes)
            elif kind is InstallSnapshot or kind is Drop:
                node.disk.write(effect.clear, effect.writes)
                node.mark = effect.mark
                if kind is InstallSnapshot:
                    self.counts["snapshots"] += 1
                    self.laws.applied(node.name, effect.index, node.disk.rows)
            elif kind is SendSnapshot:
                self.send_snapshot(node, effect)
            elif kind is Owned:
                self.counts["owned"] += 1
                self.laws.check(node.name, core)
                self.laws.applied(node.name, core.replicas[P].applied, node.disk.rows)
            elif kind is Confirmed:
                self.counts["reads"] += 1
                asked, known = node.rounds[effect.round], core.replicas[P].commit
                if known < asked:
                    raise Violation(f"{node.name} reads as of {known}; when it asked, {asked} were committed")
            elif kind is Committed:
                self.counts["commits"] = max(self.counts["commits"], effect.index)
        self.laws.check(node.name, core)

    def send_synced(self, node: Node, send: SendSynced) -> None:
        if self.mutation == "nofsync" and self.random.random() < 0.5:
            self.put_on_net(node, send)
        else:
            node.held.append(send)

    def send_snapshot(self, node: Node, order: SendSnapshot) -> None:
        rows = sorted(item for item in node.disk.rows.items() if item[0].startswith(b"\0\0"))
        for piece in snapshot_pieces(order, node.disk.rows.get, rows, 200):
            self.put_on_net(node, Send(order.to, piece))

    def put_on_net(self, node: Node, send: Any) -> None:
        if send.to in self.by_name:
            core = node.core
            assert core is not None
            self.net.append((node.name, send.to, core.hello, send.message))

    def deliver(self) -> None:
        random, net = self.random, self.net
        # Mostly one of the oldest, so that elections end; sometimes any.
        place = random.randrange(min(len(net), 6) if random.random() < 0.85 else len(net))
        sender, to, hello, message = net[place]
        if (sender, to) in self.cuts:
            net.append(net.pop(place))
            return
        if random.random() >= self.double:
            del net[place]
        if random.random() < self.loss:
            return
        node = self.by_name[to]
        if node.core is None:
            return
        if random.random() < 0.02:
            hello, message = decode(encode([hello, message]))
        node.core.receive(self.now, sender, hello)
        node.core.receive(self.now, sender, message)
        self.take(node)
        if random.random() < 0.7:
            self.sync(node)

    # Steps

    def step(self) -> None:
        random = self.random
        dice = random.random()
        if self.net and dice < 0.66:
            self.deliver()
            if len(self.net) > 400:
                del self.net[: len(self.net) // 2]
            return
        node, dice = self.nodes[random.randrange(len(self.nodes))], random.random()
        if dice < self.crash / 0.34:
            if node.core is not None:
                self.stop(node)
            else:
                self.restart(node)
        elif node.core is None:
            if random.random() < 0.3:
                self.restart(node)
        else:
            self.act(node, node.core)
            if node.core is not None and random.random() < 0.7:
                self.sync(node)

    def restart(self, node: Node) -> None:
        if self.distrust and self.random.random() < self.distrust:
            node.disk.lose(self.random)
            self.laws.promised.pop(node.name, None)
            self.rename(node.disk)
        self.start(node)
        self.take(node)

    def rename(self, disk: Disk) -> None:
        """R7. It goes by another id from here on."""
        disk.store_id += b"'"

    def act(self, node: Node, core: Replication) -> None:
        random, dice = self.random, self.random.random()
        replica = core.replicas.get(P)
        if dice < self.campaign:
            if replica is not None:
                replica.election.campaign()
        elif dice < 0.60:
            if replica is not None and replica.owner is not None and replica.owner.in_office and not replica.closed():
                self.value += 1
                key = b"\0\0" + b"%05d" % (self.value if random.random() < 0.7 else self.value % 7)
                with suppress(NotOwner, NoQuorum):
                    core.append(self.now, P, [(key, b"%d" % self.value)])
                    if random.random() < 0.3:
                        node.rounds.setdefault(core.confirm(self.now, P), self.laws.last)
        elif dice < 0.60 + self.change:
            self.change_roster(node, core)
        elif dice < 0.60 + self.change + self.wishes:
            self.wish(core)
        else:
            self.now += random.random() * 0.3
            core.tick(self.now)
        self.take(node)

    def wish(self, core: Replication) -> None:
        """Somebody wants in, or out; membership errs."""
        random, dice = self.random, self.random.random()
        if dice < 0.3:
            core.ask_in(self.now)
        elif dice < 0.5:
            core.ask_out(self.now, self.names[random.randrange(len(self.names))])
        elif dice < 0.6:
            core.hand_over_all(self.now)
        else:
            core.seen(self.now, self.names[random.randrange(len(self.names))], random.random() < 0.8)

    def change_roster(self, node: Node, core: Replication) -> None:
        """The roster's own log is one law of its own; here its decisions fall from the sky, so that partitions move often."""
        random = self.random
        if random.random() < 0.25:
            last = self.rosters[-1]
            voters = sorted(random.sample(self.names, 3))
            if voters != sorted(last.voters) and len(self.rosters) < 6:
                stores = {name: self.by_name[name].disk.store_id for name in voters}
                roster = Roster(last.version + 1, last.cluster_id, stores, (), last.settings)
                self.rosters.append(roster)
                self.laws.rosters[roster.version] = roster
        else:
            roster = self.rosters[-1]
            if core.roster is not None and core.roster.version < roster.version:
                self.hear_roster(node, roster)
        replica = core.replicas.get(P)
        if replica is not None and replica.owner is not None and replica.owner.in_office and core.roster is not None:
            goal = replica_sets(core.roster)[P]
            if goal != replica.members and core.roster.version > replica.generation:
                replica.owner.seal(Seal(core.roster.version, goal))

    def run(self) -> None:
        for _ in range(self.steps):
            self.step()


KINDS: dict[str, dict[str, Any]] = {
    "three": {},
    "five": {"count": 5, "voters": 5, "replicas": 5},
    "crashing": {"crash": 0.03},
    "cruel": {"crash": 0.05, "campaign": 0.1, "loss": 0.1},
    "lossy": {"loss": 0.4, "double": 0.4, "crash": 0.04},
    "truncating": {"tail": 0, "crash": 0.03},
    "moving": {"count": 5, "change": 0.1, "steps": 800},
    "distrusting": {"count": 5, "change": 0.1, "steps": 800, "crash": 0.03, "distrust": 0.2},
    "roster": {"count": 5, "wishes": 0.08, "steps": 1200, "loss": 0.05, "crash": 0.004},
}
"""Worlds by what they are hard on."""
