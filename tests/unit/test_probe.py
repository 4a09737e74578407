"""Probing: the round robin, one period of asking, and asking for others. Each test drives a `Swim`."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from durable.membership.effects import Send
from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Ack, Message, Nack, Packet, Ping, PingReq
from durable.membership.probe import RELAYS_MAX, ProbeOrder
from durable.membership.swim import Swim
from durable.membership.tuning import Tuning

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus


def claim(name: str, status: MemberStatus = ALIVE, incarnation: int = 0, boot: int = 1) -> Claim:
    return Claim(NodeId(name), NodeAddress(name), boot, incarnation, status, NodeId(name))


def member(*others: str, tuning: Tuning | None = None) -> Swim:
    swim = Swim(
        NodeId("me"),
        NodeAddress("me"),
        boot=1,
        random=Random(1),
        tuning=tuning or Tuning(exchange_interval_s=1e6),
        remembered=[claim(name) for name in others],
    )
    swim.start(0.0)
    return swim


def say(swim: Swim, now: float, sender: str, message: Message | None, *claims: Claim, boot: int = 1) -> None:
    swim.receive(now, NodeAddress(sender), Packet("durable", NodeId(sender), boot, message, claims))


def sent(swim: Swim) -> list[tuple[str, Message | None]]:
    return [(effect.to.host, effect.packet.message) for effect in swim.effects() if isinstance(effect, Send)]


def next_ping(swim: Swim) -> tuple[float, str, Ping]:
    """Go on to the next direct ping."""
    while True:
        now = swim.next_deadline()
        assert now is not None
        swim.tick(now)
        for to, message in sent(swim):
            if isinstance(message, Ping):
                return now, to, message


def status(swim: Swim, name: str) -> MemberStatus:
    return next(member.status for member in swim.members() if member.node_id == name)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.integers(0, 99))
def test_every_member_is_probed_once_a_round_and_within_2n_minus_1_periods(
    joins: list[str], seed: int
) -> None:
    """SWIM, section 4.3: round robin bounds the worst case; newcomers are inserted at random."""
    order, present = ProbeOrder(Random(seed)), []
    for name in dict.fromkeys(joins):
        order.insert(NodeId(name))
        present.append(name)
        order.next()
    if not present:
        assert order.next() is None
        return
    drawn = [order.next() for _ in range(6 * len(present))]
    for start in range(len(drawn) - 2 * len(present) + 1):
        assert set(drawn[start : start + 2 * len(present) - 1]) == set(present)


def test_a_removed_member_is_not_probed_and_the_others_keep_their_turn() -> None:
    order = ProbeOrder(Random(3))
    for name in "abcdef":
        order.insert(NodeId(name))
    first = [order.next() for _ in range(3)]
    order.remove(first[0])  # type: ignore[arg-type]
    rest = [order.next() for _ in range(3)]
    assert sorted([*first, *rest]) == list("abcdef")  # type: ignore[type-var]


def test_an_answered_probe_costs_nothing_and_accuses_nobody() -> None:
    swim = member("a", "b", "c", "d")
    now, to, ping = next_ping(swim)
    say(swim, now + 0.01, to, Ack(ping.sequence))
    assert next_ping(swim)[0] == now + 1.0
    assert status(swim, to) is ALIVE
    assert swim.health.score == 0


def test_half_a_period_later_three_helpers_are_asked_and_their_ack_saves_the_target() -> None:
    """SWIM, section 3.1."""
    swim = member("a", "b", "c", "d", "e")
    now, target, ping = next_ping(swim)
    swim.tick(now + 0.5)
    requests = sent(swim)
    assert len({to for to, _ in requests}) == 3
    assert target not in dict(requests)
    assert {message for _, message in requests} == {
        PingReq(ping.sequence, NodeId(target), NodeAddress(target))
    }
    say(swim, now + 0.6, requests[0][0], Ack(ping.sequence))
    next_ping(swim)
    assert status(swim, target) is ALIVE


def test_without_any_ack_the_target_is_suspected_at_the_end_of_the_period() -> None:
    swim = member("a", "b")
    now, target, _ = next_ping(swim)
    swim.tick(now + 0.5)
    swim.tick(now + 0.999)
    assert status(swim, target) is ALIVE
    swim.tick(now + 1.0)
    assert status(swim, target) is SUSPECT


def test_a_suspect_is_not_asked_for_help() -> None:
    swim = member("a", "b", "c")
    now, target, _ = next_ping(swim)
    ill = next(name for name in "abc" if name != target)
    say(swim, now + 0.1, target, None, accusation(ill))
    swim.effects()
    swim.tick(now + 0.5)
    assert ill not in [to for to, message in sent(swim) if isinstance(message, PingReq)]


def accusation(name: str) -> Claim:
    return Claim(NodeId(name), NodeAddress(name), 1, 0, SUSPECT, NodeId("z"))


def test_nacks_from_all_helpers_cost_no_health_and_each_missing_one_costs_a_point() -> None:
    """Lifeguard, "Local Health Aware Probe": a nack shows that the way to the helper is well."""
    for nacks, score in ((3, 0), (1, 2), (0, 3)):
        swim = member("a", "b", "c", "d", "e")
        now, target, ping = next_ping(swim)
        swim.tick(now + 0.5)
        helpers = [to for to, message in sent(swim) if isinstance(message, PingReq)]
        for helper in helpers[:nacks]:
            say(swim, now + 0.9, helper, Nack(ping.sequence))
            say(swim, now + 0.9, helper, Nack(ping.sequence))
        swim.tick(now + 1.0)
        assert (status(swim, target), swim.health.score) == (SUSPECT, score)


def test_ill_health_stretches_the_period_and_the_timeouts() -> None:
    """Lifeguard, "Local Health Aware Probe": interval and timeout are multiplied by the score plus one."""
    swim = member("a", "b", "c", "d", "e")
    swim.health.score = 2
    now, target, _ = next_ping(swim)
    swim.tick(now + 1.49)
    assert not [message for _, message in sent(swim) if isinstance(message, PingReq)]
    swim.tick(now + 1.5)
    assert len([message for _, message in sent(swim) if isinstance(message, PingReq)]) == 3
    swim.tick(now + 2.99)
    assert status(swim, target) is ALIVE
    swim.tick(now + 3.0)
    assert status(swim, target) is SUSPECT


def test_a_ping_is_answered_to_where_it_came_from_and_only_if_it_is_for_us() -> None:
    swim = member("a")
    say(swim, 0.001, "a", Ping(5, NodeId("me")))
    assert sent(swim) == [("a", Ack(5))]
    say(swim, 0.002, "a", Ping(6, NodeId("another")))
    assert sent(swim) == []
    assert swim.dropped["ping for another"] == 1


def test_a_helper_pings_for_another_nacks_in_time_and_passes_on_a_late_ack() -> None:
    """Lifeguard, "Local Health Aware Probe": the nack comes at 80 % of the timeout."""
    swim = member("asker", "target", tuning=Tuning(exchange_interval_s=1e6, interval_s=10.0))
    say(swim, 0.0, "asker", PingReq(77, NodeId("target"), NodeAddress("target")))
    [(to, ping)] = sent(swim)
    assert to == "target"
    assert isinstance(ping, Ping)
    swim.tick(3.999)
    nacks = [message for _, message in sent(swim) if isinstance(message, Nack)]
    assert nacks == []
    swim.tick(4.0)
    assert ("asker", Nack(77)) in sent(swim)
    say(swim, 4.5, "target", Ack(ping.sequence))
    assert ("asker", Ack(77)) in sent(swim)
    say(swim, 4.6, "target", Ack(ping.sequence))
    assert sent(swim) == []


def test_plain_swim_sends_no_nacks() -> None:
    swim = member("asker", "target", tuning=Tuning(exchange_interval_s=1e6, lifeguard=False))
    say(swim, 0.0, "asker", PingReq(77, NodeId("target"), NodeAddress("target")))
    swim.tick(0.45)
    assert not [message for _, message in sent(swim) if isinstance(message, Nack)]


def test_relays_are_bounded_and_forgotten() -> None:
    swim = member("asker")
    for number in range(RELAYS_MAX + 5):
        say(swim, 0.0, "asker", PingReq(number, NodeId("x"), NodeAddress("x")))
    assert len([message for _, message in sent(swim) if isinstance(message, Ping)]) == RELAYS_MAX
    assert swim.dropped["too many relays"] == 5
    swim.tick(2.1)
    say(swim, 2.1, "asker", PingReq(1, NodeId("x"), NodeAddress("x")))
    assert swim.dropped["too many relays"] == 5
