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
from bench.figures import LABELS, draw
from bench.goals import Summary, judged, mark
from bench.stats import human, summarise
from bench.studies import read_studies
from bench.workload_page import PROFILE, anchor, workload_part
from bench.workloads import CURVES, WORKLOADS, Workload

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
    shown = [workload for workload in WORKLOADS.values() if workload.in_table]
    parts = [OPENING, _machine(document), "## What came out\n", _table(shown, summary, document), _goals(shown, summary)]
    parts += [workload_part(workload, summary, document) for workload in shown]
    drawn = {point.get("curve") for point in document["points"] if point["metrics"]}
    if drawn:
        parts.append("## As the work grows\n")
        for curve in CURVES.values():
            if curve.name in drawn:
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


def _table(shown: Sequence[Workload], summary: Summary, document: Mapping[str, Any]) -> str:
    peers = [peer for peer in LABELS if any(peer in of for of in summary.values())]
    lines = ["| | " + " | ".join(LABELS[peer] for peer in peers) + " |", "|---|" + "---:|" * len(peers)]
    for workload in shown:
        cells = [_cell(workload, peer, summary, document) for peer in peers]
        lines.append(f"| [{workload.name}](#{anchor(workload.name)}): {workload.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(workload: Workload, peer: str, summary: Summary, document: Mapping[str, Any]) -> str:
    if peer not in workload.peers:
        return "\N{EN DASH}"
    tried = [run for run in document["runs"] if (run["workload"], run["peer"]) == (workload.name, peer)]
    value = summary.get(workload.name, {}).get(peer, {}).get(workload.headline)
    if value is None:
        return f"no figure: {tried[-1]['error'].splitlines()[0]}" if tried else "not measured"
    spread = "one run" if len(tried) == 1 else f"{human(value['low'])} to {human(value['high'])}"
    if value["runs"] < len(tried):
        spread += f"; {value['runs']:.0f} of {len(tried)} runs ended within the limit"
    of_peer = zip(workload.goals, judged(workload, summary), strict=True)
    marked = mark([verdict for goal, verdict in of_peer if goal.peer == peer])
    return f"**{human(value['median'])}** {workload.unit} ({spread}){', ' if marked else ''}{marked}"


def _goals(shown: Sequence[Workload], summary: Summary) -> str:
    """Who reaches all its goals, who misses one, and of whom it is not known."""
    names: dict[str, list[str]] = {"Goals reached": [], "Missed, at least one": [], "Not measured, at least one": []}
    reached, missed, unknown = names.values()
    for workload in shown:
        verdicts = judged(workload, summary)
        if any(verdict and not verdict.reached for verdict in verdicts):
            missed.append(workload.name)
        elif verdicts:
            (reached if all(verdicts) else unknown).append(workload.name)
    told = [f"{what}: {', '.join(found)}." for what, found in names.items() if found]
    return f"{' '.join(told)} A dash: the workload is not for this engine.\n"


def _profile(document: Mapping[str, Any]) -> str:
    if "profile" not in document:
        return ""
    one, three = dict(document["profile"]), dict(document.get("profile_cluster", []))
    parts = [name for name in {**one, **three} if max(one.get(name, 0.0), three.get(name, 0.0)) >= 0.005]
    parts.sort(key=lambda name: -max(one.get(name, 0.0), three.get(name, 0.0)))
    rows = [[f"{shares[name]:.0%}" if name in shares else "" for shares in (one, three)] for name in parts]
    lines = [
        f"({PROFILE})=\n## Where the time of a step goes\n",
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
