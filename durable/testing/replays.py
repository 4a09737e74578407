"""`check_replay`: does this code still do what a journal from production says it did?

Before new code is deployed, journals that the old code wrote are replayed against it. A step that was added, removed, swapped
or given another argument shows here, in a test, and not as an execution that stops with the status ``DIVERGED``. Replaying
is pure: no function runs, nothing is sent, no time passes.

For an execution that had finished, the code must also come to the same end at the same place: going on where the journal
ends, or another result, is drift too.

An export does not say what ``value_bytes_max`` was. What was recorded is taken, however large; of what was refused as too large,
only what was refused under the default bound is refused in the same words.

An export holds the current run: what came before a ``continue_as_new`` is gone, from the store as well.

Read next: `durable.testing.debugger`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from durable.errors import NonDeterminismError, WorkflowError
from durable.journal.codec import VALUE_BYTES_MAX
from durable.journal.entries import Command, Completion, Failure, Row, Start, Status
from durable.workflows.definition import REGISTRY, Workflow
from durable.workflows.machine import Outcome, WorkflowMachine
from durable.workflows.replaying import replay


class Recorded(msgspec.Struct, frozen=True):
    """An export, read: an execution as it stood when it was exported."""

    workflow_id: str
    workflow: str
    status: Status
    output_json: str | None
    error: tuple[str, str] | None
    start: Start
    rows: list[Row]

    @property
    def commands(self) -> list[Command]:
        return [row for row in self.rows if type(row) is Command]

    @property
    def value_bytes_max(self) -> int:
        """The bound under which it is replayed: the default one, or as much as its largest value shows that the node allowed."""
        sizes = [len(self.start.input_json), len((self.output_json or "").encode())]
        for row in self.rows:
            if type(row) is Command:
                sizes.append(len(row.input_json))
            elif type(row) is Completion:
                sizes.append(len(row.output_json or b""))
        return max(VALUE_BYTES_MAX, *sizes)


class ReplayCheck(msgspec.Struct, frozen=True):
    """A replay that went as recorded: which execution, how many operations, where it stands, on which Python it began."""

    workflow_id: str
    workflow: str
    operations: int
    status: Status
    python: str


def check_replay(workflow: Workflow[Any, Any] | str | None, text: str) -> ReplayCheck:
    """Replay an export against this code.

    Args:
        workflow: the workflow, or its registered name; None takes the one that the export names.
        text: what ``runtime.export(id)`` or ``durable export ID`` gave.

    Raises `NonDeterminismError` where code and journal differ (the message says what was recorded, what the code does now, and
    the likely cause), `WorkflowError` for a text that is no export or is one of another workflow, `NotRegistered`.

    >>> import durable
    >>> from durable.testing import run
    >>> @durable.workflow("greeting")
    ... async def greeting(ctx: durable.Context, name: str) -> str:
    ...     await ctx.sleep(60)
    ...     return f"hello {name}"
    >>> async def record():
    ...     async with durable.open("memory:") as runtime:
    ...         await (await runtime.submit(greeting, "Ada", workflow_id="g-1")).result()
    ...         return await runtime.export("g-1")
    >>> check_replay(greeting, run(record())).operations
    1
    """
    recorded = read_export(text)
    definition = REGISTRY.workflow(recorded.workflow if workflow is None else workflow)
    if definition.name != recorded.workflow:
        raise WorkflowError(
            f"this is a journal of the workflow {recorded.workflow!r}, not of {definition.name!r}. Nothing was replayed."
        )
    machine = replay(definition, recorded.start, recorded.rows, recorded.workflow_id, value_bytes_max=recorded.value_bytes_max)
    try:
        if recorded.status.finished:
            _check_end(recorded, machine)
    finally:
        machine.close()
    return ReplayCheck(
        recorded.workflow_id,
        recorded.workflow,
        len(recorded.commands),
        recorded.status,
        recorded.start.python,
    )


def read_export(text: str) -> Recorded:
    """Raises `WorkflowError` for a text that is no export."""
    header, rows = _parse(text)
    start = rows[0]
    assert isinstance(start, Start)
    metadata = header["metadata"]
    error = metadata["error"]
    failure = None if error is None else msgspec.convert(error, Failure)
    return Recorded(
        header["workflow_id"],
        metadata["workflow"],
        Status(metadata["status"]),
        metadata["output_json"],
        None if failure is None else (failure.error_type, failure.message),
        start,
        rows,
    )


def _check_end(recorded: Recorded, machine: WorkflowMachine) -> None:
    """A finished execution must finish again, at the same place and in the same way."""
    if machine.commands:
        command = machine.commands[0][0]
        raise _drift(
            recorded,
            f"recorded:  the execution ended here ({recorded.status.value})\n"
            f"attempted: {command.entry_type.value} {command.name} at {command.where}",
            "a step was added at the end",
        )
    outcome = machine.outcome
    if outcome is None:
        raise _drift(
            recorded,
            f"recorded:  the execution ended here ({recorded.status.value})\nattempted: the code waits",
            "the code waits for something that it did not wait for then",
        )
    then, now = _shown(recorded.status, recorded.output_json, recorded.error), _shown_outcome(outcome)
    if then != now:
        raise _drift(recorded, f"recorded:  {then}\nattempted: {now}", "the result is computed in another way")


def _drift(recorded: Recorded, lines: str, cause: str) -> NonDeterminismError:
    return NonDeterminismError(
        f"workflow {recorded.workflow_id!r} does not do what its journal says, behind its last entry "
        f"({len(recorded.commands) - 1}):\n{lines}\nLikely cause: {cause}. Executions that have finished stay as they are; "
        "those under way would take the new path."
    )


def _shown(status: Status, output_json: str | None, error: tuple[str, str] | None) -> str:
    return f"{status.value} {': '.join(error) if error else output_json or ''}".strip()


def _shown_outcome(outcome: Outcome) -> str:
    error = None if outcome.error is None else (outcome.error.error_type, outcome.error.message)
    output_json = None if outcome.output_json is None else outcome.output_json.decode()
    return _shown(outcome.status, output_json, error)


_ROW: msgspec.json.Decoder[Row] = msgspec.json.Decoder(Row)


def _parse(text: str) -> tuple[dict[str, Any], list[Row]]:
    """The header and the rows of an `export`. Raises `WorkflowError` for a text that is none."""
    try:
        first, *rest = text.strip().split("\n")  # a value may hold what `splitlines` takes for the end of a line
        header = msgspec.json.decode(first, type=dict[str, Any])
        if header.get("durable_export") != 1:
            raise WorkflowError("this is no export of a durable execution (its first line lacks durable_export: 1)")
        rows = [_ROW.decode(line) for line in rest]
    except (msgspec.MsgspecError, ValueError) as error:
        raise WorkflowError(f"this is no export of a durable execution: {error}") from error
    if not rows or not isinstance(rows[0], Start):
        raise WorkflowError("this export has no start row")
    return header, rows
