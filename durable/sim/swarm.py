"""A swarm: many membership cores in one simulated world, with processes that are stopped, killed and started
again.

**Why it exists.** What SWIM promises is about many members over a long time: an hour at 5 % loss, a thousand
members, a hundred deaths. Here an hour takes seconds, and a seed decides all of it.

**How it works.** Each process holds a `Swim` and nothing else. What it sends is encoded, put through
`SimNetwork`, and decoded at the other end, as on a wire. The world keeps what a judge needs: every change of
belief, the deaths that were false, and a running hash of every packet, by which two runs are compared.

===========  ===========================================================================================
crash        the process is gone; what it had not sent is never sent
pause        as by SIGSTOP: packets pile up in its sockets (256, then they are lost), its timers come late.
             When it goes on, its timers fire *before* it has read what waits, as they do in asyncio
restart      the same name and address, the next boot number, an empty list
===========  ===========================================================================================

**Limits.** Clocks do not drift, and a call takes no time. The shell's own faults are for a world that drives
whole nodes.

Read next: `checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from durable.membership.effects import Effect, MemberChanged, Send, Stream
from durable.membership.member import Claim, Member, MemberStatus, NodeAddress, NodeId, rank
from durable.membership.messages import Packet, decode, encode
from durable.membership.swim import Swim
from durable.membership.tuning import Tuning
from durable.sim.events import EventQueue
from durable.sim.network import Faults, SimNetwork

SOCKET_PACKETS_MAX = 256
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Belief:
    """At ``at`` seconds, ``observer`` came to believe this of a member."""

    at: float
    observer: NodeId
    member: Member
    was: MemberStatus | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet that left. ``arrivals``: when each of its copies will be there; empty if it is lost."""

    at: float
    source: NodeId
    target: NodeAddress
    packet: Packet
    arrivals: tuple[float, ...]

    @property
    def copies(self) -> int:
        """How many of it will arrive."""
        return len(self.arrivals)


@dataclass(slots=True)
class Process:
    """One process: running, paused or gone."""

    node_id: NodeId
    address: NodeAddress
    boot: int
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
        self.other_effects: list[tuple[float, NodeId, Effect]] = []
        self.datagrams: dict[NodeId, int] = {}
        self.datagram_bytes_max = 0
        self.on_sent: Callable[[Sent], None] | None = None
        self._by_address: dict[NodeAddress, Process] = {}
        self._hash = sha256()

    # Processes

    def start(
        self,
        name: str,
        *,
        seeds: Sequence[str] = (),
        remembered: Iterable[Claim] = (),
        host: str | None = None,
        boot: int | None = None,
    ) -> Process:
        """Start a process; it joins by ``seeds``. A name that ran before gets the next boot number."""
        node_id = NodeId(name)
        before = self.processes.get(node_id)
        address = before.address if before and host is None else self.address_of(host or name)
        boot = boot if boot is not None else before.boot + 1 if before else 1
        random = Random(f"{self.seed}/{name}/{boot}/{address}")
        swim = Swim(node_id, address, boot=boot, random=random, tuning=self.tuning, remembered=remembered)
        process = Process(node_id, address, boot, swim)
        self.processes[node_id] = process
        self._by_address[address] = process
        self.datagrams.setdefault(node_id, 0)
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

    def restart(self, name: str, seeds: Sequence[str] = ()) -> Process:
        """Start the name again, at the same address, in its next life."""
        self.crash(name)
        return self.start(name, seeds=seeds)

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
        """Where a host listens; by default a process runs on the host of its own name."""
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

    def converged(self) -> bool:
        """Whether every running process believes exactly the running ones alive, in their present life and
        incarnation.
        """
        running = self.alive()
        truth = {process.node_id: process.swim.me for process in running}
        for process in running:
            listed = process.swim.members()
            if sum(member.status.is_live for member in listed) != len(truth):
                return False
            for member in listed:
                if member.status.is_live and (
                    member.node_id not in truth or rank(member) != rank(truth[member.node_id])
                ):
                    return False
        return True

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
                case _:
                    self.other_effects.append((self.queue.now, process.node_id, effect))
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
            self.datagram_bytes_max = max(self.datagram_bytes_max, len(data))
            copies = self.network.datagram(process.address, effect.to)
        else:
            delay_s = self.network.stream(process.address, effect.to)
            copies = () if delay_s is None else (delay_s,)
        now = self.queue.now
        self._hash.update(f"{now!r} {process.address} {effect.to} {copies!r} ".encode() + data)
        if self.on_sent is not None:
            self.on_sent(Sent(now, process.node_id, effect.to, effect.packet, tuple(now + delay_s for delay_s in copies)))
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
