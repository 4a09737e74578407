"""Real child processes for suites that kill, lock and starve: start one, talk to it by lines, end it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager


class Child:
    """A Python program in a process of its own. It prints lines; `line` waits for the next one."""

    def __init__(self, program: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"the child ended without a word: {self.process.stderr.read()}")
        return line.rstrip("\n")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def child(program: str, *arguments: object) -> Iterator[Child]:
    """Start the program, and leave nothing behind."""
    started = Child(program, *arguments)
    try:
        yield started
    finally:
        started.kill()


def output_of(program: str, *arguments: object) -> str:
    """What the program prints. Fails the test if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
