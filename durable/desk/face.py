"""The typed face over a desk: Python values in, handles and Python values out.

A node, a member of a cluster and a client have the same face; what differs is the `Desk` behind it. Here is what happens on the
caller's side, once, whatever lies between: values are encoded, so that one which cannot be recorded fails here; the ids and
keys by which a repeated request is recognised are chosen before the first try; results and errors are brought back to
their types.

Read next: `durable.desk.handle`.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, TypeVar, overload

from durable.desk.arguments import check_id, check_number, check_text, checked_seconds
from durable.desk.desk import Desk
from durable.desk.handle import WorkflowHandle
from durable.desk.listing import Executions, Purged
from durable.errors import (
    DurableError,
    JournalCorrupted,
    NotRegistered,
    OutcomeUnknown,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
)
from durable.journal import failures, keys
from durable.journal.codec import ANY, MISSING, ValueType, encode_value
from durable.journal.entries import Row, Status, StatusRow, WorkflowMetadata
from durable.ports import Entropy
from durable.workflows.context import seconds
from durable.workflows.definition import REGISTRY, Workflow

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


class Face:
    """Submits, lists, purges and exports executions. ``runs_code`` says that workflow code must be registered in this process;
    a client may name a workflow that only the cluster's nodes have.
    """

    def __init__(self, desk: Desk, entropy: Entropy, value_bytes_max: int, *, runs_code: bool = True) -> None:
        self._desk = desk
        self._entropy = entropy
        self._value_bytes_max = value_bytes_max
        self._runs_code = runs_code

    @overload
    async def submit(
        self, workflow: Workflow[I, R], input: I = ..., workflow_id: str | None = None
    ) -> WorkflowHandle[R]: ...
    @overload
    async def submit(self, workflow: str, input: Any = ..., workflow_id: str | None = None) -> WorkflowHandle[Any]: ...
    async def submit(
        self, workflow: Workflow[Any, Any] | str, input: Any = MISSING, workflow_id: str | None = None
    ) -> WorkflowHandle[Any]:
        """Start an execution; returns when it is durable.

        With an id that exists, the same workflow and input give the existing execution, so a submit can be repeated;
        another workflow or input raises `WorkflowAlreadyExists`. Raises `Overloaded` past ``max_pending``, `NotRegistered`,
        and `EncodingError` for an input that cannot be recorded; then nothing was accepted.
        """
        try:
            definition = REGISTRY.workflow(workflow)
        except NotRegistered:
            if self._runs_code or not isinstance(workflow, str):
                raise
            check_text("workflow", workflow)
            name, version, result_type = workflow, None, ANY
            input_json = encode_value(None if input is MISSING else input, f"{name}: input", self._value_bytes_max)
        else:
            name, version, result_type = definition.name, definition.version, definition.output_type
            input_json = definition.encode_input(input, self._value_bytes_max)
        if workflow_id is None:
            workflow_id = f"{name}-{self._entropy.random_bytes(8).hex()}"
        check_id(workflow_id)
        handle: WorkflowHandle[Any] = WorkflowHandle(self, workflow_id, result_type)
        await self._desk.submit(name, version, input_json, workflow_id)
        return handle

    def handle(self, workflow_id: str) -> WorkflowHandle[Any]:
        """A handle of an execution that may or may not exist; asking it raises `WorkflowNotFound` if it does not."""
        check_id(workflow_id)
        return WorkflowHandle(self, workflow_id, ANY)

    async def list(
        self,
        *,
        status: Status | str | None = None,
        workflow: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Executions:
        """Executions by partition and id, at most ``limit``; ``after`` goes on behind the last id of the page before.

        In a cluster of which a part is down it gives what there is, and names the partitions of which nothing is known in
        ``missing``. Raises `NoQuorum` if that is all of them.
        """
        wanted = Status(status) if status else None
        check_text("workflow", workflow, or_none=True)
        check_number("limit", limit, least=0)
        check_text("after", after, or_none=True)
        found = await self._desk.listing(None, wanted, workflow, limit, after)
        return found if isinstance(found, Executions) else Executions(found)

    async def purge(self, older_than: float | timedelta = 0.0, *, request_id: str | None = None) -> Purged:
        """Delete finished executions that ended more than ``older_than`` seconds ago. Returns (and logs) their ids.

        A purged id stays taken for an hour, so that a repeated submit does not run again what was done. In a cluster of which a
        part is down it deletes what it can, and names the other partitions in ``missing``. Repeated with the same
        ``request_id`` it also gives the ids that were deleted the first time, also if the answer was lost.
        """
        check_text("request_id", request_id, or_none=True)
        request_id = self._entropy.random_bytes(8).hex() if request_id is None else request_id
        purged = await self._desk.purge(None, checked_seconds(older_than), request_id)
        return purged if isinstance(purged, Purged) else Purged(purged, request_id)

    async def export(self, workflow_id: str) -> str:
        """The execution's current run as JSON lines, for `durable.testing` and ``durable replay``."""
        check_id(workflow_id)
        return await self._desk.export(workflow_id)

    # --- behind the handles

    async def _result(self, workflow_id: str, result_type: ValueType[Any], timeout: float | timedelta | None) -> Any:
        row = await self._desk.outcome(workflow_id, None if timeout is None else seconds(timeout))
        if row is None:
            raise TimeoutError(f"{workflow_id!r} has not finished within {timeout}; it goes on")
        return _outcome(workflow_id, row, result_type)

    async def _send(self, workflow_id: str, channel: str, value: Any, key: str | None) -> None:
        value_json = encode_value(value, f"message to {workflow_id}/{channel}", self._value_bytes_max)
        await self._desk.send(workflow_id, channel, value_json, key)

    async def _fork(self, workflow_id: str, at: int, new_id: str | None) -> str:
        if fresh := new_id is None:
            new_id = f"{workflow_id}.fork-{self._entropy.random_bytes(4).hex()}"
        keys.id_bytes(new_id)
        rows: list[Row] = []
        problem: DurableError | None = None
        try:
            rows = await self._desk.rows_before(workflow_id, at)
        except (WorkflowError, JournalCorrupted) as error:
            if fresh:
                raise
            problem = error  # unless it was forked before: whoever has the new id knows, and the origin may be gone since
        try:
            await self._desk.fork(new_id, at, rows, _fork_request(workflow_id, at, new_id))
        except OutcomeUnknown as error:
            again = f"The id is that of the new execution: fork({at}, workflow_id={new_id!r}) is recognised."
            raise OutcomeUnknown(f"{error}. {again}", new_id) from error
        except WorkflowError as error:
            raise problem or error from None
        return new_id

    def _glance(self, workflow_id: str) -> WorkflowMetadata | str:
        """What a repr shows of an execution, without waiting; or in words why there is nothing to show."""
        return "ask it: await handle.metadata()"


def _fork_request(workflow_id: str, at: int, new_id: str) -> str:
    """The same for the same fork, whoever asks for it, and however often."""
    return hashlib.blake2b(f"fork {at} {workflow_id}\0{new_id}".encode(), digest_size=12).hexdigest()


def _outcome(workflow_id: str, row: StatusRow, result_type: ValueType[Any]) -> Any:
    """The result, or the exception, that a finished (or stopped) execution has for whoever asks."""
    if row.status is Status.COMPLETED:
        return result_type.decode(row.output_json or b"null", f"the result of {workflow_id}")
    if row.status is Status.CANCELLED:
        raise WorkflowCancelled(f"{workflow_id!r} was cancelled")
    assert row.error is not None
    try:
        cause: Exception = failures.rebuild(row.error)
    except DurableError as problem:
        cause = problem
    if row.status is Status.DIVERGED:
        raise cause
    raise WorkflowFailed(f"{workflow_id!r} failed: {row.error.error_type}: {row.error.message}") from cause
