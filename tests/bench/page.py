"""The book's page of measures, written from a result file: ``python -m bench.page book/measures/bench.json``.

Nobody types a figure: the tables, the SVGs beside the result file and the sentences about the machine all come from it, and
``tests/unit/test_bench.py`` writes the page again and compares. Run the benchmark with ``--out book/measures/bench.json``,
or only some of it and `merge` it into that file; then this, and commit what changed.
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
from bench.probe import RECORD
from bench.stats import human, summarise
from bench.studies import read_studies
from bench.workload_page import PROFILE, RESULT, anchor, workload_part
from bench.workloads import CURVES, WORKLOADS, Curve, Workload

PAGE = Path("book/chapters/measures.md")
REFERENCES = {"dbos": "ref-dbos", "dbos_postgres": "ref-dbos", "restate": "ref-restate"}
COPIES = ("durable/replication", "durable/copies")
"""The parts of the program that do the work of a copy."""
OPENING = f"""\
# Measures

What durable execution costs, measured. Every number and figure on this page is written by a program from result files
([`bench.json`](../measures/bench.json) and those beside it). `nox -s bench` measures all of it again, on your machine, run by
run, and leaves the result files and the figures in `.bench/`. With `nox -s bench -- --out {RESULT}` they take
the place of those of this page; `PYTHONPATH=tests python -m bench.page {RESULT}` then writes the page. Commands run at the
root of the repository; those that begin with `PYTHONPATH=tests` want `pip install -e ".[bench,cluster]"`.

## How

Each of the engines compared (the *peers*) runs the same workload in the same session: one process (or server) at a time on the
same disk, the order of the peers turning from round to round, the others stopped. The journal is on a real disk, and every peer
syncs it as it does by default. Beside each run a *probe* appends {len(RECORD)} bytes to a file and calls `fdatasync`, again and
again: it says how fast the disk was about then, which an engine that waits for the disk at every step cannot much exceed. The
table gives the median of the rounds and, in brackets, the lowest and the highest. A *goal* is what `durable` itself is to reach
with its median; each stands in its workload's section, also when it is missed.
"""


def page(document: Mapping[str, Any], studies: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page as MyST Markdown: from the engines' result file, and those of the studies."""
    summary = summarise(document["runs"])
    shown = [workload for workload in WORKLOADS.values() if workload.in_table]
    parts = [OPENING, _machine(document), "## What came out\n", _table(shown, summary, document), _goals(shown, summary)]
    parts += [workload_part(workload, summary, document) for workload in shown]
    parts += ["## As the work grows\n", *(_curve(curve, document["points"]) for curve in CURVES.values())]
    parts.append(_profile(document))
    parts.append(_absent(document))
    parts.append(cluster_part(studies))
    return "\n".join(part for part in parts if part)


def _machine(document: Mapping[str, Any]) -> str:
    machine, about = document["machine"], document["peers"]
    peers = [
        f"- {f'[{label}](#{REFERENCES[name]})' if name in REFERENCES else label}: {'; '.join(about[name].values())}\n"
        for name, label in LABELS.items()
        if "absent" not in about.get(name, {"absent": ""})
    ]
    return (
        f"Measured on {document['created'][:10]}: {machine['processors']} processors, {machine['system']}, Python "
        f"{machine['python']}, {machine['filesystem']}{_rounds(document)}.{_later(document)} The peers, and what they sync:\n\n"
        f"{''.join(peers)}"
    )


def _later(document: Mapping[str, Any]) -> str:
    """What was measured on another day than the rest, and added to the file (`bench.merge`)."""
    said = []
    for part in document.get("later", ()):
        points = {CURVES[name].title: [f"{size:,}" for size in sizes] for name, sizes in part.get("points", {}).items()}
        curves = [f"*{title}* at {' and '.join(sizes)}" for title, sizes in points.items()]
        machine = [part["machine"]["system"]]
        if part["machine"]["python"] != document["machine"]["python"]:
            machine.append(f"Python {part['machine']['python']}")
        peers = [f"{LABELS[name]} {'; '.join(about.values())}" for name, about in part.get("peers", {}).items()]
        said.append(f" {', '.join([*part['workloads'], *curves])}: on {', '.join([part['created'][:10], *machine, *peers])}.")
    return "".join(said)


def _rounds(document: Mapping[str, Any]) -> str:
    """How many, and which workloads have fewer."""
    rounds = {name: 0 for name in WORKLOADS}
    for run in document["runs"]:
        rounds[run["workload"]] = max(rounds[run["workload"]], 1 + int(run["round"]))
    most = max(rounds.values())
    fewer = [f"{name}: {number}" for name, number in rounds.items() if 0 < number < most]
    return f"; {most} rounds" + (f" ({', '.join(fewer)})" if fewer else "") if most else ""


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
        return f"no figure: {reason(tried[-1])}" if tried else "not measured"
    spread = "one run" if len(tried) == 1 else f"{human(value['low'])} to {human(value['high'])}"
    if value["runs"] < len(tried):
        spread += f"; {value['runs']:.0f} of {len(tried)} runs ended within the limit"
    of_peer = zip(workload.goals, judged(workload, summary), strict=True)
    marked = mark([verdict for goal, verdict in of_peer if goal.peer == peer])
    return f"**{human(value['median'])}** {workload.unit} ({spread}){', ' if marked else ''}{marked}"


def reason(run: Mapping[str, Any]) -> str:
    """Why it has no figure, without the log that follows."""
    return str(run["error"]).splitlines()[0].partition("|")[0].strip()


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


def _curve(curve: Curve, points: Sequence[Mapping[str, Any]]) -> str:
    """Its figure, and which of its points are not in it."""
    own = [point for point in points if point.get("curve") == curve.name]
    parts = [f"### {curve.title}\n"]
    if any(point["metrics"] for point in own):
        parts.append(figure(f"curve-{curve.name}.svg", f"{curve.y_label} against {curve.x_label}"))
    absent = [said for peer in LABELS if (said := _not_measured(curve, peer, [point for point in own if point["peer"] == peer]))]
    if absent:
        parts.append(f"Not measured: {'; '.join(absent)}.\n")
    return "\n".join(parts)


def _not_measured(curve: Curve, peer: str, points: Sequence[Mapping[str, Any]]) -> str:
    """The peer and the sizes that it was to be measured at and was not, with the reason if it was tried; empty for none."""
    measured = {point[curve.x] for point in points if point["metrics"]}
    failed = {point[curve.x]: reason(point) for point in points if not point["metrics"]}
    wanted = [extent for extent in map(curve.extent, curve.sizes) if extent <= curve.until.get(peer, 0)]
    if not points or not wanted:
        return LABELS[peer] if wanted else ""
    said = [f"{extent:,}" + (f" ({failed[extent]})" if extent in failed else "") for extent in wanted if extent not in measured]
    return f"{LABELS[peer]} at {', '.join(said)}" if said else ""


def _profile(document: Mapping[str, Any]) -> str:
    if "profile" not in document:
        return ""
    one, three = dict(document["profile"]), dict(document.get("profile_cluster", []))
    parts = [name for name in {**one, **three} if max(one.get(name, 0.0), three.get(name, 0.0)) >= 0.005]
    parts.sort(key=lambda name: -max(one.get(name, 0.0), three.get(name, 0.0)))
    rows = [[f"{shares[name]:.0%}" if name in shares else "" for shares in (one, three)] for name in parts]
    when = f", {document['profile_created'][:10]}" if "profile_created" in document else ""
    words = (
        f"The shares of the time by part of the program, under Python's profiler (`PYTHONPATH=tests python -m bench.profile "
        f"{RESULT}`{when}): W2 on one node, and the three nodes of W8 together. No part takes more than {max(one.values()):.0%} "
        f"on one node: what is left to gain is in doing less Python for each step, in asyncio as much as here."
    )
    if three:
        words += (
            f" On three, {sum(three.get(name, 0.0) for name in COPIES):.0%} of the time is the copies' own work: each step is an "
            f"entry of its partition's log, which three nodes write, apply and acknowledge. All partitions share the frames and "
            f"the fsyncs, but not this work."
        )
    lines = [
        f"({PROFILE})=\n## Where the time of a step goes\n",
        f"{words}\n",
        *_processors(document),
        "| part | one node, W2 | three nodes, W8 |",
        "|---|---:|---:|",
        *(f"| {name} | {' | '.join(row)} |" for name, row in zip(parts, rows, strict=True)),
    ]
    return "\n".join(lines) + "\n"


def _processors(document: Mapping[str, Any]) -> list[str]:
    """What the processors do for a step, where it was measured: the bound that more waiting does not move."""
    peers, number = summarise(document["runs"]).get("W8", {}), document["machine"]["processors"]
    us = {name: values["cpu_us_a_step"]["median"] for name, values in peers.items() if "cpu_us_a_step" in values}
    if not {"durable", "durable_cluster"} <= us.keys():
        return []
    one, three = us["durable"], us["durable_cluster"]
    return [
        f"A step costs the processors {human(one)} µs on one node, and {human(three)} µs on three nodes together: with {number} of "
        f"them at work all the time that is at most {human(number * 1e6 / three)} steps/s.\n"
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
