"""One member's beliefs: the gate that every claim passes, and the claims on its own name."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from durable.membership.effects import Effect, MemberChanged
from durable.membership.gossip import GossipQueue
from durable.membership.health import LocalHealth
from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.probe import ProbeOrder
from durable.membership.timers import Timers
from durable.membership.tuning import Tuning
from durable.membership.view import GOSSIP, OWN_NAME, REAP, SUSPECT, View

ALIVE, SUSPECTED, DEAD, LEFT = MemberStatus


class Eye:
    """A view and what it shares."""

    def __init__(self, tuning: Tuning | None = None) -> None:
        self.timers, self.queue, self.health = Timers(), GossipQueue(), LocalHealth()
        self.order = ProbeOrder(Random(1))
        self.effects: list[Effect] = []
        self.dropped: Counter[str] = Counter()
        me = claim("me", boot=5)
        self.view = View(
            me,
            tuning or Tuning(),
            self.timers,
            self.queue,
            self.order,
            self.health,
            self.effects,
            self.dropped,
        )

    def hear(self, *claims: Claim, now: float = 0.0) -> Eye:
        for one in claims:
            self.view.hear(now, one)
        return self

    def status(self, name: str) -> MemberStatus | None:
        member = self.view.others.get(NodeId(name))
        return member.status if member else None

    def run(self, until: float) -> None:
        while (at := self.timers.next_deadline()) is not None and at <= until:
            timer = self.timers.due(at)
            assert timer is not None
            {SUSPECT: self.view.bury, REAP: self.view.reap}[timer[0]](at, NodeId(str(timer[1])))

    def changes(self) -> list[tuple[str, str | None, str]]:
        return [
            (
                effect.member.node_id,
                effect.was.name if effect.was is not None else None,
                effect.member.status.name,
            )
            for effect in self.effects
            if isinstance(effect, MemberChanged)
        ]


def claim(
    name: str,
    status: MemberStatus = ALIVE,
    incarnation: int = 0,
    boot: int = 1,
    origin: str | None = None,
    host: str | None = None,
) -> Claim:
    return Claim(NodeId(name), NodeAddress(host or name), boot, incarnation, status, NodeId(origin or name))


def accusation(name: str, origin: str, incarnation: int = 0, status: MemberStatus = SUSPECTED) -> Claim:
    return claim(name, status, incarnation, origin=origin)


def five() -> Eye:
    return Eye().hear(*(claim(name) for name in "abcd"))


def test_news_is_believed_told_and_passed_on_and_old_news_is_not() -> None:
    eye = Eye().hear(claim("a"), claim("a"))
    assert eye.changes() == [("a", None, "ALIVE")]
    assert eye.queue.take(1000, 1) == (claim("a"),)
    eye.hear(claim("a"))
    assert len(eye.queue) == 0


def test_a_higher_incarnation_is_passed_on_but_is_no_change_to_anybody_outside() -> None:
    eye = Eye().hear(claim("a"))
    since = eye.view.others[NodeId("a")].since
    eye.hear(claim("a", incarnation=3), now=9.0)
    assert eye.changes() == [("a", None, "ALIVE")]
    assert eye.view.others[NodeId("a")].incarnation == 3
    assert eye.view.others[NodeId("a")].since == since


def test_a_suspect_that_nobody_confirms_dies_at_three_times_the_minimum() -> None:
    eye = five().hear(accusation("a", "b"))
    eye.run(14.99)
    assert eye.status("a") is SUSPECTED
    eye.run(15.0)
    assert eye.status("a") is DEAD


def test_a_suspect_whom_three_more_accuse_dies_at_the_minimum() -> None:
    """Lifeguard, "Local Health Aware Suspicion"."""
    eye = five().hear(*(accusation("a", origin) for origin in ("b", "c", "d", "me")))
    eye.run(4.99)
    assert eye.status("a") is SUSPECTED
    eye.run(5.0)
    assert eye.status("a") is DEAD


def test_each_new_accuser_is_news_and_the_same_one_is_not() -> None:
    eye = five().hear(accusation("a", "b"))
    eye.queue.clear()
    eye.hear(accusation("a", "b"))
    assert len(eye.queue) == 0
    eye.hear(accusation("a", "c"))
    assert [one.origin for one in eye.queue.take(1000, 9)] == ["c"]


def test_a_refutation_ends_the_suspicion() -> None:
    """SWIM, section 4.2: an Alive of a higher incarnation overrides a Suspect."""
    eye = five().hear(accusation("a", "b"), claim("a", incarnation=1))
    eye.run(100.0)
    assert eye.status("a") is ALIVE
    eye.hear(accusation("a", "c"))
    assert eye.status("a") is ALIVE


def test_a_death_told_by_another_is_a_suspicion_here_and_its_teller_an_accuser() -> None:
    eye = five().hear(accusation("a", "b", status=DEAD))
    assert eye.status("a") is SUSPECTED
    eye.hear(*(accusation("a", origin, status=DEAD) for origin in "cd"), accusation("a", "me"))
    assert eye.status("a") is SUSPECTED
    eye.run(5.0)
    assert eye.status("a") is DEAD


def test_without_lifeguard_nobody_waits_for_confirmation() -> None:
    eye = Eye(Tuning(lifeguard=False)).hear(*(claim(name) for name in "abcdefgh"), accusation("a", "b"))
    eye.run(5.0)
    assert eye.status("a") is DEAD


def test_a_dead_member_leaves_the_list_after_a_while_and_old_rumours_do_not_bring_it_back() -> None:
    eye = five().hear(accusation("a", "b"))
    eye.run(15.0)
    assert eye.view.live == 4
    eye.run(44.99)
    assert eye.status("a") is DEAD
    eye.run(45.0)
    assert eye.status("a") is None
    eye.hear(claim("a"), accusation("a", "c"), now=50.0)
    assert eye.status("a") is None
    eye.hear(claim("a", incarnation=1), now=60.0)
    assert eye.status("a") is ALIVE
    assert eye.changes()[-1] == ("a", None, "ALIVE")


def test_a_restart_in_a_new_life_is_alive_at_once_whatever_was_said_of_the_old_one() -> None:
    eye = five().hear(accusation("a", "b", incarnation=9), claim("a", boot=2))
    assert eye.status("a") is ALIVE
    eye.run(100.0)
    assert eye.status("a") is ALIVE
    assert eye.view.live == 5


def test_leaving_is_said_by_the_one_who_leaves_and_needs_no_timer() -> None:
    eye = five().hear(claim("a", LEFT, origin="b"))
    assert eye.status("a") is ALIVE
    eye.hear(claim("a", LEFT))
    assert eye.status("a") is LEFT
    assert eye.view.claim_about(eye.view.others[NodeId("a")]) == claim("a", LEFT)
    eye.hear(accusation("a", "b"), accusation("a", "b", status=DEAD))
    assert eye.status("a") is LEFT


def test_a_suspicion_in_a_full_list_names_its_first_accuser_not_the_teller() -> None:
    """Else every exchange of lists would count as one more confirmation."""
    eye = five().hear(accusation("a", "b"), accusation("a", "c"))
    assert claim("a", SUSPECTED, origin="b") in eye.view.claims()


def test_the_list_and_the_tombstones_are_bounded() -> None:
    eye = Eye(Tuning(members_max=4)).hear(*(claim(name) for name in "abcdef"))
    assert len(eye.view.others) == 3
    assert eye.dropped["list full"] == 3
    for number in range(20):
        eye = eye.hear(claim(f"n{number}", LEFT))
        eye.hear(*(claim(name, LEFT) for name in "abc"))
        eye.run(1e9)
    assert len(eye.view.tombstones) <= 4


def test_what_is_said_of_us_is_refuted_at_once_with_a_higher_incarnation() -> None:
    """SWIM, section 4.2: only the member itself raises its incarnation."""
    eye = five()
    eye.queue.clear()
    eye.hear(accusation_of_me(SUSPECTED, 0), now=7.0)
    assert eye.view.me == claim("me", boot=5, incarnation=1)
    assert eye.queue.take(1000, 9) == (eye.view.me,)
    assert GOSSIP in eye.timers
    assert eye.timers.next_deadline() == 7.0
    assert eye.health.score == 1
    eye.hear(accusation_of_me(SUSPECTED, 0))
    assert eye.view.me.incarnation == 1
    eye.hear(accusation_of_me(DEAD, 8))
    assert eye.view.me.incarnation == 9


def accusation_of_me(status: MemberStatus, incarnation: int) -> Claim:
    return claim("me", status, incarnation, boot=5, origin="a")


def test_an_old_life_of_ours_is_nobodys_business() -> None:
    eye = Eye().hear(claim("me", DEAD, 99, boot=4, origin="a"))
    assert eye.view.me == claim("me", boot=5)


@pytest.mark.parametrize(
    ("heard", "boot", "incarnation", "displaced"),
    [
        (claim("me", boot=9), 10, 0, False),
        (claim("me", DEAD, 3, boot=9, origin="a"), 10, 0, False),
        (claim("me", DEAD, 3, boot=9, origin="a", host="elsewhere"), 10, 0, False),
        (claim("me", boot=9, host="elsewhere"), 5, 0, True),
        (claim("me", SUSPECTED, boot=9, origin="a", host="elsewhere"), 5, 0, True),
        (claim("me", incarnation=1, boot=5, host="elsewhere"), 5, 0, True),
        (claim("me", LEFT, 4, boot=5), 5, 5, False),
    ],
)
def test_claims_on_our_own_name(heard: Claim, boot: int, incarnation: int, displaced: bool) -> None:
    eye = Eye().hear(heard)
    assert (eye.view.me.boot, eye.view.me.incarnation) == (boot, incarnation)
    assert (eye.view.displaced_by == heard) == displaced


def test_the_table_of_claims_on_our_name_answers_every_case() -> None:
    assert len(OWN_NAME) == 8


def test_who_has_left_does_not_refute() -> None:
    eye = five()
    eye.view.leave()
    eye.hear(accusation_of_me(SUSPECTED, 3))
    assert eye.view.me == claim("me", LEFT, boot=5)


def test_time_slept_is_no_evidence() -> None:
    """The stall rule: what was suspected before we fell asleep has as much time left as before, and time to
    answer.
    """
    eye = five().hear(accusation("a", "b"))
    eye.view.slept(slept_s=100.0, not_before=100.5)
    eye.run(114.99)
    assert eye.status("a") is SUSPECTED
    eye.run(115.0)
    assert eye.status("a") is DEAD
