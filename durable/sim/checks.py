"""What must hold in a swarm, whatever the network and the processes do: checked after any step of any run.

====================  ========================================================================================
law                   says
====================  ========================================================================================
own word              nobody believes a boot or an incarnation that the member itself has not reached
only upwards          within one process's list a member's claim never becomes lesser
one of a name         a list holds each name once, and the holder itself as it claims to be
packets fit           no datagram is larger than the bound
====================  ========================================================================================

And once faults have ended: everybody believes exactly the running processes alive (`Swarm.converged`).

**Limits.** "Only upwards" is forgotten with a tombstone; no run here has that many members.

Read next: `transcript`.
"""

from __future__ import annotations

from durable.membership.member import Member, NodeId, rank
from durable.sim.swarm import Swarm


class Laws:
    """Watches one swarm; `check` raises `AssertionError` with the seed when a law is broken."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._best: dict[tuple[NodeId, int, NodeId], Member] = {}

    def check(self) -> None:
        """Look at every running process now."""
        swarm = self._swarm
        for process in swarm.alive():
            listed = process.swim.members()
            names = [member.node_id for member in listed]
            assert len(names) == len(set(names)), self._broken("one of a name", process.node_id, names)
            for member in listed:
                self._look_at(process.node_id, process.swim.me.boot, member)
        bound = swarm.tuning.packet_bytes_max
        assert swarm.datagram_bytes_max <= bound, self._broken("packets fit", swarm.datagram_bytes_max)

    def _look_at(self, observer: NodeId, boot: int, member: Member) -> None:
        truth = self._swarm.processes[member.node_id].swim.me
        reached = (member.boot, member.incarnation) <= (truth.boot, truth.incarnation)
        assert reached, self._broken("own word", observer, member, truth)
        if member.node_id == observer:
            assert rank(member) == rank(truth), self._broken("one of a name", observer, member, truth)
        before = self._best.get((observer, boot, member.node_id))
        if before is not None:
            assert rank(member) >= rank(before), self._broken("only upwards", observer, before, member)
        self._best[observer, boot, member.node_id] = member

    def _broken(self, law: str, *facts: object) -> str:
        at = f"seed {self._swarm.seed}, {self._swarm.queue.now:.3f} s"
        return f"the law '{law}' is broken ({at}): {', '.join(map(str, facts))}"
