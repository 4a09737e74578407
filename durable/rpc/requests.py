"""What one node can ask of another: the questions of a `Desk`, declared, so that nothing else can be asked.

**Why it exists.** What arrives from a network is bytes. They are decoded into these types or refused; no name in them is ever
looked up, imported or called that does not stand in a table here.

**How it works.** A request is a struct whose tag is the name of the method of `durable.desk.desk.Desk` and whose fields are its
arguments, in order. `ANSWERS` says which type the answer is decoded into. Two have no method: `Owners` (which partitions are
whose, as far as that node knows) and `Forget` (the caller waits no more).

**Errors** travel as a `Fault`: the name of a class of `durable.errors`, and its arguments. What is not of that module, or does
not come apart so, arrives as a `ClusterError` with its text.

Read next: `durable.rpc.calls`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from durable import errors
from durable.errors import ClusterError, DurableError, FunctionFailed
from durable.journal.entries import Attempt, Envelope, Failure, Row, Status, StatusRow, WorkflowMetadata

if TYPE_CHECKING:
    from durable.desk.desk import Desk

Owned: TypeAlias = tuple[int, str, int]
"""A partition, its owner, and the epoch's counter."""


class _Request(msgspec.Struct, frozen=True, array_like=True):
    def of(self, desk: Desk) -> Awaitable[Any]:
        """The question, put to a desk."""
        answer: Awaitable[Any] = getattr(desk, str(self.__struct_config__.tag))(*msgspec.structs.astuple(self))
        return answer


class Submit(_Request, frozen=True, array_like=True, tag="submit"):
    workflow: str
    version: int | None
    input_json: bytes
    workflow_id: str


class Outcome(_Request, frozen=True, array_like=True, tag="outcome"):
    workflow_id: str
    timeout_s: float | None


class Metadata(_Request, frozen=True, array_like=True, tag="metadata"):
    workflow_id: str


class JournalOf(_Request, frozen=True, array_like=True, tag="journal"):
    workflow_id: str


class SendMessage(_Request, frozen=True, array_like=True, tag="send"):
    workflow_id: str
    channel: str
    value_json: bytes
    key: str | None


class Cancel(_Request, frozen=True, array_like=True, tag="cancel"):
    workflow_id: str


class Pause(_Request, frozen=True, array_like=True, tag="pause"):
    workflow_id: str


class Resume(_Request, frozen=True, array_like=True, tag="resume"):
    workflow_id: str


class RowsBefore(_Request, frozen=True, array_like=True, tag="rows_before"):
    workflow_id: str
    at: int


class Fork(_Request, frozen=True, array_like=True, tag="fork"):
    new_id: str
    at: int
    rows: list[Row]
    request_id: str


class Export(_Request, frozen=True, array_like=True, tag="export"):
    workflow_id: str


class Listing(_Request, frozen=True, array_like=True, tag="listing"):
    partitions: list[int] | None
    status: Status | None
    workflow: str | None
    limit: int
    after: str | None


class Purge(_Request, frozen=True, array_like=True, tag="purge"):
    partitions: list[int] | None
    older_than_s: float
    request_id: str = ""


class Post(_Request, frozen=True, array_like=True, tag="post"):
    envelope: Envelope


class Owners(_Request, frozen=True, array_like=True, tag="owners"):
    pass


class Forget(_Request, frozen=True, array_like=True, tag="forget"):
    pass


Request: TypeAlias = (
    Submit | Outcome | Metadata | JournalOf | SendMessage | Cancel | Pause | Resume | RowsBefore | Fork | Export | Listing
    | Purge | Post | Owners | Forget
)  # fmt: skip

ANSWERS: dict[type[_Request], Any] = {
    Submit: None,
    Outcome: StatusRow | None,
    Metadata: WorkflowMetadata,
    JournalOf: tuple[list[Row], list[Attempt]],
    SendMessage: None,
    Cancel: None,
    Pause: None,
    Resume: None,
    RowsBefore: list[Row],
    Fork: None,
    Export: str,
    Listing: list[WorkflowMetadata],
    Purge: list[str],
    Post: Failure | None,
    Owners: list[Owned],
}
"""What a request is answered with."""


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """A request, as it travels. ``number`` is the caller's, on that link."""

    number: int
    request: Request


class Numbered(msgspec.Struct, frozen=True, array_like=True):
    """An `Ask` of which only the number is read."""

    number: int
    request: msgspec.Raw


Argument: TypeAlias = str | int | float | bool | None


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """An error, as it travels."""

    kind: str
    args: tuple[Argument, ...]
    text: str


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a request: a value in msgpack, or a fault."""

    number: int
    value: msgspec.Raw
    fault: Fault | None = None


KINDS: dict[str, type[DurableError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, DurableError)
}
"""Every error that can travel as itself."""


def fault_of(error: Exception) -> Fault:
    """How an error travels.

    >>> fault_of(errors.WorkflowNotFound("there is no order-7")).kind
    'WorkflowNotFound'
    """
    kind, args = type(error), error.args
    if isinstance(error, FunctionFailed):
        args = (error.error_type, error.message)
    if KINDS.get(kind.__name__) is not kind or not all(isinstance(one, str | int | float | None) for one in args):
        return Fault("", (), f"{kind.__name__}: {error}")
    return Fault(kind.__name__, args, str(error))


def error_of(fault: Fault) -> DurableError:
    """The error again.

    >>> error_of(Fault("NotOwner", (7, "node-2", 3), "")).owner
    'node-2'
    >>> error_of(Fault("KeyboardInterrupt", (), "who would send that?"))
    ClusterError('who would send that?')
    """
    kind = KINDS.get(fault.kind)
    if kind is not None:
        try:
            error = kind(*fault.args)
            str(error)
        except (TypeError, ValueError):  # another version's arguments
            return ClusterError(f"{fault.kind}: {fault.text}")
        return error
    return ClusterError(fault.text)
