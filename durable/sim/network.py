"""A network that is decided by a seed: which copies of a packet arrive, and after how long.

**Why it exists.** What a cluster does under loss, delay and partitions must be tried a hundred thousand
times, and a failure must happen again.

**How it works.** `SimNetwork` holds no queue and no clock: asked for a packet from one host to another, it
answers with the delays of its copies, none for a lost packet. Whoever drives the world schedules them, be it
`durable.sim.events.EventQueue`.

============  ==================================================  ===========================================
fault         datagrams                                           streams
============  ==================================================  ===========================================
delay         uniform within ``delay_s``, each copy its own       the same
loss          the copy is gone                                    200 ms more per loss: sent again
duplication   two copies                                          (none)
reorder       held back by up to ``reorder_s``                    (none)
cut           nothing passes, one way or both                     nothing passes
============  ==================================================  ===========================================

**Limits.** No bandwidth and no queueing; packets are independent of each other.

Read next: `events`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

RETRANSMIT_S = 0.2
RETRANSMITS_MAX = 6


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How bad the network is. Shares are within 0 and 1.

    >>> Faults(loss=0.05).loss
    0.05
    """

    delay_s: tuple[float, float] = (0.0005, 0.0025)
    loss: float = 0.0
    duplication: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.05


class SimNetwork:
    """Hosts are any hashable names. The same seed and the same questions give the same answers.

    >>> network = SimNetwork(Random(1))
    >>> network.cut("a", "b")
    >>> network.datagram("a", "b"), len(network.datagram("b", "a"))
    ((), 1)
    """

    def __init__(self, random: Random, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._random = random
        self._cut: set[tuple[object, object]] = set()  # only ever asked, never iterated

    def cut(self, source: object, target: object) -> None:
        """Let nothing pass from ``source`` to ``target``. The other way is another cut."""
        self._cut.add((source, target))

    def mend(self, source: object, target: object) -> None:
        """Take back one cut."""
        self._cut.discard((source, target))

    def partition(self, groups: Sequence[Iterable[object]]) -> None:
        """Cut every pair of hosts that are not in one group, both ways. Hosts in no group are untouched."""
        sides = [list(group) for group in groups]
        for index, side in enumerate(sides):
            for other in sides[index + 1 :]:
                for a in side:
                    for b in other:
                        self._cut.add((a, b))
                        self._cut.add((b, a))

    def heal(self) -> None:
        """Take back every cut. Loss and delay stay as they are."""
        self._cut.clear()

    def passes(self, source: object, target: object) -> bool:
        """Whether there is no cut from ``source`` to ``target``."""
        return not self._cut or (source, target) not in self._cut

    def datagram(self, source: object, target: object) -> tuple[float, ...]:
        """The delays in seconds of the copies that arrive."""
        faults, chance = self.faults, self._random.random
        if (source, target) in self._cut:
            return ()
        copies = 2 if faults.duplication and chance() < faults.duplication else 1
        delays = []
        for _ in range(copies):
            if faults.loss and chance() < faults.loss:
                continue
            delay_s = self._delay_s()
            if faults.reorder and chance() < faults.reorder:
                delay_s += faults.reorder_s * chance()
            delays.append(delay_s)
        return tuple(delays)

    def stream(self, source: object, target: object) -> float | None:
        """The delay in seconds of a question or its answer, for who simulates no connections; None if there is no way there
        or none back.
        """
        if (source, target) in self._cut or (target, source) in self._cut:
            return None
        delay_s = self._delay_s()
        for _ in range(RETRANSMITS_MAX):
            if self._random.random() >= self.faults.loss:
                return delay_s
            delay_s += RETRANSMIT_S
        return None

    def frame_s(self) -> float:
        """After how many seconds the next piece of a connection arrives, if there is a way: each loss costs it 200 ms."""
        delay_s, loss = self._delay_s(), self.faults.loss
        if loss:
            for _ in range(RETRANSMITS_MAX):
                if self._random.random() >= loss:
                    break
                delay_s += RETRANSMIT_S
        return delay_s

    def _delay_s(self) -> float:
        low, high = self.faults.delay_s
        return low + (high - low) * self._random.random()
