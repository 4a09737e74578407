"""The command: plan the rounds, run them one after the other, print the table, write the JSON, draw the figures beside it.

``python -m bench`` measures all that the page of measures shows; ``python -m bench --workloads W1,W2 --curves memory`` only what is
named. ``--rounds``, ``--repeat``, ``--peers`` and ``--largest`` make less of it.

The JSON is written after every run, so that a run that is interrupted leaves what it has. Studies (W10, W11, W11P: `studies`) and
traces (PROFILE, COMMIT: `traces`) are named like workloads. A study writes a file of its own beside it.

To put new runs into the file of an older day: `merge`. To write the page: `page`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import peer as peers
from bench.cluster_figures import draw_studies
from bench.figures import draw
from bench.probe import MEMORY_FILESYSTEMS, filesystem, probe
from bench.processes import adopt_orphans
from bench.run import run_once
from bench.stats import SCHEMA_VERSION, human, plan, points, table
from bench.studies import STUDIES, read_studies, run_study
from bench.traces import TRACES
from bench.workloads import CURVES, PEERS, WORKLOADS, Curve

STANDARD = (*(name for name, workload in WORKLOADS.items() if workload.in_table), *STUDIES, *TRACES)
"""What is measured if nothing is named: with all curves, it is what the page shows."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    adopt_orphans()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    kind = filesystem(folder)
    for name in options.studies:
        path = run_study(STUDIES[name], options.rounds, _machine(folder, kind), options.out.parent, _say)
        print(f"written to {path}")
    if not options.workloads and not options.curves and not options.traces:
        _draw(None, options.out.parent)
        return 0
    if kind in MEMORY_FILESYSTEMS:
        print(f"warning: {folder} is on {kind}: nothing is fsynced there. Choose a disk with --folder.")
    present, described = _present(options.peers)
    document: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(folder, kind),
        "peers": described,
        "rounds": options.rounds,
        "runs": [],
        "points": [],
    }
    try:
        _rounds(document, options, present)
        _points(document, options, present)
        _traces(document, options)
    except KeyboardInterrupt:
        print("interrupted: what was measured so far is kept")
    _save(document, options.out)
    if document["runs"]:
        print(f"\n{table(document['runs'])}")
    print(f"\nwritten to {options.out}")
    _draw(document, options.out.parent)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--workloads", type=_names, help=f"of {','.join(STANDARD)}; without this and --curves all of both"
    )
    parser.add_argument("--rounds", type=int, default=5, help="five or more for figures that are published")
    parser.add_argument("--peers", type=_names, default=list(PEERS))
    parser.add_argument("--curves", type=_names, help=f"of {','.join(CURVES)}; 'all' for all")
    parser.add_argument("--repeat", type=int, default=3, help="times each point of a curve is measured")
    parser.add_argument(
        "--largest", type=int, default=10**9, help="leave out points of curves beyond this size"
    )
    parser.add_argument("--out", type=Path, default=Path(".bench/bench.json"))
    parser.add_argument(
        "--folder", type=Path, default=Path(".bench/data"), help="where the journals are: a real disk"
    )
    options = parser.parse_args(arguments)
    if options.workloads is None and options.curves is None:
        options.workloads, options.curves = list(STANDARD), ["all"]
    named = [name.upper() for name in options.workloads or [] if name != "none"]
    options.studies = [name for name in named if name in STUDIES]
    options.traces = [name for name in TRACES if name in named]
    options.workloads = [name for name in named if name not in STUDIES and name not in TRACES]
    options.curves = list(CURVES) if options.curves == ["all"] else options.curves or []
    for given, known in (
        (options.workloads, WORKLOADS),
        (options.curves, CURVES),
        (options.peers, PEERS),
    ):
        for name in given:
            if name not in known:
                others = (*STUDIES, *TRACES) if known is WORKLOADS else ()
                parser.error(f"{name!r} is not one of {', '.join([*known, *others])}")
    return options


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _present(names: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The peers that can run here, and what is said of each: an absent one says why, and is no error."""
    present, described = [], {}
    for name in names:
        module = peers.adapter(name)
        reason = module.absent()
        if reason is None:
            present.append(name)
            described[name] = module.about()
        else:
            described[name] = {"absent": reason}
            print(f"{name} is left out: {reason}")
    return present, described


def _machine(folder: Path, kind: str) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processors": os.cpu_count(),
        "filesystem": kind,
        "probe": probe(folder, seconds=1.0),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _rounds(document: dict[str, Any], options: argparse.Namespace, present: Sequence[str]) -> None:
    schedule = plan([WORKLOADS[name] for name in options.workloads], present, options.rounds)
    for place, (number, workload, name) in enumerate(schedule, start=1):
        record = run_once(workload, name, number, options.folder)
        document["runs"].append(record)
        _report(f"[{place}/{len(schedule)}] round {number + 1}", workload.headline, workload.unit, record)
        _save(document, options.out)


def _points(document: dict[str, Any], options: argparse.Namespace, present: Sequence[str]) -> None:
    """Smallest first. A peer that failed at one size is spared the larger ones."""
    for curve in (CURVES[name] for name in options.curves):
        lost: set[str] = set()
        for number, workload, name in points(curve, present, options.repeat, options.largest):
            if name in lost:
                continue
            record = run_once(workload, name, number, options.folder)
            record["curve"] = curve.name
            document["points"].append(record)
            if record.get("error"):
                lost.add(name)
            _report(f"{curve.name} at {curve.extent(workload.size):,}", curve.metric, _unit(curve), record)
            _save(document, options.out)


def _traces(document: dict[str, Any], options: argparse.Namespace) -> None:
    """What fails is said, and costs nothing of what was measured."""
    for name in options.traces:
        _say(f"{name}: tracing")
        try:
            TRACES[name](document, options.folder)
        except Exception as error:
            _say(f"{name}: nothing came of it: {error}")
        _save(document, options.out)


def _draw(document: dict[str, Any] | None, folder: Path) -> None:
    """The figures of what was measured, beside the result files."""
    if not find_spec("matplotlib"):
        print("no figures: matplotlib is not installed (extra `bench`)")
        return
    drawn = [*(draw(document, folder) if document else ()), *draw_studies(read_studies(folder), folder)]
    print(f"{len(drawn)} figures beside it")


def _unit(curve: Curve) -> str:
    return curve.y_label.split(" ")[0]


def _say(what: str) -> None:
    print(what, flush=True)


def _report(prefix: str, metric: str, unit: str, record: dict[str, Any]) -> None:
    if record.get("error"):
        said = f"no figure: {record['error']}"
    else:
        said = f"{human(record['metrics'][metric])} {unit}"
    disk = f"fdatasync {human(record['probe']['rate_per_s'])}/s, load {record['load']}"
    print(f"{prefix} {record['workload']} {record['peer']}: {said}   ({disk})", flush=True)


def _save(document: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(out)


if __name__ == "__main__":
    sys.exit(main())
