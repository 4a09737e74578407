"""What came out of a run: losses, what the run owed and did not do, and numbers.

Read next: `chaos.judge`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos import history, judge
from chaos.faults import Faults, Hit
from chaos.load import Load
from chaos.losses import contradictions
from chaos.watch import FAILOVER_BOUND_S, Failover, PartialCut

ALL_KINDS_S = 600.0
"""A run that lasts so long has to bring every kind of fault."""
PARTIAL_S = 300.0
"""A run that lasts so long has to show a partial cut that does what it is for."""
SHOWN_MAX = 20


@dataclass
class Report:
    """``losses`` says what was wrong with the cluster, ``owed`` what the run itself should have done and did not."""

    store: str
    seed: int
    losses: list[str] = field(default_factory=list)
    owed: list[str] = field(default_factory=list)
    accepted: int = 0
    completed: int = 0
    operations: int = 0
    unknown: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    bodies: int = 0
    bodies_again: int = 0
    copies: int = 0
    longest_gap_s: float = 0.0
    longest_wait_s: float = 0.0
    failovers: list[Failover] = field(default_factory=list)
    partials: list[PartialCut] = field(default_factory=list)

    @property
    def contradictions(self) -> list[str]:
        """The losses that only broken safety explains."""
        return list(contradictions(self.losses))

    @property
    def good(self) -> bool:
        """Nothing lost, nothing owed. How long anything took does not matter to this."""
        return not self.losses and not self.owed

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        answers = ", ".join(f"{count} {kind}" for kind, count in sorted(self.refusals.items()))
        shown = sum(partial.shown for partial in self.partials)
        return "\n".join(
            (
                f"{self.store}, seed {self.seed}: {self.accepted} accepted, {self.completed} completed, {len(self.losses)} losses, "
                f"{len(self.contradictions)} of them contradictions",
                f"  faults: {sum(self.faults.values())} ({faults or '-'})",
                f"  clients: {self.operations} operations, {self.unknown} with an unknown end; tried again after: {answers or '-'}",
                f"  bodies: {self.bodies} runs, {self.bodies_again} of them again, as faults allow; {self.copies} copies of "
                "partitions compared",
                f"  longest time without any answer to anybody {self.longest_gap_s:.2f} s; longest wait of a submit, without the "
                f"time of faults, {self.longest_wait_s:.2f} s",
                f"  failovers: {failover_words(self.failovers)}",
                *(f"  SLOW failover: {slow_words(one)}" for one in self.failovers if one.slow),
                f"  partial cuts: {len(self.partials)}, in {shown} of them an owner that all others believed alive was replaced",
                *(f"  LOST {loss}" for loss in self.losses[:SHOWN_MAX]),
                *([f"  ... and {len(self.losses) - SHOWN_MAX} more"] if len(self.losses) > SHOWN_MAX else []),
                *(f"  OWED {what}" for what in self.owed),
            )
        )


def failover_words(failovers: Sequence[Failover]) -> str:
    """How many, and the longest: after kills that no other fault overlapped, after those that one did, and after the rest."""
    kills = [one for one in failovers if one.kind == "kill"]
    groups = {
        f"after a kill alone ({FAILOVER_BOUND_S:g} s are promised)": [one for one in kills if one.alone],
        "after a kill beside other faults": [one for one in kills if not one.alone],
        "after other faults": [one for one in failovers if one.kind != "kill"],
    }
    return "; ".join(
        f"{len(of)} {words}" + (f", longest {max(one.took_s for one in of):.2f} s" if of else "") for words, of in groups.items()
    )


def slow_words(one: Failover) -> str:
    return f"{one.node} was killed, and others owned its {one.partitions} partitions after {one.took_s:.2f} s"


def owed(seconds: float, kinds: Iterable[str], hits: Sequence[Hit], partials: Sequence[PartialCut]) -> list[str]:
    """What a run of this length had to do and did not: then it proves less than it says."""
    found = []
    happened = {hit.kind for hit in hits}
    if seconds >= ALL_KINDS_S:
        lacking = [kind for kind in kinds if kind not in happened]
        found += [f"the fault {kind!r} never happened in {seconds / 60:g} minutes" for kind in lacking]
    if seconds >= PARTIAL_S and "partial" in kinds and not any(partial.shown for partial in partials):
        found.append(
            f"none of {len(partials)} partial cuts in {seconds / 60:g} minutes showed an owner that all others believed alive and "
            "that was replaced all the same" + "".join(f"; {partial}" for partial in partials)
        )
    return found


def take_down(
    report: Report,
    load: Load,
    faults: Faults,
    effects_file: Path,
    urls: Mapping[str, str],
    sets: Mapping[int, tuple[str, ...]],
) -> None:
    """Read what the stopped nodes left, judge it, and count. ``sets`` says which copies there must be."""
    copies = [copy for node, url in urls.items() if Path(url.partition(":")[2]).exists() for copy in judge.read_copies(node, url)]
    effects = judge.read_effects(effects_file)
    found = judge.journals(copies)
    explained, report.bodies_again = judge.runs_are_explained(effects, faults.hits)
    report.losses += load.losses
    report.losses += judge.copies_agree(copies)
    report.losses += judge.copies_are_whole(copies, sets)
    report.losses += judge.told_is_recorded(load.told, found)
    report.losses += judge.recorded_was_run(found, effects)
    report.losses += explained
    report.losses += history.judge(load.history)
    operations = load.history.operations
    report.accepted = sum(1 for told in load.told.values() if told.accepted_at)
    report.completed = sum(1 for told in load.told.values() if told.finished_at)
    report.operations, report.unknown = len(operations), sum(not one.known for one in operations)
    report.faults, report.refusals = Counter(hit.kind for hit in faults.hits), load.refusals
    report.bodies, report.copies = len(effects), len(copies)
    report.longest_gap_s = load.longest_gap_s
    report.failovers, report.partials = faults.failovers, faults.partials
    report.longest_wait_s = judge.longest_wait_s(operations, faults.hits)
