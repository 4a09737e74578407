"""Run one notebook: papermill, and what its ends mean.

The notebook runs in the folder of the notebooks, so that it finds the modules beside it, and all notebooks share that folder: a
demo that writes files makes a temporary folder of its own. It has its time from its first cell on; a kernel that something keeps
busy after the last cell has the same time again to answer, and is an error if it does not.

A result is good when every cell ran and no output gives away the machine (`leaks`). A notebook that ends otherwise is kept as far
as it came, as `failed/NAME.ipynb` in the folder of results, with the traceback that a message has no room for.

Limits: papermill ignores the tag `raises-exception`; a demo catches what it expects. `sys.exit()` is an error: the cells behind
it did not run.
Read next: `leaks`, then `render`.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bookstitch.demos import Demo
from bookstitch.leaks import notebook_leaks
from bookstitch.settings import Settings

START_TIMEOUT_S = 60  # a kernel on two busy cores, first import of everything
OUTPUT_TIMEOUT_S = 60  # from a cell's end until its last output has come
INSERTED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}  # cells that papermill adds
GONE = "DeadKernelError"


@dataclass(frozen=True)
class Result:
    """Where the executed notebook of a demo is, or will be."""

    demo: Demo
    path: Path


class TimeIsUp(Exception):
    """A cell was about to begin when the notebook's time was over."""


class Deadline:
    """The time of a whole notebook, from its first cell on: a busy machine may take long to start a kernel."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end: float | None = None

    def left(self, _cell: Any = None) -> int:
        """The whole seconds that the next cell may take; papermill asks before each."""
        now = time.monotonic()
        if self.end is None:
            self.end = now + self.seconds
        if now >= self.end:
            raise TimeIsUp
        return math.ceil(self.end - now)


def run(settings: Settings, result: Result) -> list[str]:
    """Execute one notebook and keep its result if it is good; otherwise say what is wrong with it, and where."""
    name = settings.name(result.demo.path)
    failed = settings.cache / "failed" / result.demo.path.name
    failed.unlink(missing_ok=True)
    with place(settings) as partial:
        try:
            papermill_run(settings, result.demo.path, partial)
            content = json.loads(partial.read_text("utf8"))
            problems = [f"{name}: {problem}" for problem in problems_of(content, settings.root)]
        except Exception as error:
            problems = [f"{name}: {where_it_stopped(partial)}: {reason(error, settings.timeout_s)}"]
        if not problems:
            partial.write_text(json.dumps(without_traces(content), ensure_ascii=False, indent=1) + "\n", "utf8")
            partial.replace(result.path)
        elif partial.exists():
            failed.parent.mkdir(exist_ok=True)
            partial.replace(failed)
            problems[-1] += f" (as far as it came: {settings.name(failed)})"
    return problems


@contextmanager
def place(settings: Settings) -> Iterator[Path]:
    """Where papermill writes while the notebook runs: a folder of this run, on the disk of the results."""
    running = settings.cache / "running"
    running.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=running) as folder:
        yield Path(folder) / "notebook.ipynb"


def papermill_run(settings: Settings, notebook: Path, partial: Path) -> None:
    """Execute with the book's own kernel; raises what papermill raises."""
    import papermill

    from bookstitch import kernel

    papermill.execute_notebook(
        str(notebook),
        str(partial),
        parameters=dict(settings.parameters),
        kernel_name=kernel.NAME,
        language="python",
        progress_bar=False,
        start_timeout=START_TIMEOUT_S,
        # papermill's own `cwd` changes the folder of the whole process, which threads share
        resources={"metadata": {"path": str(notebook.parent)}},
        kernel_manager_class=kernel.own_kernel(settings),
        timeout_func=Deadline(settings.timeout_s).left,
        execution_timeout=math.ceil(settings.timeout_s),  # for the kernel's last answer, after all cells
        shell_timeout_interval=1,  # how often that is looked at
        iopub_timeout=OUTPUT_TIMEOUT_S,
    )


def problems_of(content: dict[str, Any], root: Path) -> list[str]:
    """What is wrong with a notebook that papermill takes for good: it ended itself, or it shows the machine."""
    for index, cell in enumerate(content["cells"]):
        exits = any(output.get("ename") == "SystemExit" for output in cell.get("outputs", []))
        if exits or cell["metadata"].get("papermill", {}).get("exception"):
            return [f"{cell_name(content, index)}: SystemExit: the cell ended the notebook; those behind it did not run"]
    return [f"{cell_name(content, index)}: output shows {leak}" for index, leak in notebook_leaks(content, root)]


def without_traces(content: dict[str, Any]) -> dict[str, Any]:
    """Drop what papermill writes about this run (times, paths): a result holds what the page shows."""
    content["metadata"].pop("papermill", None)
    for cell in content["cells"]:
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
    return content


def cell_name(content: dict[str, Any], index: int | None) -> str:
    """`cell 4`, counted as in the source, where papermill's own cells do not exist."""
    if index is None:
        return "a widget"
    inserted = [bool(INSERTED_TAGS & set(c["metadata"].get("tags", []))) for c in content["cells"]]
    return "injected parameters" if inserted[index] else f"cell {index + 1 - sum(inserted[:index])}"


def where_it_stopped(partial: Path) -> str:
    """The cell that was running, from the notebook that papermill saves while it goes."""
    try:
        content = json.loads(partial.read_text("utf8"))
    except (OSError, ValueError):
        return "before the first cell"
    for index, cell in enumerate(content["cells"]):
        state = cell["metadata"].get("papermill", {})
        if state.get("exception") or state.get("status") in ("running", "failed"):
            return cell_name(content, index)
    ran = [i for i, cell in enumerate(content["cells"]) if cell["metadata"].get("papermill", {}).get("start_time")]
    return cell_name(content, ran[-1]) if ran else "before the first cell"


def reason(error: Exception, timeout_s: float) -> str:
    """One line for the message: what happened, not how papermill says it."""
    kind = type(error).__name__
    if kind == "PapermillExecutionError":
        return f"{getattr(error, 'ename', kind)}: {getattr(error, 'evalue', '')}".strip().removesuffix(":")
    if kind == "CellTimeoutError" and "IOPub" in str(error):
        return f"the cell ended, but the end of its output did not come within {OUTPUT_TIMEOUT_S} s"
    if kind in ("CellTimeoutError", "TimeIsUp"):
        return f"timeout: the notebook was not done after {timeout_s:g} s (bookstitch_timeout)"
    if kind == "AssertionError":  # nbclient's own, where a reply is overdue and no cell is to blame; a cell's is the first kind
        return f"timeout: the kernel was still busy {timeout_s:g} s after the last cell (bookstitch_timeout)"
    if kind == GONE:
        return "the kernel died (killed, out of memory, or os._exit)"
    return f"{kind}: {(str(error).strip().splitlines() or ['no message'])[0]}"
