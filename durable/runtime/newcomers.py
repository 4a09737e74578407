"""New code for old executions: what waits for a definition goes on when it is registered.

An execution whose workflow is not registered here waits, and one whose code does not match its journal has stopped. Both may
go on with the next definition of that name: a module that is imported late, a notebook cell that is run again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from durable.journal.entries import Status
from durable.runtime.execution import Execution
from durable.runtime.transitions import Event
from durable.workflows.definition import REGISTRY, Workflow

if TYPE_CHECKING:
    from durable.runtime.engine import Engine


class Newcomers:
    """Listens to the registry for one node, and starts what waited for a definition."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[str, dict[str, None]] = {}
        REGISTRY.listen(self)

    def wait(self, execution: Execution) -> None:
        """Try this execution again when its workflow is registered."""
        self._waiting.setdefault(execution.workflow_name, {})[execution.workflow_id] = None

    def registered(self, item: Any) -> None:
        """The registry has a new definition."""
        engine = self._engine
        if not isinstance(item, Workflow) or item.name not in self._waiting or engine.closed or engine.loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop() is engine.loop
        except RuntimeError:
            here = False
        if here:
            self._try_again(item.name)
        else:
            with contextlib.suppress(RuntimeError):  # its loop has gone without closing it: nothing can go on there
                engine.loop.call_soon_threadsafe(self._try_again, item.name)

    def _try_again(self, name: str) -> None:
        engine = self._engine
        for workflow_id in self._waiting.pop(name, {}):
            if not engine.tenures.runs(workflow_id):
                continue  # whoever runs it now has listed it, too
            execution = engine.find(workflow_id)
            if execution is not None and execution.machine is None and not execution.paused:
                if execution.status in (Status.WAITING, Status.DIVERGED):
                    execution.move(Event.NEW_CODE)
                execution.error = None
                engine.batches.after(execution.partition, engine.scheduler.wake, execution)
