"""Every shape of workflow, crashed before and after every journal write, resumed in another process with another hash seed.

The fast part runs always. With DURABLE_SWEEP=1 (``nox -s sweep``) come more hash seeds and other settings of the node, and the
Pythons named in DURABLE_PYTHONS, separated by ``:``: what crashed on one is resumed on another. They need msgspec installed.

    DURABLE_SWEEP=1 DURABLE_PYTHONS=/opt/py312/bin/python:/opt/py313/bin/python pytest tests/processes/test_crash_everywhere.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from resumed import assert_all_alike, crash_and_resume
from shapes import SHAPES

from durable import NodeConfig
from durable.testing import check_replay, crash_everywhere

TESTS = Path(__file__).parent.parent
NAMES = list(SHAPES)
GROUPS = {"even": NAMES[::2], "odd": NAMES[1::2]}  # two, so that two cores share them
OTHERS = [python for python in os.environ.get("DURABLE_PYTHONS", "").split(":") if python]
JOURNALS = sorted((TESTS / "journals").glob("*.jsonl"))
SWEEP = pytest.mark.skipif(not os.environ.get("DURABLE_SWEEP"), reason="a longer sweep, with DURABLE_SWEEP=1 (nox -s sweep)")
SMALL_MEMORY = NodeConfig(park_after=0.0, max_waiting_in_memory=0)
ONE_AT_A_TIME = NodeConfig(max_concurrent_workflows=1, park_after=1e9)


def test_the_corpus_is_large_enough() -> None:
    assert len(SHAPES) >= 16


@pytest.mark.parametrize("group", GROUPS)
def test_every_crash_ends_alike_in_another_process_with_another_hash_seed(group: str, tmp_path: Path) -> None:
    names = GROUPS[group]
    finished = crash_and_resume(tmp_path, "shapes", names, (sys.executable, 1), (sys.executable, 4_242))
    assert len(finished) > 10 * len(names)
    assert_all_alike(finished, names)


@pytest.mark.parametrize("name", NAMES)
def test_the_shape_survives_even_a_process_that_crashes_over_and_over(name: str) -> None:
    shape = SHAPES[name]
    given = () if shape.input is None else (shape.input,)
    crash_everywhere(shape.workflow, *given, sends=shape.sends, cancel_after=shape.cancel_after).check()


@SWEEP
@pytest.mark.parametrize("config", [SMALL_MEMORY, ONE_AT_A_TIME], ids=["parks-at-once", "one-at-a-time"])
@pytest.mark.parametrize("name", NAMES)
def test_the_shape_survives_under_other_settings_of_the_node(name: str, config: NodeConfig) -> None:
    shape = SHAPES[name]
    given = () if shape.input is None else (shape.input,)
    crash_everywhere(
        shape.workflow, *given, sends=shape.sends, cancel_after=shape.cancel_after, config=config
    ).check()


@SWEEP
@pytest.mark.parametrize("hash_seeds", [(0, 1), (7, 99), (123_456, 3)], ids=str)
def test_more_hash_seeds(hash_seeds: tuple[int, int], tmp_path: Path) -> None:
    first, second = hash_seeds
    finished = crash_and_resume(tmp_path, "shapes", NAMES, (sys.executable, first), (sys.executable, second))
    assert_all_alike(finished, NAMES)


@SWEEP
@pytest.mark.skipif(not OTHERS, reason="DURABLE_PYTHONS names no other Python")
@pytest.mark.parametrize("python", OTHERS)
@pytest.mark.parametrize("forward", [True, False], ids=["resumed-there", "resumed-here"])
def test_a_crash_on_one_python_is_resumed_on_another(python: str, forward: bool, tmp_path: Path) -> None:
    here, there = (sys.executable, 5), (python, 6)
    finished = crash_and_resume(tmp_path, "shapes", NAMES, *((here, there) if forward else (there, here)))
    assert_all_alike(finished, NAMES)


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda path: path.stem)
def test_a_journal_recorded_on_python_3_11_replays_on_this_one(journal: Path) -> None:
    checked = check_replay(SHAPES[journal.stem].workflow, journal.read_text(encoding="utf-8"))
    assert checked.python == "3.11"
    assert checked.status.finished


def test_there_are_journals_to_replay() -> None:
    assert len(JOURNALS) >= 16
