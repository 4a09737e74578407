"""The book's page of measures, written from a result file: ``python -m bench.page book/measures/bench.json``.

Nobody types a figure: the tables, the SVGs beside the result file and the sentences about the machine all come from it, and
``tests/unit/test_bench.py`` writes the page again and compares. Run the benchmark with ``--out book/measures/bench.json``,
then this, and commit what changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cluster_figures import draw_studies
from bench.cluster_page import cluster_part, figure
from bench.commit import PARTS
from bench.figures import LABELS, draw
from bench.stats import human, summarise
from bench.studies import read_studies
from bench.workloads import CURVES, WORKLOADS

COMMIT_OVER_FLOOR = 3.0
"""What a commit should take at most, in units of the least that it can."""

PAGE = Path("book/chapters/measures.md")
OPENING = """\
# Measures

What durable execution costs, measured. Every number and figure on this page is written by a program from result files
([`bench.json`](../measures/bench.json) and those beside it); `nox -s bench` measures again, on your machine.

## How

Every peer runs the same workload in the same go: one process (or server) at a time on the same disk, the order of the peers
turning from round to round, the others stopped. The journal is on a real disk, and every peer syncs it as it does by default.
Beside each run a *probe* appends a few hundred bytes to a file and calls `fdatasync`, again and again: it says how fast the
disk was at that moment, and no engine that waits for the disk at every step can be faster. The table gives the median of
the rounds and, in brackets, the lowest and the highest.
"""


def page(document: Mapping[str, Any], studies: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page as MyST Markdown: from the engines' result file, and those of the studies."""
    summary = summarise(document["runs"])
    parts = [OPENING, _machine(document), "## What came out\n", _table(summary, _rounds(document))]
    for name, peers in summary.items():
        workload = WORKLOADS[name]
        if any(workload.headline in metrics for metrics in peers.values()):
            parts.append(f"### {workload.title}\n\n{workload.description}\n")
            parts.append(figure(f"{name.lower()}.svg", f"{workload.title}: {workload.unit} by engine"))
            parts.append(_details(peers, workload.headline))
            parts.append(_machinery(peers))
            parts.append(_commit(peers, document))
    shown = {point.get("curve") for point in document["points"] if point["metrics"]}
    if shown:
        parts.append("## As the work grows\n")
        for curve in CURVES.values():
            if curve.name in shown:
                parts.append(f"### {curve.title}\n")
                parts.append(figure(f"curve-{curve.name}.svg", f"{curve.y_label} against {curve.x_label}"))
    parts.append(_profile(document))
    parts.append(_absent(document))
    parts.append(cluster_part(studies))
    return "\n".join(part for part in parts if part)


def _machine(document: Mapping[str, Any]) -> str:
    machine, probe = document["machine"], document["machine"]["probe"]
    peers = "; ".join(
        f"{LABELS.get(name, name)}: {', '.join(f'{key} {value}' for key, value in about.items())}"
        for name, about in document["peers"].items()
        if "absent" not in about
    )
    return (
        f"Measured on {document['created'][:10]}: {machine['processors']} processors, {machine['system']}, Python "
        f"{machine['python']}, {machine['filesystem']}; the probe then made {human(probe['rate_per_s'])} fdatasync/s. "
        f"{_rounds(document)} rounds. {peers}.{_later(document)}\n"
    )


def _later(document: Mapping[str, Any]) -> str:
    """Workloads that were measured on another day than the rest, and added to the file."""
    return "".join(
        f" {', '.join(part['workloads'])}: on {part['created'][:10]}, {part['machine']['system']}; the probe then made "
        f"{human(part['machine']['probe']['rate_per_s'])} fdatasync/s."
        for part in document.get("later", ())
    )


def _rounds(document: Mapping[str, Any]) -> int:
    return 1 + max(int(run["round"]) for run in document["runs"])


def _table(summary: Mapping[str, Any], rounds: int) -> str:
    peers = [peer for peer in LABELS if any(peer in of for of in summary.values())]
    lines = ["| | " + " | ".join(LABELS[peer] for peer in peers) + " |", "|---|" + "---:|" * len(peers)]
    for name, of in summary.items():
        workload = WORKLOADS[name]
        cells = [_cell(of.get(peer, {}).get(workload.headline), workload.unit, rounds) for peer in peers]
        lines.append(f"| {name}: {workload.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Mapping[str, float] | None, unit: str, rounds: int) -> str:
    if value is None:
        return "not measured"
    ended = "" if value["runs"] == rounds else f"; {value['runs']:.0f} of {rounds} runs ended within the limit"
    return f"**{human(value['median'])}** {unit} ({human(value['low'])} to {human(value['high'])}{ended})"


def _details(peers: Mapping[str, Any], headline: str) -> str:
    said = []
    for peer, metrics in peers.items():
        others = [
            f"{name.replace('_', ' ')} {human(value['median'])}"
            for name, value in metrics.items()
            if name != headline and not name.startswith("probe_")
        ]
        if others:
            said.append(f"{LABELS[peer]}: {', '.join(others)}")
    return f"Beside it (medians). {'; '.join(said)}.\n" if said else ""


def _machinery(peers: Mapping[str, Any]) -> str:
    """What the cluster costs without its copies, and what these cost: where a cluster of one was measured beside the others."""
    three = ("durable", "durable_cluster_one", "durable_cluster")
    if any("commit_ms" not in peers.get(name, {}) for name in three):
        return ""
    alone, one, many = (peers[name]["commit_ms"]["median"] for name in three)
    speed = [peers[name]["steps_per_s"]["median"] for name in three]
    return (
        f"A cluster of one node has no copies to wait for, so it tells two costs apart. The machinery of a cluster, against the "
        f"library in one's own process: {human(one)} ms a commit beside {human(alone)} ms, and {human(speed[1])} steps/s beside "
        f"{human(speed[0])}. The copies, against that: {human(many)} ms, and {human(speed[2])} steps/s.\n"
    )


def _commit(peers: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Where the time of a commit is spent, if it takes more than it should in units of its floor, and was traced."""
    measured = peers.get("durable_cluster", {})
    ratio = measured.get("commit_over_floor")
    if ratio is None or ratio["median"] <= COMMIT_OVER_FLOOR or "commit" not in document:
        return ""
    fsync, trip = (human(measured[name]["median"]) for name in ("fsync_ms", "round_trip_ms"))
    traced = document["commit"]
    ms: Mapping[str, float] = traced["ms"]
    said = {name: human(value) for name, value in ms.items()}
    all_ms, hops = human(sum(ms[name] for name in PARTS)), human(ms["there"] + ms["back"])
    work = human(sum(ms[name] for name in ("turn", "write", "told", "next_step")))
    when = f"{traced['created'][:10]}, load average {human(traced['load'])}"
    return (
        f"A commit over its floor of {human(ratio['median'])} misses the goal, which is {COMMIT_OVER_FLOOR:g}. Where the time "
        f"goes, {all_ms} ms in all, without the slow ones that the mean above has in it (`python -m bench.commit`, medians of "
        f"{when}):\n\n"
        f"- A copy's fsync, {said['copy_fsync']} ms, and the owner's own beside it, {said['own_fsync']} ms. The floor has one "
        f"that nobody disturbs, {fsync} ms; here three nodes sync one disk at once.\n"
        f"- The way there and back, {hops} ms, where a bare echo takes {trip} ms: a process is woken, and its "
        f"event loop comes round. {said['waits_for_own']} ms of it the acknowledgement waits for the owner's own fsync, which is "
        f"on the loop that would read it.\n"
        f"- Python between them, {work} ms: {said['turn']} ms until the batch is with the links, {said['write']} ms in the copy "
        f"before its fsync, {said['told']} ms until the caller is told, {said['next_step']} ms until the workflow's next step.\n\n"
        f"No time is spent waiting for a batch to fill: what a turn of the event loop brings leaves at its end.\n"
    )


def _profile(document: Mapping[str, Any]) -> str:
    if "profile" not in document:
        return ""
    one, three = dict(document["profile"]), dict(document.get("profile_cluster", []))
    parts = [name for name in {**one, **three} if max(one.get(name, 0.0), three.get(name, 0.0)) >= 0.005]
    parts.sort(key=lambda name: -max(one.get(name, 0.0), three.get(name, 0.0)))
    rows = [[f"{shares[name]:.0%}" if name in shares else "" for shares in (one, three)] for name in parts]
    lines = [
        "## Where the time of a step goes\n",
        "The shares of the time by part of the program, under Python's profiler (`python -m bench.profile`): W2 on one node, and "
        "the three nodes of W8 together. No part stands out on one node: what is left to gain is in doing less Python for each "
        "step, in asyncio as much as here. On three, a third of the time is the copies' own work: each step is an entry of its "
        "partition's log, which three nodes write, apply and acknowledge. All partitions share the frames and the fsyncs, but not "
        "this work.\n",
        *_processors(summarise(document["runs"])),
        "| part | one node, W2 | three nodes, W8 |",
        "|---|---:|---:|",
        *(f"| {name} | {' | '.join(row)} |" for name, row in zip(parts, rows, strict=True)),
    ]
    return "\n".join(lines) + "\n"


def _processors(summary: Mapping[str, Any]) -> list[str]:
    """What the processors do for a step, where it was measured: the bound that more waiting does not move."""
    peers = summary.get("W8", {})
    us = {name: values["cpu_us_a_step"]["median"] for name, values in peers.items() if "cpu_us_a_step" in values}
    if not {"durable", "durable_cluster"} <= us.keys():
        return []
    return [
        f"A step costs the processors {human(us['durable'])} µs on one node, and {human(us['durable_cluster'])} µs on three nodes "
        f"together: with two processors at work all the time that is at most {human(2e6 / us['durable_cluster'])} steps/s.\n"
    ]


def _absent(document: Mapping[str, Any]) -> str:
    peers = document["peers"].items()
    absent = [f"{LABELS.get(name, name)} ({about['absent']})" for name, about in peers if "absent" in about]
    return f"Not measured here: {'; '.join(absent)}.\n" if absent else ""


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m bench.page book/measures/bench.json")
        return 2
    result = Path(arguments[0])
    document = json.loads(result.read_text())
    studies = read_studies(result.parent)
    draw(document, result.parent)
    draw_studies(studies, result.parent)
    PAGE.write_text(page(document, studies))
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
