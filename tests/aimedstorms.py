"""Faults that look before they strike: the few steps in which a broken rule shows, played with whole nodes.

**Why it exists.** A fault at a moment that is drawn meets the moment that matters once in hundreds of seeds. These watch the
world, and strike when it comes: between a promise and its arrival, in the middle of a log that is sent in pieces, on the seal
of a generation that nobody has copied yet. They are faults like the others, so a storm can draw them among the others.

**How it works.** A plot is a generator over an `Aim`. It does something to the world, and yields a condition and how long to
wait for it; it goes on with whether that came to hold, looked at after each step of any process. Which partition, and which way
where there are two, is drawn from the seed. When it ends, for whatever reason, all that it did is taken back.

===============  ================================================================  =========================================
plot             what happens                                                      shows without
===============  ================================================================  =========================================
overlap          the owner stops with work waiting; a copy promises a candidate,   R1: nothing older is accepted, and what
                 who stops before it hears so; the copy crashes, perhaps; the      was promised is kept
                 owner goes on, then the candidate
two logs         an owner alone writes on; the others elect another, which is      R2: the newest epoch's log wins, not the
                 cut off as soon as it has committed; the first is back            longest
old tail         an owner alone writes on, and dies; the others elect another,     R3: entries only on top of their own
                 which goes on writing when the first is back                      epoch's log
half a log       a copy that lags is sent the log in pieces by a new owner, which  R3: a log is swapped in whole
                 dies in the middle of it; the owner before is back
back at once     an owner dies with appends under way, and is started at once      R6: no epoch is continued
empty voter      one of the two that hold what is committed loses its disk, and    R7: a disk that lost everything does not
                 the other is away: what is left is one that lags                  vote
lone seal        a node joins; the owner of a partition that moves is cut off      R8: the next generation begins when the
                 from its copies just before it seals                              seal is committed
stale owner      the owner is cut off; another is elected, and accepts a workflow  R10: an answer is given when a majority
                 that the first one is asked for then                              has confirmed the epoch
lone roster      a node joins; who decides so is cut off when it has written it,   R8: a roster is decided by a majority of
                 the node dies, and another joins                                  the one before
===============  ================================================================  =========================================

Longer: ``python tests/simulation/sweep_aimed.py "two logs" --seeds 500``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from durable.cluster.node import ClusterNode
from durable.copies.messages import ZERO, Epoch
from durable.copies.rows import ROSTER
from durable.errors import DurableError
from durable.journal.keys import partition_of
from durable.replication.transfer import Kind
from durable.sim.faults import FAULTS, Ending, Fault, Storm
from durable.sim.world import SimWorld
from durable.trials import workloads
from durable.trials.clients import Clients
from durable.trials.runs import Played, Scene, copies, play, workflows_too
from durable.trials.workloads import SHORT_PIECE_BYTES, steps, tuning_of

if TYPE_CHECKING:
    from durable.ports import Clock, Entropy, Store, Transport
    from durable.replication.replica import Replica
    from durable.sim.process import SimProcess

Course: TypeAlias = Generator[tuple[Callable[[], bool], float], bool, None]
Plot: TypeAlias = "Callable[[Aim], Course]"

ELECTION_S = 20.0
"""How long to wait for another owner."""
WORK_S = 3.0
"""How long to wait for something to be committed: less than a candidacy lasts."""
GROWTH_S = 40.0
LASTS_S = 120.0
"""By then a plot is over by itself, or never will be."""


class Aim:
    """One plot under way, on a partition of three copies that are all up: ``owner`` owns it, ``others`` follow."""

    def __init__(self, storm: Storm, name: str, plot: Plot, partition: int, owner: str) -> None:
        self.storm, self.world, self.random = storm, storm.world, storm.random
        self.name, self.partition, self.owner = name, partition, owner
        self.core = storm.world.node(owner)._host.core
        self.others = [str(other) for other in self.core.replica_set(partition) if other != owner]
        """In the order of the ring: who is likely to be the next owner comes first."""
        self._ends: list[Ending] = []
        self._number = 0
        self._holds: Callable[[], bool] | None = None
        self._over = False
        self._course = plot(self)
        self.world.watchers.append(self)
        self._go_on()

    # The course of it

    def began(self, process: SimProcess) -> None:
        """As a watcher: nothing to do."""

    def stepped(self, process: SimProcess) -> None:
        if self._holds is not None and self._holds():
            self._holds = None
            self.world.queue.at(self.world.now, lambda: self._go_on(True))

    def _go_on(self, held: bool | None = None) -> None:
        if self._over or self.storm.healed:
            return
        try:
            self._holds, patience_s = self._course.send(held)  # type: ignore[arg-type]
        except StopIteration:
            self.end()
            return
        self._number += 1
        number = self._number

        def give_up() -> None:
            if number == self._number and self._holds is not None:
                self._holds = None
                self._go_on(False)

        self.world.queue.at(self.world.now + patience_s, give_up)

    def end(self) -> None:
        """Take back what was done."""
        if not self._over:
            self._over = True
            self._holds = None
            self._course.close()
            for end in self._ends:
                end()

    def played_out(self) -> None:
        """The plot came to its last act."""
        self.world.note(self.name, f"has struck partition {self.partition}")
        self.storm.happened[f"{self.name}, to its end"] += 1

    # What plots look at

    def replica(self, name: str) -> Replica | None:
        """The copy there, if its node runs."""
        process = self.world.machine(name).process
        host = getattr(process.node, "_host", None) if process is not None and process.running else None
        return None if host is None else host.core.replicas.get(self.partition)

    def last(self, name: str) -> int:
        replica = self.replica(name)
        return -1 if replica is None else replica.log.last

    def applied(self, name: str) -> int:
        replica = self.replica(name)
        return -1 if replica is None else replica.applied

    def promised(self, name: str) -> Epoch:
        replica = self.replica(name)
        return ZERO if replica is None else replica.promised

    def owns(self, name: str, above: Epoch) -> bool:
        """Whether it is in office there, in an epoch above that."""
        replica = self.replica(name)
        return replica is not None and replica.owner is not None and replica.owner.in_office and replica.owner.epoch > above

    # What plots do

    def will(self, end: Ending) -> Ending:
        """Something to take back in the end, if not before; doing it twice does nothing."""
        done = False

        def once() -> None:
            nonlocal done
            if not done and not self.storm.healed:
                done = True
                end()

        self._ends.append(once)
        return once

    def part(self, one: str, *others: str) -> Ending:
        return self.will(self.storm.cut([pair for other in others for pair in ((one, other), (other, one))]))

    def pause(self, name: str) -> Ending:
        self.world.pause(name)
        return self.will(lambda: self.world.resume(name))

    def crash(self, name: str, *, power: bool = False) -> Ending:
        self.world.crash(name, power=power)
        return self.will(lambda: self.storm.start(name))

    def stop(self, name: str, *others: str) -> Ending:
        """It is gone for the others, one way or another."""
        dice = self.random.random()
        if dice < 0.4:
            return self.part(name, *others)
        return self.crash(name, power=dice < 0.7)

    def ask(self, name: str, count: int, every_s: float = 0.02) -> None:
        """So many workflows are submitted there, one after another. Nobody waits for an answer."""
        for place in range(count):
            self.world.queue.at(self.world.now + place * every_s, lambda: self._submit(name))

    def _submit(self, name: str) -> None:
        process = self.world.machine(name).process
        if self.storm.healed or process is None or not process.running or getattr(process.node, "_host", None) is None:
            return
        workflow_id = self.new_id()

        async def submit() -> None:
            with suppress(DurableError, TimeoutError):
                await process.node.submit(steps, 1, workflow_id=workflow_id)

        process.spawn(submit())

    def new_id(self) -> str:
        """The id of a workflow in this partition."""
        number = self.random.getrandbits(32)
        while partition_of(f"aimed-{number}") != self.partition:
            number += 1
        return f"aimed-{number}"


# --- the plots


def overlap(aim: Aim) -> Course:
    owner, before = aim.owner, aim.promised(aim.owner)
    candidate, voter = aim.others
    aim.part(owner, candidate)
    go_on = aim.pause(owner)
    aim.ask(owner, aim.random.randint(1, 3))
    if not (yield lambda: before < aim.promised(voter) == (aim.promised(voter)[0], candidate), ELECTION_S):
        return
    decide = aim.pause(candidate)
    if aim.random.random() < 0.6:
        yield lambda: False, 0.01  # the promise is safe, and on its way
        start = aim.crash(voter)
        yield lambda: False, aim.random.uniform(0.01, 0.5)
        start()
    applied = aim.applied(owner)
    go_on()
    yield lambda: aim.applied(owner) > applied, WORK_S
    decide()
    aim.played_out()
    yield lambda: aim.owns(candidate, before), ELECTION_S


def two_logs(aim: Aim) -> Course:
    owner, before = aim.owner, aim.promised(aim.owner)
    back = aim.part(owner, *aim.others)
    aim.ask(owner, aim.random.randint(3, 12))
    met: list[str] = []

    def another() -> bool:
        met[:] = [other for other in aim.others if aim.owns(other, before)]
        return bool(met)

    if not (yield another, ELECTION_S):
        return
    second = met[0]
    third = next(other for other in aim.others if other != second)
    second_epoch, applied = aim.promised(second), aim.applied(second)
    aim.ask(second, 1)
    if not (yield lambda: aim.applied(second) > applied, WORK_S):
        return
    aim.stop(second, owner, third)
    back()
    aim.played_out()
    yield lambda: aim.owns(owner, second_epoch) or aim.owns(third, second_epoch), ELECTION_S
    yield lambda: False, 1.0


def old_tail(aim: Aim) -> Course:
    owner, before = aim.owner, aim.promised(aim.owner)
    back = aim.part(owner, *aim.others)
    aim.ask(owner, aim.random.randint(3, 12))
    if not (yield lambda: any(aim.owns(other, before) for other in aim.others), ELECTION_S):
        return
    second = next(other for other in aim.others if aim.owns(other, before))
    applied = aim.applied(second)
    aim.ask(second, 1)
    if not (yield lambda: aim.applied(second) > applied, WORK_S):
        return
    start = aim.crash(owner)  # what was on its way to it goes nowhere
    back()
    yield lambda: False, aim.random.uniform(0.0, 3.0)
    start()
    aim.ask(second, 60, 0.05)
    aim.played_out()
    yield lambda: False, 4.0


def half_a_log(aim: Aim) -> Course:
    owner, (source, behind) = aim.owner, aim.others
    catches_up = aim.part(behind, owner, source)
    goal = aim.last(behind) + aim.random.randint(4, 10)
    aim.ask(owner, 6, 0.05)
    if not (yield lambda: aim.applied(source) >= goal, WORK_S):
        return
    before = aim.promised(owner)
    back = aim.stop(owner, source)
    catches_up()
    away = aim.part(behind, owner)

    def in_the_middle() -> bool:
        new, copy = aim.replica(source), aim.replica(behind)
        if new is None or new.owner is None or new.owner.epoch <= before or copy is None:
            return False
        if copy.transfer is not None:
            return copy.transfer.kind is Kind.SYNC and copy.transfer.bytes > 0
        return copy.adopted(new.owner.epoch)

    if not (yield in_the_middle, ELECTION_S):
        return
    aim.stop(source, owner, behind)
    back()
    away()
    aim.played_out()
    epoch = aim.promised(behind)
    yield lambda: aim.owns(owner, epoch) or aim.owns(behind, epoch), ELECTION_S
    yield lambda: False, 1.0


def back_at_once(aim: Aim) -> Course:
    owner = aim.owner

    def appends_under_way() -> bool:
        replica = aim.replica(owner)
        return replica is not None and replica.log.last > replica.commit

    aim.ask(owner, 3)
    if not (yield appends_under_way, WORK_S):
        return
    yield lambda: False, aim.random.uniform(0.0, 0.003)
    start = aim.crash(owner, power=aim.random.random() < 0.5)
    yield lambda: False, aim.random.uniform(0.0, 0.2)
    start()
    aim.played_out()
    yield lambda: False, 5.0


def empty_voter(aim: Aim) -> Course:
    owner, (behind, lost) = aim.owner, aim.random.sample(aim.others, 2)
    if not aim.storm.may_lose(lost):
        return
    catches_up = aim.part(behind, owner, lost)
    goal = aim.last(behind) + 1
    aim.ask(owner, 2)
    if not (yield lambda: aim.applied(lost) >= goal, WORK_S):
        return
    before = aim.promised(owner)
    start = aim.crash(lost)
    aim.world.wipe(lost)
    back = aim.stop(owner, lost)
    away = aim.part(owner, behind)
    catches_up()
    start()
    aim.played_out()
    yield lambda: aim.owns(behind, before) or aim.owns(lost, before), ELECTION_S
    away()
    back()
    yield lambda: False, 1.0


def lone_seal(aim: Aim) -> Course:
    version = aim.core.roster.version
    FAULTS["grow"].begin(aim.storm)

    def about_to_seal() -> bool:
        """Any partition that is to move, by its owner's roster, and whose copies are made."""
        for process in aim.world.running():
            host = getattr(process.node, "_host", None)
            if process.paused or host is None or host.core.roster is None or host.core.roster.version <= version:
                continue
            for partition in host.owned_now:
                replica, goal = host.core.replicas[partition], host.core._voters.sets[partition]
                owner = replica.owner
                if owner is not None and replica.members != goal and process.name in goal and owner.copies_made(goal):
                    aim.partition, aim.owner, aim.core = partition, process.name, host.core
                    aim.others = [str(other) for other in replica.order if other != process.name]
                    return len(aim.others) == 2
        return False

    if not (yield about_to_seal, GROWTH_S):
        return
    before = aim.promised(aim.owner)
    aim.part(aim.owner, *aim.others)
    aim.played_out()
    yield lambda: any(aim.owns(other, before) for other in aim.others), ELECTION_S
    for other in aim.others:
        aim.ask(other, 1)
    yield lambda: False, 3.0


def lone_roster(aim: Aim) -> Course:
    version, names = aim.core.roster.version, list(aim.world.machines)
    FAULTS["grow"].begin(aim.storm)
    deciding: list[str] = []

    def has_sealed() -> bool:
        """Somebody has written the next roster, and nobody else has it yet."""
        for process in aim.world.running():
            host = getattr(process.node, "_host", None)
            log = None if process.paused or host is None else host.core.replicas.get(ROSTER)
            if log is not None and log.owner is not None and log.closed() and log.commit < log.log.last:
                deciding[:] = [process.name, *(str(voter) for voter in log.order if voter != process.name)]
        return bool(deciding)

    if not (yield has_sealed, GROWTH_S):
        return
    one, *others = deciding
    for name in [name for name in aim.world.machines if name not in names]:
        aim.crash(name)  # so that the others decide something else
    FAULTS["grow"].begin(aim.storm)
    heard = others[:1] if aim.random.random() < 0.3 else []
    aim.part(one, *(name for name in aim.world.machines if name != one and name not in heard))
    aim.played_out()

    def others_decided() -> bool:
        hosts = [getattr(process.node, "_host", None) for process in aim.world.running() if process.name in others]
        return any(host.core.roster.version > version for host in hosts if host is not None and host.core.roster is not None)

    yield others_decided, GROWTH_S
    yield lambda: False, 3.0


def stale_owner(aim: Aim) -> Course:
    owner, before = aim.owner, aim.promised(aim.owner)
    aim.part(owner, *(name for name in aim.world.machines if name != owner))
    if not (yield lambda: any(aim.owns(other, before) for other in aim.others), ELECTION_S):
        return
    clients = next(watcher for watcher in aim.world.watchers if isinstance(watcher, Clients))
    another = next(other for other in aim.others if aim.owns(other, before))
    clients.submit(another, workflow_id := aim.new_id())
    if not (yield lambda: workflow_id in clients.accepted, WORK_S):
        return
    yield lambda: False, 0.1  # who asks later must hear of it
    clients.ask(owner, workflow_id)
    aim.played_out()
    yield lambda: any((one.client, one.target) == (owner, workflow_id) for one in clients.operations), ELECTION_S


# --- as faults


def aimed(name: str, plot: Plot) -> Callable[[Storm], Ending | None]:
    """As a fault: on a partition that is drawn among those whose copies are all up."""

    def begin(storm: Storm) -> Ending | None:
        up = set(storm.running())
        fit: list[tuple[int, str]] = []
        for owner in sorted(up):
            host = getattr(storm.world.node(owner), "_host", None)
            owned = () if host is None else host.owned_now
            sets = [(partition, host.core.replica_set(partition)) for partition in owned]
            fit += [(partition, owner) for partition, nodes in sets if len(nodes) == 3 and owner in nodes and up.issuperset(nodes)]
        if not fit:
            return None
        return Aim(storm, name, plot, *storm.random.choice(fit)).end

    return begin


PLOTS: dict[str, Plot] = {
    "overlap": overlap,
    "two logs": two_logs,
    "old tail": old_tail,
    "half a log": half_a_log,
    "back at once": back_at_once,
    "empty voter": empty_voter,
    "lone seal": lone_seal,
    "stale owner": stale_owner,
    "lone roster": lone_roster,
}
AIMED = {name: Fault(2, aimed(name, plot), LASTS_S, LASTS_S) for name, plot in PLOTS.items()}


# --- where they are played


def make_runner(world: SimWorld, name: str, transport: Transport, clock: Clock, entropy: Entropy, store: Store) -> ClusterNode:
    """As in any storm, with logs that go in pieces of an entry or two."""
    tuning = tuning_of(world) | {"piece_bytes": SHORT_PIECE_BYTES}
    return workloads.make_runner(world, name, transport, clock, entropy, store, tuning=tuning)


def make_world(seed: int) -> SimWorld:
    return SimWorld(seed, make_node=make_runner, drift=1e-3)


def scene(name: str) -> Scene:
    """This plot, and nothing else."""
    return Scene(make_world, workflows_too, copies, {name: AIMED[name]})


MIXED = Scene(make_world, workflows_too, copies, FAULTS | AIMED)
"""They among all other faults."""


def play_aimed(seed: int, name: str) -> Played:
    """One plot in a world as small as it can be."""
    return play(seed, scene(name), nodes=3, seconds=40.0 if name.startswith("lone") else 25.0, faults=1)
