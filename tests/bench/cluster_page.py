"""The part of the page of measures that is about the cluster's first half: W10 and W11, in words and tables, from their result
files. Each sentence sets what was measured beside what was claimed; a claim that fails says so by its numbers.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cluster_figures import DETECTION, log_fit
from bench.goals import outcome, verdict
from bench.ring_bench import OWN, deviation
from bench.stats import human, quantile

Values = Mapping[str, Any]

ERRORS_MAX, KEYS_MAX, PARTITIONS_MAX = 3, 1.25, 1.5
"""What the ring must keep to: its own deviation, and how much more than the mean the busiest of ten nodes has."""


def figure(file: str, alt: str) -> str:
    """An image of the page."""
    return f"```{{image}} ../measures/{file}\n:alt: {alt}\n:width: 100%\n```\n"


def cluster_part(studies: Mapping[str, Mapping[str, Any]]) -> str:
    """Everything that there are result files of, as MyST Markdown; empty if there are none."""
    if not studies:
        return ""
    parts = ["## Who is there, and where a key lives\n"]
    if "W11" in studies:
        parts.append(_simulated(studies["W11"]))
    if "W11P" in studies:
        parts.append(_processes(studies["W11P"]))
    if "W10" in studies:
        parts.append(_ring(studies["W10"]))
    return "\n".join(parts)


def span(values: Sequence[float]) -> str:
    """The lowest and the highest, or one number where both print alike."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _simulated(document: Values) -> str:
    values = document["values"]
    largest = values["load"][-1]["members"]
    loads = [point["datagrams"] for point in values["load"]]
    spread = [point for point in values["spread"] if not point["loss"]]
    sizes = [point["members"] for point in spread]
    _, slope = log_fit(sizes, [statistics.mean(point["seconds"]) for point in spread])
    return "\n".join(
        [
            f"Membership is measured in simulation, up to {human(largest)} members: the core of production under virtual time, a "
            f"network whose packets take 0.5 to 2.5 ms, and seeds. It comes out the same on any machine (`nox -s bench -- "
            f"--workloads W11 --rounds {document['rounds']}`). The papers are named in the [references](references.md); the dashed "
            f"lines are theirs.\n",
            "### How soon a crash is noticed\n",
            "SWIM, section 3.1: every member pings one other a period, so however many there are, somebody pings the dead one in "
            "the first period with probability 1 - 1/e, and the first ping comes after e/(e - 1) periods on average. Here each "
            "member goes round the others in an order of its own (section 4.3); for that, the dotted line is exact.\n",
            figure("w11-detection.svg", "Mean protocol periods until a crash is first noticed, against the number of members"),
            _detection_table(values["detection"]),
            "### What it costs\n",
            f"SWIM, section 3.1: the load of a member does not depend on the size of the group. While nothing happens a member "
            f"sends a ping and an ack a period: measured, {span(loads)} datagrams.\n",
            figure("w11-load.svg", "Datagrams per member and period, against the number of members"),
            "### How fast news spreads\n",
            f"SWIM, section 4.1: an infection needs a number of periods that grows with log n. Measured, each doubling of the "
            f"members costs {slope * 0.6931:.2f} s; the band is the fastest and the slowest of the runs.\n",
            figure("w11-spread.svg", "Seconds until the last member has heard one piece of news, against the number of members"),
            _agreement(values),
            "### Who is called dead and is not\n",
            _false_deaths(values),
        ]
    )


def _detection_table(points: Sequence[Values]) -> str:
    lines = ["| members | crashes | mean periods | in the first period | at most |", "|---:|---:|---:|---:|---:|"]
    for point in points:
        seen = point["periods"]
        lines.append(
            f"| {human(point['members'])} | {len(seen)} | {statistics.mean(seen):.2f} "
            f"| {statistics.mean(found == 1 for found in seen):.0%} | {max(seen)} |"
        )
    lines.append(f"| the paper, n → ∞ | | {DETECTION:.2f} | 63% | |")
    return "\n".join(lines) + "\n"


def _agreement(values: Values) -> str:
    lines = [
        "### From a SIGKILL to agreement, from a start to being seen\n",
        "Simulated seconds until the last survivor holds the dead one dead (the least is the suspicion's minimum, 5 s at the "
        "defaults and 0.5 s with the LAN preset), and until a newcomer is in everybody's list and everybody in its own:\n",
        "| | runs | p50 | p99 | highest |",
        "|---|---:|---:|---:|---:|",
    ]
    for point in values["agreement"]:
        name = "the defaults" if point["preset"] == "default" else "the LAN preset"
        lines.append(f"| a SIGKILL, {point['members']} members, {name} | {_quantiles(point['seconds'])} |")
    lines += [f"| a fifth member joins, {point['loss']:.0%} loss | {_quantiles(point['seconds'])} |" for point in values["join"]]
    return "\n".join(lines) + "\n"


def _quantiles(seconds: Sequence[float]) -> str:
    shown = (quantile(seconds, 0.5), quantile(seconds, 0.99), max(seconds))
    return f"{len(seconds)} | " + " | ".join(f"{value:.2f} s" for value in shown)


def _false_deaths(values: Values) -> str:
    hours = values["hours"]
    five = {point["lifeguard"]: point for point in values["five"]}
    scarce = {point["lifeguard"]: point["false_deaths"] for point in values["scarce"]}
    return "\n".join(
        [
            f"SWIM, section 4.2, lets a suspect refute before it is called dead: in {len(hours)} simulated hours of five members "
            f"at {hours[0]['loss']:.0%} loss there were {sum(hour['changes'] for hour in hours)} changes of belief and "
            f"{sum(hour['false_deaths'] for hour in hours)} false deaths. Pauses of 6 s among five members, "
            f"{five[True]['pauses']} of them: {five[True]['false_deaths']} false deaths with Lifeguard, "
            f"{five[False]['false_deaths']} without.\n",
            "Lifeguard's evaluation: most members that are wrongly called dead are healthy, and accused by slow ones. Above, one "
            "member that stands still for seconds at a time, a tenth of a second awake in between; a pause longer than the "
            "suspicion's end is a death by any rule. Below, some that are awake for milliseconds only, too short to read the acks "
            "that wait for them: plain SWIM lets them bury healthy members, Lifeguard and the stall rule make them doubt "
            "themselves first.\n",
            figure("w11-false-deaths.svg", "False deaths with and without Lifeguard, by how long and how many members stand still"),
            f"What else keeps the living alive: nobody here takes another's word for a death, and a rumour rides often enough. "
            f"With a third of the rumours (each rides log n times, not 3 log n) members that pause 2 s in turn are buried "
            f"{_each(scarce[False])} times in 150 s without Lifeguard, {_each(scarce[True])} times with it.\n",
        ]
    )


def _each(counts: Sequence[int]) -> str:
    return f"{statistics.mean(counts):.0f}" if len(counts) > 1 else str(counts[0])


def _processes(document: Values) -> str:
    values, machine = document["values"], document["machine"]
    lines = [
        "### Five real processes\n",
        f"The same on this machine ({machine['processors']} processors, Python {machine['python']}, {document['created'][:10]}), a "
        f"process a node: from SIGKILL until the last survivor holds it dead, and from the start of its process, the "
        f"interpreter's own start included, until everybody sees everybody.\n",
        figure("w11-processes.svg", "Share of the rounds against seconds, for a SIGKILL and a start, defaults and LAN preset"),
        "| | rounds | p50 | p99 | highest |",
        "|---|---:|---:|---:|---:|",
    ]
    for preset, seen in values["presets"].items():
        name = "the defaults" if preset == "default" else "the LAN preset"
        lines.append(f"| a SIGKILL, {name} | {_quantiles(seen['agreement_s'])} |")
        lines.append(f"| a start, {name} | {_quantiles(seen['join_s'])} |")
    dead = sum(seen["false_deaths"] for seen in values["presets"].values())
    return "\n".join(lines) + f"\n\nOthers than the killed one that were called dead, in all rounds: {dead}.\n"


def _ring(document: Values) -> str:
    values, machine = document["values"], document["machine"]
    rings, spread = values["rings"], values["spread"]
    lines = [
        "### The ring\n",
        f"{values['nodes']} nodes of {values['positions']} positions, beside [uhashring](#ref-uhashring), in turns, "
        f"{document['rounds']} rounds, medians "
        f"({machine['processors']} processors, Python {machine['python']}, {document['created'][:10]}). A change is one node that "
        f"comes or goes.\n",
        "| | lookups/s | lookups of three nodes/s | a change |",
        "|---|---:|---:|---:|",
    ]
    for name, seen in rings.items():
        lookups, three, change = (statistics.median(seen[key]) for key in ("lookup", "three", "change"))
        lines.append(f"| {name} | {human(lookups)} | {human(three)} | {human(1_000 * change)} ms |")
    between = sum(point["between_others"] for point in values["moved"])
    lines += [
        "",
        figure("w10.svg", "Lookups per second beside uhashring, and the share of keys that move on a join"),
        _ring_goals(values),
        f"When one joins n nodes, 1/(n + 1) of the keys move, all of them to it ({between} moved between others). The mean over "
        f"{len(values['moved'][0]['shares'])} rings is at most {_off(values):.1f} standard errors from that.\n",
        "How much more than the mean the busiest of ten nodes has, over "
        f"{len(spread['keys']['others'])} rings of other names:\n",
        "| | node-1 to node-10 | median | p99 |",
        "|---|---:|---:|---:|",
    ]
    for kind, label in (("keys", "single keys"), ("partitions", "256 partitions")):
        ten, others = spread[kind]["node_1_to_10"], spread[kind]["others"]
        lines.append(f"| {label} | {ten:.2f} | {quantile(others, 0.5):.2f} | {quantile(others, 0.99):.2f} |")
    absent = f"\nuhashring was not measured: {values['absent']}.\n" if values["absent"] else ""
    return "\n".join(lines) + "\n" + absent


def _off(values: Values) -> float:
    """How far the mean share of the keys that move is from 1/(n + 1), in standard errors: of the n that is worst."""
    off: list[float] = []
    for point in values["moved"]:
        error = deviation(point["nodes"]) / len(point["shares"]) ** 0.5
        off.append(abs(statistics.mean(point["shares"]) - 1 / (point["nodes"] + 1)) / error)
    return max(off)


def _ring_goals(values: Values) -> str:
    """As beside a workload: what the ring must reach, and whether it does. Of the two uhashrings the faster one counts."""
    own = values["rings"][OWN]
    others = [seen for name, seen in values["rings"].items() if name != OWN]
    lookups, theirs = statistics.median(own["lookup"]), [statistics.median(seen["lookup"]) for seen in others]
    change, their_changes = statistics.median(own["change"]), [statistics.median(seen["change"]) for seen in others]
    spread = {kind: seen["node_1_to_10"] for kind, seen in values["spread"].items()}
    unknown = "not measured"
    told = [
        f"lookups/s at least uhashring's ({outcome(verdict(lookups, max(theirs), more_is_better=True)) if others else unknown})",
        f"a change in at most its time "
        f"({outcome(verdict(1e3 * change, 1e3 * min(their_changes), more_is_better=False)) + ' ms' if others else unknown})",
        f"keys that move at most {ERRORS_MAX} standard errors from 1/(n + 1) ({_at_most(_off(values), ERRORS_MAX)})",
        *(
            f"{label} on node-1 to node-10 at most {bound} times the mean ({_at_most(spread[kind], bound)})"
            for kind, label, bound in (("keys", "single keys", KEYS_MAX), ("partitions", "256 partitions", PARTITIONS_MAX))
        ),
    ]
    return f"Goal: {'; '.join(told)}.\n"


def _at_most(value: float, bound: float) -> str:
    return outcome(verdict(value, bound, more_is_better=False))
