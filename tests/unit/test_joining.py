"""Getting in: who is refused and why, and how long the seeds are asked."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from durable.membership.effects import Displaced, Joined, JoinRefused, Send, Stream
from durable.membership.joining import Seeds, settings_that_differ
from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Exchange, Join, JoinAck, Message, Packet, Refused
from durable.membership.swim import Swim
from durable.membership.tuning import Tuning

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus


def claim(name: str, host: str | None = None, boot: int = 1, status: MemberStatus = ALIVE) -> Claim:
    return Claim(NodeId(name), NodeAddress(host or name), boot, 0, status, NodeId(name))


def member(name: str = "me", *others: Claim, **tuning: object) -> Swim:
    swim = Swim(
        NodeId(name),
        NodeAddress(name),
        boot=1,
        random=Random(1),
        tuning=Tuning(exchange_interval_s=30.0, **tuning),  # type: ignore[arg-type]
        remembered=others,
    )
    swim.start(0.0)
    return swim


def ask(swim: Swim, joiner: Claim, settings: dict[str, str] | None = None) -> Message | None:
    packet = Packet("durable", joiner.node_id, joiner.boot, Join(9, joiner, settings or {}))
    swim.receive(0.0, joiner.address, packet)
    [answer] = [effect for effect in swim.effects() if isinstance(effect, Stream)]
    assert answer.to == joiner.address
    return answer.packet.message


def streams(swim: Swim) -> list[tuple[str, Message | None]]:
    return [
        (effect.to.host, effect.packet.message) for effect in swim.effects() if isinstance(effect, Stream)
    ]


def test_a_newcomer_gets_the_whole_list_itself_included() -> None:
    swim = member("me", claim("a"))
    answer = ask(swim, claim("new"))
    assert isinstance(answer, JoinAck)
    assert {one.node_id for one in answer.members} == {"me", "a", "new"}
    assert answer.sequence == 9


def test_other_settings_are_refused_for_good_and_named() -> None:
    swim = member(settings={"partitions": "256", "replicas": "3"})
    answer = ask(swim, claim("new"), {"partitions": "64", "replicas": "3"})
    assert isinstance(answer, Refused)
    assert answer.final
    assert "partitions is 256 here and 64 there" in answer.why
    assert "replicas" not in answer.why
    assert len(swim.members()) == 1


def test_a_name_in_use_elsewhere_is_refused_for_now_and_a_restart_at_the_same_address_is_not() -> None:
    swim = member("me", claim("a"))
    answer = ask(swim, claim("a", host="elsewhere", boot=9))
    assert isinstance(answer, Refused)
    assert not answer.final
    assert "a is already a member, at a:7800" in answer.why
    assert isinstance(ask(swim, claim("a", boot=9)), JoinAck)
    assert isinstance(ask(swim, claim("me", host="elsewhere", boot=9)), Refused)


def test_a_name_whose_holder_has_left_is_free() -> None:
    swim = member("me", claim("a"))
    swim.receive(0.0, NodeAddress("a"), Packet("durable", NodeId("a"), 1, None, (claim("a", status=LEFT),)))
    swim.effects()
    assert isinstance(ask(swim, claim("a", host="elsewhere", boot=9)), JoinAck)


def test_a_full_list_refuses_newcomers_and_lets_members_restart() -> None:
    swim = member("me", claim("a"), members_max=2)
    answer = ask(swim, claim("new"))
    assert isinstance(answer, Refused)
    assert "no room" in answer.why
    assert isinstance(ask(swim, claim("a", boot=2)), JoinAck)


def test_every_seed_is_asked_until_each_has_answered_once() -> None:
    swim = member()
    swim.join(0.0, [NodeAddress("s1"), NodeAddress("s2"), NodeAddress("me")])
    swim.tick(0.0)
    first = streams(swim)
    assert [to for to, _ in first] == ["s1", "s2"]
    ack = first[0][1]
    assert isinstance(ack, Join)
    listed = (claim("s1"), claim("me"))
    swim.receive(0.1, NodeAddress("s1"), Packet("durable", NodeId("s1"), 1, JoinAck(ack.sequence, listed)))
    assert Joined(NodeId("s1")) in swim.effects()
    asked = []
    for tenth in range(1, 1_300):
        swim.tick(tenth / 10)
        asked += [(tenth / 10, to) for to, message in streams(swim) if isinstance(message, Join)]
    assert {to for _, to in asked} == {"s2"}
    assert [at for at, _ in asked[:6]] == [1.0, 3.0, 7.0, 15.0, 31.0, 61.0]


def test_a_refusal_for_good_ends_the_asking_and_one_for_now_does_not() -> None:
    for final in (True, False):
        swim = member()
        swim.join(0.0, [NodeAddress("s1")])
        swim.tick(0.0)
        [(_, join)] = streams(swim)
        assert isinstance(join, Join)
        swim.receive(
            0.1, NodeAddress("s1"), Packet("durable", NodeId("s1"), 1, Refused(join.sequence, "no", final))
        )
        assert JoinRefused(NodeId("s1"), "no", final) in swim.effects()
        swim.tick(1.0)
        assert bool(streams(swim)) != final


def test_answers_that_nobody_asked_for_change_nothing() -> None:
    swim = member()
    swim.receive(0.0, NodeAddress("x"), Packet("durable", NodeId("x"), 1, JoinAck(5, (claim("x"),))))
    swim.receive(0.0, NodeAddress("x"), Packet("durable", NodeId("x"), 1, Refused(5, "no", True)))
    assert swim.effects() == ()
    assert swim.dropped["unasked answer"] == 2


def test_lists_are_not_exchanged_with_a_cluster_of_other_settings() -> None:
    swim = member(settings={"partitions": "256"})
    message = Exchange((claim("x"),), {"partitions": "8"}, answer=False)
    swim.receive(0.0, NodeAddress("x"), Packet("durable", NodeId("x"), 1, message))
    assert swim.effects() == ()
    assert swim.dropped["other settings"] == 1


def test_what_the_first_seed_tells_is_no_news_to_pass_on_but_what_the_second_tells_is() -> None:
    swim = member()
    swim.join(0.0, [NodeAddress("s1"), NodeAddress("s2")])
    swim.tick(0.0)
    one, two = [message for _, message in streams(swim)]
    assert isinstance(one, Join)
    assert isinstance(two, Join)
    for seed, join, listed in (("s1", one, ("s1", "a")), ("s2", two, ("s2", "b"))):
        members = tuple(claim(name) for name in listed)
        swim.receive(
            0.1, NodeAddress(seed), Packet("durable", NodeId(seed), 1, JoinAck(join.sequence, members))
        )
    swim.effects()
    swim.tick(0.4)
    gossip = [effect.packet for effect in swim.effects() if isinstance(effect, Send)]
    assert {one.node_id for packet in gossip for one in packet.claims} == {"me", "s2", "b"}


def test_settings_are_compared_both_ways() -> None:
    assert settings_that_differ({}, {}) == ""
    assert settings_that_differ({"a": "1"}, {}) == "a is 1 here and not set there"
    assert settings_that_differ({}, {"a": "1"}) == "a is not set here and 1 there"


def test_too_many_seeds_are_refused() -> None:
    seeds = Seeds(1.0, 30.0)
    with pytest.raises(ValueError, match="65 seeds are too many"):
        seeds.ask([NodeAddress(f"s{number}") for number in range(65)])
    assert not seeds
    seeds.ask([NodeAddress("s")])
    numbers = count(1)
    assert seeds.attempt(lambda: next(numbers)) == [(NodeAddress("s"), 1)]
    assert not seeds.answered(2)
    assert seeds.asked(1)
    assert seeds.answered(1)


def test_the_loser_of_a_name_stops_and_says_so() -> None:
    swim = member("me", claim("a"))
    winner = claim("me", host="elsewhere", boot=9)
    swim.receive(0.0, NodeAddress("a"), Packet("durable", NodeId("a"), 1, None, (winner,)))
    assert Displaced(winner) in swim.effects()
    assert swim.stopped
    assert swim.next_deadline() is None
    swim.receive(0.0, NodeAddress("a"), Packet("durable", NodeId("a"), 1, None, (claim("b"),)))
    swim.tick(99.0)
    assert swim.effects() == ()
