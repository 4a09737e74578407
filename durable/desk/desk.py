"""What can be asked of the owner of an execution, in bytes and rows, so that every question can cross a network.

An execution has one owner at a time: the node that runs its partition. `Desk` is the counter at which it answers. `LocalDesk`
is that of this node's own engine; another one asks over a network; the face (`durable.desk.face.Face`), which has types and
Python values, does not know which it has before it.

Every question may be asked again, because whoever got no answer cannot know whether it arrived:

=================== ======================================================================================
asked again         is recognised by
=================== ======================================================================================
submit              the workflow id, which the caller chooses before the first try; same workflow and input
send                its key; without one, a second send is a second message
fork                the new id, chosen as for submit; same origin and point, by the request id recorded beside it
cancel pause resume nature: done twice is done once
post                the sender's number for it (see `durable.runtime.post`)
the others          they change nothing, or (purge) what is gone is gone
=================== ======================================================================================

All raise `NotOwner` when the partition is not here: nothing was lost, ask the node that it names. It may come also *after* the
request was written, when the partition is lost before a majority has it: so it is asked again with the same id, never with a
new one. `NoQuorum` says that nothing was written, `OutcomeUnknown` (with the id to ask again with) that it may have been.

Read next: `durable.desk.face`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from durable.journal.entries import Attempt, Envelope, Failure, Row, Status, StatusRow, WorkflowMetadata


class Desk(Protocol):
    """The owner of executions, asked. Values are JSON, times milliseconds since 1970."""

    async def submit(self, workflow: str, version: int | None, input_json: bytes, workflow_id: str) -> None:
        """Start an execution; returns when it is durable. An existing one with the same workflow and input is left as it is.

        Without a version it is started in the one that the owner has registered. Raises `WorkflowAlreadyExists`,
        `Overloaded`, and without a version `NotRegistered`.
        """

    async def outcome(self, workflow_id: str, timeout_s: float | None) -> StatusRow | None:
        """Its last status row, once it has finished or stopped (DIVERGED). None when that takes longer than ``timeout_s``.

        Raises `WorkflowNotFound`.
        """

    async def metadata(self, workflow_id: str) -> WorkflowMetadata:
        """Where it stands, with the owner that answers and its epoch. Raises `WorkflowNotFound`."""

    async def journal(self, workflow_id: str) -> tuple[list[Row], list[Attempt]]:
        """The rows of its current run, in order, and the attempts beside them. Raises `WorkflowNotFound`."""

    async def send(self, workflow_id: str, channel: str, value_json: bytes, key: str | None) -> None:
        """Put a message into its mailbox; returns when it is durable there. Raises `MailRefused`."""

    async def cancel(self, workflow_id: str) -> None:
        """Ask it to stop; returns when the request is recorded. Nothing happens when it has finished."""

    async def pause(self, workflow_id: str) -> None:
        """Raises `WorkflowError` when it has finished or stopped."""

    async def resume(self, workflow_id: str) -> None: ...

    async def rows_before(self, workflow_id: str, at: int) -> list[Row]:
        """Its rows before command ``at``: what a fork begins with. Raises `WorkflowError` when it has fewer commands."""

    async def fork(self, new_id: str, at: int, rows: list[Row], request_id: str) -> None:
        """Start a new execution with these rows of another one, which may have another owner. Raises `WorkflowAlreadyExists`.

        Without rows nothing is started: it returns if this request was accepted before, else it raises `WorkflowNotFound`.
        """

    async def export(self, workflow_id: str) -> str:
        """The current run as JSON lines."""

    async def listing(
        self,
        partitions: Sequence[int] | None,
        status: Status | None,
        workflow: str | None,
        limit: int,
        after: str | None,
    ) -> list[WorkflowMetadata]:
        """Executions by partition and id, at most ``limit``, behind ``after``; of these partitions, or of all that are here."""

    async def purge(self, partitions: Sequence[int] | None, older_than_s: float, request_id: str) -> list[str]:
        """Delete executions that finished more than ``older_than_s`` ago; their ids, and those that this very request deleted
        before.
        """

    async def post(self, envelope: Envelope) -> Failure | None:
        """Accept an envelope from another node's outbox: None when it is durable here, or why it is refused."""
