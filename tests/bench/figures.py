"""The book's figures, drawn from a result file: ``python -m bench.figures bench.json FOLDER``.

One SVG a workload (bars on a log scale: the bar is the median, the line over it the spread, every round a
dot) and one a curve (medians, with the spread as a band). They are read on a light and on a dark page: the
background is transparent, text and axes a grey that stands out from both, and the peers' colours are close to
Okabe and Ito's palette, which colour-blind readers tell apart; on curves each peer has a marker of its own as
well.

A result file with faults is refused (`bench.stats.faults`): a figure of a half-written file would look like
any other.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.stats import faults, human, summarise
from bench.workloads import CURVES, WORKLOADS, Curve, Workload

GREY = "#808890"  # contrast about 3.6 on white and 5.3 on a dark page: readable on both
COLOURS = {
    "durable": "#2F86C6",
    "durable_cluster_one": "#7A7FD0",
    "durable_cluster": "#56B4E9",
    "dbos": "#D98A00",
    "dbos_postgres": "#CC79A7",
    "restate": "#009E73",
}
MARKERS = {"durable": "o", "durable_cluster_one": "<", "durable_cluster": "v", "dbos": "s", "dbos_postgres": "D", "restate": "^"}
LABELS = {
    "durable": "durable",
    "durable_cluster_one": "durable, cluster of 1",
    "durable_cluster": "durable, 3 nodes",
    "dbos": "DBOS (SQLite)",
    "dbos_postgres": "DBOS (PostgreSQL)",
    "restate": "Restate",
}
STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text: it is searched, and takes the page's font
    "svg.hashsalt": "durable",  # the same numbers give the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write each figure that has something to show; returns their paths. Raises `ValueError` on faults."""
    import matplotlib as mpl

    found = faults(document)
    if found:
        raise ValueError("not a result of this benchmark: " + "; ".join(found))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(STYLE):
        for name, peers in summarise(document["runs"]).items():
            if any(WORKLOADS[name].headline in metrics for metrics in peers.values()):
                written.append(
                    _bars(WORKLOADS[name], document["runs"], peers, folder / f"{name.lower()}.svg")
                )
        for curve in CURVES.values():
            points = [
                point for point in document["points"] if point.get("curve") == curve.name and point["metrics"]
            ]
            if points:
                written.append(_curve(curve, points, folder / f"curve-{curve.name}.svg"))
    return written


def _bars(workload: Workload, runs: Sequence[dict[str, Any]], peers: dict[str, Any], path: Path) -> Path:
    from matplotlib.figure import Figure

    shown = [peer for peer in COLOURS if workload.headline in peers.get(peer, {})]
    figure = Figure(figsize=(7.0, 0.9 + 0.5 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, peer in enumerate(shown):
        head = peers[peer][workload.headline]
        axes.barh(place, head["median"], height=0.62, color=COLOURS[peer], alpha=0.85)
        axes.plot([head["low"], head["high"]], [place, place], color=GREY, linewidth=1.5)
        values = [
            r["metrics"][workload.headline]
            for r in runs
            if r["workload"] == workload.name and r["peer"] == peer and r["metrics"]
        ]
        axes.plot(values, [place] * len(values), "|", color=GREY, markersize=9)
        label = f"{human(head['median'])} {workload.unit}"
        axes.annotate(
            label, (head["high"], place), xytext=(8, 0), textcoords="offset points", va="center", color=GREY
        )
    lowest = min(peers[peer][workload.headline]["low"] for peer in shown)
    highest = max(peers[peer][workload.headline]["high"] for peer in shown)
    axes.set_xscale("log")
    floor = 10 ** math.floor(
        math.log10(lowest) - 0.3
    )  # a log bar has no zero to start from: a round number then
    axes.set_xlim(floor, highest * 6)  # room for the labels
    axes.xaxis.set_minor_formatter("")  # on a short axis each of its marks would be labelled, one over the other
    axes.set_yticks(range(len(shown)), [LABELS[peer] for peer in shown])
    axes.invert_yaxis()
    axes.set_xlabel(
        f"{workload.unit}, log scale ({'more' if workload.higher_is_better else 'less'} is better)"
    )
    axes.set_title(workload.title, loc="left", fontsize=11)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    return path


def _curve(curve: Curve, points: Sequence[dict[str, Any]], path: Path) -> Path:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    for peer, colour in COLOURS.items():
        own: dict[int, list[float]] = {}
        for point in points:
            if point["peer"] == peer:
                own.setdefault(point[curve.x], []).append(point["metrics"][curve.metric])
        if own:
            xs = sorted(own)
            ys = [statistics.median(own[x]) for x in xs]
            axes.fill_between(
                xs, [min(own[x]) for x in xs], [max(own[x]) for x in xs], color=colour, alpha=0.2
            )
            axes.plot(xs, ys, color=colour, marker=MARKERS[peer], markersize=6, linewidth=2)
            axes.annotate(
                LABELS[peer],
                (xs[-1], ys[-1]),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=colour,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.22, y=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axes.grid(True, which="major", color=GREY, alpha=0.25, linewidth=0.7)
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    axes.set_title(curve.title, loc="left", fontsize=11)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    return path


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m bench.figures RESULT.json FOLDER")
        return 2
    for path in draw(json.loads(Path(arguments[0]).read_text()), Path(arguments[1])):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
