"""The parts of W8 and W9 that need no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench import commit, drive_cluster, page, peer
from bench.__main__ import _options

from durable.journal.keys import partition_of


def test_a_round_trip_to_another_process_takes_some_time() -> None:
    assert drive_cluster.round_trip_ms(trips=20) > 0


def test_ids_are_found_that_fall_to_one_node() -> None:
    owners = {partition: (f"node-{partition % 3 + 1}", 1) for partition in range(256)}
    ids = drive_cluster.owned_by(owners, "node-2", 50)
    assert len(set(ids)) == 50 and {partition_of(name) % 3 for name in ids} == {1}
    with pytest.raises(ValueError, match="node-9 owns nothing"):
        drive_cluster.owned_by(owners, "node-9", 1)


def test_beats_are_read_whole_and_counted_by_how_often_they_ran(tmp_path: Path) -> None:
    file = tmp_path / "beats"
    file.write_text("a 0 11 1.5\na 1 11 2.5\na 1 12 3.5\nb 0 12 4.5\na 2 1")
    beats = drive_cluster.read_beats(file)
    assert beats == [("a", 0, 11, 1.5), ("a", 1, 11, 2.5), ("a", 1, 12, 3.5), ("b", 0, 12, 4.5)]
    assert drive_cluster.bodies_again(beats) == {"bodies_twice": 1, "bodies_more_often": 0}
    assert drive_cluster.bodies_again([*beats, beats[1]]) == {"bodies_twice": 0, "bodies_more_often": 1}


def test_workloads_may_be_named_in_small_letters() -> None:
    assert _options(["--workloads", "w8,W9d"]).workloads == ["W8", "W9D"]


def w8(*names: str) -> dict[str, Any]:
    """A result file with one round of W8 of these peers."""
    runs = [
        {
            "workload": "W8", "peer": name, "round": 0, "load": 0.5,
            "probe": {"rate_per_s": 2_500.0, "p50_ms": 0.4, "p99_ms": 1.0},
            "metrics": {"steps_per_s": 900.0 - 100 * place, "commit_ms": 1.0 + place},
        }
        for place, name in enumerate(names)
    ]  # fmt: skip
    machine = {"processors": 2, "system": "Linux", "python": "3.11", "filesystem": "ext4", "probe": runs[0]["probe"]}
    about = {name: {"version": "0.1.0"} for name in names}
    return {"created": "2026-01-01T00:00:00Z", "machine": machine, "peers": about, "runs": runs, "points": []}


def test_a_cluster_of_one_is_on_the_page_only_where_it_was_measured() -> None:
    without = page.page(w8("durable", "durable_cluster"), {})
    assert "cluster of 1" not in without and "cluster of one" not in without and "durable, 3 nodes" in without
    found = page.page(w8("durable", "durable_cluster_one", "durable_cluster"), {})
    assert "| | durable | durable, cluster of 1 | durable, 3 nodes |" in found
    assert "2 ms a commit beside 1 ms, and 800 steps/s beside 900" in found and "The copies, against that: 3 ms" in found


def test_a_cluster_of_one_is_one_node() -> None:
    one, three = (peer.adapter(name).Adapter() for name in ("durable_cluster_one", "durable_cluster"))
    assert (one.nodes, three.nodes) == (1, 3)


OWNER = {
    "append": [10.0, 20.0], "sent": [11.0, 20.5], "sync": [11.5, 20.6], "synced": [14.0, 23.0],
    "heard": [9.0, 16.0, 18.5], "committed": [17.0],
}  # fmt: skip
NEAR = {"heard": [12.0], "sync": [12.5], "synced": [14.5]}
FAR = {"heard": [11.5], "sync": [13.0], "synced": [15.5]}


def test_the_parts_of_a_commit_follow_the_copy_that_is_first_and_add_up_to_a_step() -> None:
    parts = commit.parts_of(OWNER, [FAR, NEAR], 10.0, 20.0)
    assert parts is not None
    assert [parts[name] for name in commit.PARTS] == [1.0, 1.0, 0.5, 2.0, 1.5, 1.0, 3.0]
    assert sum(parts[name] for name in commit.PARTS) == 10.0
    assert (parts["own_fsync"], parts["waits_for_own"]) == (2.5, 0.0)
    assert commit.medians_ms([NEAR, OWNER, FAR])["copy_fsync"] == 2_000.0


def test_a_commit_that_no_copy_is_seen_to_make_durable_is_not_told() -> None:
    assert commit.parts_of(OWNER, [{**NEAR, "synced": [17.5]}], 10.0, 20.0) is None
    with pytest.raises(ValueError, match="no commit can be told"):
        commit.medians_ms([OWNER, {"heard": []}])


def test_the_page_says_where_the_time_of_a_commit_goes_if_it_misses_the_goal_and_was_traced() -> None:
    document = w8("durable", "durable_cluster")
    traced = {"created": "2026-01-02T00:00:00Z", "load": 0.5, "ms": dict.fromkeys((*commit.PARTS, *commit.BESIDE), 0.25)}
    for ratio, also, said in ((4.0, {"commit": traced}, True), (4.0, {}, False), (2.9, {"commit": traced}, False)):
        document["runs"][1]["metrics"] |= {"commit_over_floor": ratio, "fsync_ms": 0.3, "round_trip_ms": 0.1}
        text = page.page({**document, **also}, {})
        assert ("Where the time goes, 1.75 ms in all" in text) is said
