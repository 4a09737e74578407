"""The pure part: the order of the runs, medians and spread, the table, and what a well-formed result file
looks like.

No clock, no process, no file: so that the little that decides whether a comparison is fair can be tested in
milliseconds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from bench.workloads import WORKLOADS, Curve, Workload

T = TypeVar("T")
Run = Mapping[str, Any]
SCHEMA_VERSION = 1


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share ``q`` of the values does not exceed. 0.0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = -(-len(ordered) * q // 1)  # ceiling, without a float's surprise at whole numbers
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest, highest and number of the runs."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "runs": len(values)}


def turn(items: Sequence[T], number: int) -> list[T]:
    """The items in the order of this turn: another one first, and every second time backwards.

    Rotation alone would have each peer always follow the same other one, and inherit the machine as that one
    leaves it (dirty pages, a throttled processor). With three peers, six turns are all six orders.
    """
    if not items:
        return []
    first = number % len(items)
    order = [*items[first:], *items[:first]]
    return order[::-1] if number % 2 else order


def plan(workloads: Sequence[Workload], peers: Sequence[str], rounds: int) -> list[tuple[int, Workload, str]]:
    """Every run: round by round, all workloads, in each all its peers, whose order turns every time."""
    return [
        (number, workload, peer)
        for number in range(rounds)
        for place, workload in enumerate(workloads)
        if workload.rounds_max is None or number < workload.rounds_max
        for peer in turn([p for p in peers if p in workload.peers], number + place)
    ]


def points(curve: Curve, peers: Sequence[str], repeat: int, largest: int) -> list[tuple[int, Workload, str]]:
    """Every run of a curve, smallest size first; sizes beyond ``largest``, or what a peer is asked for, are left out."""
    workload = WORKLOADS[curve.workload]
    sized = replace(workload, limit_s=curve.limit_s or workload.limit_s)
    return [
        (number, sized.sized(size), peer)
        for place, size in enumerate(curve.sizes)
        for number in range(repeat if curve.extent(size) < curve.once_from else 1)
        for peer in turn(list(peers), number + place)
        if curve.extent(size) <= min(curve.until.get(peer, 0), largest)
    ]


def summarise(runs: Iterable[Run]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """``{workload: {peer: {metric: spread}}}`` of the runs that ended well."""
    collected: dict[str, dict[str, dict[str, list[float]]]] = {}
    for run in runs:
        by_metric = collected.setdefault(run["workload"], {}).setdefault(run["peer"], {})
        measured = {**run["metrics"], **{f"probe_{key}": value for key, value in run["probe"].items()}}
        for metric, value in measured.items() if run["metrics"] else ():
            by_metric.setdefault(metric, []).append(value)
    return {
        workload: {peer: {m: spread(v) for m, v in metrics.items()} for peer, metrics in peers.items()}
        for workload, peers in collected.items()
    }


def human(value: float) -> str:
    """Three significant figures, no exponent: 0.0123, 7.31, 585, 36,100."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        digits = len(str(int(abs(value))))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def table(runs: Sequence[Run]) -> str:
    """One line a workload and peer: median, spread, the disk beside it, and the ratio to ``durable``."""
    lines = [_line("peer", "median", "low", "high", "unit", "runs", "fdatasync/s", "notes")]
    for name, peers in summarise(runs).items():
        workload = WORKLOADS[name]
        own = peers.get("durable", {}).get(workload.headline)
        lines.append(f"{name}: {workload.title}")
        for peer, metrics in peers.items():
            head = metrics.get(workload.headline)
            if head is None:
                lines.append(f"      {peer:14} {_why_not(runs, name, peer)}")
                continue
            note = _others(metrics, workload.headline)
            if own and peer != "durable" and head["median"]:
                gain = own["median"] / head["median"]
                note = f"durable {human(gain if workload.higher_is_better else 1 / gain)}x; {note}"
            median, low, high = (human(head[key]) for key in ("median", "low", "high"))
            disk = human(metrics["probe_rate_per_s"]["median"])
            lines.append(_line(peer, median, low, high, workload.unit, str(head["runs"]), disk, note))
    return "\n".join(lines)


def _line(peer: str, median: str, low: str, high: str, unit: str, runs: str, disk: str, note: str) -> str:
    return (
        f"      {peer:14} {median:>10} {low:>10} {high:>10}  {unit:8} {runs:>4} {disk:>11}  {note}".rstrip()
    )


def _others(metrics: Mapping[str, Mapping[str, float]], headline: str) -> str:
    shown = [m for m in metrics if m != headline and not m.startswith("probe_")]
    return ", ".join(f"{m} {human(metrics[m]['median'])}" for m in shown)


def _why_not(runs: Sequence[Run], workload: str, peer: str) -> str:
    errors = [
        run["error"]
        for run in runs
        if run["workload"] == workload and run["peer"] == peer and run.get("error")
    ]
    return f"no figure: {errors[-1].splitlines()[-1] if errors else 'nothing measured'}"


def faults(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a result file, in words; nothing when it is well formed."""
    found = [
        f"missing: {key}"
        for key in ("schema", "created", "machine", "peers", "runs", "points")
        if key not in document
    ]
    if found:
        return found
    if document["schema"] != SCHEMA_VERSION:
        found.append(f"schema {document['schema']}, expected {SCHEMA_VERSION}")
    for index, run in enumerate([*document["runs"], *document["points"]]):
        for key, kind in _RUN_KEYS.items():
            if not isinstance(run.get(key), kind):
                found.append(f"run {index}: {key} is {run.get(key)!r}")
        if not run.get("metrics") and not run.get("error"):
            found.append(f"run {index}: neither metrics nor an error")
    return found


_RUN_KEYS: dict[str, type | tuple[type, ...]] = {
    "workload": str,
    "peer": str,
    "round": int,
    "load": (int, float),
    "probe": dict,
    "metrics": dict,
}
