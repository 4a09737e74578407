"""The figures of W10 and W11, from their result files: ``python -m bench.page`` draws them.

What the papers say is a grey line or band, what was measured has a colour and a marker. Two series never differ by colour
alone. The look is that of `figures`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figures import COLOURS, GREY, STYLE
from bench.ring_bench import deviation
from bench.stats import human

OWN, OTHER = COLOURS["durable"], COLOURS["dbos"]
RING_COLOURS = {"durable": OWN, "uhashring": OTHER, "uhashring, ketama": COLOURS["restate"]}
DETECTION = math.e / (math.e - 1)


def draw_studies(studies: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write each figure of the studies that are there; their paths."""
    import matplotlib as mpl

    figures: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], None], int]] = {
        "w10.svg": ("W10", _ring, 2),
        "w11-detection.svg": ("W11", _detection, 1),
        "w11-load.svg": ("W11", _load, 1),
        "w11-spread.svg": ("W11", _spread, 1),
        "w11-false-deaths.svg": ("W11", _false_deaths, 2),
        "w11-processes.svg": ("W11P", _processes, 2),
    }
    written = []
    with mpl.rc_context(STYLE):
        from matplotlib.figure import Figure

        for file, (study, draw, rows) in figures.items():
            if study in studies:
                figure = Figure(figsize=(7.0, 3.4 if rows == 1 else 5.6), layout="constrained")
                draw(figure.subplots(rows), studies[study]["values"])
                figure.savefig(folder / file, transparent=True, metadata={"Date": None})
                written.append(folder / file)
    return written


def _detection(axes: Any, values: Mapping[str, Any]) -> None:
    points = values["detection"]
    xs = [point["members"] for point in points]
    means = [statistics.mean(point["periods"]) for point in points]
    errors = [1.96 * statistics.stdev(point["periods"]) / len(point["periods"]) ** 0.5 for point in points]
    _line(axes, DETECTION, f"the paper: e/(e - 1) = {DETECTION:.2f}")
    exact = [expected_periods(point["members"], point["crashes"]) for point in points]
    axes.plot(xs, exact, ":", color=GREY, linewidth=2, label="exactly, for n members that ask in turn")
    axes.errorbar(xs, means, yerr=errors, color=OWN, marker="o", markersize=6, linewidth=2, capsize=4, label="measured")
    axes.set_ylim(0.8, 2.0)
    axes.legend(frameon=False, loc="lower right", ncols=2, labelcolor=GREY)
    _members(axes, "First detection of a crash, mean and 95 % interval", "protocol periods", xs)


def expected_periods(members: int, crashes: int = 1) -> float:
    """The mean number of periods until the first survivor asks a dead one, when each goes round the n - 1 others in a random
    order of its own: after k periods a survivor has not asked it yet with probability 1 - k / (n - 1). For large n this is the
    paper's e/(e - 1), where targets are drawn at random.
    """
    return sum((1 - k / (members - 1)) ** (members - crashes) for k in range(members - 1))


def _load(axes: Any, values: Mapping[str, Any]) -> None:
    points = values["load"]
    xs = [point["members"] for point in points]
    _line(axes, 2.0, "one ping and one ack: 2")
    axes.plot(xs, [point["datagrams"] for point in points], color=OWN, marker="o", markersize=6, linewidth=2)
    axes.set_ylim(0, 3)
    _members(axes, "Load of a member while nothing happens", "datagrams per member and period", xs)


def _spread(axes: Any, values: Mapping[str, Any]) -> None:
    losses = sorted({point["loss"] for point in values["spread"]})
    for loss, colour, marker in zip(losses, (OWN, OTHER), "os", strict=False):
        points = [point for point in values["spread"] if point["loss"] == loss]
        xs = [point["members"] for point in points]
        ys = [statistics.mean(point["seconds"]) for point in points]
        axes.fill_between(
            xs, [min(p["seconds"]) for p in points], [max(p["seconds"]) for p in points], color=colour, alpha=0.2, linewidth=0
        )
        axes.plot(xs, ys, color=colour, marker=marker, markersize=6, linewidth=2, label=f"{loss:.0%} loss")
        if not loss:
            base, slope = log_fit(xs, ys)
            axes.plot(xs, [base + slope * math.log(x) for x in xs], ":", color=GREY, linewidth=2)
            note = f"a + b log n, b = {slope * math.log(2):.2f} s a doubling"
            axes.annotate(note, (xs[3], base), xytext=(0, -6), textcoords="offset points", color=GREY)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor="linecolor", loc="upper left")
    _members(axes, "Until the last member has heard a piece of news", "seconds (one period is 1 s)", xs)


def log_fit(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Least squares of ``a + b ln x``: (a, b)."""
    slope, base = statistics.linear_regression([math.log(x) for x in xs], ys)
    return base, slope


def _false_deaths(both: Any, values: Mapping[str, Any]) -> None:
    cases = (
        ("pauses", "pause_s", "false_deaths", "One of 50 stands still, again and again, for 600 s", "seconds it stands still"),
        ("slow", "slow", "of_healthy", "Some of 50 hardly ever run, for 200 s", "how many of the 50"),
    )
    for axes, (study, x, y, title, label) in zip(both, cases, strict=True):
        for lifeguard, colour, marker in ((False, OTHER, "s"), (True, OWN, "o")):
            own = [point for point in values[study] if point["lifeguard"] == lifeguard]
            xs, ys = [point[x] for point in own], [statistics.mean(point[y]) for point in own]
            name = "with Lifeguard" if lifeguard else "without"
            axes.plot(xs, ys, color=colour, marker=marker, markersize=6, linewidth=2, label=name)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=-0.3)
        axes.set_xticks(xs, [f"{tick:g}" for tick in xs])
        axes.legend(frameon=False, labelcolor="linecolor", loc="best")
        axes.set_xlabel(label)
        axes.set_ylabel("false deaths" + (" of the healthy" if y == "of_healthy" else ""))
        axes.set_title(title, loc="left", fontsize=11)
        axes.grid(True, color=GREY, alpha=0.25, linewidth=0.7)


def _ring(both: Any, values: Mapping[str, Any]) -> None:
    from matplotlib.ticker import FuncFormatter

    bars, curve = both
    rings = values["rings"]
    for place, (name, seen) in enumerate(rings.items()):
        median = statistics.median(seen["lookup"])
        change_ms = 1_000 * statistics.median(seen["change"])
        bars.barh(place, median, height=0.62, color=RING_COLOURS[name], alpha=0.85)
        bars.plot(seen["lookup"], [place] * len(seen["lookup"]), "|", color=GREY, markersize=9)
        said = f"{human(median)} lookups/s; a change {human(change_ms)} ms"
        bars.annotate(said, (max(seen["lookup"]), place), xytext=(8, 0), textcoords="offset points", va="center", color=GREY)
    bars.set_yticks(range(len(rings)), list(rings))
    bars.invert_yaxis()
    bars.set_xlim(0, 1.9 * max(max(seen["lookup"]) for seen in rings.values()))
    bars.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    bars.set_xlabel("lookups/s (more is better)")
    bars.set_title(f"{values['nodes']} nodes of {values['positions']} positions", loc="left", fontsize=11)

    nodes = [point["nodes"] for point in values["moved"]]
    low = [1 / (n + 1) - 3 * deviation(n) for n in nodes]
    high = [1 / (n + 1) + 3 * deviation(n) for n in nodes]
    curve.fill_between(nodes, low, high, color=GREY, alpha=0.3, linewidth=0)
    for point in values["moved"]:
        curve.plot([point["nodes"]] * len(point["shares"]), point["shares"], "o", color=OWN, markersize=4, alpha=0.7)
    curve.set_xscale("log")
    curve.set_yscale("log")
    note, at = "1/(n + 1), three standard deviations", (nodes[2], high[2])
    curve.annotate(note, at, xytext=(12, 8), textcoords="offset points", color=GREY)
    _members(curve, "Keys that move when one joins n nodes", "share of the keys", nodes, "nodes before the join (log scale)")


def _processes(both: Any, values: Mapping[str, Any]) -> None:
    for axes, preset in zip(both, ("default", "lan"), strict=True):
        seen = values["presets"][preset]
        lines = (("agreement_s", "killed: all agree", OWN, "o"), ("join_s", "started: seen by all", OTHER, "s"))
        for key, label, colour, marker in lines:
            ordered = sorted(seen[key])
            shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
            style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 2, "drawstyle": "steps-post"}
            axes.plot(ordered, shares, label=label, **style)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.05)
        axes.legend(frameon=False, labelcolor="linecolor", loc="lower right")
        axes.set_xlabel("seconds")
        axes.set_ylabel("share of the rounds")
        axes.set_title(f"Five processes, {'the defaults' if preset == 'default' else 'the LAN preset'}", loc="left", fontsize=11)
        axes.grid(True, color=GREY, alpha=0.25, linewidth=0.7)


def _line(axes: Any, y: float, label: str) -> None:
    axes.axhline(y, color=GREY, linewidth=2, linestyle="--")
    at = {"xycoords": ("axes fraction", "data"), "xytext": (6, 5), "textcoords": "offset points"}
    axes.annotate(label, (0, y), color=GREY, **at)


def _members(axes: Any, title: str, y_label: str, ticks: Sequence[int], x_label: str = "members (log scale)") -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [human(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, color=GREY, alpha=0.25, linewidth=0.7)
