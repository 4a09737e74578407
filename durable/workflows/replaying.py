"""From a journal back to a running machine: commands matched, completions applied in their order.

This is recovery without the node around it: pure, so that a test, the command line and a debugger can replay a journal that
was exported from somewhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from durable.journal.codec import VALUE_BYTES_MAX
from durable.journal.entries import Command, Completion, Row, Start
from durable.workflows.definition import Workflow
from durable.workflows.machine import WorkflowMachine


def replay(
    workflow: Workflow[Any, Any],
    start: Start,
    rows: Sequence[Row],
    workflow_id: str,
    now_ms: int = 0,
    value_bytes_max: int = VALUE_BYTES_MAX,
    before: Callable[[WorkflowMachine, int], bool] | None = None,
) -> WorkflowMachine:
    """Run a workflow's code against its journal, up to the journal's end.

    The machine then waits where the execution waited. Raises `ReplayError` where code and journal differ. ``before`` is
    called ahead of each completion with the machine and the row number, and stops the replay by returning False.
    """
    commands = [row for row in rows if type(row) is Command]
    machine = WorkflowMachine(workflow, start, workflow_id, commands, value_bytes_max)
    machine.replaying = len(rows) > 1
    machine.wall_ms = now_ms or start.timestamp
    machine.begin()
    made = 0
    for index, row in enumerate(rows):
        if type(row) is Command:
            made += 1
        elif type(row) is Completion:
            if machine.cursor.made < made:
                machine.expect_made(made, f"the answer to entry {row.sequence_number} is applied")
            if machine.divergence is not None or (before is not None and not before(machine, index)):
                break
            machine.apply(row)
    else:
        machine.expect_made(len(commands), "the code waits")
    machine.replaying = False
    if machine.divergence is not None:
        divergence = machine.divergence
        machine.close()
        raise divergence
    return machine
