"""The parent of the crash tests: one process crashes, another goes on (`crash_worker`), and all must have ended alike."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
from crash_worker import Finished

TESTS = Path(__file__).parent


def worker(python: str, hash_seed: int, *arguments: str | Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    command = [python, str(TESTS / "crash_worker.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def crash_and_resume(
    folder: Path, corpus: str | Path, names: list[str], first: tuple[str, int], second: tuple[str, int]
) -> list[Finished]:
    """Shapes of a corpus (see `crash_worker`), crashed by one Python and hash seed at every journal write, resumed by another."""
    worker(*first, "begin", corpus, folder / "crashed", *names)
    worker(*second, "finish", corpus, folder / "crashed", folder / "finished")
    return msgspec.msgpack.decode((folder / "finished").read_bytes(), type=list[Finished])


def assert_all_alike(finished: list[Finished], names: list[str]) -> None:
    assert {one.shape for one in finished} == set(names)
    wrong = [
        f"{one.shape}, crash {one.death}: {one.got} instead of {one.expected}; {one.faults}; left behind: {one.left}"
        for one in finished
        if not one.alike or one.faults or one.left
    ]
    assert not wrong, "\n".join(wrong)
