"""The obvious scheme of chapter 6: it breaks its law, and only because the network is cut."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NAIVE = Path(__file__).resolve().parents[2] / "book/examples/naive.py"


@pytest.fixture(scope="module")
def naive() -> ModuleType:
    spec = importlib.util.spec_from_file_location("naive", NAIVE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schemes(naive: ModuleType) -> list[dict[str, Any]]:
    return list(naive.SCHEMES.values())


def test_each_scheme_commits_twice_in_more_than_a_fifth_of_its_runs(naive: ModuleType) -> None:
    for scheme in schemes(naive):
        assert sum(bool(naive.play(seed, **scheme)[1]) for seed in range(200)) > 40


def test_in_a_whole_network_none_of_them_ever_does_and_they_commit_all(naive: ModuleType) -> None:
    class Whole(naive.Run):  # type: ignore[misc, name-defined]
        def look(self) -> None:
            self.side = dict.fromkeys(self.nodes, 0)
            super().look()

    for scheme in schemes(naive):
        for seed in range(50):
            run = Whole(seed, **scheme)
            run.look()
            for number in range(200):
                run.step(number)
            assert len(run.committed) > 5, "a run in which nothing happens shows nothing"
