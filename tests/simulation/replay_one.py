"""One eventful run a seed, for `test_replay`: prints what it comes to. ``python replay_one.py SEED``"""

from __future__ import annotations

import sys

from durable.membership.member import NodeId
from durable.sim.network import Faults
from durable.sim.swarm import Swarm


def life(seed: int) -> str:
    swarm = Swarm(seed, faults=Faults(loss=0.1, duplication=0.1, reorder=0.2))
    names = [f"node-{number}" for number in range(1, 9)]
    for name in names:
        swarm.start(name, seeds=names[:2])
    for _ in range(15):
        swarm.run(6.0 * swarm.random.random())
        name, other = swarm.random.sample(names, 2)
        process = swarm.processes[NodeId(name)]
        match swarm.random.randrange(5):
            case 0:
                swarm.crash(name)
            case 1 if not process.running:
                swarm.restart(name, seeds=names)
            case 2 if process.running:
                swarm.pause(name)
            case 3:
                swarm.resume(name)
            case _:
                swarm.network.cut(swarm.address_of(name), swarm.address_of(other))
    beliefs = [(belief.at, belief.observer, belief.member.node_id) for belief in swarm.beliefs]
    return f"{len(beliefs)} {sum(swarm.datagrams.values())} {beliefs[-1]} {swarm.fingerprint()}"


if __name__ == "__main__":
    for seed in sys.argv[1:]:
        sys.stdout.write(f"{seed} {life(int(seed))}\n")
