"""The tests of the tests: a rule of the core is broken on purpose, and what watches over it must notice within a few seeds.

==========================  ==================================================================================
broken                      noticed by
==========================  ==================================================================================
the order without boots     a restart has to answer for what was said of its former life
another's word for a death  one that was cut off buries the living
no refutation               loss buries the living
no calls to the dead        two halves that buried each other never meet
one rumour, one ride        the last member hears of it late, or never
one order of probes         a crash is noticed late
acks not believed           the load of an idle member
another's incarnation       a law of `durable.sim.checks`
==========================  ==================================================================================
"""

from __future__ import annotations

from random import Random

import pytest

from durable.figures.measures import first_detection_rounds, message_load, spread_s
from durable.figures.swarm import Swarm
from durable.membership import gossip, member, probe, view
from durable.membership.member import MemberStatus, NodeId
from durable.membership.swim import Swim
from durable.sim.checks import Laws
from durable.sim.network import Faults

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus


def test_without_boots_a_restart_has_to_answer_for_its_former_life(monkeypatch: pytest.MonkeyPatch) -> None:
    def refutations() -> int:
        swarm = Swarm(2)
        swarm.start_converged(5)
        swarm.crash("node-2")
        swarm.run(3.0)  # it is suspected, and the timers run
        process = swarm.restart("node-2", seeds=["node-1"])
        swarm.run(60.0)
        return process.swim.me.incarnation

    assert refutations() == 0
    for module in (member, view, gossip):
        monkeypatch.setattr(module, "rank", lambda one: (one.incarnation, one.status, one.address))
    assert refutations() > 0


def test_anothers_word_for_a_death_lets_one_that_was_away_bury_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    """SWIM, section 4.2. One that was cut off comes back in the moment in which it has called another dead, and says so."""

    def buried() -> int:
        swarm = Swarm(6)
        swarm.start_converged(6)
        swarm.network.partition([[swarm.address_of("node-1")], [swarm.address_of(f"node-{number}") for number in range(2, 7)]])
        assert swarm.run_until(lambda: any(death.observer == "node-1" for death in swarm.false_deaths), 60.0)
        swarm.network.heal()
        swarm.run(60.0)
        return sum("node-1" not in (death.observer, death.member.node_id) for death in swarm.false_deaths)

    assert buried() == 0
    monkeypatch.setitem(member.HEARD, (DEAD, member.BY_ANOTHER), DEAD)
    assert buried() > 0


def test_without_refutation_loss_kills_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    def buried() -> int:
        swarm = Swarm(11, faults=Faults(loss=0.05))
        swarm.start_converged(5)
        swarm.run(600.0)
        return len(swarm.false_deaths)

    assert buried() == 0
    monkeypatch.setattr(view.View, "_hear_of_myself", lambda self, now, claim: None)
    assert buried() > 0


def test_without_calls_to_the_dead_two_halves_never_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    def meet() -> bool:
        swarm = Swarm(1)
        swarm.start_converged(6)
        hosts = [process.address for process in swarm.alive()]
        swarm.network.partition([hosts[:3], hosts[3:]])
        swarm.run(120.0)
        swarm.network.heal()
        return swarm.run_until(swarm.converged, 120.0)

    assert meet()
    on_exchange = Swim._on_exchange

    def to_the_living_only(self: Swim, now: float, about: object) -> None:
        tombstones, self._view.tombstones = self._view.tombstones, {}
        on_exchange(self, now, about)
        self._view.tombstones = tombstones

    monkeypatch.setattr(Swim, "_on_exchange", to_the_living_only)
    assert not meet()


def test_one_ride_a_rumour_leaves_somebody_in_the_dark(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = max(spread_s(64, seed) for seed in range(4))
    monkeypatch.setattr(gossip, "rides_max", lambda members: 1)
    monkeypatch.setattr("durable.membership.outbox.rides_max", lambda members: 1)
    assert max(spread_s(64, seed) for seed in range(4)) > 2 * quick


def test_a_fixed_order_of_probes_makes_members_probe_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that know each other from the start would go round in one order: the crash of the last in it is noticed last."""

    def mean() -> float:
        found = [one for seed in range(20) for one in first_detection_rounds(16, seed)]
        return sum(found) / len(found)

    at_random = mean()
    monkeypatch.setattr(probe.ProbeOrder, "insert", lambda self, node_id: self._order.append(node_id))
    monkeypatch.setattr(Random, "shuffle", lambda self, order: order.sort())
    assert mean() > 2 * at_random


def test_a_member_that_says_more_than_it_must_is_seen_in_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view.View, "live_members", lambda self: list(self.others.values()))
    monkeypatch.setattr(probe.Prober, "on_ack", lambda self, now, sender, packet, ack: None)
    assert message_load(10, seed=1, periods=20) > 2.5


def test_an_incarnation_that_another_raises_breaks_a_law(monkeypatch: pytest.MonkeyPatch) -> None:
    def raised(self: view.View, of: object, status: MemberStatus) -> object:
        made = about(self, of, status)
        return type(made)(made.node_id, made.address, made.boot, made.incarnation + 1, made.status, made.origin)

    about = view.View._about
    monkeypatch.setattr(view.View, "_about", raised)
    swarm = Swarm(3)
    swarm.start_converged(4)
    laws = Laws(swarm)
    swarm.pause("node-2")
    with pytest.raises(AssertionError, match="own word"):
        for _ in range(100):
            swarm.run(0.2)
            laws.check()


def test_the_sound_core_buries_who_was_killed_and_nobody_too_early() -> None:
    """Beside the broken ones, a sound one: a crash is believed by all and by nobody too early."""
    swarm = Swarm(1)
    swarm.start_converged(5)
    swarm.crash("node-3")
    swarm.run(20.0)
    dead = [one for one in swarm.beliefs if one.member.status is DEAD]
    assert {one.observer for one in dead} == {NodeId(name) for name in ("node-1", "node-2", "node-4", "node-5")}
    assert min(one.at for one in dead) >= 5.0
