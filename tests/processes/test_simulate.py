"""`python -m durable.sim` as a process: what is left of it when somebody kills it."""

from __future__ import annotations

import os
import select
import subprocess
import sys

SHORT = ("--minutes", "5", "--scene", "members", "--nodes", "2", "--seconds", "1", "--faults", "0", "--processes", "2")


def test_killing_the_command_kills_those_who_play_for_it() -> None:
    """It hands out seeds by minutes: a worker that stays would go on for as long, and nobody would hear of it."""
    end, held = os.pipe()
    with subprocess.Popen([sys.executable, "-m", "durable.sim", *SHORT], stdout=subprocess.PIPE, stderr=held) as played:
        os.close(held)  # from here on only the command holds it, and whoever it has started
        assert played.stdout is not None
        for _ in range(2):
            assert b"seeds" in played.stdout.readline()  # what is played, and that a hundred were
        played.kill()
    said = b"?"
    while said:  # the tracker of shared memory has a word to say
        assert select.select([end], [], [], 60)[0], "somebody still holds the other end"
        said = os.read(end, 4096)
    os.close(end)
