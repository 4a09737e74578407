"""How long what an owner owned stays without one, in virtual time: whole nodes, five of them, and one that is lost.

=============  =====================================================================================================
lost           what the others see
=============  =====================================================================================================
killed         its connections end at once
without power  nothing at all
paused         its connections stay, and nothing comes
cut off        as without power, and it goes on by itself
=============  =====================================================================================================

It is lost while functions of three workflows run or are being committed. Within `BOUNDS_S` everything that it owned has an
owner of a higher epoch, its workflows have gone on, and a step that was submitted in the moment of the loss is answered. A
function whose completion is on stable storage on a majority never runs again; any other that has begun, at most once more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import pytest

from durable import Context, current_call, function, workflow
from durable.cluster.config import PRESETS, ClusterConfig
from durable.errors import DurableError
from durable.journal.keys import JOURNAL, of, partition_of
from durable.sim.checks import Law, NothingUnhandled
from durable.sim.process import SimProcess
from durable.sim.world import SimWorld
from durable.trials.journals import Journals
from durable.trials.workloads import FEW, make_runner

NODES = 5
SEEDS = range(1, 4)
BOUNDS_S = {"lan": 3.0, "default": ClusterConfig.default().suspect_timeout + 3.0}
"""By preset."""

BODY_S, PATIENCE_S, PEACE_S = 0.1, 60.0, 10.0
DRAWN = 1_000_000_000

Loss = Callable[[SimWorld, str], Callable[[], object]]
"""Loses a node, and returns what brings it back."""


@function("bounds-draw")
async def draw(step: int) -> int:
    process: SimProcess = asyncio.get_running_loop().process  # type: ignore[attr-defined]
    (bodies,) = (watcher for watcher in process.world.watchers if isinstance(watcher, Bodies))
    value = bodies.begins(current_call().workflow_id, step)
    await asyncio.sleep(BODY_S)
    return value


@workflow("bounds-three")
async def three(ctx: Context, steps: int) -> list[int]:
    return [await ctx.call(draw, step) for step in range(steps)]


class Bodies(Law):
    """Which functions have begun, and what each run of one drew."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world)
        self.drawn: dict[tuple[str, int], list[int]] = {}
        self._number = DRAWN

    def begins(self, workflow_id: str, step: int) -> int:
        self._number += 1
        self.drawn.setdefault((workflow_id, step), []).append(self._number)
        return self._number

    def runs(self) -> Counter[tuple[str, int]]:
        return Counter({body: len(values) for body, values in self.drawn.items()})

    def committed(self, journals: Journals) -> dict[tuple[str, int], int]:
        """What is recorded of them on stable storage on a majority."""
        found = {}
        for (workflow_id, step), values in self.drawn.items():
            partition = partition_of(workflow_id)
            enough = journals.majority(partition)
            for value in values:
                if journals.durable_on(partition, (of(partition, JOURNAL, workflow_id),), enough, b"%d" % value) >= enough:
                    found[workflow_id, step] = value
        return found


class Took(NamedTuple):
    """Seconds from the loss until everything that was owned has an owner of a higher epoch, the last function of every workflow has
    begun, and a new step is answered.
    """

    fenced_s: float
    resumed_s: float
    answered_s: float


# How a node is lost


def killed(world: SimWorld, name: str) -> Callable[[], object]:
    world.crash(name)
    return lambda: world.start(name)


def without_power(world: SimWorld, name: str) -> Callable[[], object]:
    world.crash(name, power=True)
    return lambda: world.start(name)


def paused(world: SimWorld, name: str) -> Callable[[], object]:
    world.pause(name)
    return lambda: world.resume(name)


def cut_off(world: SimWorld, name: str) -> Callable[[], object]:
    world.partition([[name], [other for other in world.machines if other != name]])
    return world.heal


# A run


class Run:
    """A cluster at work, an owner that will be lost, and another node that everything is asked of."""

    def __init__(self, world: SimWorld, again_s: float) -> None:
        self.world, self.dice, self.again_s = world, Random(f"{world.seed}/bounds"), again_s
        self.journals, self.bodies = Journals(world, FEW), Bodies(world)
        NothingUnhandled(world)
        world.start_converged(NODES)
        assert world.run_until(lambda: len(self.owners()) == FEW, PATIENCE_S)
        self.victim = self.dice.choice(sorted({owner for owner, _ in self.owners().values()}))
        self.door = self.dice.choice([name for name in world.machines if name != self.victim])
        self.owned = {partition: epoch for partition, (owner, epoch) in self.owners().items() if owner == self.victim}
        self.ids = [self.id_of(f"work-{number}") for number in range(3)]

    def owners(self, without: str = "") -> dict[int, tuple[str, int]]:
        """By partition: who believes to own it, in which epoch."""
        hosts = [(process.name, process.node._host) for process in self.world.running() if process.name != without]
        return {number: (name, epoch) for name, host in hosts if host for number, epoch in host.owned_now.items()}

    def id_of(self, name: str) -> str:
        """An id in a partition that the victim owns."""
        return next(found for number in range(10_000) if partition_of(found := f"{name}.{number}") in self.owned)

    async def answer(self, workflow_id: str, steps: int) -> list[int]:
        """Submit, again under the same id where nobody answered, and wait for the result."""
        while True:
            try:
                async with asyncio.timeout(self.again_s):
                    return await (await self.world.node(self.door).submit(three, steps, workflow_id=workflow_id)).result()
            except (DurableError, TimeoutError):
                await asyncio.sleep(0.05)

    def until_functions_run(self) -> list[asyncio.Task[list[int]]]:
        """Until the second function of a workflow runs, and a bit: there, or while it is recorded."""
        asked = [self.world.spawn(self.door, self.answer(workflow_id, 3)) for workflow_id in self.ids]
        assert self.world.run_until(lambda: (self.ids[0], 1) in self.bodies.drawn, PATIENCE_S)
        self.world.run(self.dice.uniform(0.0, BODY_S + 0.005))
        return asked

    def fenced(self) -> bool:
        now = self.owners(without=self.victim)
        return all(partition in now and now[partition][1] > epoch for partition, epoch in self.owned.items())

    def resumed(self) -> bool:
        return all((workflow_id, 2) in self.bodies.drawn for workflow_id in self.ids)

    def timed(self) -> Took:
        """From now on. What does not happen takes for ever."""
        began, new = self.world.now, self.world.spawn(self.door, self.answer(self.id_of("new"), 1))
        goals = (self.fenced, self.resumed, new.done)
        reached: dict[int, float] = {}

        def all_reached() -> bool:
            for place, goal in enumerate(goals):
                if place not in reached and goal():
                    reached[place] = self.world.now - began
            return len(reached) == len(goals)

        self.world.run_until(all_reached, PATIENCE_S)
        return Took(*(reached.get(place, float("inf")) for place in range(len(goals))))


@pytest.mark.parametrize("preset", BOUNDS_S)
@pytest.mark.parametrize("lose", [killed, without_power, paused, cut_off], ids=lambda lose: lose.__name__)
def test_an_owner_that_is_lost_is_replaced_in_time_and_nothing_that_was_recorded_runs_again(preset: str, lose: Loss) -> None:
    found: dict[int, Took] = {}
    for seed in SEEDS:
        with SimWorld(seed, make_node=make_runner, drift=1e-3, config=PRESETS[preset]) as world:
            run = Run(world, PATIENCE_S)
            asked = run.until_functions_run()
            recorded, runs = run.bodies.committed(run.journals), run.bodies.runs()
            assert {(run.ids[0], 0)} <= recorded.keys() and (run.ids[0], 1) in runs
            back = lose(world, run.victim)
            found[seed] = run.timed()
            assert world.run_until(lambda asked=asked: all(one.done() for one in asked), PATIENCE_S)
            told = {workflow_id: one.result() for workflow_id, one in zip(run.ids, asked, strict=True)}
            back()
            world.run(PEACE_S)
            for workflow_id, result in told.items():
                assert result == world.call(run.victim, world.node(run.victim).handle(workflow_id).result())
            assert all(told[workflow_id][step] == value for (workflow_id, step), value in recorded.items())
            more = run.bodies.runs() - runs
            again = {body: more[body] for body in runs}
            assert {body: times for body, times in again.items() if times > (body not in recorded)} == {}, f"seed {seed}"
    late = {seed: took for seed, took in found.items() if max(took) > BOUNDS_S[preset]}
    assert not late, f"within {BOUNDS_S[preset]:g} s of the loss: {late}; all: {found}"
