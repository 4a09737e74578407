"""Fresh seeds on every run of the suite, and the tests of the tests: a planted bug is found, and the report leads back to it.

Thousands at a time: ``nox -s simulate``.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import replace

import pytest

from durable.cluster.node import ClusterNode
from durable.membership.swim import Swim
from durable.membership.view import View
from durable.sim import __main__ as command
from durable.sim.checks import hold_in_the_end
from durable.sim.faults import FAULTS, Storm
from durable.sim.world import SimWorld
from durable.trials.clients import Clients
from durable.trials.runs import SCENES, play

SEEDS = 12


@pytest.mark.parametrize("scene", ["members", "workflows"])
def test_no_law_is_broken_in_a_dozen_fresh_storms(scene: str) -> None:
    first = int.from_bytes(os.urandom(3), "big")
    for seed in range(first, first + SEEDS):
        played = play(seed, scene)
        assert played.broken is None, f"python -m durable.sim --scene {scene} --first {seed} --trace"
        assert played.faults.total() >= 10
        assert played.simulated_s >= 60.0


def test_a_seed_is_the_same_whoever_plays_it() -> None:
    """The journal names the line of each operation: the author's, and not that of who started the loop."""
    played = []
    for above in ("", "\n" * 1000):
        code = compile(above + 'played.append(play(2, seconds=5.0, faults=1))', "elsewhere.py", "exec")
        exec(code, {"__name__": "__main__", "played": played, "play": play})
    assert played[0].digest == played[1].digest


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_happens_and_is_survived(kind: str) -> None:
    with SimWorld(1) as world:
        world.start_converged(5)
        storm = Storm(world, seconds=20.0, count=8, kinds={kind: FAULTS[kind]}, losses_max=2)
        storm.begin()
        world.run(30.0)
        assert storm.happened[kind]
        storm.heal()
        names = [name for name in world.machines if name not in storm.left]
        assert world.run_until(lambda: all(len(live(world, name)) == len(names) for name in names), 120.0)


def live(world: SimWorld, name: str) -> list[str]:
    return [member.node_id for member in world.node(name).members() if member.status.is_live]


def first_broken(seeds: int) -> str | None:
    for seed in range(seeds):
        broken = play(seed, "members", seconds=40.0).broken
        if broken is not None:
            return broken
    return None


def test_members_that_do_not_refute_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: whoever was suspected once stays so, or dead, and the truth is not believed in the end."""
    monkeypatch.setattr(View, "_hear_of_myself", lambda self, now, claim: None)
    assert "truth in the end" in (first_broken(10) or "")


def test_a_shell_that_forgets_its_timer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted in the shell and not in the core: only a world of whole nodes can see it."""
    arm = ClusterNode._arm

    def forgets(self: ClusterNode, swim: Swim) -> None:
        if len(swim.members()) < 5:
            arm(self, swim)

    monkeypatch.setattr(ClusterNode, "_arm", forgets)
    assert "truth in the end" in (first_broken(3) or "")


def test_what_is_raised_and_not_caught_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: ClusterNode) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(ClusterNode, "_wake", fails)
    assert "ZeroDivisionError: planted" in (first_broken(1) or "")


def test_a_failing_seed_is_reported_with_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    size = ["--faults", "3", "--seconds", "10", "--nodes", "3"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert command.main(["--first", "5", "--seeds", "3", "--processes", "1", *size]) == 0
    assert "3 seeds from 5: 0 broke a law" in said.getvalue()
    assert "simulated hours a CPU-hour" in said.getvalue()
    total = command._Total(command._parse(size))
    broken = play(5, seconds=10.0, faults=3, nodes=3)
    with contextlib.redirect_stdout(said):
        total.add(replace(broken, broken="the law 'x' is broken"))
    again = said.getvalue().split("again: python -m durable.sim ")[1].split()
    with contextlib.redirect_stdout(said):
        assert command.main(again) == 0
    assert f"digest {broken.digest}" in said.getvalue()



def test_a_client_that_is_cut_off_when_a_storm_begins_tries_again_until_it_is_let_in() -> None:
    """Found by seed 93001126: a partition came before a client had been answered by anybody."""
    scene = SCENES["workflows"]
    with scene.make_world(1) as world:
        laws = scene.laws(world)
        clients = next(law for law in laws if isinstance(law, Clients))
        for number in range(1, 6):
            world.start(f"node-{number}")
        hold_in_the_end(world, laws, 30.0)
        for law in laws:
            law.begins()
        nodes = [name for name in world.machines if name.startswith("node-")]
        world.partition([nodes, ["client-1", "client-2", "client-3"]])
        world.run(30.0)
        assert not clients.accepted
        world.heal()
        world.run(30.0)
        assert {"client-1", "client-2", "client-3"} <= set(clients.accepted.values())
        for law in laws:
            law.healed()
        hold_in_the_end(world, laws, 60.0)
