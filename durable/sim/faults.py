"""A storm: faults of every kind at moments that the seed chooses, and peace at the end.

**How it works.** `Storm` draws when faults begin, of which kind each is, whom it hits and how long it lasts. Faults overlap.
The table `FAULTS` is what can happen and how often, relative to the others; a fault that cannot happen now (a crash where
nothing runs) is drawn anew. At the end `Storm.heal` takes everything back: nodes that were not asked to leave run again,
every way is open, disks are quick and whole. A node that was asked to leave and could not hand over in time is started again.

**What may be lost.** Faults that lose synced data (a wiped disk, a failing fsync) are limited to `losses_max` machines: a cluster
that keeps three copies promises to survive the loss of one, and nothing can survive the loss of all. So no disk is lost where fewer
than three voters stay, and when one was lost, nobody leaves three.

Read next: `durable.trials.runs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from durable.copies.rows import ROSTER
from durable.sim.disk import SYNC_S

if TYPE_CHECKING:
    from durable.cluster.host import Host
    from durable.membership.member import NodeId
    from durable.sim.world import SimWorld

Ending = Callable[[], object]
GROW_MAX = 2
DRAWS_MAX = 20
STAYS = 0.15
"""The share of faults that are there until all is healed; most of the others are short."""

CALL_BACK_S = 40.0
"""After so long whoever was leaving when all was healed has left."""

RUNNING_MIN = 3
"""No node is asked to leave when so few run."""

COPIES = 3


@dataclass(frozen=True)
class Fault:
    """``begin`` does it and returns what ends it, or None if it cannot be done now. It lasts from ``low_s`` to ``high_s``."""

    weight: int
    begin: Callable[[Storm], Ending | None]
    low_s: float
    high_s: float


class Storm:
    """Faults on one world.

    Args:
        world: with its nodes started.
        seconds, count: so many faults begin within so long.
        kinds: what may happen; `FAULTS` by default.
        losses_max: how many machines may lose data that they have synced.
        company: whom a node is cut off from by a partial cut: those who keep copies of what it owns. Two others by default.
    """

    def __init__(
        self,
        world: SimWorld,
        *,
        seconds: float = 60.0,
        count: int = 12,
        kinds: Mapping[str, Fault] | None = None,
        losses_max: int = 1,
        company: Callable[[SimWorld, str], Sequence[str]] | None = None,
    ) -> None:
        self.world, self.random = world, world.random
        self.seconds, self.count, self.losses_max = seconds, count, losses_max
        self.happened: Counter[str] = Counter()
        self.left: dict[str, None] = {}
        self.lost: dict[str, None] = {}
        self._kinds = FAULTS if kinds is None else kinds
        self._company = company or (lambda world, name: self.others(name)[:2])
        self._born = self.grown = 0
        self._calm = world.network.faults
        self._weather: dict[int, dict[str, Any]] = {}
        self._cuts: Counter[tuple[str, str]] = Counter()
        self.healed = False

    # The course of it

    def begin(self) -> None:
        """Put the faults into the world's future: they happen while it runs. Call it when the first nodes run."""
        self._born = len(self.world.machines)
        for _ in range(self.count):
            self.world.queue.at(self.world.now + self.seconds * self.random.random(), self._strike)

    def _strike(self) -> None:
        if self.healed:
            return
        weights = [fault.weight for fault in self._kinds.values()]
        for kind in self.random.choices([*self._kinds], weights, k=DRAWS_MAX):
            end = self._kinds[kind].begin(self)
            if end is not None:
                self.happened[kind] += 1
                self._plan_end(self._kinds[kind], end)
                return

    def _plan_end(self, fault: Fault, end: Ending) -> None:
        share, stays = self.random.random() ** 2, self.random.random() < STAYS
        lasts_s = fault.low_s + (fault.high_s - fault.low_s) * share
        if not stays:
            self.world.queue.at(self.world.now + lasts_s, lambda: None if self.healed else end())

    def heal(self) -> None:
        """End every fault."""
        self.healed = True
        world = self.world
        world.heal()
        world.network.faults = self._calm
        for name in list(world.machines):
            disk = world.machines[name].disk
            disk.sync_s, disk.failing_syncs = SYNC_S, 0
            world.resume(name)
            if name not in self.left and not world.machines[name].running:
                world.start(name)
        self._call_back()
        world.queue.at(world.now + CALL_BACK_S, self._call_back)

    def _call_back(self) -> None:
        """Start again who had to go before the others held what it held, as its operator is told: it still has a vote, or a copy of
        a partition that nobody owns without it.
        """
        hosts, needed = self._hosts(), {*self._voters()}
        owned = {partition for host in hosts for partition in host.owned_now}
        for host in hosts:
            needed.update(*(copy.members for number, copy in host.core.replicas.items() if number not in {*owned, ROSTER}))
        for name in [name for name in self.left if name in needed and not self.world.machines[name].running]:
            del self.left[name]
            self.world.start(name)

    def _hosts(self) -> list[Host]:
        return [host for host in (getattr(process.node, "_host", None) for process in self.world.running()) if host is not None]

    def _voters(self) -> Collection[NodeId]:
        """Of the newest roster that a running node knows; nobody if there is none."""
        rosters = [host.core.roster for host in self._hosts() if host.core.roster is not None]
        return max(rosters, key=lambda roster: roster.version).voters if rosters else ()

    # What faults use

    def running(self) -> list[str]:
        return [process.name for process in self.world.running() if not process.paused and process.name not in self.left]

    def anyone(self) -> str | None:
        running = self.running()
        return self.random.choice(running) if running else None

    def others(self, name: str) -> list[str]:
        """Everybody else, in an order that is drawn."""
        names = [one for one in self.world.machines if one != name and one not in self.left]
        self.random.shuffle(names)
        return names

    def crash(self, name: str) -> Ending:
        self.world.crash(name, power=self.random.random() < 0.5)
        return lambda: self.start(name)

    def start(self, name: str) -> None:
        if not self.world.machines[name].running and name not in self.left:
            self.world.start(name)

    def cut(self, pairs: Sequence[tuple[str, str]]) -> Ending:
        for pair in pairs:
            self._cuts[pair] += 1
            self.world.cut(*pair)

        def mend() -> None:
            for pair in pairs:
                self._cuts[pair] -= 1
                if not self._cuts[pair]:
                    self.world.mend(*pair)

        return mend

    def weather(self, **changes: Any) -> Ending:
        """The network is worse for a while. Of two at once, the later wins."""
        number = len(self.happened) + self.happened.total()
        self._weather[number] = changes
        self._change_weather()

        def clear() -> None:
            self._weather.pop(number)
            self._change_weather()

        return clear

    def _change_weather(self) -> None:
        faults = self._calm
        for changes in self._weather.values():
            faults = replace(faults, **changes)
        self.world.network.faults = faults
        self.world.note("network", f"has {faults}")

    def stay(self, *gone: str) -> int:
        """How many voters there would be, as far as anybody knows, when all who leave have left."""
        voters = self._voters() or self.world.machines
        return len({*map(str, voters)} - self.left.keys() - {*gone})

    def may_lose(self, name: str) -> bool:
        if (name not in self.lost and len(self.lost) >= self.losses_max) or self.stay() < COPIES:
            return False
        self.lost[name] = None
        return True


def _crash(storm: Storm) -> Ending | None:
    name = storm.anyone()
    return None if name is None else storm.crash(name)


def _crash_all(storm: Storm) -> Ending | None:
    names = storm.running()
    ends = [storm.crash(name) for name in names]
    storm.random.shuffle(ends)

    def start() -> None:
        for after, end in enumerate(ends):
            storm.world.queue.at(storm.world.now + after * storm.random.random(), end)

    return start


def _pause(storm: Storm) -> Ending | None:
    name = storm.anyone()
    if name is None:
        return None
    storm.world.pause(name)
    return lambda: storm.world.resume(name)


def _partition(storm: Storm) -> Ending | None:
    names = [name for name in storm.world.machines if name not in storm.left]
    if len(names) < 2:
        return None
    storm.random.shuffle(names)
    split = storm.random.randrange(1, len(names))
    one, two = names[:split], names[split:]
    return storm.cut([pair for a in one for b in two for pair in ((a, b), (b, a))])


def _isolate(storm: Storm) -> Ending | None:
    name = storm.anyone()
    return None if name is None else storm.cut([pair for other in storm.others(name) for pair in ((name, other), (other, name))])


def _one_way(storm: Storm) -> Ending | None:
    name = storm.anyone()
    if name is None:
        return None
    others = storm.others(name)
    mute = storm.random.random() < 0.5
    return storm.cut([(name, other) if mute else (other, name) for other in others[: storm.random.randint(1, max(1, len(others)))]])


def _partial(storm: Storm) -> Ending | None:
    name = storm.anyone()
    if name is None:
        return None
    return storm.cut([pair for other in storm._company(storm.world, name) for pair in ((name, other), (other, name))])


def _loss(storm: Storm) -> Ending | None:
    return storm.weather(loss=storm.random.choice([0.05, 0.2, 0.5]))


def _delay(storm: Storm) -> Ending | None:
    return storm.weather(delay_s=storm.random.choice([(0.01, 0.1), (0.05, 0.5), (0.2, 2.0)]))


def _duplication(storm: Storm) -> Ending | None:
    return storm.weather(duplication=0.3)


def _reorder(storm: Storm) -> Ending | None:
    return storm.weather(reorder=0.5, reorder_s=0.5)


def _slow_sync(storm: Storm) -> Ending | None:
    name = storm.anyone()
    if name is None:
        return None
    disk = storm.world.machines[name].disk
    disk.sync_s = storm.random.choice([(0.01, 0.05), (0.1, 0.5), (0.5, 2.0)])
    storm.world.note(name, f"has a disk that takes {disk.sync_s} s to sync")

    def end() -> None:
        disk.sync_s = SYNC_S

    return end


def _failing_sync(storm: Storm) -> Ending | None:
    name = storm.anyone()
    if name is None or not storm.may_lose(name):
        return None
    storm.world.machines[name].disk.failing_syncs = 1
    storm.world.note(name, "has a disk whose next sync fails")
    return lambda: storm.start(name)


def _wipe(storm: Storm) -> Ending | None:
    name = storm.anyone()
    if name is None or not storm.may_lose(name):
        return None
    start = storm.crash(name)
    storm.world.wipe(name)
    return start


def _clock(storm: Storm) -> Ending | None:
    name = storm.anyone()
    if name is None:
        return None
    by_s = storm.random.choice([-3600.0, -60.0, -1.0, 1.0, 60.0, 3600.0])
    storm.world.set_clock(name, by_s)
    return lambda: storm.world.set_clock(name, -by_s)


def _grow(storm: Storm) -> Ending | None:
    if storm.grown >= GROW_MAX:
        return None
    storm.grown += 1
    storm.world.start(f"node-{storm._born + storm.grown}")
    return lambda: None


def _shrink(storm: Storm) -> Ending | None:
    running = storm.running()
    if len(running) <= RUNNING_MIN:
        return None
    name = storm.random.choice(running)
    if storm.lost and storm.stay(name) < COPIES:
        return None
    storm.left[name] = None
    storm.world.leave(name)
    return lambda: None


FAULTS: dict[str, Fault] = {
    "crash": Fault(20, _crash, 0.1, 30.0),
    "crash of all": Fault(2, _crash_all, 0.5, 15.0),
    "pause": Fault(15, _pause, 0.2, 20.0),
    "partition": Fault(10, _partition, 1.0, 40.0),
    "isolation": Fault(8, _isolate, 1.0, 40.0),
    "one-way cut": Fault(8, _one_way, 1.0, 30.0),
    "partial cut": Fault(10, _partial, 5.0, 40.0),
    "loss": Fault(6, _loss, 2.0, 30.0),
    "delay": Fault(6, _delay, 2.0, 20.0),
    "duplication": Fault(4, _duplication, 5.0, 30.0),
    "reorder": Fault(4, _reorder, 5.0, 30.0),
    "slow fsync": Fault(8, _slow_sync, 5.0, 30.0),
    "failing fsync": Fault(4, _failing_sync, 5.0, 20.0),
    "wiped disk": Fault(3, _wipe, 0.5, 20.0),
    "clock": Fault(6, _clock, 5.0, 60.0),
    "grow": Fault(4, _grow, 0.0, 1.0),
    "shrink": Fault(3, _shrink, 0.0, 1.0),
}
