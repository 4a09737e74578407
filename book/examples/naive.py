"""The obvious scheme, under a seed: the owner copies its journal to the next live nodes, and who takes over takes a journal.
And the same with epochs: `Fenced`.

Membership is better here than it can be: everybody knows at once, and rightly, whom it can reach."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NamedTuple

COPIES = 3
MAJORITY = COPIES // 2 + 1

Epoch = tuple[int, str]
NONE: Epoch = (0, "")


class CommittedTwice(Exception):
    pass


@dataclass
class Node:
    journal: list[str] = field(default_factory=list)
    owns: bool = False
    copies: list[str] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)
    # With epochs: the highest that it has promised to follow, whose log its journal is, and who has promised to follow it.
    promised: Epoch = NONE
    epoch: Epoch = NONE
    promises: dict[str, tuple[Epoch, list[str]]] = field(default_factory=dict)


class Said(NamedTuple):
    source: str
    target: str
    what: str
    journal: list[str]
    epoch: Epoch = NONE
    journal_epoch: Epoch = NONE


class Run:
    def __init__(self, seed: int, nodes: int = 5, longest: bool = False, majority: bool = False) -> None:
        self.random, self.longest, self.majority = Random(seed), longest, majority
        self.nodes = {f"node-{number}": Node() for number in range(1, nodes + 1)}
        self.side = dict.fromkeys(self.nodes, 0)  # who is on which side of the cut
        self.wire: list[Said] = []
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
        self.wire += [Said(name, other, "copy", list(node.journal), node.epoch) for other in node.copies if other != name]
        self.count(name)

    def count(self, name: str) -> None:
        """Committed is what all of the copies have, or two of three; each place in the journal once, or it is a violation."""
        node = self.nodes[name]
        need = MAJORITY if self.majority else len(node.copies)
        have = sorted((node.acks.get(copy, 0) for copy in node.copies), reverse=True)
        for place in range(have[need - 1] if len(have) >= need else 0):
            if place == len(self.committed):
                self.committed.append(node.journal[place])
                self.seen.append(("commits", name, str(place + 1), node.journal[place]))
            elif self.committed[place] != node.journal[place]:
                self.seen.append(("commits", name, str(place + 1), node.journal[place], self.committed[place]))
                raise CommittedTwice(f"entry {place + 1} is [{self.committed[place]}] and [{node.journal[place]}]")

    def deliver(self) -> None:
        said = self.wire.pop(0)
        arrives = self.side[said.source] == self.side[said.target]
        self.seen.append((said.what, said.source, said.target, "" if arrives else "lost", *said.journal))
        if arrives:
            self.hear(self.nodes[said.target], said)

    def hear(self, node: Node, said: Said) -> None:
        if said.what == "copy":
            node.journal = list(said.journal)
            self.wire.append(Said(said.target, said.source, "ack", said.journal))
        elif node.owns and node.journal[: len(said.journal)] == said.journal:
            node.acks[said.source] = max(node.acks.get(said.source, 0), len(said.journal))
            self.count(said.target)

    def step(self, number: int) -> None:
        chance = self.random.random()
        if chance < 0.05:
            self.side = {name: self.random.randrange(2) if not any(self.side.values()) else 0 for name in self.nodes}
            self.seen.append(("sides", *(" ".join(n for n in self.nodes if self.side[n] == side) for side in (0, 1))))
            self.look()
        elif chance < 0.3:
            if owners := [name for name, node in self.nodes.items() if node.owns]:
                name = self.random.choice(owners)
                self.nodes[name].journal.append(f"{number}")
                self.copy(name)
        elif self.wire:
            self.deliver()


class Fenced(Run):
    """With epochs. Always the same three; who is to take over asks a majority for promises first; an older epoch is refused."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, nodes=COPIES, majority=True)
        for node in self.nodes.values():
            node.copies = list(self.nodes)

    def look(self) -> None:
        """The first of the living is to own: it asks for promises. If it owns already, it copies."""
        for name, node in self.nodes.items():
            first = name == self.live(name)[0]
            node.owns = node.owns and first
            if node.owns:
                self.copy(name)
            elif first:
                self.campaign(name)

    def campaign(self, name: str) -> None:
        """In an epoch above all that it has heard of."""
        node = self.nodes[name]
        node.promised = node.promised[0] + 1, name
        node.promises = {name: (node.epoch, node.journal)}
        self.wire += [Said(name, other, "prepare", [], node.promised) for other in node.copies if other != name]

    def accepts(self, node: Node, epoch: Epoch) -> bool:
        """Nothing of an epoch below the promised one."""
        return epoch >= node.promised

    def hear(self, node: Node, said: Said) -> None:
        me, sender = said.target, said.source
        match said.what:
            case "prepare" | "copy" if not self.accepts(node, said.epoch):
                self.wire.append(Said(me, sender, "refused", [], node.promised))
            case "prepare":
                node.promised, node.owns = said.epoch, False
                self.wire.append(Said(me, sender, "promise", list(node.journal), said.epoch, node.epoch))
            case "copy":
                node.promised = node.epoch = said.epoch
                node.journal, node.owns = list(said.journal), False
                self.wire.append(Said(me, sender, "ack", said.journal, said.epoch))
            case "promise" if said.epoch == node.promised != node.epoch:
                node.promises[sender] = said.journal_epoch, said.journal
                if len(node.promises) >= MAJORITY:
                    self.take_over(me)
            case "ack" if node.owns and said.epoch == node.epoch:
                node.acks[sender] = max(node.acks.get(sender, 0), len(said.journal))
                self.count(me)
            case "refused" if said.epoch > node.promised:
                node.promised, node.owns = said.epoch, False
                if me == self.live(me)[0]:
                    self.campaign(me)

    def take_over(self, name: str) -> None:
        """The journal of the highest epoch among the promises; of one epoch, the longest."""
        node = self.nodes[name]
        source = max(node.promises, key=lambda one: (node.promises[one][0], len(node.promises[one][1])))
        node.journal, node.epoch = list(node.promises[source][1]), node.promised
        node.owns, node.acks = True, {}
        self.seen.append(("owns", name, source, *node.journal))
        self.copy(name)


def play(make: Callable[[int], Run], seed: int, steps: int = 200) -> tuple[Run, str]:
    run = make(seed)
    try:
        run.look()
        for number in range(1, steps + 1):
            run.step(number)
    except CommittedTwice as twice:
        return run, str(twice)
    return run, ""


SCHEMES: dict[str, Callable[[int], Run]] = {
    "any journal; all live copies": Run,
    "the longest; all live copies": partial(Run, longest=True),
    "the longest; two of three copies": partial(Run, longest=True, majority=True),
    "the longest; two of the same three": partial(Run, longest=True, majority=True, nodes=3),
    "epochs; two of the same three": Fenced,
}

if __name__ == "__main__":
    print("of 1,000 runs, how many commit two entries at one place, and the first of them")
    for words, make in SCHEMES.items():
        runs = [play(make, seed) for seed in range(1000)]
        twice = [(seed, result) for seed, (_, result) in enumerate(runs) if result]
        none = f"none; {sum(len(run.committed) for run, _ in runs):,} entries were committed"
        print(f"{words:35}{len(twice):4}  " + (f"seed {twice[0][0]}: {twice[0][1]}" if twice else none))
