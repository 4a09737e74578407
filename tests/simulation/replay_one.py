"""Whole seeds, for `test_replay`: prints what each comes to. ``python replay_one.py cores|worlds SEED ...``

``cores`` is a swarm of bare membership cores, which is to be the same on every Python; ``worlds`` whole nodes, on the same one.
"""

from __future__ import annotations

import sys

from durable.figures.swarm import Swarm
from durable.membership.member import NodeId
from durable.sim.network import Faults
from durable.trials.runs import play


def life_of_cores(seed: int) -> str:
    swarm = Swarm(seed, faults=Faults(loss=0.1, duplication=0.1, reorder=0.2))
    swarm.start_converged(8)
    names = sorted(swarm.processes)
    for _ in range(15):
        swarm.run(6.0 * swarm.random.random())
        name = swarm.random.choice(names)
        match swarm.random.randrange(4):
            case 0:
                swarm.crash(name)
            case 1 if swarm.processes[NodeId(name)].running:
                swarm.pause(name)
            case 2 if swarm.processes[NodeId(name)].running:
                swarm.leave(name)
            case _:
                swarm.resume(name)
    swarm.start("newcomer", seeds=names)
    swarm.run(10.0)
    beliefs = [(belief.at, belief.observer, belief.member.node_id) for belief in swarm.beliefs]
    return f"{len(beliefs)} {sum(swarm.datagrams.values())} {beliefs[-1]} {swarm.fingerprint()}"


def life_of_world(seed: int) -> str:
    played = play(seed, "members", nodes=5, seconds=40.0, faults=12)
    return f"{played.simulated_s} {played.faults.total()} {len(played.trace)} {played.broken} {played.digest}"


if __name__ == "__main__":
    life = life_of_cores if sys.argv[1] == "cores" else life_of_world
    for seed in sys.argv[2:]:
        sys.stdout.write(f"{seed} {life(int(seed))}\n")
