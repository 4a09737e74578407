"""The part of the page of measures that is about one workload: what it is, its figure, what `durable` must reach in it and does,
and where the time goes where that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.cluster_page import figure
from bench.commit import PARTS
from bench.figures import LABELS
from bench.goals import Summary, judge, judged, quantity, said
from bench.stats import human
from bench.workloads import WORKLOADS, Workload

RESULT = "book/measures/bench.json"
PROFILE = "step-time"
"""Where the profile of a step is to be found."""


def workload_part(workload: Workload, summary: Summary, document: Mapping[str, Any]) -> str:
    """A section. What was not measured has one too: its goal stands."""
    peers = {peer: of for peer in LABELS if (of := summary.get(workload.name, {}).get(peer))}
    parts = [f"({anchor(workload.name)})=\n### {workload.title}\n\n{workload.description}\n"]
    if any(workload.headline in metrics for metrics in peers.values()):
        parts.append(figure(f"{workload.name.lower()}.svg", f"{workload.title}: {workload.unit} by engine"))
    parts += [_goals(workload, summary, document), _details(peers, workload.headline)]
    parts += [_disk(peers), _machinery(peers), _commit(peers, document)]
    return "\n".join(part for part in parts if part)


def anchor(name: str) -> str:
    """Where the section of a workload is to be found."""
    return f"measured-{name.lower()}"


def _goals(workload: Workload, summary: Summary, document: Mapping[str, Any]) -> str:
    told = said(workload, summary)
    missed = any(verdict and not verdict.reached for verdict in judged(workload, summary))
    if missed and workload.profiled and "profile" in document:
        told += f" Why: [where the time of a step goes](#{PROFILE})."
    return f"{told}\n" if told else ""


def _details(peers: Mapping[str, Any], headline: str) -> str:
    told = []
    for peer, metrics in peers.items():
        beside = {name: value["median"] for name, value in metrics.items() if name != headline and not name.startswith("probe_")}
        if beside:
            told.append(f"{LABELS[peer]}: {', '.join(quantity(name, value) for name, value in beside.items())}")
    return f"Beside it (medians). {'; '.join(told)}.\n" if told else ""


def _disk(peers: Mapping[str, Any]) -> str:
    """How fast it was beside the runs of each peer: only where these agree are peers compared."""
    rates = [f"{LABELS[peer]}: {human(metrics['probe_rate_per_s']['median'])} fdatasync/s" for peer, metrics in peers.items()]
    return f"The probe beside these runs (medians): {'; '.join(rates)}.\n" if rates else ""


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
    [verdict] = [judge(goal, "W8", {"W8": peers}) for goal in WORKLOADS["W8"].goals if goal.metric == "commit_over_floor"]
    if verdict is None or verdict.reached or "commit" not in document:
        return ""
    fsync, trip = (human(measured[name]["median"]) for name in ("fsync_ms", "round_trip_ms"))
    traced = document["commit"]
    ms: Mapping[str, float] = traced["ms"]
    told = {name: human(value) for name, value in ms.items()}
    all_ms, hops = human(sum(ms[name] for name in PARTS)), human(ms["there"] + ms["back"])
    work = human(sum(ms[name] for name in ("turn", "write", "told", "next_step")))
    when = f"{traced['created'][:10]}, load average {human(traced['load'])}"
    return (
        f"A commit is over what it may take. Where the time goes, {all_ms} ms in all, without the slow ones that the mean above "
        f"has in it (`PYTHONPATH=tests python -m bench.commit {RESULT}`, medians of {when}):\n\n"
        f"- A copy's fsync, {told['copy_fsync']} ms, and the owner's own beside it, {told['own_fsync']} ms. The floor has one "
        f"that nobody disturbs, {fsync} ms; here three nodes sync one disk at once.\n"
        f"- The way there and back, {hops} ms, where a bare echo takes {trip} ms: a process is woken, and its "
        f"event loop comes round. {told['waits_for_own']} ms of it the acknowledgement waits for the owner's own fsync, which is "
        f"on the loop that would read it.\n"
        f"- Python between them, {work} ms: {told['turn']} ms until the batch is with the links, {told['write']} ms in the copy "
        f"before its fsync, {told['told']} ms until the caller is told, {told['next_step']} ms until the workflow's next step.\n\n"
        f"No time is spent waiting for a batch to fill: what a turn of the event loop brings leaves at its end.\n"
    )


