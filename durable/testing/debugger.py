"""`debug`: the workflow stopped at a position of its journal, with its true locals.

An execution that went wrong in production is exported, and replayed here up to the operation in question. The coroutines then
stand where they stood: not a log of what they might have held, but the very variables. Nothing runs and nothing is sent.

It stops when the code has made operation ``at`` and waits, before any later answer is given to it.

Limits: the code must still match the journal up to that place. Operations that need no answer (state, checkpoint) do not
make the code wait, so it stops behind them, at the next operation that does.

Read next: `durable.cli`, the same journals at the command line.
"""

from __future__ import annotations

import asyncio
import linecache
import weakref
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import durable.workflows
from durable.errors import WorkflowError
from durable.journal.replay import describe
from durable.testing.replays import read_export
from durable.workflows.context import Context
from durable.workflows.definition import REGISTRY, Workflow
from durable.workflows.machine import WorkflowMachine
from durable.workflows.replaying import replay

SHOWN_CHARS_MAX = 200
_NOT_THE_AUTHORS = tuple(str(Path(module.__file__ or "").parent) + "/" for module in (durable.workflows, asyncio))


class StoppedFrame:
    """One function of the author's, stopped: ``function``, ``file``, ``line``, its source in ``code``, and its ``locals``."""

    def __init__(self, task: str, frame: FrameType) -> None:
        code: CodeType = frame.f_code
        self.task = task
        self.function = code.co_qualname
        self.file = code.co_filename
        self.line = frame.f_lineno
        self.code = linecache.getline(code.co_filename, frame.f_lineno).strip()
        self.locals: Mapping[str, Any] = dict(frame.f_locals)

    def __repr__(self) -> str:
        return f"<{self.function} at {self.file}:{self.line}>"


class Stopped:
    """A workflow that stands still. Made by `debug`.

    ``frames`` are the author's functions, task by task in the order in which they were made, outermost first; empty when the
    workflow has returned. ``locals`` are those of the innermost function of the workflow itself. ``now``, ``state`` and
    ``waits_for`` are what `Context` shows at this place.

    The workflow is alive as long as this object is: then its coroutines are closed.
    """

    def __init__(self, machine: WorkflowMachine, workflow_id: str, at: int, operations: int, operation: str) -> None:
        self.workflow_id = workflow_id
        self.at = at
        self.operations = operations
        self.operation = operation
        self.now = datetime.fromtimestamp(machine.now_ms / 1000, UTC)
        self.state: Mapping[str, Any] = dict(machine.context.state)
        self.waits_for = [repr(pending) for pending in machine.pending.values()]
        self.frames = list(_frames(machine))
        outcome = machine.outcome
        self.outcome = None if outcome is None else outcome.status.value
        weakref.finalize(self, machine.close)

    @property
    def locals(self) -> Mapping[str, Any]:
        """The variables of the innermost function of the workflow's own task. Raises `WorkflowError` when it has returned."""
        own = [frame for frame in self.frames if frame.task == self.frames[0].task]
        if not own:
            raise WorkflowError(f"{self.workflow_id!r} has returned at this place: no function of it is left")
        return own[-1].locals

    # --- to look at

    def __repr__(self) -> str:
        lines = [self._title()]
        for frame in self.frames:
            lines.append(f"  {frame.task}: {frame.function}, {frame.file}:{frame.line}")
            lines.append(f"    > {frame.code}")
            lines += [f"    {name} = {shown}" for name, shown in _shown(frame)]
        if self.outcome is not None:
            lines.append(f"  it has ended: {self.outcome}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{escape(self._title())}</strong></p>"]
        for frame in self.frames:
            rows = "".join(
                f'<tr><td style="text-align:left"><code>{escape(name)}</code></td>'
                f'<td style="text-align:left"><code>{escape(shown)}</code></td></tr>'
                for name, shown in _shown(frame)
            )
            parts.append(
                f"<details open><summary>{escape(frame.task)}: <code>{escape(frame.function)}</code> "
                f"{escape(frame.file)}:{frame.line}</summary><pre>{escape(frame.code)}</pre><table>{rows}</table></details>"
            )
        if self.outcome is not None:
            parts.append(f"<p>it has ended: {escape(self.outcome)}</p>")
        return f"<div>{''.join(parts)}</div>"

    def _title(self) -> str:
        when = f"{self.now:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.workflow_id} stopped at entry {self.at} of {self.operations}, {when}: {self.operation}"


def debug(journal: str, at: int | None = None, workflow: Workflow[Any, Any] | str | None = None) -> Stopped:
    """The workflow of an exported journal, stopped when it has made operation ``at`` (a sequence number; None: at the end).

    ``workflow`` is the code to run, by default what is registered under the name in the export.

    Raises `NonDeterminismError` when the code differs from the journal before that place, and `WorkflowError` for a position
    that the journal does not have.

    >>> import durable
    >>> from durable.testing import run
    >>> @durable.workflow("countdown")
    ... async def countdown(ctx: durable.Context, left: int) -> None:
    ...     while left:
    ...         await ctx.sleep(left)
    ...         left -= 1
    >>> async def record():
    ...     async with durable.open("memory:") as runtime:
    ...         await (await runtime.submit(countdown, 3, workflow_id="c-1")).result()
    ...         return await runtime.export("c-1")
    >>> debug(run(record()), at=1).locals["left"]
    2
    """
    recorded = read_export(journal)
    definition = REGISTRY.workflow(recorded.workflow if workflow is None else workflow)
    commands = recorded.commands
    if at is not None and not 0 <= at < len(commands):
        raise WorkflowError(
            f"{recorded.workflow_id!r} has {len(commands)} operations, at positions 0 to {len(commands) - 1}; there is no {at}"
        )

    def before(machine: WorkflowMachine, row: int) -> bool:
        return at is None or machine.cursor.made <= at

    bytes_max = recorded.value_bytes_max
    machine = replay(
        definition, recorded.start, recorded.rows, recorded.workflow_id, value_bytes_max=bytes_max, before=before
    )
    place = len(commands) - 1 if at is None else at
    operation = describe(commands[place]) if commands else "before its first operation"
    return Stopped(machine, recorded.workflow_id, place, len(commands), operation)


def _frames(machine: WorkflowMachine) -> Iterator[StoppedFrame]:
    for reference in machine.loop.tasks:
        task = reference()
        if task is None or task.done():
            continue
        awaited: Any = task.get_coro()
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
            if frame is not None and not frame.f_code.co_filename.startswith(_NOT_THE_AUTHORS):
                yield StoppedFrame("workflow" if task is machine.root else task.get_name(), frame)
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _shown(frame: StoppedFrame) -> list[tuple[str, str]]:
    """The variables worth showing: the context is the same everywhere."""
    return [(name, _short(value)) for name, value in frame.locals.items() if not isinstance(value, Context)]


def _short(value: Any) -> str:
    try:
        shown = repr(value)
    except Exception as error:
        shown = f"(its repr raises {type(error).__name__})"
    return shown if len(shown) <= SHOWN_CHARS_MAX else shown[: SHOWN_CHARS_MAX - 1] + "…"
