"""Every exception that ``durable`` raises, sorted by who must act.

::

    DurableError
    ├── WorkflowError             the author of the workflow
    │   ├── WorkflowFailed            the workflow raised; `__cause__` is what it raised
    │   ├── WorkflowCancelled         it was cancelled
    │   ├── WorkflowNotFound          no execution has this id
    │   ├── WorkflowAlreadyExists     the id is taken by another workflow or input
    │   ├── NotRegistered             no workflow or function of this name is registered here
    │   ├── EncodingError             a value cannot be written as JSON, or does not fit the declared type
    │   ├── ValueTooLarge             a value is above `value_bytes_max`
    │   ├── FunctionFailed            a function raised something that cannot be rebuilt as it was
    │   ├── FunctionTimeout           a function took longer than its timeout
    │   ├── OutcomeUnknown            it may have happened, or may not; it will not be tried again by itself
    │   ├── SagaRollbackFailed        a compensation failed
    │   ├── MailRefused               the receiver does not exist, has finished, or has no room
    │   └── NotAllowedHere            an operation that a workflow (or a function) cannot do where it tried
    ├── ReplayError               the operator who deployed the code
    │   ├── NonDeterminismError       the code no longer does what the journal says it did
    │   └── JournalCorrupted          an entry cannot be read back
    ├── StoreError                the disk
    │   ├── StoreLocked               another process holds the folder
    │   ├── StoreReadOnly             the folder cannot be written
    │   ├── StoreFull                 there is no space left
    │   ├── StoreCorrupted            the files are damaged
    │   └── StoreClosed               it was closed
    ├── Overloaded                the caller: try again later; nothing was accepted
    ├── ClusterError              the cluster: ask elsewhere, or later
    │   ├── NotOwner                  the partition is run by another node: ask that one
    │   ├── NoQuorum                  too few of the partition's replicas answer; nothing was accepted, or told
    │   ├── EmptyRing                 no node is on the ring, so nobody owns the key
    │   ├── NotSecured                it would listen beyond this machine without a key; it did not start
    │   ├── Unreachable               nobody answered at an address
    │   │   └── Unanswered                it was asked, and did not answer: it may have done it
    │   ├── JoinRejected              the cluster will not let this node in
    │   └── NameTaken                 another process runs under this node's name; this one has stopped
    └── ProtocolError             the peer that sent it

Each message says what happened, whether anything is lost, and what to do.
"""

from __future__ import annotations


class DurableError(Exception):
    """The root: ``except DurableError`` catches everything that this library raises on purpose."""


class WorkflowError(DurableError):
    """For the author of a workflow."""


class WorkflowFailed(WorkflowError):
    """The workflow raised an exception; ``__cause__`` is that exception, rebuilt where its type allows."""


class WorkflowCancelled(WorkflowError):
    """The workflow was cancelled before it returned."""


class WorkflowNotFound(WorkflowError):
    """No execution has this id."""


class WorkflowAlreadyExists(WorkflowError):
    """The workflow id is in use by another workflow, or by the same one with another input."""


class NotRegistered(WorkflowError):
    """No workflow or function of this name is registered in this process."""


class EncodingError(WorkflowError):
    """A value cannot be written as JSON, or what was recorded does not fit the declared type."""


class ValueTooLarge(WorkflowError):
    """A value is larger than ``value_bytes_max``, or more would have to be recorded at once than a log takes."""


class FunctionFailed(WorkflowError):
    """A function raised an exception that cannot be rebuilt as it was: ``error_type`` and ``message`` tell what it was."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(f"{error_type}: {message}")
        self.error_type = error_type
        self.message = message


class FunctionTimeout(WorkflowError):
    """One attempt of a function took longer than its timeout, and no attempt was left."""


class OutcomeUnknown(WorkflowError):
    """It may have happened, or may not, and nobody can tell. It is not tried again by itself.

    Of a request to a cluster, ``request_id`` is the id (or key) with which it can safely be made again.
    """

    def __init__(self, message: str = "", request_id: str | None = None) -> None:
        super().__init__(message) if request_id is None else super().__init__(message, request_id)
        self.request_id = request_id

    def __str__(self) -> str:
        return str(self.args[0])


class SagaRollbackFailed(WorkflowError):
    """At least one compensation failed. ``failures`` names each, with its exception; the others ran.

    A journal holds its message alone: where it comes back from one (to a parent, to `WorkflowHandle.result`), ``failures`` is
    empty, and the names stand in the message.
    """

    def __init__(self, message: str, failures: tuple[tuple[str, BaseException], ...] = ()) -> None:
        super().__init__(message)
        self.failures = failures


class MailRefused(WorkflowError):
    """A message was not accepted: its receiver does not exist, has finished, or its mailbox is full."""


class NotAllowedHere(WorkflowError):
    """An operation that cannot be done where it was tried (a socket in a workflow, a workflow call in a function)."""


class ReplayError(DurableError):
    """For the operator who deploys code. The execution stops; nothing is lost."""


class NonDeterminismError(ReplayError):
    """The code no longer makes the operations that its journal records."""


class JournalCorrupted(ReplayError):
    """An entry of a journal cannot be read back. Only this execution stops."""


class StoreError(DurableError):
    """The disk, or the folder on it. Nothing that was acknowledged is lost."""


class StoreLocked(StoreError):
    """Another process holds the folder; the message says which."""


class StoreReadOnly(StoreError):
    """The folder, or its file system, cannot be written."""


class StoreFull(StoreError):
    """There is no space left on the device, or the file would pass a size limit."""


class StoreCorrupted(StoreError):
    """The store's files are damaged."""


class StoreClosed(StoreError):
    """The store was closed before this call."""


class Overloaded(DurableError):
    """Too much is under way. Nothing was accepted: try again later."""


class ClusterError(DurableError):
    """For the cluster: ask another node, or later."""


class NotOwner(ClusterError):
    """This node does not run the partition. ``owner`` is the node that does, as far as is known here, in ``epoch``."""

    def __init__(self, partition: int, owner: str | None = None, epoch: int = 0) -> None:
        super().__init__(partition, owner, epoch)
        self.partition = partition
        self.owner = owner
        self.epoch = epoch

    def __str__(self) -> str:
        where = "another node, not known here" if self.owner is None else f"node {self.owner!r} (epoch {self.epoch})"
        return (
            f"partition {self.partition} is not run by this node but by {where}. Nothing that was acknowledged is lost. Ask "
            "there, and with the same id: a request that was under way may have been recorded."
        )


class NoQuorum(ClusterError):
    """Of the ``need`` replicas that must keep what is written to a partition, only ``have`` answer.

    ``asked``: it is said to somebody who wanted to know something, and nothing to be written.
    """

    def __init__(self, partition: int, have: int, need: int, retry_after_s: float = 1.0, asked: bool = False) -> None:
        super().__init__(partition, have, need, retry_after_s, asked)
        self.partition = partition
        self.have = have
        self.need = need
        self.retry_after_s = retry_after_s
        self.asked = asked

    def __str__(self) -> str:
        if self.asked:
            return (
                f"partition {self.partition} has {self.have} of the {self.need} replicas that it needs to answer. Nothing that "
                "was acknowledged is lost: what was accepted waits until they are back, and need not be submitted again. Ask "
                f"again in {self.retry_after_s:g} s or later, or bring back the nodes that are missing."
            )
        return (
            f"partition {self.partition} has {self.have} of the {self.need} replicas that it needs. Nothing was accepted, and "
            f"nothing that was acknowledged is lost. Try again in {self.retry_after_s:g} s, with the same id, or bring back "
            "the nodes that are missing."
        )


class EmptyRing(ClusterError):
    """A key was looked up on a ring without nodes. Nothing was sent or stored."""


class NotSecured(ClusterError):
    """A node was to listen beyond this machine without a key. It did not start."""


class Unreachable(ClusterError):
    """Nobody answered at an address, or not in time. What was asked may have arrived."""


class Unanswered(Unreachable):
    """A request was sent and not answered, in time or before the connection broke. It may have been done, or may yet be."""


class JoinRejected(ClusterError):
    """The cluster will not let this node in, however often it asks; the message says why."""


class NameTaken(ClusterError):
    """Another process runs under this node's name, and outranks it. This node has stopped."""


class ProtocolError(DurableError):
    """For the peer that sent what cannot be understood."""
