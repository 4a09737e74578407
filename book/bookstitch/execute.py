"""Run what is out of date: papermill, in parallel, with a progress bar.

`results` says under which file each demo's result is kept (the key is in the name, see `digest`); `execute` runs those
whose file is missing. A result is written under another name and moved into place only when the notebook has finished
and leaks nothing, so what is there is always good, and an unchanged build executes nothing.

Most notebooks run side by side, each in its own kernel and its own folder; those that say `alone` run afterwards, one
by one. The timeout is for the whole notebook. All failures are collected before any is raised.
Limits: papermill ignores the tag `raises-exception`; a demo catches what it expects.
Read next: `leaks`, then `render`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bookstitch.demos import Demo
from bookstitch.digest import common_digest, demo_digest
from bookstitch.leaks import notebook_leaks
from bookstitch.problems import BookError
from bookstitch.settings import Settings

START_TIMEOUT_S = 60  # a kernel on two busy cores, first import of everything
INSERTED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}  # cells that papermill adds
GONE = "DeadKernelError"


@dataclass(frozen=True)
class Result:
    """Where the executed notebook of a demo is, or will be."""

    demo: Demo
    path: Path


def results(settings: Settings, demos: Mapping[int, Demo]) -> dict[int, Result]:
    """The place of every result; nothing is executed."""
    common = common_digest(settings)
    return {
        number: Result(demo, settings.cache / f"{demo.path.stem}-{demo_digest(demo, common)}.ipynb")
        for number, demo in demos.items()
    }


def execute(settings: Settings, wanted: Iterable[Result]) -> int:
    """Execute what has no result yet; how many that were. Raises BookError with every failure."""
    stale = [result for result in wanted if not result.path.exists()]
    if not stale:
        return 0
    (settings.cache / "running").mkdir(parents=True, exist_ok=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it reports every cell otherwise
    problems: list[str] = []
    with progress(len(stale)) as done:
        beside = [result for result in stale if not result.demo.alone]
        alone = [result for result in stale if result.demo.alone]
        for group, workers in ((beside, settings.workers), (alone, 1)):
            problems += run_group(settings, group, workers, done)
    if problems:
        raise BookError(sorted(problems))
    return len(stale)


def prune(settings: Settings, wanted: Iterable[Result]) -> None:
    """Forget results whose key is no longer asked for."""
    keep = {result.path for result in wanted}
    for path in settings.cache.glob("*.ipynb"):
        if path not in keep:
            path.unlink()


@contextlib.contextmanager
def progress(total: int) -> Any:
    """A bar on stderr; yields the function that moves it."""
    from tqdm import tqdm

    with tqdm(total=total, desc="executing demos", unit="notebook", dynamic_ncols=True) as bar:

        def done(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        yield done


def run_group(settings: Settings, group: list[Result], workers: int, done: Callable[[str], None]) -> list[str]:
    """Run some results with that many threads (each waits for a kernel); the problems of all of them."""
    from bookstitch import kernel

    problems: list[str] = []
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        waiting: dict[Future[list[str]], Result] = {pool.submit(run, settings, result): result for result in group}
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                result = waiting.pop(future)
                problems += future.result()
                done(result.demo.path.name)
    except BaseException:  # Ctrl-C: the threads only return when their kernels are gone
        pool.shutdown(wait=False, cancel_futures=True)
        kernel.end_all()
        raise
    finally:
        pool.shutdown()
    return problems


def run(settings: Settings, result: Result) -> list[str]:
    """Execute one notebook and keep its result if it is good; otherwise say what is wrong with it, and where."""
    import papermill

    from bookstitch import kernel

    partial = settings.cache / "running" / result.path.name
    deadline = time.monotonic() + settings.timeout_s
    name = settings.name(result.demo.path)
    try:
        papermill.execute_notebook(
            str(result.demo.path),
            str(partial),
            parameters=dict(settings.parameters),
            kernel_name=kernel.NAME,
            language="python",
            progress_bar=False,
            start_timeout=START_TIMEOUT_S,
            # papermill's own `cwd` changes the folder of the whole process, which threads share
            resources={"metadata": {"path": str(result.demo.path.parent)}},
            kernel_manager_class=kernel.own_kernel(settings),
            timeout_func=lambda _cell: max(1, round(deadline - time.monotonic())),
        )
        content = without_traces(json.loads(partial.read_text("utf8")))
        leaks = [f"{name}: {cell_name(content, index)}: output shows {leak}" for index, leak in notebook_leaks(content)]
        if not leaks:
            partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf8")
            partial.replace(result.path)
        return leaks
    except Exception as error:
        return [f"{name}: {where_it_stopped(partial)}: {reason(error, settings.timeout_s)}"]
    finally:
        partial.unlink(missing_ok=True)


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
    if kind == "CellTimeoutError":
        return f"timeout: the notebook was not done after {timeout_s:g} s (bookstitch_timeout)"
    if kind == GONE:
        return "the kernel died (killed, out of memory, or os._exit)"
    return f"{kind}: {(str(error).strip().splitlines() or ['no message'])[0]}"
