"""The state machine as a shell sees it: what is sent when, leaving, stalls, strangers. No clock, no socket,
no sleep.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from durable.membership.effects import Left, MemberChanged, Send, Stream
from durable.membership.gossip import rides_max
from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Ack, Exchange, Message, Packet, Ping, encode
from durable.membership.swim import Swim
from durable.membership.tuning import Tuning

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus


def claim(
    name: str, status: MemberStatus = ALIVE, incarnation: int = 0, boot: int = 1, origin: str | None = None
) -> Claim:
    return Claim(NodeId(name), NodeAddress(name), boot, incarnation, status, NodeId(origin or name))


def member(*others: str, **tuning: object) -> Swim:
    swim = Swim(
        NodeId("me"),
        NodeAddress("me"),
        boot=1,
        random=Random(1),
        tuning=Tuning(**{"exchange_interval_s": 1e6, **tuning}),  # type: ignore[arg-type]
        remembered=[claim(name) for name in others],
    )
    swim.start(0.0)
    return swim


def say(swim: Swim, now: float, sender: str, message: Message | None, *claims: Claim, boot: int = 1) -> None:
    swim.receive(now, NodeAddress(sender), Packet("durable", NodeId(sender), boot, message, claims))


def packets(swim: Swim, kind: type = Send) -> list[tuple[str, Packet]]:
    return [(effect.to.host, effect.packet) for effect in swim.effects() if isinstance(effect, kind)]


def run(swim: Swim, until: float, answer: bool = True) -> list[tuple[float, str, Packet]]:
    """Tick at every deadline, and answer every ping at once: a healthy world."""
    seen = []
    while (at := swim.next_deadline()) is not None and at <= until:
        swim.tick(at)
        for effect in swim.effects():
            if isinstance(effect, Send | Stream):
                seen.append((at, effect.to.host, effect.packet))
                if answer and isinstance(effect.packet.message, Ping):
                    say(swim, at, effect.to.host, Ack(effect.packet.message.sequence))
    return seen


def status(swim: Swim, name: str) -> MemberStatus:
    return next(member.status for member in swim.members() if member.node_id == name)


def test_the_list_is_sorted_and_holds_the_member_itself() -> None:
    swim = member("b", "a")
    assert [one.node_id for one in swim.members()] == ["a", "b", "me"]
    assert swim.effects() == ()


def test_ticking_early_or_twice_does_nothing() -> None:
    swim = member("a")
    at = swim.next_deadline()
    assert at is not None
    swim.tick(at - 0.001)
    assert swim.effects() == ()
    swim.tick(at)
    assert len(swim.effects()) == 1
    swim.tick(at)
    assert swim.effects() == ()


def test_an_idle_member_sends_one_ping_a_period_and_nothing_else() -> None:
    swim = member("a", "b", "c")
    sent = run(swim, 30.0)
    assert {type(packet.message) for _, _, packet in sent} == {Ping}
    assert len(sent) == 30
    assert not any(packet.claims for _, _, packet in sent)


def test_while_news_is_pending_it_goes_to_three_members_every_fifth_of_a_period_and_then_stops() -> None:
    swim = member("a", "b", "c", "d", "e")
    say(swim, 0.0, "a", None, claim("new"))
    sent = [(at, to, packet) for at, to, packet in run(swim, 20.0) if packet.message is None]
    times = sorted({at for at, _, _ in sent})
    assert all(after - before == pytest.approx(0.2) for before, after in pairwise(times))
    assert all(len([at for at, _, _ in sent if at == time]) <= 3 for time in times)
    assert 1 < len(times) <= 4


def test_each_claim_rides_exactly_its_budget() -> None:
    """SWIM, section 4.1: an update is piggybacked at most lambda log n times by one member."""
    swim = member(*(f"n{number}" for number in range(20)))
    say(swim, 0.0, "n1", None, claim("new"))
    sent = run(swim, 60.0)
    assert sum(claim("new") in packet.claims for _, _, packet in sent) == rides_max(22)


def test_a_thousand_pieces_of_news_never_make_a_packet_too_large() -> None:
    swim = member("a", "b", "c")
    for number in range(1_000):
        say(swim, 0.0, "a", None, claim(f"member-with-a-long-name-{number:05d}"))
    sent = run(swim, 5.0)
    sizes = [len(encode(packet)) for _, _, packet in sent]
    assert max(sizes) <= swim.tuning.packet_bytes_max
    assert max(sizes) > swim.tuning.packet_bytes_max - 100


def test_whoever_is_suspected_is_told_so_with_every_packet() -> None:
    """Lifeguard, "Buddy System": a ping to a suspect carries the suspicion, so that it can refute at once."""
    swim = member("a")
    accusation = claim("a", SUSPECT, origin="z")
    say(swim, 0.0, "z", None, accusation)
    sent = run(swim, 4.0, answer=False)
    assert all(accusation in packet.claims for _, to, packet in sent if to == "a")
    assert len([to for _, to, _ in sent if to == "a"]) > 3
    plain = member("a", lifeguard=False)
    say(plain, 0.0, "z", None, accusation)
    assert not all(
        accusation in packet.claims for _, to, packet in run(plain, 4.0, answer=False) if to == "a"
    )


def test_who_pings_us_under_suspicion_gets_our_claim_however_often() -> None:
    swim = member("a", "b")
    for number in range(50):
        say(swim, 0.0, "a", Ping(number, NodeId("me")), claim("me", SUSPECT, origin="a"))
    sent = [packet for _, packet in packets(swim)]
    assert len(sent) == 50
    assert all(swim.me in packet.claims for packet in sent)
    assert swim.me.incarnation == 1


def test_before_it_is_buried_a_suspect_is_called_a_last_time_and_may_answer() -> None:
    accusation = claim("a", SUSPECT, origin="z")
    for answers in (True, False):
        swim = member("a", "b", dead_timeout_s=50.0)
        say(swim, 0.0, "z", None, accusation)
        sent = run(swim, 5.0)
        last = [packet for at, to, packet in sent if at == 5.0 and to == "a"]
        assert any(isinstance(packet.message, Ping) and accusation in packet.claims for packet in last)
        if answers:
            say(swim, 5.1, "a", Ack(1), claim("a", incarnation=1))
        run(swim, 5.19)
        assert status(swim, "a") is (ALIVE if answers else SUSPECT)
        run(swim, 5.21)
        assert status(swim, "a") is (ALIVE if answers else DEAD)


def test_the_dead_hear_that_they_are_dead_while_they_are_in_the_list() -> None:
    swim = member("a", "b", dead_timeout_s=50.0)
    say(swim, 0.0, "b", None, claim("a", SUSPECT, origin="b"))
    run(swim, 10.0)
    assert status(swim, "a") is DEAD
    say(swim, 10.0, "b", None, claim("new"))
    told = [packet.claims for _, to, packet in run(swim, 14.0) if to == "a"]
    assert told
    assert all(claims[0] == claim("a", DEAD, origin="me") for claims in told)
    say(swim, 14.0, "a", Ping(1, NodeId("me")))
    [(_, ack)] = packets(swim)
    assert claim("a", DEAD, origin="me") in ack.claims
    say(swim, 14.0, "a", None, claim("a", incarnation=1))
    assert status(swim, "a") is ALIVE


def test_lists_are_exchanged_with_a_random_member_and_one_believed_dead_is_called_for_ever() -> None:
    swim = member("a", "b", "c", exchange_interval_s=30.0)
    say(swim, 0.0, "b", None, claim("a", SUSPECT, origin="b"))
    sent = [(at, to) for at, to, packet in run(swim, 600.0) if isinstance(packet.message, Exchange)]
    to_the_dead = [at for at, to in sent if to == "a"]
    to_the_live = [at for at, to in sent if to != "a"]
    assert 18 <= len(to_the_dead) <= 20
    assert 19 <= len(to_the_live) <= 20
    assert len({to for _, to in sent}) == 3


def test_who_has_left_is_not_called() -> None:
    swim = member("a", "b", exchange_interval_s=30.0)
    say(swim, 0.0, "a", None, claim("a", LEFT))
    assert not [to for _, to, packet in run(swim, 600.0) if to == "a"]


def test_an_exchange_is_answered_once_with_what_was_known_before() -> None:
    swim = member("a")
    say(swim, 0.0, "x", Exchange((claim("x"), claim("y")), {}, answer=False))
    [(to, packet)] = packets(swim, Stream)
    assert to == "x"
    assert isinstance(packet.message, Exchange)
    assert packet.message.answer
    assert {one.node_id for one in packet.message.members} == {"me", "a"}
    assert {one.node_id for one in swim.members()} == {"me", "a", "x", "y"}
    say(swim, 0.0, "x", Exchange((claim("z"),), {}, answer=True))
    assert packets(swim, Stream) == []


def test_a_stranger_is_asked_who_else_is_there_but_not_more_than_once_a_period() -> None:
    swim = member("a")
    for number in range(5):
        say(swim, 0.1 * number, f"stranger-{number}", Ping(number, NodeId("me")))
    assert [to for to, _ in packets(swim, Stream)] == ["stranger-0"]
    say(swim, 1.1, "a", Ping(9, NodeId("me")), boot=2)
    assert [to for to, _ in packets(swim, Stream)] == ["a"]


def test_packets_of_another_cluster_and_our_own_echo_are_dropped_and_counted() -> None:
    swim = member("a")
    foreign = Packet("another", NodeId("a"), 1, Ping(1, NodeId("me")), (claim("evil"),))
    swim.receive(0.0, NodeAddress("a"), foreign)
    say(swim, 0.0, "me", Ping(1, NodeId("me")))
    assert swim.effects() == ()
    assert dict(swim.dropped) == {"foreign cluster": 1, "own echo": 1}


def test_leaving_is_told_until_the_budget_is_spent_and_then_everything_stops() -> None:
    swim = member("a", "b", "c")
    swim.leave(5.0)
    swim.leave(5.0)
    seen, effects = [], []
    while (at := swim.next_deadline()) is not None:
        swim.tick(at)
        effects += swim.effects()
        seen.append(at)
    told = [effect.to.host for effect in effects if isinstance(effect, Send)]
    assert set(told) == {"a", "b", "c"}
    assert len(told) == rides_max(4)
    assert effects[-1] == Left()
    assert seen[-1] - 5.0 <= 2.0
    assert swim.stopped


def test_the_last_member_leaves_at_once() -> None:
    swim = member()
    swim.leave(5.0)
    swim.tick(5.0)
    assert swim.effects() == (Left(),)


def test_changes_come_as_effects_with_what_was_before() -> None:
    swim = member("a")
    say(swim, 3.0, "b", None, claim("a", SUSPECT, origin="b"), claim("new"))
    changes = [effect for effect in swim.effects() if isinstance(effect, MemberChanged)]
    assert [(one.member.node_id, one.was, one.member.status, one.member.since) for one in changes] == [
        ("a", ALIVE, SUSPECT, 3.0),
        ("new", None, ALIVE, 3.0),
    ]


def test_after_a_stall_nobody_is_judged_before_the_sockets_are_read() -> None:
    """The stall rule: our own lateness is no evidence. The probe under way gets its answer read, suspects
    their time back.
    """
    swim = member("a", "b", "c", "d", "e")
    say(swim, 0.0, "a", None, claim("b", SUSPECT, origin="a"))
    at = swim.next_deadline()
    assert at is not None
    while True:
        swim.tick(at)
        pings = [(to, packet.message) for to, packet in packets(swim) if isinstance(packet.message, Ping)]
        if pings:
            break
        at = swim.next_deadline()
        assert at is not None
    [(target, ping)] = pings
    swim.tick(at + 60.0)
    assert status(swim, target) is not DEAD
    assert status(swim, "b") is SUSPECT
    assert swim.health.score == 1
    say(swim, at + 60.0, target, Ack(ping.sequence))
    say(swim, at + 60.0, "b", None, claim("b", incarnation=1))
    run(swim, at + 60.6)
    assert status(swim, target) is ALIVE
    assert status(swim, "b") is ALIVE


def test_a_stall_is_noticed_once_and_by_whichever_call_comes_first() -> None:
    swim = member("a", "b")
    say(swim, 50.0, "a", None)
    say(swim, 50.0, "b", None)
    swim.tick(50.0)
    assert swim.health.score == 1


def test_plain_swim_judges_at_once_after_a_stall() -> None:
    swim = member("a", "b", "c", lifeguard=False)
    say(swim, 0.0, "a", None, claim("b", SUSPECT, origin="a"))
    swim.tick(60.0)
    assert status(swim, "b") is DEAD


def test_a_small_delay_is_no_stall() -> None:
    swim = member("a", "b")
    at = swim.next_deadline()
    assert at is not None
    swim.tick(at + 0.24)
    assert swim.health.score == 0


def test_the_same_seed_and_calls_give_the_same_effects() -> None:
    def life() -> list[object]:
        swim = member("a", "b", "c", "d", exchange_interval_s=3.0)
        say(swim, 0.1, "a", None, claim("new"))
        return [*run(swim, 30.0), swim.effects()]

    assert life() == life()
