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

`python` is the Python that builds, and imports the library from `bookstitch_sources` as the notebooks do. There is no shell:
no pipes, no variables. The folder's own path is left out of the output. Show the file that is run by `literalinclude`, and
program and output cannot differ.

Each command has a session of its own, of which nothing is left when its own process has ended: neither what it started in the
background nor what a kill has orphaned reaches the next command.

Anything else stops the build: a status that was not expected, a TEXT that never comes, more than 60 seconds for one command, more
than a million characters of output, output that gives away the machine (`leaks`). The page is read again when a file of the folder
or of the library has changed.

Limits: bytes that are no UTF-8 are shown as �; a process that leaves the command's session survives it, and is an error only if
it still holds the output.

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

from bookstitch.kernel import end_group
from bookstitch.leaks import find_leak
from bookstitch.render import Page
from bookstitch.settings import Settings, pythonpath

TIMEOUT_S = 60.0
DRAIN_S = 5.0  # what is left in a pipe takes no time; a pipe that somebody else holds takes for ever
OUTPUT_CHARS_MAX = 1_000_000
QUOTED_LINES = 20
WRITTEN = {"__pycache__", "_build"}
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


def session(commands: list[Command], folder: Path | None, settings: Settings | None = None) -> str:
    """Run the commands in a fresh copy of the folder; the text of the terminal. Raises TerminalError."""
    if folder is not None and not folder.is_dir():
        raise TerminalError(f"there is no folder {folder.name}")
    library = settings.python_path if settings else ()
    environment = {**os.environ, **pythonpath(library), "PYTHONUNBUFFERED": "1", "COLUMNS": "80", "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    with tempfile.TemporaryDirectory(prefix="terminal-") as place:
        here = Path(place) / "here"
        if folder is None:
            here.mkdir()
        else:
            shutil.copytree(folder, here, ignore=shutil.ignore_patterns("__pycache__"))
        text = "".join(f"$ {command.line}\n{run(command, here, environment)}" for command in commands)
        text = text.replace(f"{here}{os.sep}", "")
    if leak := find_leak(text, settings.root if settings else None):
        raise TerminalError(f"the output shows {leak}")
    return text


def run(command: Command, here: Path, environment: dict[str, str]) -> str:
    """What one command printed, ending with a line's end."""
    process = start(command, here, environment)
    reader = Reader(process, command)
    timed_out = False
    try:
        reader.start()
        process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        end_group(process.pid)  # its session is its process group: what it started goes with it, and the output ends
        status = process.wait()
        reader.end()
    text = reader.text()
    problem = ""
    if timed_out:
        problem = f"took more than {TIMEOUT_S:g} s"
    elif reader.is_alive():
        problem = "left a process behind that holds its output and has a session of its own"
    elif reader.too_much:
        problem = f"printed more than {OUTPUT_CHARS_MAX} characters"
    elif command.kill_at and status != -signal.SIGKILL:
        problem = "ended before it was killed" if reader.found else f"never printed {command.kill_at!r}"
    elif not command.kill_at and (status != 0) is not command.fails:
        problem = f"ended with status {status}"
    if problem:
        raise TerminalError(f"{command.line!r} {problem}; it printed:\n{last_lines(text)}")
    return text + "Killed\n" if command.kill_at else text  # the shell's word for it


def start(command: Command, here: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """The process of a command, in a session of its own."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    text: dict[str, Any] = {"text": True, "encoding": "utf8", "errors": "replace"}
    try:
        words = shlex.split(command.line)
        if words[0] == "python":
            words[0] = sys.executable
        return subprocess.Popen(words, cwd=here, env=environment, start_new_session=True, **pipes, **text)
    except (OSError, ValueError) as error:  # no such program; a quotation that does not end
        raise TerminalError(f"{command.line!r} cannot be run: {getattr(error, 'strerror', None) or error}") from error


class Reader(threading.Thread):
    """Reads what a command prints, and kills the command at the text that says so, or when it prints without end."""

    def __init__(self, process: subprocess.Popen[str], command: Command) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.command = command
        self.printed: list[str] = []
        self.found = False
        self.too_much = False
        self.killer = threading.Timer(command.grace_s, end_group, (process.pid,))
        self.killer.daemon = True

    def run(self) -> None:
        assert self.process.stdout is not None
        room = OUTPUT_CHARS_MAX
        while line := self.process.stdout.readline(room + 1):
            room -= len(line)
            if room < 0:
                self.too_much = True
                end_group(self.process.pid)
                return
            self.printed.append(line)
            if self.command.kill_at and self.command.kill_at in line and not self.found:
                self.found = True
                self.killer.start()

    def end(self) -> None:
        """After the process: all that is still in the pipe is read, and nothing is killed any more."""
        self.killer.cancel()
        self.join(DRAIN_S)
        if not self.is_alive() and self.process.stdout is not None:
            self.process.stdout.close()

    def text(self) -> str:
        """What was printed, ending with a line's end."""
        text = "".join(self.printed)
        return text if not text or text.endswith("\n") else text + "\n"


def last_lines(text: str) -> str:
    """As much of an output as a message needs."""
    lines = text.splitlines(keepends=True)
    return "".join(["[…]\n", *lines[-QUOTED_LINES:]] if len(lines) > QUOTED_LINES else lines)


class Terminal(SphinxDirective):
    """The `terminal` directive."""

    has_content = True
    option_spec: ClassVar[dict[str, Any] | None] = {"folder": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        settings: Settings = self.env.app.bookstitch_settings  # type: ignore[attr-defined]
        folder = None
        if "folder" in self.options:
            folder = (Path(self.env.doc2path(self.env.docname)).parent / self.options["folder"]).resolve()
        for place in (*settings.sources, *([folder] if folder else [])):
            for path in files(place):
                self.env.note_dependency(str(path))
        try:
            text = session(parse(list(self.content)), folder, settings)
        except (TerminalError, OSError) as error:
            page: Page = self.env.bookstitch.setdefault(self.env.docname, Page())  # type: ignore[attr-defined]
            where = Path(os.path.relpath(self.get_source_info()[0], self.env.srcdir)).as_posix()
            page.problems.append(f"{where}:{self.lineno}: {error}")
            return []
        block = nodes.literal_block(text, text, language="console", classes=["terminal"])
        self.set_source_info(block)
        return [block]


def files(place: Path) -> Iterator[Path]:
    """The files of a folder, in order, without those of caches, builds and hidden folders; a file is itself."""
    if place.is_file():
        yield place
        return
    for folder, inner, names in os.walk(place):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in WRITTEN)
        yield from (Path(folder) / name for name in sorted(names))
