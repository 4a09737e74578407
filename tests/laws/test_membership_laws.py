"""Whatever the network and the processes do: the laws of `durable.sim.checks` hold, and when it ends, the
truth is believed.

Hypothesis chooses the faults and shrinks what breaks to a few steps; the world's seed decides the rest.
"""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Packet
from durable.membership.swim import Swim
from durable.sim.checks import Membership, NothingUnhandled, hold_in_the_end
from durable.sim.network import Faults
from durable.sim.world import SimWorld

LEFT = MemberStatus.LEFT
NAMES = [f"node-{number}" for number in range(1, 6)]
ANY = st.sampled_from(NAMES)


class Members(RuleBasedStateMachine):
    """Five nodes, and everything that may happen to them. The laws look at each step of each."""

    @initialize(seed=st.integers(0, 10_000), loss=st.sampled_from([0.0, 0.05, 0.3]))
    def start(self, seed: int, loss: float) -> None:
        self.world = SimWorld(seed, Faults(loss=loss, duplication=0.05, reorder=0.05), seeds=NAMES)
        self.laws = [Membership(self.world), NothingUnhandled(self.world)]
        self.leaving: set[str] = set()
        for name in NAMES:
            self.world.start(name)

    def running(self, name: str) -> bool:
        return self.world.machines[name].running

    def enough_run(self) -> bool:
        """Who leaves runs until it has told the others, and is not to be counted on."""
        return sum(self.running(name) and name not in self.leaving for name in NAMES) > 2

    @rule(seconds=st.sampled_from([0.05, 0.5, 2.0, 7.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.run(seconds)

    @precondition(enough_run)
    @rule(name=ANY, power=st.booleans())
    def crash(self, name: str, power: bool) -> None:
        self.world.crash(name, power=power)

    @rule(name=ANY)
    def restart(self, name: str) -> None:
        if not self.running(name):
            self.leaving.discard(name)
            self.world.start(name)

    @precondition(enough_run)
    @rule(name=ANY)
    def leave(self, name: str) -> None:
        if self.running(name):
            self.leaving.add(name)
            self.world.leave(name)

    @rule(name=ANY)
    def pause(self, name: str) -> None:
        self.world.pause(name)

    @rule(name=ANY)
    def resume(self, name: str) -> None:
        self.world.resume(name)

    @rule(source=ANY, to=ANY)
    def cut_one_way(self, source: str, to: str) -> None:
        self.world.cut(source, to)

    @rule(size=st.integers(1, 4))
    def partition(self, size: int) -> None:
        self.world.partition([NAMES[:size], NAMES[size:]])

    @rule()
    def heal(self) -> None:
        self.world.heal()

    @rule(name=ANY, by_s=st.sampled_from([-3600.0, -1.0, 1.0, 3600.0]))
    def move_the_clock(self, name: str, by_s: float) -> None:
        self.world.set_clock(name, by_s)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.heal()
        self.world.network.faults = Faults()
        for name in NAMES:
            self.world.resume(name)
        try:
            hold_in_the_end(self.world, self.laws, 300.0)
        finally:
            self.world.close()


TestMembers = Members.TestCase
TestMembers.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)

CLAIMS = st.builds(
    lambda name, status, incarnation, boot, origin: Claim(
        NodeId(name), NodeAddress(name), boot, incarnation, status, NodeId(origin)
    ),
    st.sampled_from(["a", "b", "me"]),
    st.sampled_from(MemberStatus),
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from(["a", "b", "c"]),
)


def listener(seed: int = 1) -> Swim:
    swim = Swim(NodeId("me"), NodeAddress("me"), boot=3, random=Random(seed))
    swim.start(0.0)
    return swim


@given(st.lists(CLAIMS, max_size=8), st.randoms(use_true_random=False), st.data())
def test_two_members_who_heard_the_same_believe_the_same(claims: list[Claim], random, data) -> None:  # type: ignore[no-untyped-def]
    """SWIM, section 4.2, on the whole state machine: order, repetition and packaging do not matter."""

    def believe(heard: list[Claim]) -> list[tuple[object, ...]]:
        swim = listener()
        while heard:
            size = data.draw(st.integers(1, len(heard)))
            packet = Packet("durable", NodeId("z"), 1, None, tuple(heard[:size]))
            swim.receive(0.0, NodeAddress("z"), packet)
            heard = heard[size:]
        return [(m.node_id, m.status, m.boot, m.incarnation) for m in swim.members() if m.node_id != "me"]

    assert believe(claims) == believe(random.sample(claims, len(claims)) + claims[:3])


def member(name: str, claims: list[Claim], burying: bool = False) -> Swim:
    """One that has heard these; ``burying``: and whose suspicions have since run out."""
    swim = Swim(NodeId(name), NodeAddress(name), boot=1, random=Random(1))
    swim.start(0.0)
    swim.receive(0.0, NodeAddress("z"), Packet("durable", NodeId("z"), 1, None, tuple(claims)))
    for now in (5.1, 5.4, 5.7) if burying else ():
        swim.tick(now)
    return swim


def told(swim: Swim) -> list[Claim]:
    """Its whole list, as it tells it to another: of one that left, by that one's own word."""
    me = swim.me.node_id
    return [
        Claim(one.node_id, one.address, one.boot, one.incarnation, one.status, one.node_id if one.status is LEFT else me)
        for one in swim.members()
        if one.node_id != me
    ]


def merged(name: str, *swims: Swim) -> Swim:
    return member(name, [claim for swim in swims for claim in told(swim)])


def beliefs(swim: Swim) -> list[tuple[object, ...]]:
    return [(one.node_id, one.status, one.boot, one.incarnation) for one in swim.members() if one.node_id in ("a", "b", "me")]


@given(*[st.tuples(st.lists(CLAIMS, max_size=6), st.booleans())] * 3)
def test_merging_lists_is_commutative_associative_and_idempotent(
    one: tuple[list[Claim], bool], two: tuple[list[Claim], bool], three: tuple[list[Claim], bool]
) -> None:
    """SWIM, section 4.2, on whole lists, as push/pull exchanges them: what is believed in the end does not depend on who met whom
    first. Some of those who meet have called members dead by then.
    """
    x, y, z = (member(name, *heard) for name, heard in (("x", one), ("y", two), ("z", three)))
    assert beliefs(merged("p", x, y)) == beliefs(merged("q", y, x))
    assert beliefs(merged("p", merged("q", x, y), z)) == beliefs(merged("r", x, merged("s", y, z)))
    once = merged("p", x)
    assert beliefs(merged("q", once, once)) == beliefs(once)


@given(st.lists(CLAIMS, max_size=12))
def test_only_a_member_raises_its_own_incarnation(claims: list[Claim]) -> None:
    """Nothing that is heard makes anybody believe an incarnation of another that nobody claimed; ours only
    rises.
    """
    swim = listener()
    claimed = {("a", 0, 0), ("b", 0, 0)} | {(one.node_id, one.boot, one.incarnation) for one in claims}
    mine = (3, 0)
    for one in claims:
        swim.receive(0.0, NodeAddress("z"), Packet("durable", NodeId("z"), 1, None, (one,)))
        assert (swim.me.boot, swim.me.incarnation) >= mine
        mine = (swim.me.boot, swim.me.incarnation)
        for member in swim.members():
            if member.node_id != "me":
                assert (member.node_id, member.boot, member.incarnation) in claimed
