"""The obvious scheme, under a seed: the owner copies its journal to the next live nodes, and who takes over takes a journal.

Membership is better here than it can be: everybody knows at once, and rightly, whom it can reach."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

COPIES = 3


class CommittedTwice(Exception):
    pass


@dataclass
class Node:
    journal: list[str] = field(default_factory=list)
    owns: bool = False
    copies: list[str] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)


class Run:
    def __init__(self, seed: int, nodes: int = 5, longest: bool = False, majority: bool = False) -> None:
        self.random, self.longest, self.majority = Random(seed), longest, majority
        self.nodes = {f"node-{number}": Node() for number in range(1, nodes + 1)}
        self.side = dict.fromkeys(self.nodes, 0)  # who is on which side of the cut
        self.wire: list[tuple[str, str, str, list[str]]] = []
        self.committed: list[str] = []
        self.seen: list[tuple[str, ...]] = []  # what happened, for the figure

    def live(self, me: str) -> list[str]:
        return [name for name in self.nodes if self.side[name] == self.side[me]]

    def look(self) -> None:
        """The first of the living owns. It copies to the next ones."""
        for name, node in self.nodes.items():
            living = self.live(name)
            owns, was_copied_to = name == living[0], node.copies
            node.copies = living[:COPIES]
            if owns and not node.owns:
                source = max(living, key=self.length) if self.longest else self.random.choice(living)
                node.journal, node.acks = list(self.nodes[source].journal), {}
                self.seen.append(("owns", name, source, *node.journal))
            node.owns = owns
            if owns and node.copies != was_copied_to:
                self.copy(name)

    def length(self, name: str) -> int:
        return len(self.nodes[name].journal)

    def copy(self, name: str) -> None:
        node = self.nodes[name]
        node.acks[name] = len(node.journal)
        self.wire += [(name, other, "copy", list(node.journal)) for other in node.copies if other != name]
        self.count(name)

    def count(self, name: str) -> None:
        """Committed is what all of the copies have, or two of three; each place in the journal once, or it is a violation."""
        node = self.nodes[name]
        need = COPIES // 2 + 1 if self.majority else len(node.copies)
        have = sorted((node.acks.get(copy, 0) for copy in node.copies), reverse=True)
        for place in range(have[need - 1] if len(have) >= need else 0):
            if place == len(self.committed):
                self.committed.append(node.journal[place])
                self.seen.append(("commits", name, str(place + 1), node.journal[place]))
            elif self.committed[place] != node.journal[place]:
                self.seen.append(("commits", name, str(place + 1), node.journal[place], self.committed[place]))
                raise CommittedTwice(f"entry {place + 1} is [{self.committed[place]}] and [{node.journal[place]}]")

    def deliver(self) -> None:
        source, target, what, journal = self.wire.pop(0)
        arrives = self.side[source] == self.side[target]
        self.seen.append((what, source, target, "" if arrives else "lost", *journal))
        if not arrives:
            return
        node = self.nodes[target]
        if what == "copy":
            node.journal = list(journal)
            self.wire.append((target, source, "ack", journal))
        elif node.owns and node.journal[: len(journal)] == journal:
            node.acks[source] = max(node.acks.get(source, 0), len(journal))
            self.count(target)

    def step(self, number: int) -> None:
        chance = self.random.random()
        if chance < 0.05:
            self.side = {name: self.random.randrange(2) if not any(self.side.values()) else 0 for name in self.nodes}
            self.seen.append(("sides", *(" ".join(n for n in self.nodes if self.side[n] == side) for side in (0, 1))))
            self.look()
        elif chance < 0.3:
            name = self.random.choice([name for name, node in self.nodes.items() if node.owns])
            self.nodes[name].journal.append(f"{number}")
            self.copy(name)
        elif self.wire:
            self.deliver()


def play(seed: int, steps: int = 200, **scheme: Any) -> tuple[Run, str]:
    run = Run(seed, **scheme)
    try:
        run.look()
        for number in range(1, steps + 1):
            run.step(number)
    except CommittedTwice as twice:
        return run, str(twice)
    return run, ""


SCHEMES: dict[str, dict[str, Any]] = {
    "any journal; all live copies": {},
    "the longest; all live copies": {"longest": True},
    "the longest; two of three copies": {"longest": True, "majority": True},
    "the longest; two of the same three": {"longest": True, "majority": True, "nodes": 3},
}

if __name__ == "__main__":
    print("runs of 1,000 that commit two entries at one place, and the first of them")
    for words, scheme in SCHEMES.items():
        twice = [(seed, result) for seed in range(1000) if (result := play(seed, **scheme)[1])]
        print(f"{words:35}{len(twice):4}  seed {twice[0][0]}: {twice[0][1]}")
