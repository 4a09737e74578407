"""The papers' claims and the figures of chapter 4, on many bare cores. Each test names the section and restates the
claim in our own words. What must hold for whole nodes is in ``test_members.py``.

Longer sweeps, and clusters of a thousand: ``nox -s bench -- --workloads W11``.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

import pytest

from durable.figures.measures import (
    agreement_s,
    first_detection_rounds,
    join_s,
    message_load,
    pauses,
    spread_s,
)
from durable.figures.swarm import Swarm
from durable.membership import gossip
from durable.membership.messages import Ping
from durable.membership.tuning import Tuning
from durable.sim.records import Sent

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


def test_five_survivors_agree_on_ninety_nine_kills_of_a_hundred_within_ten_and_a_half_seconds() -> None:
    """The defaults, 5 nodes: SIGKILL to all survivors agreeing, p50 within 7.5 s, p99 within 10.5 s.

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
