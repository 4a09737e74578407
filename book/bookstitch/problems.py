"""Every fault that stops a book, in one exception that lists them all.

A build that stops at the first fault is repaired once per fault. So each stage collects its problems, every one a line
that names its place (`file:line`, or notebook and cell), and raises them together.
Read next: `marker`.
"""

from __future__ import annotations

from collections.abc import Iterable


class BookError(Exception):
    """One or more problems; `problems` holds a line for each, with its place in front."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
