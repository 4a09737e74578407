"""The demonstrations as notebooks: short, stripped of outputs, and each runs alone, twice, and leaves nothing behind."""

import os
import re
import subprocess
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs durable[book]")
nbclient = pytest.importorskip("nbclient", reason="needs durable[book]")
pytest.importorskip("ipykernel", reason="needs durable[book]")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "demos").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

CELLS_MAX = 20
LINES_MAX = 17
"""Of a code cell. The guide is twelve; a workflow with its data class takes a few more."""


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@each
def test_a_notebook_is_short_and_stripped(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert re.fullmatch(r"\d\d-[a-z-]+", path.stem)
    assert len(notebook.cells) <= CELLS_MAX
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert len(cell.source.splitlines()) <= LINES_MAX, cell.source


@each
def test_a_notebook_tells_one_story(path):
    notebook = nbformat.read(path, 4)
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in code_cells(notebook))
    assert words.startswith("# ")
    assert "?" in words
    assert "rediction" in words
    assert "## Try it" in notebook.cells[-1].source
    for plumbing in ("finally:", "matplotlib", "subprocess.run", "tempfile", "time.sleep"):
        assert plumbing not in code


@pytest.mark.slow
@each
def test_a_notebook_runs_in_a_fresh_kernel_and_leaves_nothing_behind(path, tmp_path, monkeypatch):
    mark = f"durable-notebook-test-{tmp_path.name}"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("DURABLE_NOTEBOOK_TEST", mark)
    before = sorted(path.parent.rglob("*"))
    for _ in range(2):
        notebook = nbformat.read(path, 4)
        where = {"metadata": {"path": str(path.parent)}}
        nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources=where).execute()
        outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
        assert outputs
        assert [output.text for output in outputs if output.get("name") == "stderr"] == []
        assert not re.search(r"at 0x[0-9a-f]{6}|/tmp/|durable-demo-", str(outputs))
    assert alive(mark) == []
    assert [entry for entry in temporary.iterdir() if entry.name.startswith("durable")] == []
    assert [entry for entry in sorted(path.parent.rglob("*")) if "__pycache__" not in str(entry)] == [
        entry for entry in before if "__pycache__" not in str(entry)
    ]


def alive(mark):
    """The processes that were started with this mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*") if Path("/proc").is_dir() else []:
        try:
            environment, state = (process / "environ").read_bytes(), (process / "stat").read_text()
        except OSError:
            continue
        if mark.encode() in environment and int(process.name) != os.getpid() and ") Z" not in state:
            found.append(subprocess.run(["ps", "-o", "args=", process.name], capture_output=True, text=True).stdout)
    return found
