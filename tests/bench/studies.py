"""Studies: what is measured with no engine beside it and no disk under it. One row a study; each has a result file of its own.

`workloads` are runs of an engine, in a process and a folder of their own, peer by peer. A study measures a part of the library
by itself, in this process, and its values are kept raw: `cluster_figures` and `cluster_page` say what they come to.

To add one: a row here, a figure and a part of the page there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import member_bench, ring_bench, swim_bench

Say = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """One study. ``measure`` is given ``--rounds`` and where to report progress."""

    name: str
    title: str
    measure: Callable[[int, Say], dict[str, Any]]
    of_this_machine: bool

    @property
    def file(self) -> str:
        return f"{self.name.lower()}.json"


SIMULATED_RUNS_A_ROUND = 80
"""Five rounds are 400 runs of a small cluster."""

KILLS_A_ROUND = 8
"""Five rounds are 40 kills a preset: ten minutes."""

STUDIES: dict[str, Study] = {
    row.name: row
    for row in (
        Study("W10", "The ring beside uhashring", ring_bench.measure, of_this_machine=True),
        Study(
            "W11",
            "SWIM in simulation, up to a thousand members",
            lambda rounds, say: swim_bench.measure(1_000, SIMULATED_RUNS_A_ROUND * rounds, say),
            of_this_machine=False,
        ),
        Study(
            "W11P",
            "Five real processes: agreement on a SIGKILL, and a newcomer",
            lambda rounds, say: member_bench.measure(KILLS_A_ROUND * rounds, say),
            of_this_machine=True,
        ),
    )
}


def run_study(study: Study, rounds: int, machine: dict[str, Any], folder: Path, say: Say) -> Path:
    """Measure, and write the result file into ``folder``. A study that a machine does not matter to says nothing of it."""
    values = study.measure(rounds, say)
    document: dict[str, Any] = {"study": study.name, "rounds": rounds}
    if study.of_this_machine:
        document |= {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / study.file
    path.write_text(json.dumps({**document, "values": values}, separators=(",", ":")) + "\n")
    return path


def read_studies(folder: Path) -> dict[str, dict[str, Any]]:
    """The result files that are there, by the name of the study."""
    paths = {name: folder / study.file for name, study in STUDIES.items()}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
