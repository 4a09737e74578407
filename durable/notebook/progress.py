"""Waiting for many executions, with a bar.

``await progress(handles)`` shows one line that is redrawn in place while executions end, and leaves a line that says how many
ended how. A notebook that is executed for a book keeps only that last line, which two runs have in common. Without
IPython the bar goes to standard error, if that is a terminal.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from durable.desk.handle import WorkflowHandle
from durable.errors import DurableError, WorkflowCancelled
from durable.notebook.figure import Figure, esc, tag

REDRAWS_MAX = 100
"""More would make the notebook slower, and nobody sees them."""


async def progress(handles: Sequence[WorkflowHandle[Any]], label: str = "workflows", return_exceptions: bool = False) -> list[Any]:
    """The results, in the order of the handles. Raises the first failure in that order, when all have ended.

    With ``return_exceptions``, a failure stands in the place of the result.
    """
    bar = _Bar(len(handles), label)
    every = max(1, len(handles) // REDRAWS_MAX)

    async def wait(handle: WorkflowHandle[Any]) -> Any:
        outcome: Any
        try:
            outcome, how = await handle.result(), "completed"
        except DurableError as error:
            outcome, how = error, "cancelled" if isinstance(error, WorkflowCancelled) else "failed"
        bar.count[how] += 1
        if bar.done % every == 0 or bar.done == bar.total:
            bar.draw()
        return outcome

    bar.draw()
    outcomes = list(await asyncio.gather(*map(wait, handles)))
    bar.close()
    if not return_exceptions:
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return outcomes


class _Bar:
    def __init__(self, total: int, label: str) -> None:
        self.total = total
        self.label = label
        self.count: Counter[str] = Counter()
        self._display: Any = None
        self._in_notebook = "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None

    @property
    def done(self) -> int:
        return sum(self.count.values())

    def figure(self) -> Figure:
        parts = [f"{self.count[how]} {how}" for how in ("completed", "failed", "cancelled") if self.count[how]]
        words = f"{self.done} of {self.total} {self.label}" + (f": {', '.join(parts)}" if parts else "")
        share = 1.0 if not self.total else self.done / self.total
        bar = tag("span", tag("i", "&#8203;", style=f"width:{share:.0%}"), class_="durable-bar")
        blocks = round(share * 20)
        return Figure(
            tag("div", bar + tag("span", esc(words)), class_="durable-head"),
            f"{'█' * blocks}{'░' * (20 - blocks)} {words}",
        )

    def draw(self) -> None:
        if self._in_notebook:
            from IPython.display import display

            if self._display is None:
                self._display = display(self.figure(), display_id=True)  # type: ignore[no-untyped-call]
            else:
                self._display.update(self.figure())
        elif sys.stderr.isatty():
            sys.stderr.write(f"\r{self.figure()}")
            sys.stderr.flush()

    def close(self) -> None:
        if not self._in_notebook and sys.stderr.isatty():
            sys.stderr.write("\n")
