"""What must hold in a world, whatever happens in it: laws, checked after each step of any process, and once it is healed.

**How it works.** A `Law` watches a world. `Law.stepped` looks at the one process that has just run, and fails at once if
something is as it must never be. `Law.missing` says, at any moment, what is not yet as it must be when faults have ended and
time has passed. Whoever has more to hold a world to, the journals of its workflows for one, writes a law and adds it to the list.

====================  ========================================================================================
law of membership     says
====================  ========================================================================================
own word              nobody believes a boot or an incarnation that the member itself has not reached
only upwards          within one process's list a member's claim never becomes lesser
one of a name         a list holds each name once, and the holder itself as it claims to be
packets fit           no datagram is larger than the bound
the truth in the end  everybody believes exactly the running nodes alive, in their present life
====================  ========================================================================================

And for every world: nothing is raised that nobody catches.

**Limits.** "Only upwards" is forgotten with a tombstone; no run here has that many members.

Read next: `durable.sim.faults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from durable.membership.member import Member, NodeId, rank
from durable.membership.messages import PACKET_BYTES_MAX

if TYPE_CHECKING:
    from durable.sim.process import SimProcess
    from durable.sim.world import SimWorld


class LawBroken(AssertionError):
    """A law does not hold. ``law`` is its name; the message has the seed, the moment and the facts."""

    def __init__(self, law: str, world: SimWorld, *facts: object) -> None:
        self.law = law
        super().__init__(f"the law '{law}' is broken (seed {world.seed}, {world.now:.3f} s): {', '.join(map(str, facts))}")


class Law:
    """One thing that must hold. Made for one world; it watches from then on."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        world.watchers.append(self)

    def began(self, process: SimProcess) -> None:
        """A process has been started, and its node made."""

    def stepped(self, process: SimProcess) -> None:
        """A process has run. Raises `LawBroken`."""

    def begins(self) -> None:
        """The nodes have found each other, and the storm begins."""

    def healed(self) -> None:
        """The storm is over, and every fault has been taken back."""

    def missing(self) -> str | None:
        """What does not yet hold that must hold once all is healed; None when all of it does."""
        return None


class NothingUnhandled(Law):
    """Nothing is raised in a process that nobody catches."""

    def stepped(self, process: SimProcess) -> None:
        if self.world.errors:
            raise LawBroken("nothing is raised that nobody catches", self.world, self.world.errors[0])


class Membership(Law):
    """The laws of membership, on nodes that have ``members()``."""

    def __init__(self, world: SimWorld) -> None:
        super().__init__(world)
        self._reached: dict[NodeId, tuple[int, int]] = {}
        self._best: dict[NodeId, dict[NodeId, Member]] = {}
        self._seen: dict[str, tuple[Member, ...]] = {}
        for process in world.running():
            self._learn(process)

    def _learn(self, process: SimProcess) -> None:
        """What a node has reached by its own word."""
        me = NodeId(process.name)
        for member in process.node.members():
            if member.node_id == me:
                claims = (member.boot, member.incarnation)
                self._reached[me] = max(claims, self._reached.get(me, claims))

    def began(self, process: SimProcess) -> None:
        self._best[NodeId(process.name)] = {}
        self._seen.pop(process.name, None)

    def stepped(self, process: SimProcess) -> None:
        world = self.world
        if world.datagram_bytes_max > PACKET_BYTES_MAX:
            raise LawBroken("packets fit", world, world.datagram_bytes_max)
        listed = process.node.members() if process.node is not None else ()
        if not listed or self._seen.get(process.name) == listed:
            return
        me = NodeId(process.name)
        self._seen[process.name] = listed
        names = [member.node_id for member in listed]
        own = [member for member in listed if member.node_id == me]
        if len(own) != 1 or len({*names}) != len(names):
            raise LawBroken("one of a name", world, process, *names)
        self._learn(process)
        best = self._best.setdefault(me, {})
        for member in listed:
            if (member.boot, member.incarnation) > self._reached.get(member.node_id, (0, 0)):
                raise LawBroken("own word", world, process, member, self._reached.get(member.node_id))
            before = best.get(member.node_id)
            if before is not None and rank(member) < rank(before):
                raise LawBroken("only upwards", world, process, before, member)
            best[member.node_id] = member

    def missing(self) -> str | None:
        running = self.world.running()
        if not running:
            return "no node runs"
        truth: dict[NodeId, Member] = {}
        for process in running:
            own = [member for member in process.node.members() if member.node_id == process.name]
            if not own:
                return f"{process.name} has not started"
            truth[own[0].node_id] = own[0]
        for process in running:
            live = {member.node_id: member for member in process.node.members() if member.status.is_live}
            for name in sorted({*live, *truth}):
                if name not in truth:
                    return f"{process.name} believes {name} {live[name].status.name}, which does not run"
                if name not in live:
                    return f"{process.name} does not believe {name} alive, which runs"
                if rank(live[name]) != rank(truth[name]):
                    return f"{process.name} believes {live[name]}, and it is {truth[name]}"
        return None


LOOK_S = 0.1
Laws = Sequence[Law]
"""What a world is held to."""


def missing(laws: Laws) -> str | None:
    """The first thing that does not yet hold that must hold in the end."""
    for law in laws:
        found = law.missing()
        if found is not None:
            return f"{type(law).__name__}: {found}"
    return None


def hold_in_the_end(world: SimWorld, laws: Laws, limit_s: float) -> None:
    """Let time pass until everything holds that must hold in the end. Raises `LawBroken` past the limit."""
    if not world.run_until(lambda: missing(laws) is None, limit_s, look_s=LOOK_S):
        raise LawBroken("the truth in the end", world, f"after {limit_s:g} s of peace: {missing(laws)}")
