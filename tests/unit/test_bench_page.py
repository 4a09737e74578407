"""The page of measures: what `durable` must reach, how that is judged, and that no sentence says more than the result file."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bench import cluster_page, goals, page
from bench.__main__ import _options
from bench.stats import summarise
from bench.studies import read_studies
from bench.workload_page import RESULT
from bench.workloads import PEERS, WORKLOADS, at_least, at_most, never

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "book" / "measures" / "bench.json"
PROBE = {"rate_per_s": 2_500.0, "p50_ms": 0.4, "p99_ms": 1.0}


def runs(workload: str, peer: str = "durable", rounds: int = 1, **metrics: float) -> list[dict[str, Any]]:
    one = {"workload": workload, "peer": peer, "load": 0.5, "probe": PROBE, "metrics": metrics}
    return [{**one, "round": number} for number in range(rounds)]


def result(*of: list[dict[str, Any]], **also: Any) -> dict[str, Any]:
    machine = {"processors": 2, "system": "Linux", "python": "3.11", "filesystem": "ext4", "probe": PROBE}
    measured = [run for some in of for run in some]
    about = {run["peer"]: {"version": "0.1.0"} for run in measured}
    created = "2026-01-01T00:00:00Z"
    return {"schema": 1, "created": created, "machine": machine, "peers": about, "runs": measured, "points": [], **also}


def judged(goal: Any, *of: list[dict[str, Any]], workload: str = "W2") -> tuple[float, float, bool] | None:
    verdict = goals.judge(goal, workload, summarise(run for some in of for run in some))
    return (verdict.value, verdict.bound, verdict.reached) if verdict else None


@pytest.mark.parametrize(("value", "least", "most"), [(9.0, False, True), (10.0, True, True), (11.0, True, False)])
def test_a_goal_is_reached_at_its_bound_and_missed_beyond(value: float, least: bool, most: bool) -> None:
    assert judged(at_least("steps_per_s", 10), runs("W2", steps_per_s=value)) == (value, 10, least)
    assert judged(at_most("steps_per_s", 10), runs("W2", steps_per_s=value)) == (value, 10, most)


def test_a_goal_may_be_a_multiple_of_a_peer_of_the_probe_or_of_another_workload() -> None:
    seen = [*runs("W2", steps_per_s=50.0), *runs("W2", "restate", steps_per_s=4.0), *runs("W1", steps_per_s=60.0)]
    assert judged(at_least("steps_per_s", 20, times="restate"), seen) == (50, 80, False)
    assert judged(at_least("steps_per_s", 0.01, times="probe_rate_per_s"), seen) == (50, 25, True)
    assert judged(at_least("steps_per_s", 1, times="W1"), seen) == (50, 60, False)


def test_the_median_is_judged_and_of_what_must_never_be_the_worst_round() -> None:
    seen = [*runs("W2", again=0.0, rounds=4), *runs("W2", again=1.0)]
    assert judged(at_most("again", 0), seen) == (0, 0, True)
    assert judged(never("again"), seen) == (1, 0, False)


def test_a_goal_is_not_judged_where_it_or_its_yardstick_was_not_measured() -> None:
    assert judged(at_least("steps_per_s", 10), runs("W1", steps_per_s=9.0)) is None
    assert judged(at_least("steps_per_s", 10, peer="durable_cluster"), runs("W2", steps_per_s=9.0)) is None
    assert judged(at_least("steps_per_s", 20, times="restate"), runs("W2", steps_per_s=9.0)) is None
    assert judged(at_least("steps_per_s", 1, times="W1"), runs("W2", steps_per_s=9.0)) is None


def test_every_workload_of_the_designs_table_has_its_goal_and_the_result_file_has_its_metric() -> None:
    assert {name for name, workload in WORKLOADS.items() if not workload.goals} == {"BUSY", "OPEN"}
    summary = summarise(json.loads(PUBLISHED.read_text())["runs"])
    for name, workload in WORKLOADS.items():
        for goal in workload.goals:
            assert goal.peer in workload.peers
            assert goal.times not in PEERS or goal.times in workload.peers
            if name in summary:
                assert goals.judge(goal, name, summary), f"{name}: {goal.metric} is not measured"


def test_a_goal_is_told_with_what_came_of_it() -> None:
    seen = [*runs("W2", steps_per_s=22_222.0), *runs("W2", "restate", steps_per_s=2_000.0)]
    assert goals.said(WORKLOADS["W2"], summarise(seen)) == (
        "Goal: at least 30,000 steps/s (**missed**: 22,200 of 30,000); at least 20 times Restate's steps/s (**missed**: 22,200 of "
        "40,000 steps/s)."
    )
    seen = runs("W1", steps_per_s=2_000.0, p99_ms=2.0)
    assert goals.said(WORKLOADS["W1"], summarise(seen)) == (
        "Goal: at least 0.5 times the probe's fdatasync/s (reached: 2,000 of 1,250 steps/s); at least 4 times Restate's "
        "steps/s (not measured); p99 at most 3 times the probe's p99 (reached: 2 of 3 ms)."
    )
    assert goals.said(WORKLOADS["W6"], summarise(runs("W6", recovery_s=0.6, recorded_ran_again=0.0))) == (
        "Goal: recovery at most 0.5 s (**missed**: 0.6 of 0.5); recorded ran again: never (reached)."
    )
    assert goals.said(WORKLOADS["W6"], summarise(runs("W6", recovery_s=0.5, recorded_ran_again=2.0))) == (
        "Goal: recovery at most 0.5 s (reached: 0.5 of 0.5); recorded ran again: never (**missed**: 2)."
    )
    assert goals.said(WORKLOADS["BUSY"], {}) == ""


def test_what_misses_by_little_does_not_look_like_the_bound() -> None:
    assert "(**missed**: 1.1004 of 1.1)" in goals.said(WORKLOADS["W4"], summarise(runs("W4", total_s=1.1004)))


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("p50_ms", 0.2621, "p50 0.262 ms"), ("from_open_s", 1.5, "from open 1.5 s"), ("memory_mb", 28.2255, "memory 28.2 MB"),
        ("started_per_s", 7_770.0, "7,770 started/s"), ("bytes_each", 2_820.0, "bytes each 2,820"),
    ],
)  # fmt: skip
def test_a_metric_is_shown_with_its_unit_behind_its_value(metric: str, value: float, text: str) -> None:
    assert goals.quantity(metric, value) == text


def test_the_table_marks_who_has_a_goal_and_the_page_counts_them() -> None:
    text = page.page(result(runs("W3", p50_ms=0.5, p99_ms=6.0), runs("W7", rows_per_s=200_000.0)), {})
    assert "**0.5** ms (one run), *1 of 2 goals missed* |" in text
    assert "**200,000** rows/s (one run), *goal reached* |" in text
    counted = "Goals reached: W7. Missed, at least one: W3. Not measured, at least one: W1, W2, W2L, W4, W5, W5L, W6, W8, W9, W9D."
    assert counted in text
    text = page.page(result(runs("W8", steps_per_s=9.0), runs("W8", "durable_cluster", steps_per_s=9.0, commit_over_floor=4.0)), {})
    [row] = [line for line in text.splitlines() if line.startswith("| [W8]")]
    assert row.endswith("**9** steps/s (one run) | **9** steps/s (one run), *goals missed* |")


def test_a_workload_that_was_not_measured_stands_there_with_its_goal() -> None:
    text = page.page(result(runs("W7", rows_per_s=1.0)), {})
    assert "| [W5L](#measured-w5l): 1,000,000 workflows that wait for a message | not measured |" in text
    section = text.partition("(measured-w5l)=\n### 1,000,000 workflows")[2].partition("\n### ")[0]
    assert "Goal: at least 20,000 started/s (not measured); memory at most 500 MB (not measured)." in section
    assert "w5l.svg" not in section, "there is none"
    assert "(measured-open)=" not in text, "a curve's alone"


def test_a_cell_says_whether_a_workload_is_for_that_engine_and_what_became_of_its_runs() -> None:
    error = "waiting ended with 1: Traceback | File 1\nits log"
    failed = [{**run, "metrics": {}, "error": error} for run in runs("W5", "dbos", rounds=2)]
    text = page.page(result(runs("W5", start_s=1.0, memory_mb=9.0, rounds=2), failed), {})
    assert "| **1** s (1 to 1), *goals reached* | no figure: waiting ended with 1: Traceback |" in text
    assert "workflows of 10 steps, all at once | not measured | \N{EN DASH} |" in text, "W2L is for durable alone"


def test_where_a_goal_of_profiled_work_is_missed_the_page_leads_to_the_profile() -> None:
    told = "[where the time of a step goes](#step-time)"
    profile = {"profile": [["asyncio", 0.5]]}
    for steps_per_s, also, there in ((29_000.0, profile, True), (29_000.0, {}, False), (31_000.0, profile, False)):
        text = page.page(result(runs("W2", steps_per_s=steps_per_s), runs("W4", total_s=9.0), **also), {})
        assert (told in text) is there
        assert told not in text.partition("(measured-w4)=")[2].partition("\n### ")[0], "it is no profile of sleeps"
        assert ("(step-time)=\n## Where the time of a step goes" in text) is ("profile" in also)


def test_the_disk_is_told_workload_by_workload_and_peer_by_peer() -> None:
    restate = [{**run, "probe": {**PROBE, "rate_per_s": 4_800.0}} for run in runs("W1", "restate", steps_per_s=9.0)]
    text = page.page(result(restate, runs("W1", steps_per_s=9.0), runs("W4", total_s=9.0)), {})
    first, second = (text.partition(f"(measured-{name})=")[2].partition("\n(measured")[0] for name in ("w1", "w4"))
    assert "The probe beside these runs (medians): durable: 2,500 fdatasync/s; Restate: 4,800 fdatasync/s." in first
    assert "The probe beside these runs (medians): durable: 2,500 fdatasync/s." in second
    assert "can be faster" not in text and "the probe then" not in text, "no engine is held to the disk of another moment"


def test_a_ratio_says_that_it_is_the_median_of_ratios() -> None:
    text = page.page(result(runs("W8", "durable_cluster", steps_per_s=9.0, commit_over_floor=4.0)), {})
    assert "(the median of the rounds' ratios, not the ratio of the medians)" in text.partition("(measured-w8)=")[2]


def test_the_peers_are_named_before_anything_is_said_of_them() -> None:
    text = page.page(result(runs("W1", steps_per_s=9.0), runs("W1", "dbos", steps_per_s=9.0)), {})
    assert text.index("peer") == text.index("peers*)")
    assert "\n- durable: 0.1.0\n- [DBOS (SQLite)](#ref-dbos): 0.1.0\n" in text


def test_the_rounds_are_those_of_each_workload() -> None:
    three, two = (runs(name, rounds=number, steps_per_s=9.0) for name, number in (("W1", 3), ("W2", 2)))
    assert "; 3 rounds." in page.page(result(three), {})
    assert "; 3 rounds (W2: 2, W5L: 1)." in page.page(result(three, two, runs("W5L", start_s=9.0)), {})
    assert "rounds" not in page.page(result(), {}).partition("\nMeasured on ")[2].partition("\n")[0], "only curves, then"


def commands() -> list[str]:
    """Each that is written on the published page."""
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", (ROOT / page.PAGE).read_text())
    return [text for text in spans if re.search(r"\bnox\b|\bpython\b", text)]


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_on_the_page_works_as_it_is_written(command: str) -> None:
    if command.startswith("nox -s bench"):
        assert "def bench(session" in (ROOT / "noxfile.py").read_text()
        _options(command.removeprefix("nox -s bench").removeprefix(" -- ").split())
    else:
        module, file = re.fullmatch(r"PYTHONPATH=tests python -m (bench\.\w+) (\S+)", command).groups()  # type: ignore[union-attr]
        assert find_spec(module) and (ROOT / file).exists()


def test_the_page_names_the_commands_that_measure_what_it_shows() -> None:
    assert {text.split()[-2] for text in commands() if "PYTHONPATH" in text} >= {"bench.commit", "bench.profile"}
    rounds = json.loads(PUBLISHED.with_name("w11.json").read_text())["rounds"]
    assert f"nox -s bench -- --workloads W11 --rounds {rounds}" in commands(), "with other rounds it comes out differently"


def test_a_span_whose_ends_print_alike_is_one_number() -> None:
    assert cluster_page.span([2.0011, 1.9987]) == "2.00"
    assert cluster_page.span([2.01, 1.9]) == "1.90 to 2.01"


def test_the_ring_is_told_with_its_goals_and_where_the_yardstick_is_from() -> None:
    study = read_studies(PUBLISHED.parent)["W10"]
    rings = study["values"]["rings"]
    rings["durable"] |= {"lookup": [700.0], "change": [0.002]}
    rings["uhashring"] |= {"lookup": [800.0], "change": [0.003]}
    rings["uhashring, ketama"] |= {"lookup": [600.0], "change": [0.4]}
    study["values"]["spread"]["partitions"]["node_1_to_10"] = 1.51
    text = cluster_page.cluster_part({"W10": study})
    goal = "Goal: lookups/s at least uhashring's (**missed**: 700 of 800); a change in at most its time (reached: 2 of 3 ms);"
    assert goal in text
    assert "single keys on node-1 to node-10 at most 1.25 times the mean (reached: 1.12 of 1.25);" in text
    assert "256 partitions on node-1 to node-10 at most 1.5 times the mean (**missed**: 1.51 of 1.5)." in text
    assert "[uhashring](#ref-uhashring)" in text
    study["values"]["rings"] = {"durable": rings["durable"]}
    assert "uhashring's (not measured); a change in at most its time (not measured);" in cluster_page.cluster_part({"W10": study})


def test_the_profile_is_put_into_words_by_its_numbers() -> None:
    shares = {"durable/replication": 0.4, "durable/copies": 0.04, "asyncio": 0.2}
    document = result(runs("W7", rows_per_s=1.0), profile=[["durable/runtime", 0.3]], profile_cluster=list(shares.items()))
    text = page.page(document, {})
    assert "No part takes more than 30% on one node" in text
    assert "44% of the time is the copies' own work" in text
    assert "copies' own work" not in page.page(result(runs("W7", rows_per_s=1.0), profile=[["asyncio", 0.3]]), {})


def test_a_curve_says_which_of_its_points_were_not_measured() -> None:
    def point(curve: str, workload: str, peer: str, size: int, **metrics: float) -> dict[str, Any]:
        return {**runs(workload, peer)[0], "metrics": metrics, "curve": curve, "workflows": size, "steps": 0}

    sizes = (1_000, 10_000, 100_000)
    points = [point("memory", "W5", "durable", size, bytes_each=9.0) for size in sizes]
    points += [{**point("memory", "W5", "durable", 1_000_000), "error": "not done within 180 s (waiting)"}]
    points += [point("memory", "W5", "dbos", 1_000, bytes_each=9.0)]
    text = page.page(result(runs("W7", rows_per_s=1.0)) | {"points": points}, {})
    section = text.partition("### Memory of a waiting workflow\n")[2].partition("\n### ")[0]
    assert "curve-memory.svg" in section
    assert "Not measured: durable at 1,000,000 (not done within 180 s (waiting)); Restate." in section
    section = text.partition("### Time to open a store\n")[2].partition("\n## ")[0]
    assert "Not measured: durable." in section and "curve-open.svg" not in section
    full = [point("open", "OPEN", "durable", size, open_s=9.0) for size in (10, *sizes, 1_000_000)]
    text = page.page(result(runs("W7", rows_per_s=1.0)) | {"points": full}, {})
    assert "Not measured" not in text.partition("### Time to open a store\n")[2].partition("\n## ")[0]


def test_the_profile_says_when_it_was_taken_if_that_is_known() -> None:
    document = result(runs("W7", rows_per_s=1.0), profile=[["asyncio", 1.0]])
    assert f"`PYTHONPATH=tests python -m bench.profile {RESULT}`)" in page.page(document, {})
    document["profile_created"] = "2026-02-03T00:00:00Z"
    assert f"`PYTHONPATH=tests python -m bench.profile {RESULT}`, 2026-02-03)" in page.page(document, {})
