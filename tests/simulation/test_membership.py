"""The papers' claims and the contract's figures, in simulation. Each test names the section and restates the
claim in our own words.

Longer sweeps, and clusters of a thousand: ``python tests/bench/swim_bench.py``.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

import pytest

from durable.membership import gossip
from durable.membership.member import MemberStatus, NodeId
from durable.membership.messages import PACKET_BYTES_MAX, Ping
from durable.membership.tuning import Tuning
from durable.sim.checks import Laws
from durable.sim.measures import (
    agreement_s,
    first_detection_rounds,
    join_s,
    message_load,
    pauses,
    spread_s,
)
from durable.sim.network import Faults
from durable.sim.swarm import Sent, Swarm

LAN = Tuning(interval_s=0.1, suspect_timeout_s=0.5)


def test_a_crash_is_first_noticed_after_e_over_e_minus_1_periods() -> None:
    """SWIM, section 3.1: however many members there are, somebody pings the dead one in its first period with
    probability
    1 - 1/e, in its second otherwise with the same, ...: 1.58 periods on average, independent of n."""
    rounds = [found for seed in range(250) for found in first_detection_rounds(20, seed)]
    assert statistics.mean(rounds) == pytest.approx(math.e / (math.e - 1), rel=0.12)
    assert statistics.mean(found == 1 for found in rounds) == pytest.approx(1 - 1 / math.e, abs=0.1)


@pytest.mark.parametrize("members", [3, 5, 10, 30, 100])
def test_an_idle_member_sends_two_packets_a_period_whatever_the_size(members: int) -> None:
    """SWIM, section 3.1: the load of a member does not depend on the size of the group. One ping, and one ack
    for the one it gets.
    """
    assert message_load(members, seed=1, periods=40) == pytest.approx(2.0, abs=0.05)


def test_every_member_is_probed_by_every_other_within_2n_minus_1_periods() -> None:
    """SWIM, section 4.3: going round in turns makes a bound of what is only likely with targets drawn at random:
    between two probes of one target lie at most two rounds.
    """
    swarm, asked = Swarm(5), defaultdict[str, list[str]](list)
    swarm.start_converged(8)

    def look(sent: Sent) -> None:
        if isinstance(sent.packet.message, Ping):
            asked[sent.source].append(sent.packet.message.target)

    swarm.on_sent = look
    swarm.run(100.0)
    others, window = 7, 2 * 7 - 1
    assert len(asked) == 8
    for targets in asked.values():
        assert len(targets) >= 99
        for begin in range(len(targets) - window):
            assert len(set(targets[begin : begin + window])) == others
    orders = {tuple(targets[:others]) for targets in asked.values()}
    assert len(orders) == 8, "and each in an order of its own"


def test_news_reaches_everybody_in_a_time_that_grows_with_log_n() -> None:
    """SWIM, section 4.1: an infection is complete after about lambda log n periods: sixteen times the
    members, a few rounds more.
    """
    mean = {n: statistics.mean(spread_s(n, seed) for seed in range(8)) for n in (8, 32, 128)}
    assert mean[8] < mean[32] < mean[128] < 2.0
    per_doubling = (mean[128] - mean[8]) / 4
    assert mean[32] == pytest.approx(mean[8] + 2 * per_doubling, rel=0.25)
    assert mean[128] < 6 * mean[8]


def test_five_survivors_agree_on_a_kill_within_the_contracts_times() -> None:
    """The contract, defaults, 5 nodes: SIGKILL to all survivors agreeing, p50 within 7.5 s, p99 within 10.5
    s.
    Lifeguard, "Local Health Aware Suspicion": agreement of others brings the timeout down to its minimum."""
    times = sorted(agreement_s(5, seed) for seed in range(200))
    assert times[100] <= 7.5
    assert times[197] <= 10.5
    assert times[0] >= 5.0


def test_with_the_lan_preset_everything_is_ten_times_faster() -> None:
    times = sorted(agreement_s(5, seed, LAN) for seed in range(60))
    assert times[30] <= 0.75
    assert times[-1] <= 1.2


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_join_is_seen_by_all_within_three_seconds(loss: float) -> None:
    times = [join_s(members, seed, loss) for members in (1, 4, 20) for seed in range(15)]
    assert max(times) <= 3.0


def test_an_hour_at_five_percent_loss_costs_nobody_its_life() -> None:
    """SWIM, section 4.2: suspicion trades detection time for fewer false deaths; at 5 % loss none is left."""
    swarm = Swarm(11, faults=Faults(loss=0.05))
    swarm.start_converged(5)
    swarm.run(3600.0)
    suspicions = [belief for belief in swarm.beliefs if belief.member.status is MemberStatus.SUSPECT]
    assert suspicions
    assert swarm.false_deaths == []


def test_pauses_of_six_seconds_cost_nobody_of_five_its_life() -> None:
    for seed in range(4):
        for one in (True, False):
            seen = pauses(5, seed, pause_s=6.0, awake_s=(5.0, 20.0), run_s=300.0, one=one)
            assert seen.suspicions > 3 * seen.pauses
            assert seen.false_deaths == 0


def test_a_member_that_pauses_two_seconds_at_a_time_buries_hardly_anybody_with_lifeguard() -> None:
    """Lifeguard, evaluation: false positives at a slow member fall by more than an order of magnitude."""
    seen = pauses(50, 1, pause_s=2.0, awake_s=(0.05, 0.2), run_s=600.0)
    assert seen.pauses > 200
    assert seen.false_deaths <= 2


def test_and_many_without_it_where_rumours_are_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pauses with a third of our gossip budget: refutations get lost. What Lifeguard is worth.

    With the full budget this core buries nobody either way: a death told by another is only a suspicion here.
    """
    monkeypatch.setattr(gossip, "RIDES_FACTOR", 1.0)

    def buried(lifeguard: bool) -> int:
        runs = [
            pauses(50, seed, pause_s=2.0, awake_s=(0.05, 0.2), run_s=150.0, lifeguard=lifeguard, one=False)
            for seed in range(3)
        ]
        return sum(run.false_deaths for run in runs)

    without, with_lifeguard = buried(False), buried(True)
    assert without >= 60
    assert with_lifeguard <= without / 3


def test_a_member_that_hardly_ever_runs_accuses_itself_first() -> None:
    """Lifeguard, "Local Health Aware Probe", and the stall rule: a slow member finds its acks unread.

    In the few milliseconds between its pauses plain SWIM buries healthy members. Here it never does.
    """

    def of_healthy(lifeguard: bool) -> int:
        return pauses(50, 0, pause_s=5.0, awake_s=(0.001, 0.01), run_s=200.0, lifeguard=lifeguard).of_healthy

    assert of_healthy(False) >= 5
    assert of_healthy(True) == 0


def test_any_member_may_be_the_one_that_pauses() -> None:
    seen = pauses(50, 2, pause_s=2.0, awake_s=(0.5, 1.5), run_s=200.0, one=False)
    assert seen.false_deaths <= 1


def test_a_loop_blocked_for_three_seconds_costs_its_member_nothing() -> None:
    for seed in range(10):
        swarm = Swarm(seed)
        swarm.start_converged(5)
        swarm.run(5.0)
        swarm.pause("node-2")
        swarm.run(3.0)
        swarm.resume("node-2")
        assert swarm.run_until(swarm.converged, 5.0)
        assert swarm.false_deaths == []


@pytest.mark.parametrize(("members", "minutes"), [(5, 1), (10, 5), (20, 10)])
def test_two_halves_that_buried_each_other_find_each_other(members: int, minutes: int) -> None:
    for seed in range(3):
        swarm = Swarm(seed)
        swarm.start_converged(members)
        swarm.run(5.0)
        hosts = [process.address for process in swarm.alive()]
        swarm.network.partition([hosts[: members // 2], hosts[members // 2 :]])
        swarm.run(60.0 * minutes)
        live = [sum(m.status.is_live for m in p.swim.members()) for p in swarm.alive()]
        assert sorted(set(live)) == sorted({members // 2, members - members // 2})
        swarm.network.heal()
        assert swarm.run_until(swarm.converged, 90.0), f"seed {seed}"


def test_a_restart_is_let_in_at_once_and_not_killed_by_rumours_of_its_former_life() -> None:
    for wait_s in (0.0, 2.5, 12.0, 60.0):
        swarm = Swarm(int(wait_s))
        swarm.start_converged(5)
        swarm.run(3.0)
        swarm.crash("node-2")
        swarm.run(wait_s)
        swarm.restart("node-2", seeds=["node-1"])
        assert swarm.run_until(swarm.converged, 3.0), f"after {wait_s} s"
        swarm.run(60.0)
        assert swarm.converged()
        assert swarm.false_deaths == []


def test_a_restart_that_nobody_is_told_of_is_found_by_those_who_ping_its_address() -> None:
    swarm = Swarm(3)
    swarm.start_converged(5)
    swarm.run(3.0)
    swarm.restart("node-4")
    assert swarm.run_until(swarm.converged, 15.0)


@pytest.mark.parametrize("boot", [0, 1])
def test_a_restart_whose_clock_went_back_raises_its_own_boot_number(boot: int) -> None:
    swarm = Swarm(4)
    swarm.start_converged(4)
    swarm.run(3.0)
    swarm.restart("node-2", seeds=["node-1"])
    swarm.run(3.0)
    swarm.crash("node-2")
    swarm.start("node-2", boot=boot, seeds=["node-1"])
    assert swarm.run_until(swarm.converged, 3.0)
    assert swarm.processes[NodeId("node-2")].swim.me.boot == 3


def test_five_empty_nodes_that_start_together_find_each_other_every_time() -> None:
    names = [f"node-{number}" for number in range(1, 6)]
    for seed in range(50):
        swarm = Swarm(seed, faults=Faults(loss=0.02))
        for name in names:
            swarm.start(name, seeds=names)
            swarm.run(swarm.random.choice([0.0, 0.001, 0.3]))
        assert swarm.run_until(lambda swarm=swarm: len(swarm.alive()) == 5 and swarm.converged(), 10.0), (
            f"{seed}"
        )


def test_a_name_that_lives_elsewhere_is_not_taken_over_and_free_once_its_holder_is_dead() -> None:
    swarm = Swarm(5)
    swarm.start_converged(4)
    swarm.run(2.0)
    holder = swarm.processes[NodeId("node-3")]
    rival = swarm.start("node-3", host="elsewhere", boot=7, seeds=["node-1"])
    swarm.run(5.0)
    refusals = [effect for _, _, effect in swarm.other_effects]
    assert refusals
    assert {type(effect).__name__ for effect in refusals} == {"JoinRefused"}
    assert not holder.swim.stopped
    holder.running = False
    assert swarm.run_until(swarm.converged, 60.0)
    assert not rival.swim.stopped


def test_a_leave_is_known_to_all_in_a_second_and_nobody_is_suspected() -> None:
    for seed in range(10):
        swarm = Swarm(seed)
        swarm.start_converged(10)
        swarm.run(3.0)
        swarm.leave("node-4")
        swarm.run(1.0)
        assert set(swarm.beliefs_about("node-4").values()) == {MemberStatus.LEFT}
        assert not swarm.processes[NodeId("node-4")].running
        assert not [belief for belief in swarm.beliefs if belief.member.status is MemberStatus.SUSPECT]


def test_a_member_that_hears_but_cannot_be_heard_is_found_and_one_that_is_cut_from_one_peer_only_is_not() -> (
    None
):
    """SWIM, section 3.1: helpers see around one broken path, not around a dead end."""
    swarm = Swarm(6)
    swarm.start_converged(6)
    for other in range(2, 7):
        swarm.network.cut(swarm.address_of("node-1"), swarm.address_of(f"node-{other}"))
    swarm.run(30.0)
    others = {name: status for name, status in swarm.beliefs_about("node-1").items() if name != "node-1"}
    assert MemberStatus.ALIVE not in others.values()
    partial = Swarm(6)
    partial.start_converged(6)
    partial.network.partition([[partial.address_of("node-1")], [partial.address_of("node-2")]])
    partial.run(300.0)
    assert partial.beliefs == [], "nobody was even suspected: there is always a helper who gets through"


def test_storms_of_everything_end_in_the_truth() -> None:
    """Loss, duplication, reordering, cuts, pauses, crashes and restarts at random, the laws checked all
    along.
    """
    for seed in range(25):
        swarm = Swarm(seed, faults=Faults(loss=0.1, duplication=0.1, reorder=0.2, delay_s=(0.001, 0.1)))
        names = [f"node-{number}" for number in range(1, 8)]
        swarm.start_converged(len(names))
        laws = Laws(swarm)
        for _ in range(12):
            storm(swarm, names)
            swarm.run(8.0 * swarm.random.random())
            laws.check()
        swarm.network.heal()
        swarm.network.faults = Faults()
        for name in names:
            swarm.resume(name)
        assert swarm.run_until(swarm.converged, 200.0), f"seed {seed}"
        laws.check()
        assert swarm.datagram_bytes_max <= PACKET_BYTES_MAX


def storm(swarm: Swarm, names: list[str]) -> None:
    """One fault, chosen by the seed."""
    name, other = swarm.random.sample(names, 2)
    running = [process for process in swarm.alive() if not process.paused]
    process = swarm.processes[NodeId(name)]
    match swarm.random.randrange(7):
        case 0 if len(running) > 2:
            swarm.crash(name)
        case 1 if process.running:
            swarm.pause(name)
        case 2:
            swarm.resume(name)
        case 3 if not process.running:
            swarm.restart(name, seeds=names)
        case 4:
            swarm.network.cut(swarm.address_of(name), swarm.address_of(other))
        case 5:
            split = swarm.random.randrange(1, len(names))
            hosts = [swarm.address_of(one) for one in names]
            swarm.network.partition([hosts[:split], hosts[split:]])
        case 6:
            swarm.network.heal()
