"""What `durable` must reach: goals as data, how they are judged, and what the page of measures says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench import goals, page
from bench.stats import summarise
from bench.workloads import PEERS, WORKLOADS, at_least, at_most, never

PUBLISHED = Path(__file__).resolve().parents[2] / "book" / "measures" / "bench.json"
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
    failed = [{**run, "metrics": {}, "error": "not done within 180 s (waiting)"} for run in runs("W5", "dbos", rounds=2)]
    text = page.page(result(runs("W5", start_s=1.0, memory_mb=9.0, rounds=2), failed), {})
    assert "| **1** s (1 to 1), *goals reached* | no figure: not done within 180 s (waiting) |" in text
    assert "workflows of 10 steps, all at once | not measured | \N{EN DASH} |" in text, "W2L is for durable alone"


def test_where_a_goal_of_profiled_work_is_missed_the_page_leads_to_the_profile() -> None:
    told = "[where the time of a step goes](#step-time)"
    profile = {"profile": [["asyncio", 0.5]]}
    for steps_per_s, also, there in ((29_000.0, profile, True), (29_000.0, {}, False), (31_000.0, profile, False)):
        text = page.page(result(runs("W2", steps_per_s=steps_per_s), runs("W4", total_s=9.0), **also), {})
        assert (told in text) is there
        assert told not in text.partition("(measured-w4)=")[2].partition("\n### ")[0], "it is no profile of sleeps"
        assert ("(step-time)=\n## Where the time of a step goes" in text) is ("profile" in also)
