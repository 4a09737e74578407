"""`SimWorld`: whole nodes, the very ones of production, in a world that a seed decides.

**Why it exists.** What a cluster promises must hold when five machines die, stop, lose packets and disks in any order. Nobody can
try that on machines a hundred thousand times, nor do it again when it failed once.

**How it works.** The world holds the time, the network and the machines; what happens next is the next entry of its queue. Each
process has an event loop of its own (`durable.sim.process`), and on it a node that is made by ``make_node``: by default a
`ClusterNode` as anybody would make it, with the simulated `Transport`, `Clock`, `Entropy` and `Store` of its process in place
of the real ones. There is no protocol here.

Everything random is drawn from generators that are made of the seed; nothing asks the operating system. So a seed and the same
calls give the same run, in another process and under another hash seed, and `digest` says whether they did: it is a hash of
every packet, every frame and every line of the `trace`.

=======================  ==================================================================================================
call                     what it does
=======================  ==================================================================================================
start, restart           a process on the machine of that name; its node joins by the seeds
start_converged          so many, that know each other
crash                    SIGKILL; with ``power=True`` the machine goes dark, and nobody is told that its connections have ended
pause, resume            SIGSTOP, SIGCONT
wipe                     an empty disk, for a machine that does not run
leave                    ask the node to leave; its process ends when it has
cut, mend                one way of one pair
partition, heal          groups that cannot reach each other; no cut any more
set_clock                an operator, or NTP, moves a machine's wall clock
spawn, call              run a coroutine in a process; the same, until it is done
run, run_until           let time pass
=======================  ==================================================================================================

**Limits.** Work takes no time, but for an fsync. What a callback does after an fsync is done in the same step: nothing arrives
in between, as nothing does while a real loop stands still.

Read next: `durable.sim.checks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from hashlib import sha256
from random import Random
from struct import Struct
from typing import TYPE_CHECKING, Any, Self, TypeVar

from durable.cluster.config import ClusterConfig
from durable.cluster.node import ClusterNode
from durable.errors import ClusterError, StoreError
from durable.membership.member import NodeAddress, NodeId
from durable.sim.events import EventQueue
from durable.sim.network import Faults, SimNetwork
from durable.sim.process import Machine, MakeNode, SimNode, SimProcess, Watcher
from durable.sim.records import Note, Sent, packet_of

if TYPE_CHECKING:
    from durable.ports import Clock, Entropy, Store, Transport

T = TypeVar("T")
LOOK_S = 0.01
BIRTH_LIMIT_S = 30.0
SETTLE_S = 5.0
_pack_moment = Struct("<d").pack
SECRET = "a-secret-for-a-world-that-no-intruder-enters"


def make_member(
    world: SimWorld, name: str, transport: Transport, clock: Clock, entropy: Entropy, store: Store
) -> ClusterNode:
    """A member of the cluster, as in production."""
    return ClusterNode(world.config_of(name), transport=transport, clock=clock, entropy=entropy)


class SimWorld:
    """The world.

    >>> with SimWorld(seed=1) as world:
    ...     for name in ("node-1", "node-2", "node-3"):
    ...         process = world.start(name)
    ...     world.run(5.0)
    ...     world.crash("node-3")
    ...     world.run(20.0)
    ...     [(member.node_id, member.status.name) for member in world.node("node-1").members()]
    [('node-1', 'ALIVE'), ('node-2', 'ALIVE'), ('node-3', 'DEAD')]

    Args:
        seed: decides everything: one integer, one run.
        faults: of the network, from the start; ``world.network.faults`` may be replaced at any time.
        make_node: what each process runs.
        seeds: the names that nodes are told to join by; the same for all.
        config: fields of `ClusterConfig` for every node, such as ``gossip_interval=0.1``.
        drift: machines' clocks run faster or slower by up to this share.
    """

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        *,
        make_node: MakeNode = make_member,
        seeds: Sequence[str] = ("node-1", "node-2", "node-3"),
        config: Mapping[str, Any] | None = None,
        drift: float = 0.0,
    ) -> None:
        self.seed = seed
        self.seeds = tuple(seeds)
        self.config = dict(config or {})
        self.queue = EventQueue()
        self.network = SimNetwork(Random(f"{seed}/network"), faults)
        self.random = Random(f"{seed}/faults")
        self.machines: dict[str, Machine] = {}
        self.watchers: list[Watcher] = []
        self.notes: list[Note] = []
        self.errors: list[str] = []
        self.on_sent: Callable[[Sent], object] | None = None
        """Called for each packet of the membership that leaves."""
        self.datagrams = 0
        self.datagram_bytes_max = 0
        self._make_node = make_node
        self._drift = drift
        self._seeds_of: dict[str, tuple[str, ...]] = {}
        self._by_address: dict[NodeAddress, Machine] = {}
        self._dark: dict[NodeAddress, None] = {}
        self._past: list[SimProcess] = []
        self._hash = sha256()

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.queue.now

    # Processes

    def start_converged(self, count: int) -> None:
        """Start node-1 to node-``count``, and let them find each other and fall silent: the news of it has been told."""
        names = [f"node-{number}" for number in range(1, count + 1)]
        for name in names:
            self.start(name)

        def all_know_all() -> bool:
            return all(len(self.node(name).members()) == count for name in names)

        if not self.run_until(all_know_all, BIRTH_LIMIT_S):
            raise RuntimeError(f"{count} nodes have not found each other within {BIRTH_LIMIT_S:g} s")
        self.run(SETTLE_S)

    def machine(self, name: str) -> Machine:
        """The machine of a name, made when it is first asked for."""
        found = self.machines.get(name)
        if found is None:
            drift = self._drift * Random(f"{self.seed}/drift/{name}").uniform(-1, 1)
            found = self.machines[name] = Machine(self, name, drift)
            self._by_address[found.address] = found
        return found

    def start(self, name: str, *, seeds: Sequence[str] | None = None) -> SimProcess:
        """Start a process there; its node joins by ``seeds``, or those of the world. Raises `RuntimeError` if one runs.

        If its disk fails while it is opened, the process ends at once: it can be started again.
        """
        self._seeds_of[name] = self.seeds if seeds is None else tuple(seeds)
        process = self.enter(name)
        self.note(name, f"starts, life {process.life}")
        try:
            made = process.loop.run_call(
                lambda: self._make_node(self, name, process.transport, process.clock, process.entropy, process.store)
            )
        except StoreError as error:
            self.note(name, f"did not start: {type(error).__name__}: {error}")
            self._end(process)
            process.machine.disk.crash()
            return process
        process.node = made
        for watcher in self.watchers:
            watcher.began(process)
        process.spawn(self._live(process, made))
        return process

    def enter(self, name: str) -> SimProcess:
        """A process without a node: for a client, which has a transport of its own."""
        machine = self.machine(name)
        if machine.running:
            raise RuntimeError(f"{name} runs already")
        self._dark.pop(machine.address, None)
        process = machine.process = SimProcess(machine)
        return process

    async def _live(self, process: SimProcess, node: SimNode) -> None:
        try:
            await node.join()
            self.note(process.name, "has joined")
            await node.closed()
            why = "has left"
        except (ClusterError, StoreError) as error:
            why = f"ended: {type(error).__name__}: {error}"
        except Exception as error:
            why = f"ended: {type(error).__name__}"
            self.unhandled(process, error)
        self.note(process.name, why)
        for link in list(process.transport.links):
            link.killed()  # its kernel says goodbye
        self._end(process)

    def crash(self, name: str, *, power: bool = False) -> None:
        """The process is gone at once, paused or not. Nothing happens if none runs."""
        process = self.machine(name).process
        if process is None or not process.running:
            return
        self.note(name, "loses power" if power else "is killed")
        for link in list(process.transport.links):
            if power:
                link.vanish()
            else:
                link.killed()
        if power:
            self._dark[process.machine.address] = None
        self._end(process)
        process.machine.disk.crash()

    def _end(self, process: SimProcess) -> None:
        process.stop()
        self._past.append(process)

    def restart(self, name: str, *, seeds: Sequence[str] | None = None) -> SimProcess:
        """A new process, after a crash of the one that runs, if one does."""
        self.crash(name)
        return self.start(name, seeds=seeds)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        process = self.machine(name).process
        if process is not None and process.running and not process.paused:
            self.note(name, "is paused")
            process.paused = True

    def resume(self, name: str) -> None:
        """SIGCONT."""
        process = self.machine(name).process
        if process is not None and process.running and process.paused:
            self.note(name, "goes on")
            process.paused = False
            process.run()

    def wipe(self, name: str) -> None:
        """Lose the whole disk of a machine that does not run. Raises `RuntimeError` if it does."""
        machine = self.machine(name)
        if machine.running:
            raise RuntimeError(f"{name} runs: a disk is changed while the machine is off")
        self.note(name, "has an empty disk")
        machine.disk.wipe()

    def leave(self, name: str) -> None:
        """Ask a node to leave."""
        self.note(name, "is asked to leave")
        self.spawn(name, self.node(name).leave())

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in the process of that name."""
        process = self.machine(name).process
        if process is None or not process.running:
            work.close()
            raise RuntimeError(f"{name} does not run")
        return process.spawn(work)

    def call(self, name: str, work: Coroutine[Any, Any, T], limit_s: float = 60.0) -> T:
        """Run a coroutine in a process, let time pass until it is done, and return what it returns. Raises what it raises,
        and `TimeoutError` past the limit.
        """
        task = self.spawn(name, work)
        if not self.run_until(task.done, limit_s):
            raise TimeoutError(f"not done after {limit_s:g} s")
        return task.result()

    # The network and the clocks

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one machine to another. The other way is another cut."""
        self.note(source, f"is cut off from {target}, on the way there")
        self.network.cut(self.machine(source).address, self.machine(target).address)

    def mend(self, source: str, target: str) -> None:
        """Take back one cut."""
        self.note(source, f"reaches {target} again")
        self.network.mend(self.machine(source).address, self.machine(target).address)

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Cut every pair that is not in one group, both ways."""
        sides = [list(group) for group in groups]
        self.note("network", "is parted: " + " | ".join(" ".join(side) for side in sides))
        self.network.partition([[self.machine(name).address for name in side] for side in sides])

    def heal(self) -> None:
        """Take back every cut."""
        self.note("network", "is whole")
        self.network.heal()

    def set_clock(self, name: str, by_s: float) -> None:
        """Move a machine's wall clock forwards or back."""
        self.note(name, f"has its clock moved by {by_s:g} s")
        self.machine(name).wall_offset_s += by_s

    # Time

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.queue.run_until(self.now + seconds)

    def run_until(self, holds: Callable[[], bool], limit_s: float, look_s: float = LOOK_S) -> bool:
        """Let time pass until the condition holds, looked at every ``look_s``, at most ``limit_s``. Whether it does."""
        until = self.now + limit_s
        while not holds():
            if self.now >= until:
                return False
            self.queue.run_until(min(until, self.now + look_s))
        return True

    # What is to be seen

    def config_of(self, name: str) -> ClusterConfig:
        """What the node of that name is told."""
        seeds = [self.machine(seed).address for seed in self._seeds_of.get(name, self.seeds)]
        told = {"secret_key": SECRET, "seed_nodes": seeds, **self.config}
        return ClusterConfig(node_id=name, bind_address=self.machine(name).address, **told)

    def node(self, name: str) -> Any:
        """The node that runs there. Raises `RuntimeError` if none does."""
        process = self.machine(name).process
        if process is None or not process.running:
            raise RuntimeError(f"{name} does not run")
        return process.node

    def running(self) -> list[SimProcess]:
        """The processes that run a node (paused ones too), in the order in which their machines were first named."""
        found = [machine.process for machine in self.machines.values()]
        return [process for process in found if process is not None and process.running and process.node is not None]

    @property
    def trace(self) -> list[str]:
        """What has happened so far, a line each."""
        return [str(note) for note in self.notes]

    def digest(self) -> str:
        """A hash of everything so far: equal for equal runs, to the byte."""
        return self._hash.hexdigest()

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        note = Note(self.now, who, what)
        self.notes.append(note)
        self._hash.update(str(note).encode())

    # The end

    def close(self) -> None:
        """Take down what still runs. Nothing of it is seen any more."""
        for process in self.running():
            self._end(process)
        for machine in self.machines.values():
            if machine.running and machine.process is not None:
                self._end(machine.process)
        for process in self._past:
            process.loop.bury()
        self._past.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What processes tell

    def sent(self, process: SimProcess, to: NodeAddress, data: bytes, delays: tuple[float, ...]) -> None:
        """A datagram has left."""
        self.datagrams += 1
        self.datagram_bytes_max = max(self.datagram_bytes_max, len(data))
        self._hash.update(f"{process.now!r} {process.name} {to} {delays!r} ".encode() + data)
        self._tell_sent(process, to, data, delays)

    def streamed(self, process: SimProcess, to: NodeAddress, way: bytes, data: bytes) -> None:
        """A frame of a connection has left. ``way`` names its two ends."""
        self._hash.update(_pack_moment(process.now) + way + data)
        self._tell_sent(process, to, data, (0.0,))

    def _tell_sent(self, process: SimProcess, to: NodeAddress, data: bytes, delays: tuple[float, ...]) -> None:
        if self.on_sent is not None:
            packet, arrivals = packet_of(data), tuple([process.now + delay_s for delay_s in delays])
            if packet is not None:
                self.on_sent(Sent(process.now, NodeId(process.name), to, packet, arrivals))

    def has_run(self, process: SimProcess) -> None:
        """A process has run what was due."""
        for watcher in self.watchers:
            watcher.stepped(process)

    def unhandled(self, process: SimProcess, error: BaseException) -> None:
        """Something was raised in a process that nobody caught."""
        self.errors.append(f"{process.name}: {type(error).__name__}: {error}")
        self.note(process.name, f"did not handle {type(error).__name__}: {error}")

    def listening(self, address: NodeAddress) -> SimProcess | None:
        """The process that listens at an address."""
        machine = self._by_address.get(address)
        process = machine.process if machine is not None else None
        return process if process is not None and process.running and process.transport.receiver is not None else None

    def passes(self, source: NodeAddress, target: NodeAddress) -> bool:
        """Whether what leaves now arrives: there is a way, and the target has power."""
        return (not self._dark or target not in self._dark) and self.network.passes(source, target)
