"""The parts of W8 and W9 that need no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import drive_cluster
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
