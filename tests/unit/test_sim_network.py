"""The simulated network: each fault does what it says, and a seed repeats it."""

from __future__ import annotations

from random import Random

import pytest

from durable.sim.events import EventQueue
from durable.sim.network import Faults, SimNetwork


def network(**faults: object) -> SimNetwork:
    return SimNetwork(Random(1), Faults(**faults))  # type: ignore[arg-type]


def test_a_good_network_delivers_once_within_the_delay() -> None:
    good = network(delay_s=(0.1, 0.2))
    for _ in range(200):
        [delay] = good.datagram("a", "b")
        assert 0.1 <= delay <= 0.2


@pytest.mark.parametrize(("fault", "copies"), [("loss", 0), ("duplication", 2)])
def test_loss_and_duplication_come_as_often_as_asked(fault: str, copies: int) -> None:
    bad = network(**{fault: 0.2})
    hit = sum(len(bad.datagram("a", "b")) == copies for _ in range(4000))
    assert 700 < hit < 900


def test_reorder_holds_some_back() -> None:
    bad = network(reorder=0.5, reorder_s=1.0)
    held = sum(bad.datagram("a", "b")[0] > 0.0025 for _ in range(1000))
    assert 400 < held < 600


def test_a_cut_is_one_way_for_datagrams_and_both_for_streams() -> None:
    net = network()
    net.cut("a", "b")
    assert not net.passes("a", "b")
    assert net.datagram("a", "b") == ()
    assert len(net.datagram("b", "a")) == 1
    assert net.stream("a", "b") is net.stream("b", "a") is None
    net.mend("a", "b")
    assert len(net.datagram("a", "b")) == 1


def test_a_partition_leaves_whoever_is_in_no_group_with_everybody() -> None:
    net = network()
    net.partition([["a", "b"], ["c"]])
    assert net.passes("a", "b")
    assert not net.passes("a", "c")
    assert not net.passes("c", "b")
    assert net.passes("a", "x")
    assert net.passes("x", "c")
    net.heal()
    assert net.passes("a", "c")


def test_a_stream_is_late_under_loss_and_breaks_in_the_end() -> None:
    assert network(loss=1.0).stream("a", "b") is None
    delays = [network().stream("a", "b"), SimNetwork(Random(1), Faults(loss=0.6)).stream("a", "b")]
    assert delays[0] is not None
    assert delays[0] < 0.01
    assert delays[1] is None or delays[1] >= delays[0]


def test_the_same_seed_gives_the_same_network() -> None:
    def life() -> list[tuple[float, ...]]:
        net = network(loss=0.3, duplication=0.3, reorder=0.3)
        return [net.datagram("a", "b") for _ in range(100)]

    assert life() == life()


def test_events_of_one_moment_happen_in_the_order_in_which_they_were_planned() -> None:
    queue, seen = EventQueue(), []
    for name in "abc":
        queue.at(1.0, lambda name=name: seen.append(name))
    queue.at(0.5, lambda: queue.at(0.1, lambda: seen.append(f"past at {queue.now}")))
    queue.run_until(0.9)
    assert seen == ["past at 0.5"]
    queue.run_until(2.0)
    assert seen == ["past at 0.5", "a", "b", "c"]
    assert queue.now == 2.0
