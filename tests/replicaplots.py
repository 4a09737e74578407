"""Worlds with a plot: the few steps in which a broken rule shows, with everything around them left to chance.

A random schedule meets them once in hundreds of seeds. Here three nodes in random parts play one of these, on the very core of
production, and then go on at random. With the rules whole, no law is broken however often they are played.

=============  =========================================================  ===================================================
plot           what happens                                               shows without
=============  =========================================================  ===================================================
overlap        a copy promises a candidate, crashes perhaps, and hears    R1: what was promised is kept, on stable storage,
               the old owner again before its promise arrives             and nothing older accepted
two_logs       an owner that is cut off writes on alone; the others       R2: the newest epoch's log, not the longest
               elect another, which commits less, and is then cut off
half_a_log     a copy that lags is sent the log in pieces, and its        R3: a log is swapped in whole
               source stops in the middle
=============  =========================================================  ===================================================
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from replicaworld import Node, P, ReplicaWorld

from durable.errors import NoQuorum, NotOwner


class PlottedWorld(ReplicaWorld):
    """Three nodes; ``plot`` names what they play."""

    plot = ""
    slow: Node | None = None
    """Whose disk takes its time."""

    def run(self) -> None:
        first, second, third = self.random.sample(self.nodes, 3)
        self.lead(first)
        getattr(self, self.plot)(first, second, third)
        for _ in range(self.steps):
            self.step()

    def sync(self, node: Node) -> None:
        if node is not self.slow:
            super().sync(node)

    # What the plots are made of

    def lead(self, node: Node) -> None:
        """It becomes the owner, as far as the network lets it."""
        for _ in range(2):
            if node.core is not None and node.core.replicas[P].owner is None:
                node.core.replicas[P].election.campaign()
                self.take(node)
                self.pump(25)

    def pump(self, count: int, sync: float = 0.7) -> None:
        """Messages arrive, and disks work; no time passes."""
        for _ in range(count):
            if self.net:
                self.deliver()
            for node in self.nodes:
                if self.random.random() < sync:
                    self.sync(node)

    def append(self, node: Node, count: int) -> None:
        for _ in range(count):
            if node.core is not None:
                self.value += 1
                with suppress(NotOwner, NoQuorum):
                    node.core.append(self.now, P, [(b"\0\0%05d" % self.value, b"%d" % self.value)])
                self.take(node)

    def part(self, one: Node, *others: Node) -> None:
        """No message passes between one and each of the others; those on their way wait."""
        self.cuts |= {pair for other in others for pair in ((one.name, other.name), (other.name, one.name))}

    # The plots

    def overlap(self, owner: Node, candidate: Node, copy: Node) -> None:
        random = self.random
        self.append(owner, random.randrange(3))
        self.pump(12)
        self.part(owner, candidate)
        self.cuts.add((copy.name, candidate.name))
        assert candidate.core is not None
        candidate.core.replicas[P].election.campaign()
        self.take(candidate)
        crashes = random.random() < 0.6
        self.slow = copy if crashes and random.random() < 0.5 else None
        self.pump(random.randrange(2, 8), sync=0.4)
        if crashes and copy.core is not None:
            self.stop(copy)
            self.restart(copy)
        self.slow = None
        self.append(owner, random.randrange(1, 3))
        self.pump(10)
        self.cuts.discard((copy.name, candidate.name))
        self.pump(20)
        self.cuts.clear()

    def two_logs(self, owner: Node, other: Node, copy: Node) -> None:
        random = self.random
        self.append(owner, random.randrange(2))
        self.pump(12)
        self.part(owner, other, copy)
        self.append(owner, random.randrange(2, 5))
        self.pump(4)
        self.lead(other)
        self.append(other, 1)
        self.pump(15)
        self.cuts.clear()
        self.part(other, owner, copy)
        self.lead(copy if random.random() < 0.6 else owner)
        self.cuts.clear()

    def half_a_log(self, owner: Node, source: Node, copy: Node) -> None:
        random = self.random
        self.part(copy, owner, source)
        self.append(owner, random.randrange(3, 8))
        self.pump(25)
        self.cuts.clear()
        self.cuts.add((source.name, owner.name) if random.random() < 0.5 else (owner.name, source.name))
        assert source.core is not None
        source.core.replicas[P].election.campaign()
        self.take(source)
        self.pump(random.randrange(8, 26))
        if source.core is not None:
            self.stop(source)
        self.cuts.clear()
        self.lead(copy)


PLOTS: dict[str, dict[str, Any]] = {
    "overlap": {"steps": 60, "loss": 0.0, "double": 0.05, "crash": 0.01},
    "two_logs": {"steps": 60, "loss": 0.0, "double": 0.05, "crash": 0.01},
    "half_a_log": {"steps": 60, "loss": 0.0, "double": 0.05, "crash": 0.005, "piece": 15},
}


def plotted(world: type[ReplicaWorld], plot: str) -> type[ReplicaWorld]:
    """The world with a plot, its broken rule, if it has one, kept."""
    return type(f"{plot}-{world.__name__}", (PlottedWorld, world), {"plot": plot})
