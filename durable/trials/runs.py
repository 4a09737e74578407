"""One seed, from the first start to the last law: a cluster, a storm, peace, and whether everything holds.

**How it works.** A `Scene` says which world a seed is played in: what each process runs, which laws it is held to, and what is
asked of it meanwhile. `play` starts the nodes, lets the storm rage, heals, and waits for what must hold in the end. Everything
follows from the seed, so the line that reports a failure is also the way back to it.

Read next: `durable.sim.__main__`.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from durable.cluster.config import PRESETS
from durable.sim.checks import LawBroken, Laws, Membership, NothingUnhandled, hold_in_the_end
from durable.sim.faults import Fault, Storm
from durable.sim.records import Beliefs
from durable.sim.world import SimWorld
from durable.trials.clients import Clients
from durable.trials.journals import Journals
from durable.trials.workloads import make_runner, partitions_in
from durable.world import cpu_s, die_with_parent

BIRTH_LIMIT_S = 30.0
PEACE_LIMIT_S = 300.0
LAN_EVERY = 32


@dataclass(frozen=True)
class Scene:
    """What a seed is played in.

    ``make_world`` gives an empty world, ``laws`` what it is held to, made before the first process starts. Whoever asks
    something of the nodes meanwhile is a law too: that all of it is answered. ``company`` is whom a partial cut keeps a node
    from, ``kinds`` what may happen: see `Storm`.
    """

    make_world: Callable[[int], SimWorld]
    laws: Callable[[SimWorld], Laws]
    company: Callable[[SimWorld, str], Sequence[str]] | None = None
    kinds: Mapping[str, Fault] | None = None


@dataclass(frozen=True)
class Played:
    """What came of a seed. ``broken`` is the law that did not hold, None if all did; ``cpu_s`` is what it cost here."""

    seed: int
    simulated_s: float
    faults: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    broken: str | None = None
    trace: tuple[str, ...] = ()
    cpu_s: float = 0.0


def begin_worker(parent: int) -> None:
    """In a process that plays seeds: end with ``parent``, and say nothing of what simulated nodes log."""
    die_with_parent(parent)
    logging.getLogger("durable").addHandler(logging.NullHandler())


def members_only(world: SimWorld) -> Laws:
    """The laws of membership."""
    Beliefs(world)
    return [Membership(world), NothingUnhandled(world)]


def workflows_too(world: SimWorld) -> Laws:
    """Those, and what replicated journals promise, with clients that ask for work all the while."""
    journals = Journals(world, partitions_in(world))
    return [*members_only(world), Clients(world, journals), journals]  # what is looked at last costs most


def copies(world: SimWorld, name: str) -> Sequence[str]:
    """Who keeps copies of something that a node owns: cut off from these, it is an owner that others still see."""
    host = world.node(name)._host
    if host is None or not host.owned_now:
        return [other for other in world.machines if other != name][:2]
    partition = world.random.choice(sorted(host.owned_now))
    return [str(other) for other in host.core.replica_set(partition) if other != name]


def preset(seed: int) -> dict[str, float]:
    """What the nodes of a seed are told: the defaults, or, in one of `LAN_EVERY`, the timeouts of the LAN preset."""
    return dict(PRESETS["lan"]) if seed % LAN_EVERY == 1 else {}


SCENES: dict[str, Scene] = {
    "members": Scene(lambda seed: SimWorld(seed, drift=1e-3), members_only),
    "workflows": Scene(
        lambda seed: SimWorld(seed, make_node=make_runner, drift=1e-3, config=preset(seed)), workflows_too, company=copies
    ),
}


def play(seed: int, scene: Scene | str = "workflows", *, nodes: int = 5, seconds: float = 60.0, faults: int = 12) -> Played:
    """Play one seed. A law that is broken ends it, and is told in `Played.broken`.

    >>> played = play(7, "members", seconds=10.0, faults=3)
    >>> played.broken, played.faults.total()
    (None, 3)
    """
    collects = gc.isenabled()
    gc.disable()  # a world is thrown away as a whole: who looks for garbage again and again meanwhile finds next to none
    try:
        return _play(SCENES[scene] if isinstance(scene, str) else scene, seed, nodes, seconds, faults)
    finally:
        gc.collect(0)  # all of it is young
        if collects:
            gc.enable()


def _play(chosen: Scene, seed: int, nodes: int, seconds: float, faults: int) -> Played:
    began = cpu_s()
    with chosen.make_world(seed) as world:
        storm = Storm(world, seconds=seconds, count=faults, kinds=chosen.kinds, company=chosen.company)
        broken = None
        try:
            laws = chosen.laws(world)
            for number in range(1, nodes + 1):
                world.start(f"node-{number}")
            hold_in_the_end(world, laws, BIRTH_LIMIT_S)
            storm.begin()
            for law in laws:
                law.begins()
            world.run(seconds)
            storm.heal()
            for law in laws:
                law.healed()
            hold_in_the_end(world, laws, PEACE_LIMIT_S)
        except LawBroken as error:
            broken = str(error)
        return Played(seed, world.now, storm.happened, world.digest(), broken, tuple(world.trace), cpu_s() - began)
