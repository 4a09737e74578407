"""Which notebooks there are: discovery, numbers, and what each says about itself.

A demo is a file `NN-slug.ipynb` in the folder of notebooks; the number in front is what a marker asks for. Files are
read once, here, and everything wrong with them is reported together.
Read next: `digest`, then `execute`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bookstitch.problems import BookError
from bookstitch.settings import Settings

FILE_NAME = re.compile(r"0*([1-9][0-9]*)[-_].+\.ipynb")


@dataclass(frozen=True)
class Demo:
    """One notebook as it stands in the source."""

    number: int
    path: Path
    content: dict[str, Any]  # the parsed .ipynb

    @property
    def alone(self) -> bool:
        """Runs beside no other: it starts processes of its own, or measures time."""
        return bool(self._says("alone"))

    @property
    def unused(self) -> bool:
        """No page needs to show it."""
        return bool(self._says("unused"))

    def _says(self, key: str) -> Any:
        return self.content.get("metadata", {}).get("bookstitch", {}).get(key)


def discover(settings: Settings) -> dict[int, Demo]:
    """All demos by number, in order. Raises BookError for names, numbers and files that cannot be used."""
    demos: dict[int, Demo] = {}
    problems: list[str] = []
    for path in sorted(settings.notebooks.glob("*.ipynb")):
        match = FILE_NAME.fullmatch(path.name)
        name = settings.name(path)
        if match is None:
            problems.append(f"{name}: a demo's file name starts with its number: NN-slug.ipynb")
            continue
        number = int(match[1])
        if number in demos:
            problems.append(f"{name}: demo number {number} is already taken by {demos[number].path.name}")
            continue
        try:
            demos[number] = Demo(number, path, load(path))
        except ValueError as error:
            problems.append(f"{name}: not a notebook: {error}")
    if problems:
        raise BookError(problems)
    return dict(sorted(demos.items()))


def load(path: Path) -> dict[str, Any]:
    """A notebook of format 4 as plain data, every source one string. Raises ValueError for anything else."""
    content = json.loads(path.read_text("utf8"))
    if not isinstance(content, dict) or content.get("nbformat") != 4 or not isinstance(content.get("cells"), list):
        raise ValueError("expected a JSON object of nbformat 4 with a list of cells")
    if not is_metadata(content) or not isinstance(content.get("metadata", {}).get("bookstitch", {}), dict):
        raise ValueError("its metadata, or what they say of bookstitch, is no JSON object")
    for number, cell in enumerate(content["cells"], 1):
        if not is_cell(cell):
            raise ValueError(f"cell {number} is no cell: it needs a cell_type, a source of text, and an object as metadata")
        cell["source"] = joined(cell["source"])
    return content


def is_cell(cell: Any) -> bool:
    """Whether all is there that the other modules take for granted."""
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw") or not is_metadata(cell):
        return False
    source, tags = cell.get("source"), cell.get("metadata", {}).get("tags", [])
    lines = source if isinstance(source, list) else [source]
    return all(isinstance(line, str) for line in lines) and isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)


def is_metadata(owner: dict[str, Any]) -> bool:
    return isinstance(owner.get("metadata", {}), dict)


def unknown_demo(settings: Settings, number: int, known: Iterable[int]) -> str:
    """What to say of a marker whose notebook is not there."""
    if not settings.notebooks.is_dir():
        return f"unknown demo number {number}; there is no folder {settings.name(settings.notebooks)} (bookstitch_notebooks)"
    return f"unknown demo number {number}; there are: {', '.join(map(str, known)) or 'none'}"


def joined(text: str | list[str]) -> str:
    """Jupyter stores a text as one string or as a list of lines."""
    return text if isinstance(text, str) else "".join(text)
