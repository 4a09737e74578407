"""A swarm: many bare membership cores, without the shells around them, for figures about many members.

**Why it exists.** What SWIM promises is about *n*: a thousand members, a hundred deaths. A simulated node (`durable.sim.world`)
costs three times as much a packet as a bare core, and a hundred of them take 9 s of CPU to find each other (0.1 s here), more than
the square of it as they grow more: each has a ring of its own. So figures up to 1,000 members are taken here, and what must hold
is held against whole nodes.

**How it works.** Each process holds a `Swim` and nothing else. What it sends is encoded, put through
`SimNetwork`, and decoded at the other end, as on a wire. The swarm keeps what a judge needs: every change of
belief, the deaths that were false, and a running hash of every packet, by which two runs are compared.

===========  ===========================================================================================
crash        the process is gone; what it had not sent is never sent
pause        as by SIGSTOP: packets pile up in its sockets (256, then they are lost), its timers come late
===========  ===========================================================================================

**Limits.** Nobody comes back: a name is started once.

Read next: `durable.figures.measures`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from durable.membership.effects import MemberChanged, Send, Stream
from durable.membership.member import Claim, MemberStatus, NodeAddress, NodeId
from durable.membership.messages import decode, encode
from durable.membership.swim import Swim
from durable.membership.tuning import Tuning
from durable.sim.events import EventQueue
from durable.sim.network import Faults, SimNetwork
from durable.sim.records import Belief, Sent

SOCKET_PACKETS_MAX = 256
LOOK_S = 0.01


@dataclass(slots=True)
class Process:
    """One process: running, paused or gone."""

    node_id: NodeId
    address: NodeAddress
    swim: Swim
    running: bool = True
    paused: bool = False
    inbox: list[tuple[NodeAddress, bytes]] = field(default_factory=list)
    wake_at: float | None = None


class Swarm:
    """The world.

    >>> swarm = Swarm(seed=1)
    >>> swarm.start_converged(5)
    >>> swarm.run(1.0); swarm.crash("node-3"); swarm.run(20.0)
    >>> {status.name for observer, status in swarm.beliefs_about("node-3").items()}
    {'DEAD'}

    Args:
        seed: decides everything: one integer, one run.
        tuning: of all members.
        faults: of the network, from the start; ``swarm.network.faults`` may be replaced at any time.
    """

    def __init__(self, seed: int, tuning: Tuning | None = None, faults: Faults | None = None) -> None:
        self.seed = seed
        self.tuning = tuning or Tuning()
        self.queue = EventQueue()
        self.network = SimNetwork(Random(f"network/{seed}"), faults)
        self.random = Random(f"faults/{seed}")
        self.processes: dict[NodeId, Process] = {}
        self.beliefs: list[Belief] = []
        self.false_deaths: list[Belief] = []
        self.datagrams: dict[NodeId, int] = {}
        self.on_sent: Callable[[Sent], None] | None = None
        self._by_address: dict[NodeAddress, Process] = {}
        self._hash = sha256()

    # Processes

    def start(self, name: str, *, seeds: Sequence[str] = (), remembered: Iterable[Claim] = ()) -> Process:
        """Start a process; it joins by ``seeds``."""
        node_id, address = NodeId(name), self.address_of(name)
        random = Random(f"{self.seed}/{name}/1/{address}")
        swim = Swim(node_id, address, boot=1, random=random, tuning=self.tuning, remembered=remembered)
        process = Process(node_id, address, swim)
        self.processes[node_id] = process
        self._by_address[address] = process
        self.datagrams[node_id] = 0
        swim.start(self.queue.now)
        if seeds:
            swim.join(self.queue.now, [self.address_of(seed) for seed in seeds])
        self._carry_out(process)
        return process

    def start_converged(self, count: int) -> None:
        """Start node-1 to node-``count``, who know each other already."""
        names = [NodeId(f"node-{number}") for number in range(1, count + 1)]
        claims = [Claim(name, self.address_of(name), 1, 0, MemberStatus.ALIVE, name) for name in names]
        for name in names:
            self.start(name, remembered=[claim for claim in claims if claim.node_id != name])

    def crash(self, name: str) -> None:
        """SIGKILL."""
        process = self.processes[NodeId(name)]
        process.running, process.paused, process.wake_at = False, False, None
        process.inbox.clear()

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.processes[NodeId(name)].paused = True

    def resume(self, name: str) -> None:
        """SIGCONT: late timers first, then what waits in the sockets."""
        process = self.processes[NodeId(name)]
        if not process.paused:
            return
        process.paused = False
        waiting, process.inbox = process.inbox, []
        self._tick(process)
        for source, data in waiting:
            self._receive(process, source, data)

    def leave(self, name: str) -> None:
        """Ask a process to leave gracefully. It is gone when it has told the others."""
        process = self.processes[NodeId(name)]
        process.swim.leave(self.queue.now)
        self._carry_out(process)

    # Time

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.queue.run_until(self.queue.now + seconds)

    def run_until(self, holds: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until the condition holds, looked at every 10 ms, at most ``limit_s``. Whether it
        does.
        """
        until = self.queue.now + limit_s
        while not holds():
            if self.queue.now >= until:
                return False
            self.queue.run_until(min(until, self.queue.now + LOOK_S))
        return True

    # What is to be seen

    def address_of(self, host: str) -> NodeAddress:
        """Where a process listens: on the host of its own name."""
        return NodeAddress(host, 7800)

    def alive(self) -> list[Process]:
        """The processes that run (paused ones too), in the order of their first start."""
        return [process for process in self.processes.values() if process.running]

    def belief(self, observer: str, subject: str) -> MemberStatus | None:
        """What a process believes of a name; None if it is not in its list."""
        for member in self.processes[NodeId(observer)].swim.members():
            if member.node_id == subject:
                return member.status
        return None

    def beliefs_about(self, subject: str) -> dict[NodeId, MemberStatus | None]:
        """What every running process but the subject itself believes of it."""
        return {
            process.node_id: self.belief(process.node_id, subject)
            for process in self.alive()
            if process.node_id != subject
        }

    def fingerprint(self) -> str:
        """A hash of every packet so far, with its time: equal for equal runs, to the byte."""
        return self._hash.hexdigest()

    # The world's own doings

    def _tick(self, process: Process) -> None:
        if process.running and not process.paused:
            process.swim.tick(self.queue.now)
            self._carry_out(process)

    def _receive(self, process: Process, source: NodeAddress, data: bytes) -> None:
        process.swim.receive(self.queue.now, source, decode(data))
        self._carry_out(process)

    def _carry_out(self, process: Process) -> None:
        for effect in process.swim.effects():
            match effect:
                case Send() | Stream():
                    self._send(process, effect)
                case MemberChanged():
                    self._note(process, effect)
        if process.swim.stopped:
            process.running = False
        self._plan_tick(process)

    def _plan_tick(self, process: Process) -> None:
        deadline = process.swim.next_deadline()
        if deadline == process.wake_at:
            return
        process.wake_at = deadline
        if deadline is not None:
            self.queue.at(deadline, lambda: self._wake(process, deadline))

    def _wake(self, process: Process, planned: float) -> None:
        if process.wake_at == planned:
            process.wake_at = None
            self._tick(process)

    def _send(self, process: Process, effect: Send | Stream) -> None:
        data = encode(effect.packet)
        copies: tuple[float, ...]
        if isinstance(effect, Send):
            self.datagrams[process.node_id] += 1
            copies = self.network.datagram(process.address, effect.to)
        else:
            delay_s = self.network.stream(process.address, effect.to)
            copies = () if delay_s is None else (delay_s,)
        now = self.queue.now
        self._hash.update(f"{now!r} {process.address} {effect.to} {copies!r} ".encode() + data)
        if self.on_sent is not None:
            arrivals = tuple([now + delay_s for delay_s in copies])
            self.on_sent(Sent(now, process.node_id, effect.to, effect.packet, arrivals))
        for delay_s in copies:
            self.queue.at(now + delay_s, lambda: self._arrive(process.address, effect.to, data))

    def _arrive(self, source: NodeAddress, to: NodeAddress, data: bytes) -> None:
        process = self._by_address.get(to)
        if process is None or not process.running:
            return
        if not process.paused:
            self._receive(process, source, data)
        elif len(process.inbox) < SOCKET_PACKETS_MAX:
            process.inbox.append((source, data))

    def _note(self, process: Process, change: MemberChanged) -> None:
        belief = Belief(self.queue.now, process.node_id, change.member, change.was)
        self.beliefs.append(belief)
        subject = self.processes.get(change.member.node_id)
        if (
            change.member.status is MemberStatus.DEAD
            and subject is not None
            and subject.running
            and subject.swim.me.boot == change.member.boot
        ):
            self.false_deaths.append(belief)
