"""A handle: one execution, seen from outside.

It holds nothing but the id; every question goes to the desk of whoever owns the execution, and is answered only with what is
durable.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durable.desk.arguments import check_id, check_number, check_text
from durable.journal.codec import ValueType
from durable.journal.entries import Status, WorkflowMetadata
from durable.journal.journal import Journal, entries

if TYPE_CHECKING:
    from durable.desk.face import Face

R = TypeVar("R")


class WorkflowHandle(Generic[R]):
    """One execution. ``await handle`` is ``await handle.result()``."""

    def __init__(self, face: Face, workflow_id: str, result_type: ValueType[Any]) -> None:
        self._face = face
        self._result_type = result_type
        self.workflow_id = workflow_id

    def __await__(self) -> Generator[Any, Any, R]:
        return self.result().__await__()

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the result.

        Raises `WorkflowFailed` (its ``__cause__`` is what the workflow raised), `WorkflowCancelled`, `NonDeterminismError` or
        `JournalCorrupted` when the execution has stopped, and `TimeoutError` after ``timeout`` seconds; it goes on then.
        """
        value: R = await self._face._result(self.workflow_id, self._result_type, timeout)
        return value

    async def status(self) -> Status:
        return (await self.metadata()).status

    async def metadata(self) -> WorkflowMetadata:
        """Raises `WorkflowNotFound`."""
        return await self._face._desk.metadata(self.workflow_id)

    async def journal(self) -> Journal:
        """The operations of the current run, in the order in which the code made them."""
        return entries(*await self._face._desk.journal(self.workflow_id))

    async def send(self, channel: str, value: Any = None, key: str | None = None) -> None:
        """Send a message from outside; returns when it is durable in the mailbox. Raises `MailRefused`.

        With a ``key`` a repetition is recognised: sending again with the same key does nothing.
        """
        check_text("channel", channel)
        check_text("key", key, or_none=True)
        await self._face._send(self.workflow_id, channel, value, key)

    async def cancel(self) -> None:
        """Ask the execution to stop; returns when the request is recorded. Does nothing when it has finished."""
        await self._face._desk.cancel(self.workflow_id)

    async def pause(self) -> None:
        """Stop running its code. Functions under way end, and their results are recorded."""
        await self._face._desk.pause(self.workflow_id)

    async def resume(self) -> None:
        """Go on after `pause`."""
        await self._face._desk.resume(self.workflow_id)

    async def fork(self, at: int, workflow_id: str | None = None) -> WorkflowHandle[R]:
        """A new execution with the journal before operation ``at``; from there it runs afresh.

        With a ``workflow_id`` it can be repeated: the same fork gives the execution that is there, and whatever else has that id
        raises `WorkflowAlreadyExists`. Without one, each is another one.

        Work in flight at that place is done again under new idempotency keys; unread messages stay behind.
        """
        check_number("at", at)
        if workflow_id is not None:
            check_id(workflow_id)
        new_id = await self._face._fork(self.workflow_id, at, workflow_id)
        return WorkflowHandle(self._face, new_id, self._result_type)

    def __repr__(self) -> str:
        return f"WorkflowHandle({self.workflow_id!r})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)
