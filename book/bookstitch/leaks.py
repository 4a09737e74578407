"""Outputs that give away the machine: addresses, temporary paths, process ids.

A book is built again and again; what differs from run to run without a meaning is noise in every comparison and a
puzzle to every reader. So an output that shows `<Thing at 0x7f3a…>`, a path below the temporary folder, the builder's
home, or a process id fails the build, and the author gives the thing a better `repr`.

A hash of 16 hexadecimal digits is no address: on 64-bit machines addresses have at most 12 significant digits.
Limits: a process id printed as a bare number is not recognised. Cells whose output no page shows are not looked at.
Read next: `render`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bookstitch.demos import joined

ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{4,}|\b0x(?:0000)?[0-9a-fA-F]{8,12}\b")
PROCESS_ID = re.compile(r"\bpid\b\W{0,4}\d+|\bprocess(?:[ -]id)?\W{1,3}\d{3,}\b", re.IGNORECASE)
TEXTUAL = ("text/", "image/svg+xml", "application/json")
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
UNSEEN_TAGS = frozenset({"remove-output", "remove_output", "remove-cell", "remove_cell"})
UNSEEN_STDERR_TAGS = frozenset({"remove-stderr", "remove_stderr"})


def find_leak(text: str) -> str | None:
    """What the text gives away, in words; None when it is clean.

    >>> find_leak("<Ring at 0x7f3a5c0b2d90>")
    "a memory address: 'at 0x7f3a5c0b2d90'"
    >>> find_leak("hash of workflow-123: 0x853457d5a5d2d1c3") is None
    True
    """
    for what, pattern in (
        ("a memory address", ADDRESS),
        ("a path of this machine", machine_paths()),
        ("a process id", PROCESS_ID),
    ):
        if match := pattern.search(text):
            return f"{what}: {match[0]!r}"
    return None


@cache
def machine_paths() -> re.Pattern[str]:
    """Matches a path below a temporary folder or the builder's home, whatever machine this is."""
    folders = {"/tmp", "/var/tmp", "/var/folders", "/dev/shm", tempfile.gettempdir(), str(Path.home())} - {"/"}
    return re.compile(r"(?<![\w.])(?:" + "|".join(re.escape(f) for f in sorted(folders)) + r")[/\\][^\s'\"<>]*")


def notebook_leaks(content: dict[str, Any]) -> Iterator[tuple[int | None, str]]:
    """Yield (index of the cell, what leaks); the index is None for the state of a widget."""
    for index, cell in enumerate(content["cells"]):
        tags = set(cell.get("metadata", {}).get("tags", []))
        if cell["cell_type"] != "code" or tags & UNSEEN_TAGS:
            continue
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" and tags & UNSEEN_STDERR_TAGS:
                continue
            for text in output_texts(output):
                if found := find_leak(text):
                    yield index, found
    state = content.get("metadata", {}).get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for model in state.values():
        for value in model.get("state", {}).values():
            if isinstance(value, str) and (found := find_leak(value)):
                yield None, found


def output_texts(output: dict[str, Any]) -> Iterator[str]:
    """Every text that an output could show, whichever form the page chooses."""
    if "text" in output:
        yield joined(output["text"])
    for mime, data in output.get("data", {}).items():
        if mime.startswith(TEXTUAL) and isinstance(data, (str, list)):
            yield joined(data)
    yield from (str(output[key]) for key in ("evalue",) if key in output)
