"""Whole nodes in a simulated world: what membership promises, as far as it takes the shell around the core to keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from durable.cluster import ClusterNode
from durable.membership.member import MemberStatus, NodeId
from durable.sim.checks import Membership, NothingUnhandled, hold_in_the_end, missing
from durable.sim.network import Faults
from durable.sim.records import Beliefs
from durable.sim.world import SimWorld

NAMES = [f"node-{number}" for number in range(1, 6)]
Made = tuple[SimWorld, Beliefs, Callable[[float], bool]]


@pytest.fixture
def make() -> Iterator[Callable[..., Made]]:
    """A world with members that know each other, held to the laws; what they come to believe; whether they agree within a time."""
    worlds: list[SimWorld] = []

    def made(seed: int, count: int = 5, faults: Faults | None = None, **options: object) -> Made:
        world = SimWorld(seed, faults, **options)  # type: ignore[arg-type]
        worlds.append(world)
        beliefs = Beliefs(world)
        laws = [Membership(world), NothingUnhandled(world)]
        if count:
            world.start_converged(count)
        return world, beliefs, lambda within_s: world.run_until(lambda: missing(laws) is None, within_s)

    yield made
    for world in worlds:
        world.close()


def suspected(beliefs: Beliefs) -> list[object]:
    return [belief for belief in beliefs.all if belief.member.status is MemberStatus.SUSPECT]


def test_an_hour_at_five_percent_loss_costs_nobody_its_life(make: Callable[..., Made]) -> None:
    """SWIM, section 4.2: suspicion trades detection time for fewer false deaths; at 5 % loss none is left."""
    world, beliefs, _ = make(11, faults=Faults(loss=0.05))
    world.run(3600.0)
    assert suspected(beliefs)
    assert beliefs.of_false_death == []


def test_a_loop_blocked_for_three_seconds_costs_its_member_nothing(make: Callable[..., Made]) -> None:
    for seed in range(10):
        world, beliefs, agree = make(seed)
        world.pause("node-2")
        world.run(3.0)
        world.resume("node-2")
        assert agree(5.0)
        assert beliefs.of_false_death == []


def test_an_fsync_of_three_seconds_on_the_loop_costs_its_member_nothing(make: Callable[..., Made]) -> None:
    """The same by another way: the process stands still in the middle of a call, and what it then sends leaves late."""
    for seed in range(5):
        world, beliefs, agree = make(seed)
        process = world.machines["node-2"].process
        assert process is not None
        process.machine.disk.sync_s = (3.0, 3.0)

        async def sync(process=process) -> float:  # type: ignore[no-untyped-def]
            before = process.loop.time()
            process.store.sync()
            return process.loop.time() - before

        assert world.call("node-2", sync()) == pytest.approx(3.0, rel=0.01)
        assert agree(8.0)
        assert beliefs.of_false_death == []


@pytest.mark.parametrize(("members", "minutes"), [(5, 1), (10, 5), (20, 10)])
def test_two_halves_that_buried_each_other_find_each_other(make: Callable[..., Made], members: int, minutes: int) -> None:
    for seed in range(1 if members > 10 else 2):
        world, _, agree = make(seed, members)
        names = list(world.machines)
        half = members // 2
        world.partition([names[:half], names[half:]])
        world.run(60.0 * minutes)
        live = [sum(m.status.is_live for m in process.node.members()) for process in world.running()]
        assert live == [half] * half + [members - half] * (members - half)
        world.heal()
        assert agree(90.0), f"seed {seed}"


@pytest.mark.parametrize("wait_s", [0.0, 2.5, 12.0, 60.0])
def test_a_restart_is_let_in_at_once_and_not_killed_by_rumours_of_its_former_life(
    make: Callable[..., Made], wait_s: float
) -> None:
    world, beliefs, agree = make(int(wait_s))
    world.crash("node-2")
    world.run(wait_s)
    world.restart("node-2", seeds=["node-1"])
    assert agree(3.0)
    world.run(60.0)
    assert agree(0.0)
    assert beliefs.of_false_death == []


def test_a_restart_that_nobody_is_told_of_is_found_by_those_who_ping_its_address(make: Callable[..., Made]) -> None:
    world, _, agree = make(3)
    world.restart("node-4", seeds=[])
    assert agree(15.0)


@pytest.mark.parametrize("back_s", [1.0, 86_400.0])
def test_a_restart_whose_clock_went_back_raises_its_own_boot_number(make: Callable[..., Made], back_s: float) -> None:
    world, _, agree = make(4, 4)
    boot = world.node("node-2").members()[1].boot
    world.crash("node-2")
    world.set_clock("node-2", -back_s - world.now)
    world.start("node-2", seeds=["node-1"])
    assert agree(3.0)
    assert world.node("node-2").members()[1].boot > boot


def test_five_empty_nodes_that_start_together_find_each_other_every_time(make: Callable[..., Made]) -> None:
    for seed in range(50):
        world, _, agree = make(seed, 0, Faults(loss=0.02), seeds=NAMES)
        for name in NAMES:
            world.start(name)
            world.run(world.random.choice([0.0, 0.001, 0.3]))
        assert agree(10.0), f"{seed}"


def test_a_name_that_lives_elsewhere_is_not_taken_over_and_free_once_its_holder_is_dead(make: Callable[..., Made]) -> None:
    def with_one_name(world: SimWorld, name: str, transport: Any, clock: Any, entropy: Any, store: Any) -> ClusterNode:
        told = world.config_of(name)
        node_id = "node-3" if name == "elsewhere" else name
        config = replace(told, node_id=node_id)
        return ClusterNode(config, transport=transport, clock=clock, entropy=entropy)

    with SimWorld(5, make_node=with_one_name) as world:
        world.start_converged(4)
        world.start("elsewhere")
        world.run(5.0)
        assert len(world.running()) == 5
        assert [m.address.host for m in world.node("node-1").members() if m.node_id == "node-3"] == ["node-3"]
        assert len(world.node("elsewhere").members()) == 1
        world.crash("node-3")
        assert world.run_until(lambda: len(world.node("elsewhere").members()) == 4, 60.0)
        assert [m.address.host for m in world.node("node-1").members() if m.node_id == "node-3"] == ["elsewhere"]


def test_a_leave_is_known_to_all_in_a_second_and_nobody_is_suspected(make: Callable[..., Made]) -> None:
    for seed in range(10):
        world, beliefs, _ = make(seed, 10)
        world.leave("node-4")
        world.run(1.0)
        assert set(beliefs.about("node-4").values()) == {MemberStatus.LEFT}
        assert not world.machines["node-4"].running
        assert suspected(beliefs) == []


def test_a_member_that_hears_but_cannot_be_heard_is_found_and_one_that_is_cut_from_one_peer_only_is_not(
    make: Callable[..., Made],
) -> None:
    """SWIM, section 3.1: helpers see around one broken path, not around a dead end."""
    world, beliefs, _ = make(6, 6)
    for other in range(2, 7):
        world.cut("node-1", f"node-{other}")
    world.run(30.0)
    assert MemberStatus.ALIVE not in beliefs.about("node-1").values()
    world, beliefs, _ = make(6, 6)
    world.partition([["node-1"], ["node-2"]])
    world.run(300.0)
    assert beliefs.of_false_death == []


def test_machines_whose_clocks_run_apart_are_no_worse_members(make: Callable[..., Made]) -> None:
    world, beliefs, agree = make(7, drift=0.02)
    for name in NAMES:
        world.set_clock(name, world.random.uniform(-1e6, 1e6))
    world.run(600.0)
    assert suspected(beliefs) == []
    world.crash("node-5")
    assert world.run_until(lambda: set(beliefs.about("node-5").values()) == {MemberStatus.DEAD}, 15.0)
    assert agree(0.0)


def test_the_laws_speak_of_a_member_that_is_believed_dead_and_runs(make: Callable[..., Made]) -> None:
    """The law itself is held to something: in the middle of a partition it is not satisfied, and says with what."""
    world, _, agree = make(8)
    laws = [Membership(world)]
    world.partition([["node-1"], NAMES[1:]])
    world.run(30.0)
    assert missing(laws) == "Membership: node-1 does not believe node-2 alive, which runs"
    with pytest.raises(AssertionError, match=r"truth in the end.*seed 8.*after 3 s of peace"):
        hold_in_the_end(world, laws, 3.0)
    assert NodeId("node-1") in world.node("node-1").ring
    world.heal()
    assert agree(90.0)
