"""Whatever the network and the processes do: the laws of `durable.sim.checks` hold, and when it ends, the
truth is believed.

Hypothesis chooses the faults and shrinks what breaks to a few steps; the swarm's seed decides the rest.
"""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Packet
from durable.membership.swim import Swim
from durable.sim.checks import Laws
from durable.sim.network import Faults
from durable.sim.swarm import Swarm

LEFT = MemberStatus.LEFT
NAMES = [f"node-{number}" for number in range(1, 6)]
ANY = st.sampled_from(NAMES)


class Membership(RuleBasedStateMachine):
    """Five members, and everything that may happen to them."""

    @initialize(seed=st.integers(0, 10_000), loss=st.sampled_from([0.0, 0.05, 0.3]))
    def start(self, seed: int, loss: float) -> None:
        self.swarm = Swarm(seed, faults=Faults(loss=loss, duplication=0.05, reorder=0.05))
        self.swarm.start_converged(len(NAMES))
        self.laws = Laws(self.swarm)

    def running(self, name: str) -> bool:
        return self.swarm.processes[NodeId(name)].running

    @rule(seconds=st.sampled_from([0.05, 0.5, 2.0, 7.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(5):
            self.swarm.run(seconds / 5)
            self.laws.check()

    @precondition(lambda self: sum(process.running for process in self.swarm.processes.values()) > 2)
    @rule(name=ANY)
    def crash(self, name: str) -> None:
        self.swarm.crash(name)

    @rule(name=ANY)
    def restart(self, name: str) -> None:
        if not self.running(name):
            self.swarm.restart(name, seeds=NAMES)

    @precondition(lambda self: sum(process.running for process in self.swarm.processes.values()) > 2)
    @rule(name=ANY)
    def leave(self, name: str) -> None:
        if self.running(name):
            self.swarm.leave(name)

    @rule(name=ANY)
    def pause(self, name: str) -> None:
        if self.running(name):
            self.swarm.pause(name)

    @rule(name=ANY)
    def resume(self, name: str) -> None:
        self.swarm.resume(name)

    @rule(source=ANY, to=ANY)
    def cut_one_way(self, source: str, to: str) -> None:
        self.swarm.network.cut(self.swarm.address_of(source), self.swarm.address_of(to))

    @rule(size=st.integers(1, 4))
    def partition(self, size: int) -> None:
        hosts = [self.swarm.address_of(name) for name in NAMES]
        self.swarm.network.partition([hosts[:size], hosts[size:]])

    @rule()
    def heal(self) -> None:
        self.swarm.network.heal()

    def teardown(self) -> None:
        if not hasattr(self, "swarm"):
            return
        swarm = self.swarm
        swarm.network.heal()
        swarm.network.faults = Faults()
        for name in NAMES:
            swarm.resume(name)
        healed = swarm.run_until(swarm.converged, 300.0)
        self.laws.check()
        beliefs = {
            process.node_id: [
                (m.node_id, m.status.name, m.boot, m.incarnation) for m in process.swim.members()
            ]
            for process in swarm.alive()
        }
        assert healed, f"seed {swarm.seed}: after 300 s of peace they believe {beliefs}"


TestMembership = Membership.TestCase
TestMembership.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
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
