"""What SWIM and Lifeguard promise, measured in the swarm: one function a claim, each a number for a seed.

The tests hold these numbers to the papers' claims, the bench script draws them for larger clusters, and the
book sets them beside the formulas.

==========================  ==============================================  ==================================
function                    the claim                                       source
==========================  ==============================================  ==================================
first_detection_rounds      e/(e-1) = 1.58 periods on average               SWIM, section 3.1
message_load                constant in n: one ping, one ack                SWIM, section 3.1
spread_s                    grows with log n                                SWIM, section 4.1
agreement_s                 suspicion bounds it                             SWIM, section 4.2; Lifeguard
pauses                      slow members bury no healthy ones               Lifeguard, its evaluation
==========================  ==============================================  ==================================

**Limits.** Packets take 0.5 to 2.5 ms and nothing is computed: real clusters add their own delays.
"""

from __future__ import annotations

from dataclasses import dataclass

from durable.figures.swarm import Swarm
from durable.membership.member import MemberStatus, NodeId
from durable.membership.messages import Ping, PingReq
from durable.membership.tuning import Tuning
from durable.sim.network import Faults
from durable.sim.records import Sent


def first_detection_rounds(members: int, seed: int, crashes: int = 1) -> tuple[int, ...]:
    """In which of its own periods after a crash the first member pings the dead one, for each of ``crashes``
    at one moment: 1, 2, ...

    Each member counts its own periods from the crash; the smallest count is the period in which the crash is
    noticed. What is said about it afterwards has no part in this, so little is said: a thousand members are
    affordable.
    """
    swarm = Swarm(seed, Tuning(gossip_fanout=1, packet_bytes_max=512))
    swarm.start_converged(members)
    swarm.run(2 + 3 * swarm.random.random())
    victims = swarm.random.sample(sorted(swarm.processes), crashes)
    rounds = dict.fromkeys(swarm.processes, 0)
    asked = dict.fromkeys([process.address for process in swarm.processes.values()], 0)
    found: dict[str, list[int]] = {victim: [] for victim in victims}

    def look(sent: Sent) -> None:
        message = sent.packet.message
        if isinstance(message, PingReq):
            asked[sent.target] += 1
        elif isinstance(message, Ping):
            source = swarm.processes[sent.source].address
            if message.target in found and asked[source]:
                asked[source] -= 1  # on behalf of another: not a period of its own
                return
            rounds[sent.source] += 1
            if message.target in found:
                found[message.target].append(rounds[sent.source])

    for victim in victims:
        swarm.crash(victim)
    swarm.on_sent = look
    # Past this moment every member that could still find one in an earlier period of its own has had that
    # period.
    swarm.run_until(lambda: all(found.values()), 2.0 * members)
    swarm.run(max(map(min, found.values())) * swarm.tuning.interval_s)
    return tuple(min(found[victim]) for victim in victims)


def message_load(members: int, seed: int, periods: int = 60) -> float:
    """Datagrams sent per member and period while nothing happens."""
    swarm = Swarm(seed)
    swarm.start_converged(members)
    swarm.run(periods * swarm.tuning.interval_s)
    return sum(swarm.datagrams.values()) / members / periods


def spread_s(members: int, seed: int, loss: float = 0.0) -> float:
    """Seconds until the last of ``members`` has heard one piece of news, here that one leaves."""
    swarm = Swarm(seed, faults=Faults(loss=loss))
    swarm.start_converged(members)
    swarm.run(2.0)
    began = swarm.queue.now
    swarm.leave("node-1")
    heard = {"node-1"}
    seen = 0

    def everybody() -> bool:
        nonlocal seen
        for belief in swarm.beliefs[seen:]:
            if belief.member.node_id == "node-1":
                heard.add(belief.observer)
        seen = len(swarm.beliefs)
        return len(heard) == members

    swarm.run_until(everybody, 60.0)
    return max(belief.at for belief in swarm.beliefs if belief.member.node_id == "node-1") - began


def agreement_s(members: int, seed: int, tuning: Tuning | None = None) -> float:
    """Seconds from a SIGKILL until every survivor believes it."""
    swarm = Swarm(seed, tuning)
    swarm.start_converged(members)
    swarm.run((5 + 30 * swarm.random.random()) * swarm.tuning.interval_s)
    victim = swarm.random.choice(sorted(swarm.processes))
    began = swarm.queue.now
    swarm.crash(victim)
    swarm.run(8 * swarm.tuning.suspect_timeout_s)
    buried = [
        belief
        for belief in swarm.beliefs
        if belief.member.node_id == victim and belief.member.status is MemberStatus.DEAD
    ]
    if len({belief.observer for belief in buried}) < members - 1:
        return float("inf")
    return max(belief.at for belief in buried) - began


def join_s(members: int, seed: int, loss: float = 0.0) -> float:
    """Seconds from the start of one more process until everybody has it in the list, and it everybody."""
    swarm = Swarm(seed, faults=Faults(loss=loss))
    swarm.start_converged(members)
    swarm.run(5 + swarm.random.random())
    began = swarm.queue.now
    swarm.start("newcomer", seeds=["node-1"])

    def seen_by_all() -> bool:
        everybody = len(swarm.processes[NodeId("newcomer")].swim.members()) == members + 1
        return everybody and None not in swarm.beliefs_about("newcomer").values()

    joined = swarm.run_until(seen_by_all, 30.0)
    return swarm.queue.now - began if joined else float("inf")


@dataclass(frozen=True)
class Pauses:
    """What came of a run with pauses. ``of_healthy``: false deaths of members that were never paused."""

    false_deaths: int
    of_healthy: int
    suspicions: int
    pauses: int


def pauses(
    members: int,
    seed: int,
    *,
    pause_s: float,
    awake_s: tuple[float, float],
    run_s: float,
    lifeguard: bool = True,
    one: bool = True,
    at_once: int = 1,
) -> Pauses:
    """Stop ``at_once`` members at a time for ``pause_s``, again and again, for ``run_s``; count the living that
    were called dead.

    Between two pauses everybody runs for a time drawn from ``awake_s``. ``one``: they are the same members
    each time.
    """
    swarm = Swarm(seed, Tuning(lifeguard=lifeguard))
    swarm.start_converged(members)
    swarm.run(2.0)
    names = sorted(swarm.processes)
    paused: dict[NodeId, None] = {}
    count, until = 0, swarm.queue.now + run_s
    victims = swarm.random.sample(names, at_once)
    while swarm.queue.now < until:
        victims = victims if one else swarm.random.sample(names, at_once)
        for victim in victims:
            paused[victim] = None
            swarm.pause(victim)
        swarm.run(pause_s)
        for victim in victims:
            swarm.resume(victim)
        count += 1
        low, high = awake_s
        swarm.run(low + (high - low) * swarm.random.random())
    suspected = sum(belief.member.status is MemberStatus.SUSPECT for belief in swarm.beliefs)
    of_healthy = sum(death.member.node_id not in paused for death in swarm.false_deaths)
    return Pauses(len(swarm.false_deaths), of_healthy, suspected, count)
