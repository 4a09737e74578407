"""Who waits for the end of an execution: told once it is durable, or why it will not be seen here."""

from __future__ import annotations

import asyncio

from durable.journal import keys
from durable.journal.entries import StatusRow


class Waiters:
    """Futures by workflow id. An execution that has stopped (DIVERGED) is an end to whoever waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[StatusRow]]] = {}

    def add(self, workflow_id: str) -> asyncio.Future[StatusRow]:
        waiter: asyncio.Future[StatusRow] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(workflow_id, []).append(waiter)
        return waiter

    def forget(self, workflow_id: str, waiter: asyncio.Future[StatusRow]) -> None:
        waiting = self._waiting.get(workflow_id, [])
        if waiter in waiting:
            waiting.remove(waiter)
            if not waiting:
                del self._waiting[workflow_id]

    def tell(self, workflow_id: str, row: StatusRow) -> None:
        for waiter in self._waiting.pop(workflow_id, ()):
            if not waiter.done():
                waiter.set_result(row)

    def drop(self, partition: int, why: BaseException) -> None:
        """These executions end elsewhere."""
        for workflow_id in [each for each in self._waiting if keys.partition_of(each) == partition]:
            self._break(workflow_id, why)

    def fail(self, error: BaseException) -> None:
        for workflow_id in list(self._waiting):
            self._break(workflow_id, error)

    def _break(self, workflow_id: str, error: BaseException) -> None:
        for waiter in self._waiting.pop(workflow_id):
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()
