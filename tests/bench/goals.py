"""Whether `durable` reaches what it must: `workloads.Goal` against a summary of runs (`stats.summarise`), in figures and in words.

The medians are compared, as everywhere: a bound that is a multiple of something else is one of that one's median.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.figures import LABELS
from bench.stats import human
from bench.workloads import WORKLOADS, Goal, Workload

Summary = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
PROBES = {"probe_rate_per_s": "the probe's fdatasync/s", "probe_p99_ms": "the probe's p99"}
UNITS = {"_ms": "ms", "_s": "s", "_mb": "MB"}


@dataclass(frozen=True)
class Verdict:
    """What was measured, what it should be, and whether it is."""

    value: float
    bound: float
    reached: bool


def judge(goal: Goal, workload: str, summary: Summary) -> Verdict | None:
    """None where the metric, or what the bound is a multiple of, was not measured."""
    measured = summary.get(workload, {}).get(goal.peer, {}).get(goal.metric)
    unit = _unit(goal, workload, summary)
    if measured is None or unit is None:
        return None
    return verdict(measured[_which(goal)], goal.bound * unit, more_is_better=goal.more_is_better)


def verdict(value: float, bound: float, *, more_is_better: bool) -> Verdict:
    return Verdict(value, bound, value >= bound if more_is_better else value <= bound)


def _which(goal: Goal) -> str:
    if not goal.every_round:
        return "median"
    return "low" if goal.more_is_better else "high"


def _unit(goal: Goal, workload: str, summary: Summary) -> float | None:
    if not goal.times:
        return 1.0
    peers = summary.get(goal.times if goal.times in WORKLOADS else workload, {})
    metrics = peers.get(goal.times if goal.times in LABELS else goal.peer, {})
    measured = metrics.get(goal.metric if goal.times in WORKLOADS or goal.times in LABELS else goal.times)
    return None if measured is None else measured["median"]


def judged(workload: Workload, summary: Summary) -> list[Verdict | None]:
    return [judge(goal, workload.name, summary) for goal in workload.goals]


def said(workload: Workload, summary: Summary) -> str:
    """One line: each goal, and what came of it. Empty where there is none."""
    found = zip(workload.goals, judged(workload, summary), strict=True)
    told = [f"{_wanted(goal)} ({_came_of_it(goal, verdict) if verdict else 'not measured'})" for goal, verdict in found]
    return f"Goal: {'; '.join(told)}." if told else ""


def _came_of_it(goal: Goal, verdict: Verdict) -> str:
    """With its unit where the goal's own is that of something else."""
    return f"{outcome(verdict)} {named(goal.metric)[1] if goal.times else ''}".rstrip()


def outcome(verdict: Verdict) -> str:
    """In a few words: "reached: 3 of 2", "missed: 3 of 4"."""
    word = "reached" if verdict.reached else "**missed**"
    if not verdict.bound:
        return word if verdict.reached else f"{word}: {human(verdict.value)}"
    value, bound = human(verdict.value), human(verdict.bound)
    if value == bound and not verdict.reached:
        value = f"{verdict.value:,.6g}"
    return f"{word}: {value} of {bound}"


def mark(verdicts: Sequence[Verdict | None]) -> str:
    """For a cell of a table; empty where nothing was judged."""
    known = [verdict for verdict in verdicts if verdict]
    missed = sum(not verdict.reached for verdict in known)
    goals = "goal" if len(known) == 1 else "goals"
    if 0 < missed < len(known):
        return f"*{missed} of {len(known)} {goals} missed*"
    return f"*{goals} {'missed' if missed else 'reached'}*" if known else ""


def _wanted(goal: Goal) -> str:
    words, unit = named(goal.metric)
    if not goal.bound:
        return f"{words}: never"
    than = "at least" if goal.more_is_better else "at most"
    if goal.times:
        factor = "" if goal.bound == 1 else f"{human(goal.bound)} times "
        whose = PROBES.get(goal.times) or f"{LABELS.get(goal.times, goal.times)}'s {words or unit}"
        return f"{words} {than} {factor}{whose}".strip()
    return f"{words} {than} {human(goal.bound)} {unit}".strip()


def named(metric: str) -> tuple[str, str]:
    """What a metric is called, and its unit: "memory" and "MB", "" and "steps/s"."""
    if metric.endswith("_per_s"):
        return "", f"{metric.removesuffix('_per_s').replace('_', ' ')}/s"
    for ending, unit in UNITS.items():
        if metric.endswith(ending):
            return metric.removesuffix(ending).replace("_", " "), unit
    return metric.replace("_", " "), ""


def quantity(metric: str, value: float) -> str:
    """A metric and its value: "memory 28.2 MB", "22,200 steps/s"."""
    words, unit = named(metric)
    return f"{words} {human(value)} {unit}".strip()
