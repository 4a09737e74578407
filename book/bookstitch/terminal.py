"""A terminal session in a page: commands that run while the book is built, and what they printed.

A page that shows a program and its output must not show what somebody once copied there. In MyST:

    ```{terminal}
    :folder: ../examples
    python orders.py
    @kill bank: took
    python orders.py
    ```

runs the commands one after another in a fresh folder that holds a copy of `folder`'s files, and prints them behind a
`$` with their output, errors included. A line with an @ says how the command above it ends:

- `@kill TEXT` sends it SIGKILL as soon as it prints TEXT; `@kill TEXT +0.5` half a second after that,
- `@fails` expects a status other than 0.

`python` is the Python that builds. There is no shell: no pipes, no variables. The folder's own path is left out of the
output. Show the file that is run by
`literalinclude`, and program and output cannot differ.

Anything else stops the build: a status that was not expected, a TEXT that never comes, more than 60 seconds, output that
gives away the machine (`leaks`). The page is read again when a file of the folder or the library's source has changed.

Read next: `drawn`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from bookstitch.leaks import find_leak
from bookstitch.render import Page

TIMEOUT_S = 60.0
GRACE = re.compile(r"(.+?)\s+\+(\d+(?:\.\d+)?)")


class TerminalError(Exception):
    """A session that did not go as its page says."""


@dataclass
class Command:
    """A line to run, and how it is expected to end."""

    line: str
    kill_at: str = ""
    grace_s: float = 0.0
    fails: bool = False


def parse(lines: list[str]) -> list[Command]:
    """The commands of a session.

    >>> parse(["python a.py", "@kill half done +0.5", "cat a.txt"])[0]
    Command(line='python a.py', kill_at='half done', grace_s=0.5, fails=False)

    Raises TerminalError for an @ that means nothing.
    """
    commands: list[Command] = []
    for line in (text.strip() for text in lines):
        word, _, rest = line.partition(" ")
        if not line:
            continue
        if not line.startswith("@"):
            commands.append(Command(line))
        elif not commands:
            raise TerminalError(f"{word} stands before any command")
        elif word == "@fails" and not rest:
            commands[-1].fails = True
        elif word == "@kill" and rest:
            later = GRACE.fullmatch(rest)
            commands[-1].kill_at = later[1] if later else rest
            commands[-1].grace_s = float(later[2]) if later else 0.0
        else:
            raise TerminalError(f"{line!r} means nothing; there are `@kill TEXT`, `@kill TEXT +SECONDS` and `@fails`")
    return commands


def session(commands: list[Command], folder: Path | None) -> str:
    """Run the commands in a fresh copy of the folder; the text of the terminal. Raises TerminalError."""
    with tempfile.TemporaryDirectory(prefix="terminal-") as place:
        here = Path(place) / "here"
        if folder is None:
            here.mkdir()
        else:
            shutil.copytree(folder, here, ignore=shutil.ignore_patterns("__pycache__"))
        text = "".join(f"$ {command.line}\n{run(command, here)}" for command in commands)
        text = text.replace(f"{here}{os.sep}", "")
    if leak := find_leak(text):
        raise TerminalError(f"the output shows {leak}")
    return text


def run(command: Command, here: Path) -> str:
    """What one command printed, ending with a line's end."""
    words = shlex.split(command.line)
    if words[0] == "python":
        words[0] = sys.executable
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "80", "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        process = subprocess.Popen(words, cwd=here, env=environment, text=True, encoding="utf8", **pipes)
    except OSError as error:
        raise TerminalError(f"{command.line!r} cannot be run: {error.strerror}") from error
    watch = threading.Timer(TIMEOUT_S, process.kill)
    watch.start()
    printed: list[str] = []
    found = False
    assert process.stdout is not None
    for line in process.stdout:
        printed.append(line)
        if command.kill_at and command.kill_at in line and not found:
            found = True
            threading.Timer(command.grace_s, process.send_signal, (signal.SIGKILL,)).start()
    status = process.wait()
    timed_out = not watch.is_alive()
    watch.cancel()
    text = "".join(printed)
    if text and not text.endswith("\n"):
        text += "\n"
    if timed_out:
        raise TerminalError(f"{command.line!r} took more than {TIMEOUT_S:g} s; it printed:\n{text}")
    if command.kill_at:
        if status != -signal.SIGKILL:
            why = "ended before it was killed" if found else f"never printed {command.kill_at!r}"
            raise TerminalError(f"{command.line!r} {why}; it printed:\n{text}")
        return text + "Killed\n"  # the shell's word for it
    if (status != 0) is not command.fails:
        raise TerminalError(f"{command.line!r} ended with status {status}; it printed:\n{text}")
    return text


class Terminal(SphinxDirective):
    """The `terminal` directive."""

    has_content = True
    option_spec: ClassVar[dict[str, Any] | None] = {"folder": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        folder = None
        if "folder" in self.options:
            folder = (Path(self.env.doc2path(self.env.docname)).parent / self.options["folder"]).resolve()
            for path in files(folder):
                self.env.note_dependency(str(path))
        for source in self.env.app.bookstitch_settings.sources:  # type: ignore[attr-defined]
            for path in files(source):
                self.env.note_dependency(str(path))
        try:
            text = session(parse(list(self.content)), folder)
        except TerminalError as error:
            page: Page = self.env.bookstitch.setdefault(self.env.docname, Page())  # type: ignore[attr-defined]
            where = Path(os.path.relpath(self.get_source_info()[0], self.env.srcdir)).as_posix()
            page.problems.append(f"{where}:{self.lineno}: {error}")
            return []
        block = nodes.literal_block(text, text, language="console", classes=["terminal"])
        self.set_source_info(block)
        return [block]


def files(place: Path) -> Iterator[Path]:
    """The Python files of a folder, in order; a file is itself."""
    yield from [place] if place.is_file() else sorted(place.rglob("*.py"))
