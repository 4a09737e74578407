"""Run what is out of date: papermill, in parallel, with a progress bar.

`results` says under which file each demo's result is kept (the key is in the name, see `digest`); `execute` runs those
whose file is missing. A result is written under another name and moved into place only when the notebook has finished
and leaks nothing (`running`), so what is there is always good, and an unchanged build executes nothing.

Most notebooks run side by side, each in its own kernel; those that say `alone` run afterwards, one by one. All failures are
collected before any is raised.

One process at a time executes and forgets: a second build of the same book waits for the first, and then finds its results. Limit:
it waits for no more than that, so of two builds with different sources the later one may forget a result that the other has yet
to read.
Read next: `running`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from bookstitch.demos import Demo
from bookstitch.digest import common_digest, demo_digest
from bookstitch.problems import BookError
from bookstitch.running import Result, run
from bookstitch.settings import Settings


def results(settings: Settings, demos: Mapping[int, Demo]) -> dict[int, Result]:
    """The place of every result; nothing is executed."""
    common = common_digest(settings)
    return {
        number: Result(demo, settings.cache / f"{demo.path.stem}-{demo_digest(demo, common)}.ipynb")
        for number, demo in demos.items()
    }


def execute(settings: Settings, wanted: Iterable[Result], *, forget_others: bool = False) -> int:
    """Execute what has no result yet, and forget other results if asked; how many were executed.

    Raises BookError with every failure.
    """
    results = list(wanted)
    with lock(settings):
        shutil.rmtree(settings.cache / "running", ignore_errors=True)  # of a build that was killed: no other one runs
        stale = [result for result in results if not result.path.exists()]
        if stale:
            run_all(settings, stale)
        if forget_others:
            prune(settings, results)
    return len(stale)


@contextlib.contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """Hold the results for this process; wait while another one has them."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("bookstitch: waiting for another build of this book\n")
            sys.stderr.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_all(settings: Settings, stale: list[Result]) -> None:
    """Run these, most of them side by side. Raises BookError with every failure."""
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it reports every cell otherwise
    problems: list[str] = []
    with progress(len(stale)) as done:
        beside = [result for result in stale if not result.demo.alone]
        alone = [result for result in stale if result.demo.alone]
        for group, workers in ((beside, settings.workers), (alone, 1)):
            problems += run_group(settings, group, workers, done)
    if problems:
        raise BookError(sorted(problems))


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
