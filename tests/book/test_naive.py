"""The schemes of chapter 6: the obvious ones break their law, and only because the network is cut; with epochs it holds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NAIVE = Path(__file__).resolve().parents[2] / "book/examples/naive.py"
RUNS = 1000


@pytest.fixture
def naive() -> ModuleType:
    spec = importlib.util.spec_from_file_location("naive", NAIVE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commit_twice(naive: ModuleType, make: Callable[[int], Any], runs: int = RUNS) -> int:
    return sum(bool(naive.play(make, seed)[1]) for seed in range(runs))


def test_each_obvious_scheme_commits_twice_in_more_than_a_fifth_of_its_runs(naive: ModuleType) -> None:
    *obvious, fenced = naive.SCHEMES.values()
    assert len(obvious) == 4 and fenced is naive.Fenced
    for make in obvious:
        assert commit_twice(naive, make, 200) > 40


def test_in_a_whole_network_none_of_them_ever_does_and_they_commit_all(naive: ModuleType) -> None:
    def whole(make: Callable[[int], Any], seed: int) -> Any:
        run = make(seed)
        look = run.look

        def look_at_all() -> None:
            run.side = dict.fromkeys(run.nodes, 0)
            look()

        run.look = look_at_all
        return run

    for make in naive.SCHEMES.values():
        for seed in range(50):
            run = whole(make, seed)
            run.look()
            for number in range(200):
                run.step(number)
            assert len(run.committed) > 5, "a run in which nothing happens shows nothing"


def test_with_epochs_and_majorities_no_run_commits_twice_and_most_commit_something(naive: ModuleType) -> None:
    runs = [naive.play(naive.Fenced, seed) for seed in range(RUNS)]
    assert [seed for seed, (_, twice) in enumerate(runs) if twice] == []
    assert sum(len(run.committed) > 5 for run, _ in runs) > RUNS / 2


def accept_all(naive: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(naive.Fenced, "accepts", lambda self, node, epoch: True)


def one_is_enough(naive: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(naive, "MAJORITY", 1)


def own_without_promises(naive: ModuleType, patch: pytest.MonkeyPatch) -> None:
    campaign = naive.Fenced.campaign

    def own(self: Any, name: str) -> None:
        campaign(self, name)
        self.take_over(name)

    patch.setattr(naive.Fenced, "campaign", own)


def the_longest_wins(naive: ModuleType, patch: pytest.MonkeyPatch) -> None:
    take_over = naive.Fenced.take_over

    def longest(self: Any, name: str) -> None:
        node = self.nodes[name]
        node.promises = {one: (naive.NONE, journal) for one, (_, journal) in node.promises.items()}
        take_over(self, name)

    patch.setattr(naive.Fenced, "take_over", longest)


@pytest.mark.parametrize("without", [accept_all, one_is_enough, own_without_promises, the_longest_wins])
def test_each_part_of_the_remedy_is_needed(
    naive: ModuleType, monkeypatch: pytest.MonkeyPatch, without: Callable[[ModuleType, pytest.MonkeyPatch], None]
) -> None:
    without(naive, monkeypatch)
    assert commit_twice(naive, naive.Fenced) > 0
