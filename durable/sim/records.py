"""What is written down of a run: who sent what, who came to believe what of whom, and the deaths in it that were false.

Read next: `durable.sim.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable.errors import ProtocolError
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import Packet, decode
from durable.rpc.frames import MEMBERSHIP

if TYPE_CHECKING:
    from durable.sim.process import SimProcess
    from durable.sim.world import SimWorld


@dataclass(frozen=True, slots=True)
class Belief:
    """At ``at`` seconds, ``observer`` came to believe this of a member."""

    at: float
    observer: NodeId
    member: Member
    was: MemberStatus | None

    def __str__(self) -> str:
        was = "unknown" if self.was is None else self.was.name
        return f"believes: {self.member.node_id} was {was}, is {self.member.status.name} {self.member.incarnation}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet of the membership that left. ``arrivals``: when each of its copies will be there; empty if it is lost."""

    at: float
    source: NodeId
    target: NodeAddress
    packet: Packet
    arrivals: tuple[float, ...]

    @property
    def copies(self) -> int:
        """How many of it will arrive."""
        return len(self.arrivals)


@dataclass(frozen=True, slots=True)
class Note:
    """A line of a world's trace."""

    at: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:10.6f}  {self.who} {self.what}"


def packet_of(data: bytes) -> Packet | None:
    """The packet in a datagram, a question or an answer; None if it is something else."""
    try:
        return decode(data.removeprefix(MEMBERSHIP))
    except ProtocolError:
        return None


class Beliefs:
    """Listens to every node of a world. ``of_false_death``: somebody was called dead while that very life of it ran."""

    def __init__(self, world: SimWorld) -> None:
        self.all: list[Belief] = []
        self.of_false_death: list[Belief] = []
        self._world = world
        world.watchers.append(self)

    def began(self, process: SimProcess) -> None:
        """Listen to it from its first word on."""
        process.loop.create_task(self._listen(process))

    def stepped(self, process: SimProcess) -> None:
        """Its changes have been told already."""

    async def _listen(self, process: SimProcess) -> None:
        async for change in process.node.events():
            belief = Belief(process.now, NodeId(process.name), change.member, change.was)
            self.all.append(belief)
            self._world.note(process.name, str(belief))
            if change.member.status is MemberStatus.DEAD and self._runs(change.member):
                self.of_false_death.append(belief)

    def _runs(self, member: Member) -> bool:
        machine = self._world.machines.get(str(member.node_id))
        if machine is None or machine.process is None or not machine.running or machine.process.node is None:
            return False
        own = [one for one in machine.process.node.members() if one.node_id == member.node_id]
        return bool(own) and own[0].boot == member.boot

    def about(self, subject: str) -> dict[str, MemberStatus | None]:
        """What every running node but the subject itself believes of it now."""
        believed: dict[str, MemberStatus | None] = {}
        for process in self._world.running():
            if process.name != subject:
                found = [one.status for one in process.node.members() if one.node_id == subject]
                believed[process.name] = found[0] if found else None
        return believed
