"""The notebooks in ``demos/``: the rules that each of them keeps, and that each of them runs.

A notebook is run with all its cells twice over in one fresh kernel, because readers do run cells again, and in a
temporary folder of its own: at the end nothing is in that folder, and no process knows of it. Of those that are named in
`promises`, the outputs are read.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from promises import PROMISES, blocks

DEMOS = Path(__file__).resolve().parents[2] / "demos"
NOTEBOOKS = sorted(DEMOS.glob("*.ipynb"))
CELLS_MAX, LINES_MAX, COLUMNS_MAX = 20, 18, 128
RUN_S_MAX = 60

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf8"))
    return content


def code_of(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in load(path)["cells"] if cell["cell_type"] == "code"]


def test_the_numbers_run_from_one_without_a_gap() -> None:
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))


@each_notebook
def test_the_file_is_named_by_number_and_slug_and_begins_with_its_title(path: Path) -> None:
    assert re.fullmatch(r"\d\d-[a-z]+(-[a-z]+)*\.ipynb", path.name)
    first = load(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith(f"# {int(path.name[:2])}. ")


@each_notebook
def test_the_format_is_what_any_jupyter_opens(path: Path) -> None:
    content = load(path)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)


@each_notebook
def test_nothing_that_was_executed_is_kept_in_git(path: Path) -> None:
    for cell in load(path)["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@each_notebook
def test_it_is_one_sitting_of_short_cells(path: Path) -> None:
    assert len(load(path)["cells"]) <= CELLS_MAX
    for code in code_of(path):
        lines = code.splitlines()
        assert len(lines) <= LINES_MAX, code
        assert max(map(len, lines), default=0) <= COLUMNS_MAX, code


@each_notebook
def test_it_asks_lets_the_reader_predict_and_invites_to_change(path: Path) -> None:
    prose = "\n".join("".join(cell["source"]) for cell in load(path)["cells"] if cell["cell_type"] == "markdown")
    for part in ("question", "predict", "try it"):
        assert part in prose.lower(), f"{path.name} has no {part!r}"


@each_notebook
def test_plumbing_stays_out_of_it(path: Path) -> None:
    words = r"\bfinally\b|\bmatplotlib\b|\bplt\.|\btime\.sleep\b|\bsubprocess\.(?:run|Popen)|\bos\.kill\b|^[%!].*"
    for code in code_of(path):
        assert not re.findall(words, code, re.M), code


@each_notebook
@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
def test_it_runs_twice_over_and_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra `book` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra `book` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `book` is not installed")
    leaks = pytest.importorskip("bookstitch.leaks", reason="the book's generator is not installed")
    notebook = nbformat.read(path, as_version=4)
    once = len(notebook.cells)
    notebook.cells += [nbformat.from_dict({**cell, "id": f"{cell['id']}-again"}) for cell in notebook.cells]
    home = tmp_path / "work"
    home.mkdir()
    settings = {"TMPDIR": str(home), "IPYTHONDIR": str(tmp_path / "ipython"), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    client = nbclient.NotebookClient(
        notebook, timeout=RUN_S_MAX, kernel_name="python3", resources={"metadata": {"path": str(DEMOS)}}
    )
    asyncio.run(client.async_execute(env={**os.environ, **settings}))
    shown = [leak for _, leak in leaks.notebook_leaks(json.loads(nbformat.writes(notebook)))]
    assert not shown
    assert list(home.iterdir()) == []
    assert processes_that_know(home) == []
    if keeps := PROMISES.get(path.stem):
        for cells in (notebook.cells[:once], notebook.cells[once:]):
            keeps(blocks(cells))


def processes_that_know(folder: Path) -> list[str]:
    """Command lines of the processes whose environment names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:  # it ended, or is another user's
            continue
    return found
