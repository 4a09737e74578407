"""The figures of chapter 4: each is a run of the simulator under a seed that stands here, drawn as it was recorded."""

from durable.figures.swarm import Swarm
from durable.membership.gossip import rides_max
from durable.membership.health import CHANGES
from durable.membership.member import MemberStatus, NodeId
from durable.membership.suspicion import timeout_s
from durable.notebook import Figure, hash_ring, membership_timeline, packet_exchange, ring_changes, rumour, rumour_graph, table
from durable.routing.ring import HashRing
from durable.sim.records import Sent

ORDERS = [f"order-{number}" for number in range(1, 41)]


def a_helper_rescues() -> Figure:
    swarm, sent = Swarm(seed=7), list[Sent]()
    swarm.start_converged(4)
    swarm.network.cut(swarm.address_of("node-1"), swarm.address_of("node-2"))
    swarm.run(2.0)
    swarm.on_sent = sent.append
    swarm.run(0.6)
    return packet_exchange(sent)


def a_rumour() -> Figure:
    swarm, sent = Swarm(seed=3), list[Sent]()
    swarm.start_converged(24)
    swarm.run(2.0)
    swarm.on_sent = sent.append
    swarm.leave("node-7")  # the news: node-7 goes
    swarm.run(2.0)
    return rumour(rumour_graph(sent, swarm.beliefs, "node-7", MemberStatus.LEFT))


def the_budget() -> Figure:
    return table([(n, rides_max(n)) for n in (3, 5, 10, 50, 100, 1000)], "members", "rides of one claim from one member")


def the_timeouts() -> Figure:
    rows = [(c, f"{timeout_s(c, 3, 5.0):.1f} s", f"{timeout_s(c, 3, 0.5):.2f} s") for c in range(4)]
    return table(rows, "confirmations", "by default (minimum 5 s)", "LAN preset (0.5 s)")


def the_evidence() -> Figure:
    return table([(evidence.value, f"{change:+d}") for evidence, change in CHANGES.items()], "evidence", "score")


def two_suspicions() -> Figure:
    swarm = Swarm(seed=2)
    swarm.start_converged(5)
    everybody = {name: [other for other in swarm.processes if other != name] for name in swarm.processes if name != "node-5"}
    swarm.crash("node-5")
    swarm.run(9.0)
    swarm.pause("node-3")
    swarm.run(4.0)
    swarm.resume("node-3")
    swarm.run(2.0)
    marks = {"node-5 is killed": 0.0, "node-3 stands still": 9.0, "node-3 goes on": 13.0}
    beliefs = [belief for belief in swarm.beliefs if belief.observer != "node-5"]
    return membership_timeline(beliefs, marks, begin=everybody, until_s=swarm.queue.now)


def ring_of(*names: str, positions: int = 8) -> HashRing:
    ring = HashRing(virtual_nodes_per_node=positions)
    for name in names:
        ring.add_node(NodeId(name))
    return ring


def one_ring() -> Figure:
    return hash_ring(ring_of("node-1", "node-2", "node-3"), ORDERS[:10])


def many_positions() -> Figure:
    names = [f"node-{number}" for number in range(1, 6)]
    return ring_changes({f"{count} positions a node": ring_of(*names, positions=count) for count in (3, 150)}, compare=False)


def a_join() -> Figure:
    three, four = ("node-1", "node-2", "node-3"), ("node-1", "node-2", "node-3", "node-4")
    return ring_changes({"three nodes": ring_of(*three), "node-4 joins": ring_of(*four)}, ORDERS)


if __name__ == "__main__":
    for figure in (a_helper_rescues, a_rumour, the_budget, the_timeouts, the_evidence, two_suspicions, one_ring, a_join):
        print(figure(), end="\n\n")
