"""What is done to a cluster under load: a seeded bag of faults, one after another and sometimes two at once.

==============  ======================================================================================================
fault           what happens
==============  ======================================================================================================
kill            SIGKILL, and after a while the same name again
kill two        the same, two at once: some partitions lose their majority
pause           SIGSTOP, and SIGCONT: longer than the suspect timeout, so that others take over from a node that lives
partition       the network falls into two groups
isolate         one node hears nobody
deaf            one node does not hear others any more, some or all, which hear it; or they do not hear it
partial         a node is cut off from two others (which hold all other copies of some of what it owns), and seen by the rest
loss            datagrams get lost, frames are late, connections break
restart all     SIGKILL for all at once; started again in any order
wipe            SIGKILL, and the disk is empty when it comes back
grow, shrink    one more node, and later one leaves
==============  ======================================================================================================

Each kind comes once before any comes twice. The seed decides kinds, times and dice; what the machine makes of them it does not.

**Limits.** One disk is wiped at a time, and the next only when the cluster has let the node back: two empty disks of three are a
loss that nothing can prevent. Never more than two nodes are down at once, except when all restart.

Read next: `chaos.cluster`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

FAULTS = (
    "kill", "pause", "partition", "partial", "deaf", "loss", "kill two", "isolate", "restart all", "wipe", "grow and shrink",
)  # fmt: skip
DOWN_MAX = 2
NODES_MAX = 6
TAKES_OVER = ("kill", "pause", "isolate", "wipe")  # others take over from one node, if it stays away for long enough
WATCH_S = 60.0
READY_PATIENCE_S = 60.0


@dataclass
class Hit:
    """One fault: what, whom, from when until when (monotonic)."""

    kind: str
    nodes: tuple[str, ...]
    began: float
    ended: float = float("inf")


@dataclass
class Faults:
    """Does them to ``cluster``. ``hits`` is the record, ``failovers`` the seconds until all that a lost node owned had a new
    epoch.
    """

    cluster: Any
    draw: random.Random
    kinds: Sequence[str] = FAULTS
    say: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    hits: list[Hit] = field(default_factory=list)
    failovers: list[float] = field(default_factory=list)
    lives: dict[int, str] = field(default_factory=dict)
    _left: set[str] = field(default_factory=set)
    _busy: set[str] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def bag(self) -> Iterator[str]:
        """Kinds without end: each once, in a random order, then again."""
        while True:
            yield from self.draw.sample(self.kinds, len(self.kinds))

    async def run(self, seconds: float) -> None:
        """Faults for so long; returns when the last has been taken back. Raises what a cluster raises that cannot go on."""
        self.note_lives()
        until = self.clock() + seconds
        kinds = self.bag()
        while (left := until - self.clock()) > 0:
            await self.sleep(min(left, self.draw.uniform(0.3, 3.0)))
            kind = next(kinds)
            beside = self.draw.random() < 0.3
            if kind in ("restart all", "wipe", "grow and shrink"):  # these want the cluster for themselves
                await self._settle()
                await self._do(kind)
            elif beside:
                self._tasks.append(asyncio.create_task(self._do(kind)))
            else:
                await self._do(kind)
        await self._settle()

    async def heal(self) -> None:
        """Everything back: no cut, nobody paused, everybody up."""
        await self._settle()
        await self.cluster.heal()
        for node in self._nodes():
            if node not in self.cluster.running:
                await self.cluster.restart(node)
        self.note_lives()

    def note_lives(self) -> None:
        """Remember which process is which node: bodies note their process only."""
        for node in self.cluster.running:
            self.lives[self.cluster.process_id(node)] = node

    # One fault

    async def _do(self, kind: str) -> None:
        nodes = self._pick(kind)
        if nodes is None:
            return
        hit = Hit(kind, tuple(nodes), self.clock())
        self.hits.append(hit)
        watching = [self._watch(node) for node in nodes if kind in TAKES_OVER]
        self._busy |= set(nodes)
        self.say(f"{kind}: {', '.join(nodes)}")
        try:
            await _DOING[kind](self, nodes)
        finally:
            hit.ended = self.clock()
            for watch in watching:
                watch.cancel()
            self._busy -= set(nodes)
            self.note_lives()

    def _pick(self, kind: str) -> list[str] | None:
        """Whom it hits; None when too many are hit already."""
        free = [node for node in self._nodes() if node in self.cluster.running and node not in self._busy]
        if kind in ("restart all", "partition"):
            return list(free)
        wanted = 2 if kind == "kill two" else 1
        if kind == "grow and shrink" and len(self._nodes()) >= NODES_MAX:
            return None
        if len(free) < wanted or len(self._busy) + wanted > DOWN_MAX:
            return None
        return self.draw.sample(free, wanted)

    async def _kill(self, nodes: list[str]) -> None:
        for node in nodes:
            await self.cluster.kill(node)
        await self._hold(0.2, 6.0)
        for node in nodes:
            await self.cluster.restart(node)

    async def _pause(self, nodes: list[str]) -> None:
        (node,) = nodes
        await self.cluster.pause(node)
        await self._hold(0.3, 6.0)
        await self.cluster.resume(node)

    async def _partition(self, nodes: list[str]) -> None:
        mixed = self.draw.sample(nodes, len(nodes))
        place = self.draw.randint(1, len(mixed) - 1) if len(mixed) > 1 else 0
        await self._cut((one, other) for one in mixed[:place] for other in mixed[place:])

    async def _isolate(self, nodes: list[str]) -> None:
        await self._cut((nodes[0], other) for other in self._nodes() if other != nodes[0])

    async def _partial(self, nodes: list[str]) -> None:
        (owner,) = nodes
        others = [node for node in self._nodes() if node != owner]
        await self._cut((owner, other) for other in self.draw.sample(others, min(2, len(others) - 1)))

    async def _deaf(self, nodes: list[str]) -> None:
        (node,) = nodes
        others = [other for other in self._nodes() if other != node]
        pairs = [(node, other) for other in self.draw.sample(others, self.draw.randint(1, len(others)))]
        inwards = self.draw.random() < 0.5
        self.say(f"{node} {'does not hear' if inwards else 'is not heard by'} {', '.join(other for _, other in pairs)}")
        await self._cut([], pairs if inwards else [(other, one) for one, other in pairs])

    async def _cut(self, pairs: Any, deaf: Any = ()) -> None:
        await self.cluster.cut(list(pairs), list(deaf))
        await self._hold(1.0, 7.0)
        await self.cluster.heal()

    async def _loss(self, nodes: list[str]) -> None:
        loss, delay_s, breaks = self.draw.uniform(0.02, 0.3), self.draw.uniform(0.0, 0.05), self.draw.choice([0.0, 0.01])
        await self.cluster.disturb(nodes[0], loss=loss, delay_s=delay_s, breaks=breaks, seed=self.draw.getrandbits(32))
        await self._hold(2.0, 8.0)
        await self.cluster.disturb(nodes[0])

    async def _restart_all(self, nodes: list[str]) -> None:
        await asyncio.gather(*(self.cluster.kill(node) for node in nodes))
        for node in self.draw.sample(nodes, len(nodes)):
            await self._hold(0.0, 0.5)
            self._tasks.append(asyncio.create_task(self._restart(node)))
        await self._settle()
        self.say("    all are let in")
        await self.cluster.wait_converged(READY_PATIENCE_S)

    async def _restart(self, node: str) -> None:
        await self.cluster.restart(node)  # returns when let in, which may need the others

    async def _wipe(self, nodes: list[str]) -> None:
        (node,) = nodes
        await self.cluster.wipe(node)
        await self._hold(0.2, 3.0)
        await self.cluster.restart(node)
        await self.cluster.wait_until(lambda: self._owns(node), READY_PATIENCE_S)

    async def _grow_and_shrink(self, nodes: list[str]) -> None:
        added = await self.cluster.add()
        self.note_lives()
        await self.cluster.wait_until(lambda: self._owns(added), READY_PATIENCE_S)
        leaver = self.draw.choice([*nodes, added])
        self.say(f"{added} has come, {leaver} leaves")
        await self.cluster.leave(leaver)
        self._left.add(str(leaver))
        await self.cluster.wait_converged(READY_PATIENCE_S)

    # How

    def _nodes(self) -> list[str]:
        """Everybody who has not left."""
        return [str(node) for node in self.cluster.nodes if node not in self._left]

    def _owns(self, node: str) -> bool:
        return any(owner == node for owner, _ in self.cluster.owners().values())

    async def _hold(self, least_s: float, most_s: float) -> None:
        await self.sleep(self.draw.uniform(least_s, most_s))

    async def _settle(self) -> None:
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    def _watch(self, node: str) -> asyncio.Task[None]:
        """Measure how long it takes until everything that this node owns now has another owner, or itself under a new epoch."""
        owned = {partition: held for partition, held in self.cluster.owners().items() if held[0] == node}
        began = self.clock()

        def taken() -> bool:
            owners = self.cluster.owners()
            return all(owners.get(partition, held) != held for partition, held in owned.items())

        async def watch() -> None:
            await self.cluster.wait_until(taken, WATCH_S)
            self.failovers.append(self.clock() - began)
            self.say(f"    others own what {node} owned, {len(owned)} partitions, after {self.failovers[-1]:.2f} s")

        return asyncio.create_task(watch() if owned else asyncio.sleep(0))


_DOING: dict[str, Callable[[Faults, list[str]], Awaitable[None]]] = {
    "kill": Faults._kill,
    "kill two": Faults._kill,
    "pause": Faults._pause,
    "partition": Faults._partition,
    "isolate": Faults._isolate,
    "partial": Faults._partial,
    "deaf": Faults._deaf,
    "loss": Faults._loss,
    "restart all": Faults._restart_all,
    "wipe": Faults._wipe,
    "grow and shrink": Faults._grow_and_shrink,
}
