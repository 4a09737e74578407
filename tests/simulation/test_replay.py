"""Any seed replays to the byte: in another process and under another hash seed; the pure cores on every supported Python too.

Interpreters beside the running one are found on the path as ``python3.11`` to ``python3.13``, and named in
``DURABLE_PYTHONS`` (paths, separated as in PATH). One without msgspec is skipped, visibly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("replay_one.py")
ROOT = Path(__file__).parents[2]
SEEDS = ("1", "2", "3")

FOUND = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
NAMED = os.environ.get("DURABLE_PYTHONS", "").split(os.pathsep)
OTHERS = [python for python in (*FOUND, *NAMED) if python]


def replay(python: str, hash_seed: str, what: str) -> str:
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, str(RUN), what, *SEEDS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.fixture(scope="module", params=["cores", "worlds"])
def here(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param, replay(sys.executable, "0", request.param)


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_a_seed_replays_to_the_byte_under_another_hash_seed(here: tuple[str, str], hash_seed: str) -> None:
    what, said = here
    assert len(said.splitlines()) == len(SEEDS)
    assert len({line.split()[-1] for line in said.splitlines()}) == len(SEEDS)
    assert replay(sys.executable, hash_seed, what) == said


@pytest.mark.parametrize("python", OTHERS)
def test_the_cores_replay_to_the_byte_on_another_python(python: str) -> None:
    probe = subprocess.run([python, "-c", "import msgspec"], capture_output=True, timeout=60, check=False)
    if probe.returncode:
        pytest.skip(f"{python} has no msgspec")
    assert replay(python, "7", "cores") == replay(sys.executable, "7", "cores")
