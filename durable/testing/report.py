"""What `crash_everywhere` found: a table to read, and a check to assert.

A line for each step: its name, how often its body ran (once undisturbed; twice, when the crash came between its work and its
record: that is what "at least once" means), and whether its recorded result was the same in every run.

Read next: `durable.testing.replays`.
"""

from __future__ import annotations

from html import escape

import msgspec

from durable.journal.entries import EntryType
from durable.testing.lives import Ending
from durable.testing.tables import html_table, text_table

PROBLEMS_SHOWN_MAX = 10


class StepLine(msgspec.Struct, frozen=True, kw_only=True):
    """One step. ``runs_max`` is the most that its body ran in any one run, None for a step that has no body."""

    workflow_id: str
    run: int
    sequence_number: int
    entry_type: EntryType
    name: str
    runs_undisturbed: int | None
    runs_max: int | None
    same: bool


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `crash_everywhere`.

    ``writes`` journal writes were made undisturbed, ``crashes`` runs were disturbed; ``ending`` is how the undisturbed run
    ended; ``problems`` says what went otherwise, a sentence each, and is empty when nothing did.
    """

    workflow: str
    workflow_id: str
    writes: int
    crashes: int
    ending: Ending
    steps: tuple[StepLine, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Every run ended as the undisturbed one did, and nothing happened that must not."""
        return not self.problems

    def check(self) -> CrashReport:
        """Itself when it is `ok`; otherwise raises `AssertionError` with the problems and the table."""
        if not self.ok:
            raise AssertionError(str(self))
        return self

    def runs_max(self, name: str) -> int:
        """The most that the body of any step of this name ran in one run. Raises KeyError for a name that has no body."""
        runs = [line.runs_max for line in self.steps if line.name == name and line.runs_max is not None]
        if not runs:
            raise KeyError(name)
        return max(runs)

    # --- to look at

    def __str__(self) -> str:
        table = text_table(_HEADER, self._cells())
        return "\n".join([self._title(), "", table, "", self._verdict(), *self._shown_problems()])

    def _repr_html_(self) -> str:
        problems = "".join(f"<li>{escape(problem)}</li>" for problem in self._shown_problems())
        return (
            f"<div><p>{escape(self._title())}</p>{html_table(_HEADER, self._cells())}"
            f"<p><strong>{escape(self._verdict())}</strong></p>{f'<ul>{problems}</ul>' if problems else ''}</div>"
        )

    def _title(self) -> str:
        return f"{self.workflow}: {self.writes} journal writes, {self.crashes} runs with a crash"

    def _verdict(self) -> str:
        if self.ok:
            return f"Every run ended alike: {self.ending}"
        return f"{len(self.problems)} problems; undisturbed it ended as {self.ending}"

    def _shown_problems(self) -> list[str]:
        shown = [f"- {problem}" for problem in self.problems[:PROBLEMS_SHOWN_MAX]]
        more = len(self.problems) - len(shown)
        return [*shown, f"- and {more} more"] if more > 0 else shown

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                self._place(line),
                f"{line.entry_type.value} {line.name}",
                _runs(line),
                "yes" if line.same else "NO",
            )
            for line in self.steps
        ]

    def _place(self, line: StepLine) -> str:
        whose = "" if line.workflow_id == self.workflow_id else f"{line.workflow_id} "
        run = f"run {line.run} " if line.run else ""
        return f"{whose}{run}#{line.sequence_number}"


_HEADER = ("step", "name", "body ran", "same result")


def _runs(line: StepLine) -> str:
    if line.runs_max is None:
        return "-"
    if line.runs_max == line.runs_undisturbed:
        return f"{line.runs_max}"
    return f"{line.runs_undisturbed} to {line.runs_max}"
