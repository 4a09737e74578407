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
partial         an owner is cut off from all others of a replica set, and seen by the rest: alive to all, of no use to these
loss            datagrams get lost, frames are late, connections break
restart all     SIGKILL for all at once; started again in any order
wipe            SIGKILL, and the disk is empty when it comes back
grow, shrink    one more node, and later one leaves
==============  ======================================================================================================

Each kind comes once before any comes twice; one that cannot be done beside what lasts waits until that is taken back. The seed
decides kinds, times and dice; what the machine makes of them it does not.

**Limits.** A disk is wiped only when nobody lacks a copy: two of three that are gone are a loss that nothing can prevent. A node
whose leave took too long is still a voter, and is started again, as its last words advise. Never more than two nodes are down at
once, except when all restart.

Read next: `chaos.cluster`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.watch import (
    FAILOVER_BOUND_S,
    Failover,
    PartialCut,
    cuts_to_choose,
    replica_sets,
    until_taken,
    until_whole,
    voters_of,
)

FAULTS = (
    "kill", "pause", "partition", "partial", "deaf", "loss", "kill two", "isolate", "restart all", "wipe", "grow and shrink",
)  # fmt: skip
ALONE = ("restart all", "wipe", "grow and shrink")  # these want the cluster for themselves
DOWN_MAX = 2
NODES_MAX = 6
KILLS = ("kill", "wipe")  # others take over, even if the name comes back at once
TAKES_OVER = (*KILLS, "pause", "isolate")  # others take over from one node, if it stays away for long enough
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
class Cut:
    """What one fault cuts: pairs both ways, and of each pair in ``deaf`` the first from hearing the second."""

    pairs: list[tuple[str, str]]
    deaf: list[tuple[str, str]]


@dataclass
class Faults:
    """Does them to ``cluster``. ``hits`` is the record; ``failovers`` and ``partials`` are what was seen meanwhile."""

    cluster: Any
    draw: random.Random
    kinds: Sequence[str] = FAULTS
    say: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    hits: list[Hit] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    partials: list[PartialCut] = field(default_factory=list)
    lives: dict[int, str] = field(default_factory=dict)
    _left: set[str] = field(default_factory=set)
    _busy: set[str] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _cuts: list[Cut] = field(default_factory=list)

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
            nodes = None if kind in ALONE else await self._pick(kind)
            if nodes is None:
                await self._settle()
                nodes = await self._pick(kind)
            if nodes is None:
                self.say(f"{kind}: nobody to do it to")
            elif beside and kind not in ALONE:
                self._tasks.append(asyncio.create_task(self._do(kind, nodes)))
            else:
                await self._do(kind, nodes)
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

    async def _do(self, kind: str, nodes: list[str]) -> None:
        hit = Hit(kind, tuple(nodes), self.clock())
        self.hits.append(hit)
        watching = [asyncio.create_task(self._watch(kind, node)) for node in nodes if kind in TAKES_OVER]
        await asyncio.sleep(0)  # they look at who owns what before it changes
        self._busy |= set(nodes)
        self.say(f"{kind}: {', '.join(nodes)}")
        try:
            await _DOING[kind](self, nodes)
        finally:
            hit.ended = self.clock()
            for watch in watching:
                if kind in KILLS:
                    self._tasks.append(watch)
                else:
                    watch.cancel()
            self._busy -= set(nodes)
            self.note_lives()

    async def _pick(self, kind: str) -> list[str] | None:
        """Whom it hits; None when too many are hit already."""
        free = [node for node in self._nodes() if node in self.cluster.running and node not in self._busy]
        if kind in ("restart all", "partition"):
            return list(free)
        wanted = 2 if kind == "kill two" else 1
        if kind == "grow and shrink" and len(self._nodes()) >= NODES_MAX:
            return None
        if len(free) < wanted or len(self._busy) + wanted > DOWN_MAX:
            return None
        if kind == "partial":
            cuts = cuts_to_choose(await replica_sets(self.cluster, free[0]), self.cluster.owners(), free)
            return list(self.draw.choice(sorted(cuts))) if cuts else None
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
        owner, *companions = nodes
        observers = [node for node in self.cluster.running if node != owner]
        cuts = cuts_to_choose(await replica_sets(self.cluster, owner), self.cluster.owners(), self.cluster.running)
        cut = PartialCut(owner, tuple(companions), cuts.get(tuple(nodes), {}), tuple(map(str, observers)))
        self.partials.append(cut)
        unlisten = self.cluster.listen(lambda: cut.look(self.cluster))
        try:
            await self._cut([(owner, other) for other in companions], hold_s=(2.0, 7.0), before_heal=unlisten)
        finally:
            unlisten()
        self.say(f"    {cut}")

    async def _deaf(self, nodes: list[str]) -> None:
        (node,) = nodes
        others = [other for other in self._nodes() if other != node]
        pairs = [(node, other) for other in self.draw.sample(others, self.draw.randint(1, len(others)))]
        inwards = self.draw.random() < 0.5
        self.say(f"{node} {'does not hear' if inwards else 'is not heard by'} {', '.join(other for _, other in pairs)}")
        await self._cut([], pairs if inwards else [(other, one) for one, other in pairs])

    async def _cut(
        self,
        pairs: Iterable[tuple[str, str]],
        deaf: Iterable[tuple[str, str]] = (),
        hold_s: tuple[float, float] = (1.0, 7.0),
        before_heal: Callable[[], object] = lambda: None,
    ) -> None:
        """Cut, beside what others have cut, hold it, and take back this one only."""
        cut = Cut(list(pairs), list(deaf))
        self._cuts.append(cut)
        await self._apply_cuts()
        await self._hold(*hold_s)
        before_heal()
        self._cuts = [other for other in self._cuts if other is not cut]
        await self._apply_cuts()

    async def _apply_cuts(self) -> None:
        pairs = [pair for cut in self._cuts for pair in cut.pairs]
        await self.cluster.cut(pairs, [pair for cut in self._cuts for pair in cut.deaf])

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
        await until_whole(self.cluster, READY_PATIENCE_S)
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
        if leaver in await voters_of(self.cluster, self.cluster.running[0]):
            self.say(f"    {leaver} went before the others could do without it, and comes back")
            await self.cluster.restart(leaver)
        else:
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
        while self._tasks:
            tasks, self._tasks = self._tasks, []
            await asyncio.gather(*tasks)

    async def _watch(self, kind: str, node: str) -> None:
        """Measure how long it takes until others own what this node owns."""
        began = self.clock()
        partitions, took_s = await until_taken(self.cluster, node, self.clock, WATCH_S)
        if partitions:
            failover = Failover(kind, node, partitions, began, took_s, self._is_alone(began, min(took_s, WATCH_S)))
            self.failovers.append(failover)
            slow = f", which is slow: {FAILOVER_BOUND_S:g} s are promised" if failover.slow else ""
            self.say(f"    others own what {node} owned, {partitions} partitions, after {took_s:.2f} s{slow}")

    def _is_alone(self, began: float, took_s: float) -> bool:
        """Whether no other fault lasted at any time in this span; the one that began it is one."""
        return sum(hit.began <= began + took_s and hit.ended >= began for hit in self.hits) == 1


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
