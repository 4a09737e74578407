"""`Replicas`: the replication cores of some nodes with a network, disks and a clock, all decided by a seed.

**Why it exists.** To see what the replicated journal says and does, message by message, without an engine above it. The cores
are those that run in production; what is made up is only what they are told: when a frame arrives, when a disk has synced, who
is held alive.

===============  ==========================================================================================
of the world     here
===============  ==========================================================================================
messages         0.5 to 2.5 ms, in order between two nodes, lost on a cut path
an fsync         1 to 3 ms; what was not synced is lost at a crash
who is alive     what `believe` says, to everybody
one partition    number 0, three copies; the roster's own partition beside it
===============  ==========================================================================================

**Limits.** No random faults: they are put by hand. Storms are played on whole nodes, by `world`.

Read next: `replicascript`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from durable.copies.effects import (
    Apply,
    Committed,
    Confirmed,
    Drop,
    Effect,
    InstallSnapshot,
    Lost,
    Owned,
    Persist,
    RosterChanged,
    Send,
    SendSnapshot,
    SendSynced,
    snapshot_pieces,
)
from durable.membership.member import NodeId
from durable.ports import Write
from durable.replication import PREFIX, Message, Replication, ReplicationTuning
from durable.sim.events import EventQueue

DELAY_S = (0.0005, 0.0025)
SYNC_S = (0.001, 0.003)
P = 0
"""The partition that is watched."""
RANGE = P.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Said:
    """A message that left. ``arrives``: whether the path was whole."""

    at: float
    source: NodeId
    target: NodeId
    message: Message
    arrives: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What a core told its shell."""

    at: float
    node: NodeId
    effect: Effect


class Station:
    """One node: a core, and a disk that forgets what was not synced."""

    def __init__(self, name: NodeId, store_id: bytes) -> None:
        self.name = name
        self.store_id = store_id
        self.core: Replication | None = None
        self.paused = False
        self.rows: dict[bytes, bytes] = {}
        self.safe: dict[bytes, bytes] = {}
        self.held: list[tuple[NodeId, Message]] = []
        self.syncing = False
        self.mark = self.synced = 0
        self.life = 0
        self.meant: list[Callable[[], None]] = []
        self.missed: list[Callable[[], None]] = []
        """While it was paused: what it was about to do, which it does first when it goes on; and what came, which it reads then."""

    def write(self, writes: list[Write], clear: tuple[bytes, ...] = ()) -> None:
        if clear:
            self.rows = {key: value for key, value in self.rows.items() if not key.startswith(clear)}
        for key, value in writes:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


class Replicas:
    """Nodes node-1 to node-N, founders of one cluster. All that is said and told is in ``seen``.

    >>> replicas = Replicas(seed=1, count=3)
    >>> replicas.run_until(lambda: replicas.owner() is not None)
    >>> owner = replicas.owner()
    >>> replicas.append(owner, "a"); replicas.run(1.5)   # the next digest tells the others
    >>> [station.core.status(0).commit for station in replicas.stations.values()]
    [1, 1, 1]
    """

    def __init__(self, seed: int, count: int, tuning: ReplicationTuning | None = None) -> None:
        self.random = Random(seed)
        self.queue = EventQueue()
        self.tuning = tuning or ReplicationTuning(partitions=1)
        self.seen: list[Said | Told] = []
        self.stations: dict[NodeId, Station] = {}
        self.live: dict[NodeId, bool] = {}
        self._cuts: dict[tuple[NodeId, NodeId], None] = {}
        self._last_at: dict[tuple[NodeId, NodeId], float] = {}
        founders = tuple(NodeId(f"node-{number}") for number in range(1, count + 1))
        for name in founders:
            self.start(name)
        for name in founders:
            self.tell(name, lambda core: core.birth(self.queue.now, founders, founders))
        self.run_until(lambda: all(station.core is not None and station.core.roster for station in self.stations.values()))
        self.began_s = self.queue.now
        self.seen.clear()

    # What is done to them

    def start(self, name: NodeId) -> None:
        """A new process, on the disk that it has, or on an empty one."""
        station = self.stations.get(name)
        if station is None:
            station = self.stations[name] = Station(name, name.encode())
        station.core = Replication(
            name, station.store_id, tuning=self.tuning, random=Random(self.random.getrandbits(64)),
            rows=sorted(row for row in station.rows.items() if row[0].startswith(PREFIX)), now=self.queue.now,
        )  # fmt: skip
        station.life += 1
        station.mark = station.synced = 0
        station.held, station.syncing, station.paused = [], False, False
        station.meant, station.missed = [], []
        self.live[name] = True
        for other in self.stations.values():
            if other.core is not None:
                other.core.seen(self.queue.now, name, True)
                station.core.seen(self.queue.now, other.name, self.live[other.name])
        self._turn(station)

    def crash(self, name: NodeId) -> None:
        """Gone, with everything that its disk had not synced."""
        station = self.stations[name]
        station.core = None
        station.life += 1
        station.rows = dict(station.safe)

    def wipe(self, name: NodeId) -> None:
        """Gone, and its disk, too: the next one under this name has another id."""
        self.crash(name)
        station = self.stations[name]
        station.rows, station.safe = {}, {}
        station.store_id += b"'"

    def pause(self, name: NodeId) -> None:
        """It stands still. What comes meanwhile, it finds when it goes on."""
        self.stations[name].paused = True

    def resume(self, name: NodeId) -> None:
        station = self.stations[name]
        station.paused = False
        late = [*station.meant, *station.missed]
        station.meant, station.missed = [], []
        for happen in late:
            happen()

    def cut(self, source: NodeId, target: NodeId) -> None:
        self._cuts[source, target] = None

    def heal(self) -> None:
        self._cuts.clear()

    def believe(self, name: NodeId, live: bool) -> None:
        """Membership holds a node alive, or not; every other node is told."""
        self.live[name] = live
        for station in self.stations.values():
            if station.name != name:
                self.tell(station.name, lambda core: core.seen(self.queue.now, name, live))

    def append(self, name: NodeId, *values: str) -> None:
        """Ask a node to append entries, all in one turn. Raises what its core raises."""
        self.tell(name, lambda core: [core.append(self.queue.now, P, [(RANGE + value.encode(), b"")]) for value in values])

    def confirm(self, name: NodeId) -> None:
        """Ask a node whether it still owns the partition. Raises what its core raises."""
        self.tell(name, lambda core: core.confirm(self.queue.now, P))

    def tell(self, name: NodeId, what: Callable[[Replication], object]) -> None:
        """Call one of a core's methods, as soon as its process runs; then do what it wants."""
        station = self.stations[name]

        def happen() -> None:
            if station.core is not None:
                try:
                    what(station.core)
                finally:
                    self._turn(station)

        if station.paused:
            station.meant.append(happen)
        else:
            happen()

    # Time

    def run(self, seconds: float) -> None:
        self.queue.run_until(self.queue.now + seconds)

    def run_until(self, holds: Callable[[], bool], within_s: float = 60.0) -> None:
        """Raises `TimeoutError`."""
        end = self.queue.now + within_s
        while not holds():
            if not self.queue.step(end):
                raise TimeoutError(f"it did not come about within {within_s:g} virtual seconds")

    # What is to be seen

    def owner(self) -> NodeId | None:
        """The node in office; if two believe it, the one of the higher epoch."""
        owners = [
            (station.core.epoch(P), station.name)
            for station in self.stations.values()
            if station.core is not None and P in station.core.owned
        ]
        return max(owners)[1] if owners else None

    # How

    def _when_running(self, station: Station, happen: Callable[[], None]) -> None:
        if station.paused:
            station.missed.append(happen)
        else:
            happen()

    def _plan(self, station: Station, delay_s: float, happen: Callable[[Replication], None]) -> None:
        """For this life of the node only; later, if it is paused then."""
        life = station.life

        def due() -> None:
            if station.core is not None and station.life == life:
                happen(station.core)

        self.queue.at(self.queue.now + delay_s, lambda: self._when_running(station, due))

    def _turn(self, station: Station) -> None:
        core = station.core
        if core is None:
            return
        deadline = core.next_deadline()
        effects = core.effects()
        for effect in effects:
            match effect:
                case Persist() | Apply():
                    station.write(list(effect.writes))
                case InstallSnapshot() | Drop():
                    station.write(list(effect.writes), effect.clear)
                case Send():
                    self._send(station, effect.to, effect.message)
                case SendSynced():
                    station.held.append((effect.to, effect.message))
                case SendSnapshot():
                    self._send_snapshot(station, effect)
                case Committed() | Owned() | Lost() | Confirmed() | RosterChanged():
                    self.seen.append(Told(self.queue.now, station.name, effect))
            if isinstance(effect, Persist | InstallSnapshot | Drop):
                station.mark = effect.mark
        if effects:
            self._sync(station)
        self._plan(station, max(0.0, deadline - self.queue.now), lambda core: self._tick(station, core, deadline))

    def _tick(self, station: Station, core: Replication, deadline: float) -> None:
        if core.next_deadline() == deadline:  # else a later turn has planned it anew
            core.tick(self.queue.now)
            self._turn(station)

    def _sync(self, station: Station) -> None:
        if station.syncing:
            return
        if station.mark == station.synced:
            self._release(station)
            return
        mark, rows, held = station.mark, dict(station.rows), station.held
        station.syncing, station.held = True, []

        def done(core: Replication) -> None:
            station.safe, station.synced, station.syncing = rows, mark, False
            core.synced(self.queue.now, mark)
            for to, message in held:
                self._send(station, to, message)
            self._turn(station)
            self._sync(station)

        self._plan(station, self.random.uniform(*SYNC_S), done)

    def _release(self, station: Station) -> None:
        held, station.held = station.held, []
        for to, message in held:
            self._send(station, to, message)

    def _send_snapshot(self, station: Station, order: SendSnapshot) -> None:
        rows = sorted(row for row in station.rows.items() if row[0].startswith(order.partition.to_bytes(2, "big")))
        for piece in snapshot_pieces(order, station.rows.get, rows, self.tuning.piece_bytes):
            self._send(station, order.to, piece)

    def _send(self, station: Station, to: NodeId, message: Message) -> None:
        source, core = station.name, station.core
        target = self.stations.get(to)
        if core is None or target is None:
            return
        arrives = (source, to) not in self._cuts
        self.seen.append(Said(self.queue.now, source, to, message, arrives))
        if not arrives:
            return
        at = max(self.queue.now + self.random.uniform(*DELAY_S), self._last_at.get((source, to), 0.0))
        self._last_at[source, to] = at
        hello = core.hello

        def arrive(core: Replication) -> None:
            core.receive(self.queue.now, source, hello)
            core.receive(self.queue.now, source, message)
            self._turn(target)

        self._plan(target, at - self.queue.now, arrive)
