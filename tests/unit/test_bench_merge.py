"""Runs of a newer result file take the place of older ones, and the file says which they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench import merge, page, stats

PROBE = {"rate_per_s": 2_500.0, "p50_ms": 0.4, "p99_ms": 1.0}


def run(workload: str, value: float, peer: str = "durable", **also: Any) -> dict[str, Any]:
    sizes = {"workflows": 10, "steps": 0}
    metrics = {name: value for name in ("steps_per_s", "start_s", "rows_per_s", "bytes_each", "open_s")}
    return {"workload": workload, "peer": peer, "round": 0, "load": 0.5, "probe": PROBE, **sizes, "metrics": metrics, **also}


def point(curve: str, size: int, value: float) -> dict[str, Any]:
    return run({"memory": "W5", "open": "OPEN"}[curve], value, curve=curve, workflows=size)


def result(day: int, runs: list[dict[str, Any]], points: list[dict[str, Any]] | None = None, **also: Any) -> dict[str, Any]:
    machine = {"processors": 2, "system": f"Linux of day {day}", "python": "3.11", "filesystem": "ext4", "probe": PROBE}
    about = {one["peer"]: {"version": "1"} for one in runs}
    created = f"2026-01-0{day}T00:00:00Z"
    known = {"schema": 1, "created": created, "machine": machine, "peers": about, "rounds": 1}
    return {**known, "runs": runs, "points": points or [], **also}


def values(document: dict[str, Any]) -> list[tuple[Any, str, float]]:
    both = (*document["runs"], *document["points"])
    return sorted((str(merge.part(one)), one["peer"], one["metrics"]["start_s"]) for one in both)


def noted(document: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(part["created"][:10], part["workloads"]) for part in document["later"]]


OLD = result(1, [run("W1", 1.0), run("W1", 1.0, "dbos"), run("W2", 1.0)], [point("memory", 1_000, 1.0), point("open", 1_000, 1.0)])


def test_what_was_measured_again_takes_the_place_of_the_whole_workload_and_the_rest_stays() -> None:
    new = result(2, [run("W1", 2.0), run("W5L", 2.0)], [point("memory", 1_000, 2.0), point("memory", 1_000_000, 2.0)])
    merged = merge.merge(OLD, new)
    assert values(merged) == [
        ("('memory', 1000)", "durable", 2.0), ("('memory', 1000000)", "durable", 2.0), ("('open', 1000)", "durable", 1.0),
        ("W1", "durable", 2.0), ("W2", "durable", 1.0), ("W5L", "durable", 2.0),
    ]  # fmt: skip
    assert (merged["created"], merged["machine"]) == (OLD["created"], OLD["machine"])
    assert merged["later"] == [
        {
            "workloads": ["W1", "W5L"], "points": {"memory": [1_000, 1_000_000]}, "peers": {},
            "created": new["created"], "machine": new["machine"],
        }
    ]  # fmt: skip
    assert stats.faults(merged) == [] and len(OLD["runs"]) == 3


def test_a_note_of_a_day_goes_when_what_it_was_about_was_measured_again() -> None:
    second = merge.merge(OLD, result(2, [run("W1", 2.0), run("W2", 2.0)]))
    third = merge.merge(second, result(3, [run("W1", 3.0)]))
    assert noted(third) == [("2026-01-02", ["W2"]), ("2026-01-03", ["W1"])]
    fourth = merge.merge(third, result(4, [run("W2", 4.0)]))
    assert noted(fourth) == [("2026-01-03", ["W1"]), ("2026-01-04", ["W2"])]


def test_a_file_that_was_merged_itself_keeps_its_days() -> None:
    new = merge.merge(result(2, [run("W1", 2.0), run("W2", 2.0)]), result(3, [run("W2", 3.0)]))
    merged = merge.merge(OLD, new)
    assert noted(merged) == [("2026-01-02", ["W1"]), ("2026-01-03", ["W2"])]


def test_what_is_no_newer_or_no_result_is_refused() -> None:
    with pytest.raises(ValueError, match="W1 is of 2026-01-01T00:00:00Z there already"):
        merge.merge(OLD, result(1, [run("W1", 2.0)]))
    later = merge.merge(OLD, result(3, [run("W1", 3.0)]))
    with pytest.raises(ValueError, match="W1 is of 2026-01-03T00:00:00Z there already"):
        merge.merge(later, result(2, [run("W1", 2.0)]))
    assert merge.merge(later, result(2, [run("W2", 2.0)]))
    with pytest.raises(ValueError, match="not a result of this benchmark: missing: schema"):
        merge.merge(OLD, {})


def test_a_peer_is_described_as_it_was_when_its_runs_were_made() -> None:
    new = result(2, [run("W1", 2.0), run("W1", 2.0, "restate")])
    new["peers"] = {"durable": {"version": "2"}, "restate": {"version": "7"}, "dbos": {"absent": "not installed"}}
    merged = merge.merge(OLD, new)
    assert merged["peers"]["durable"] == {"version": "1"}, "W2 was measured with that"
    assert merged["later"][0]["peers"] == {"durable": {"version": "2"}}
    assert merged["peers"]["restate"] == {"version": "7"}
    assert merged["peers"]["dbos"] == {"absent": "not installed"}, "no run of it is left"
    kept = merge.merge(OLD, {**new, "runs": [run("W2", 2.0)]})
    assert kept["peers"]["dbos"] == {"version": "1"}


def test_traces_come_along() -> None:
    new = result(2, [], profile=[["asyncio", 1.0]], profile_cluster=[], profile_created="2026-01-02", commit={"load": 1.0})
    merged = merge.merge({**OLD, "profile": [["sockets", 1.0]]}, new)
    assert (merged["profile"], merged["profile_created"], merged["commit"]) == ([["asyncio", 1.0]], "2026-01-02", {"load": 1.0})
    assert merge.merge({**OLD, "commit": {"load": 2.0}}, result(2, []))["commit"] == {"load": 2.0}
    assert "later" not in merge.merge(OLD, result(2, [])), "nothing was measured again"


def test_the_page_says_of_what_day_which_part_is() -> None:
    new = result(2, [run("W1", 2.0)], [point("memory", 1_000, 2.0), point("memory", 1_000_000, 2.0)])
    new["peers"] = {"durable": {"version": "2"}}
    new["machine"]["python"] = "3.13"
    text = page.page(merge.merge(OLD, new), {})
    assert (
        "W1, *Memory of a waiting workflow* at 1,000 and 1,000,000: on 2026-01-02, Linux of day 2, Python 3.13, durable 2." in text
    )
    new["machine"]["python"] = "3.11"
    new["peers"] = {"durable": {"version": "1"}}
    assert ": on 2026-01-02, Linux of day 2. " in page.page(merge.merge(OLD, new), {})


def test_the_command_writes_the_first_file_and_names_what_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into, new = tmp_path / "into.json", tmp_path / "new.json"
    into.write_text(json.dumps(OLD))
    new.write_text(json.dumps(result(2, [run("W1", 2.0)], [point("open", 10_000, 2.0)])))
    assert merge.main([str(into), str(new)]) == 0
    assert values(json.loads(into.read_text())) == values(merge.merge(OLD, json.loads(new.read_text())))
    said = capsys.readouterr().out.splitlines()
    assert said == ["W1", "W1: dbos is gone, which was not measured beside the others", "open at 10,000"]
    assert merge.main([str(into)]) == 2
