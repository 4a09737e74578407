"""Books for tests: each test writes one into its own folder and builds it with Jupyter Book, as a reader would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD_TIMEOUT_S = 240
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

CONFIG = """\
title: Somebody else's book
only_build_toc_files: true
execute: {execute_notebooks: "off"}
sphinx:
  extra_extensions: [bookstitch]
  config:
    myst_heading_anchors: 3
"""


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: str, *tags: str) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


@dataclass
class Built:
    """How a build ended."""

    status: int
    text: str  # everything that it said, without colours

    @property
    def executed(self) -> int:
        found = re.search(r"bookstitch: (\d+) of \d+ notebooks executed", self.text)
        assert found, self.text
        return int(found[1])


@dataclass
class Book:
    """A Jupyter Book in a folder of its own."""

    root: Path

    def page(self, name: str, text: str) -> Path:
        path = self.root / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf8")
        return path

    def notebook(self, name: str, *cells: dict[str, Any], **metadata: Any) -> Path:
        path = self.root / "demos" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        for index, cell in enumerate(cells):
            cell["id"] = f"cell-{index + 1}"
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        content = {"cells": list(cells), "metadata": {**kernel, **metadata}, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(content, indent=1), "utf8")
        return path

    def toc(self, *pages: str) -> None:
        chapters = "".join(f"  - file: {page}\n" for page in pages)
        text = "format: jb-book\nroot: index\n" + ("chapters:\n" + chapters if pages else "")
        (self.root / "_toc.yml").write_text(text, "utf8")

    def configure(self, **options: Any) -> None:
        """Set options of the generator, by their names without the prefix."""
        lines = "".join(f"    bookstitch_{name}: {json.dumps(value)}\n" for name, value in options.items())
        (self.root / "_config.yml").write_text(CONFIG + lines, "utf8")

    def build(self, *arguments: str) -> Built:
        return self.run("jupyter_book.cli.main", "build", ".", *arguments)

    def run(self, module: str, *arguments: str) -> Built:
        command = [sys.executable, "-c", f"from {module} import main; import sys; sys.exit(main())", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, env=environment
        )
        return Built(done.returncode, COLOUR.sub("", done.stdout + done.stderr))

    def html(self, name: str = "index") -> str:
        return (self.root / "_build" / "html" / f"{name}.html").read_text("utf8")


def copy_of_this_book(target: Path) -> Book:
    """This project's own book (style, configuration, chapters), without its notebooks and results."""
    target.mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(REPOSITORY / name, target)
    shutil.copytree(REPOSITORY / "book", target / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for quoted in ("durable", "tests/scenarios"):
        shutil.copytree(REPOSITORY / quoted, target / quoted, ignore=shutil.ignore_patterns("__pycache__"))
    for quoted in ("tests/replicamutations.py", "tests/simulation/test_replication_model.py"):  # tables that a chapter shows
        (target / quoted).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / quoted, target / quoted)
    return Book(target)
