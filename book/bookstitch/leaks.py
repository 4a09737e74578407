"""Outputs that give away the machine: addresses, temporary paths, process ids.

A book is built again and again; what differs from run to run without a meaning is noise in every comparison and a
puzzle to every reader. So an output that shows `<Thing at 0x7f3a…>`, a path below the temporary folder, the builder's
home, the Python that builds or the book's own folder, or a process id fails the build, and the author gives the thing a
better `repr`.

A hash of 16 hexadecimal digits is no address: on 64-bit machines addresses have at most 12 significant digits.
Limits: a process id is recognised by what stands in front of it (`pid 47`, `process id 471`, `process (471)`); as a bare number
it is not. Cells whose output no page shows are not looked at.
Read next: `render`.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bookstitch.demos import joined

ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{4,}|\b0x(?:0000)?[0-9a-fA-F]{8,12}\b")
PROCESS_ID = re.compile(r"\bpid\b\W{0,4}\d+|\bprocess(?:[ -]id\W{1,3}|=| ?[(\[#])\d{3,}\b", re.IGNORECASE)
TEXTUAL = re.compile(r"text/.+|image/svg\+xml")
DATA = re.compile(r"application/(?:json|.+\+json)")
EVERYWHERE = {"/", "/usr", "/usr/local"}  # no particular machine's
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
UNSEEN_TAGS = frozenset({"remove-output", "remove_output", "remove-cell", "remove_cell"})
UNSEEN_STDERR_TAGS = frozenset({"remove-stderr", "remove_stderr"})


def find_leak(text: str, root: Path | None = None) -> str | None:
    """What the text gives away, in words; None when it is clean. `root` is the book's folder.

    >>> find_leak("<Ring at 0x7f3a5c0b2d90>")
    "a memory address: 'at 0x7f3a5c0b2d90'"
    >>> find_leak("hash of workflow-123: 0x853457d5a5d2d1c3") is None
    True
    """
    for what, pattern in (
        ("a memory address", ADDRESS),
        ("a path of this machine", machine_paths(root)),
        ("a process id", PROCESS_ID),
    ):
        if match := pattern.search(text):
            return f"{what}: {match[0]!r}"
    return None


@cache
def machine_paths(root: Path | None) -> re.Pattern[str]:
    """Matches paths below a temporary folder, the builder's home, this Python or the book, and the last two themselves."""
    shared = {"/tmp", "/var/tmp", "/var/folders", "/dev/shm", tempfile.gettempdir(), str(Path.home())} - EVERYWHERE
    own = {sys.prefix, str(root or sys.prefix)} - EVERYWHERE
    below = r"[/\\][^\s'\"<>]*"
    found = [re.escape(folder) + below for folder in sorted(shared)]
    found += [rf"{re.escape(folder)}(?:{below}|(?![\w.-]))" for folder in sorted(own)]
    return re.compile(rf"(?<![\w.])(?:{'|'.join(found)})")


def notebook_leaks(content: dict[str, Any], root: Path | None = None) -> Iterator[tuple[int | None, str]]:
    """Yield (index of the cell, what leaks); the index is None for the state of a widget."""
    for index, cell in enumerate(content["cells"]):
        tags = set(cell.get("metadata", {}).get("tags", []))
        if cell["cell_type"] != "code" or tags & UNSEEN_TAGS:
            continue
        unseen = {"stderr"} if tags & UNSEEN_STDERR_TAGS else set()
        found = (find_leak(text, root) for text in cell_texts(cell.get("outputs", []), unseen))
        yield from ((index, leak) for leak in dict.fromkeys(found) if leak)
    state = content.get("metadata", {}).get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for model in state.values():
        found = (find_leak(text, root) for text in data_texts(model.get("state", {})))
        yield from ((None, leak) for leak in dict.fromkeys(found) if leak)


def cell_texts(outputs: list[dict[str, Any]], unseen: set[str]) -> Iterator[str]:
    """Every text that a cell could show, whichever form the page chooses; a stream is one text, however it was cut."""
    streams: dict[str, str] = {}
    for output in outputs:
        if "text" in output:
            name = output.get("name", "")
            streams[name] = streams.get(name, "") + joined(output["text"])
        for mime, data in output.get("data", {}).items():
            if TEXTUAL.fullmatch(mime):
                yield joined(data)
            elif DATA.fullmatch(mime):
                yield from data_texts(data)
        if "evalue" in output:
            yield str(output["evalue"])
    yield from (text for name, text in streams.items() if name not in unseen)


def data_texts(data: Any) -> Iterator[str]:
    """The strings inside JSON data as they are, and all of it as JSON: there a number has its name."""
    yield json.dumps(data, ensure_ascii=False)
    parts = [data]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            parts += [*part, *part.values()]
        elif isinstance(part, list):
            parts += part
