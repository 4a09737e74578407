"""Durable execution for Python, embedded: workflows that survive, without a server.

A workflow is an ordinary ``async def``. Every operation that it makes goes into a journal before it runs; after a crash the
journal is replayed, and the workflow goes on where it was. There is no server: a node is this library in your process, and
its journal a folder.

The source is meant to be read. In this order:

1. `durable.journal`: what is recorded, and what is decided from it (pure).
2. `durable.workflows`: what an author writes, and the machine that runs it (pure).
3. `durable.runtime`: one node: run, park, resume, recover; beside it `durable.desk`, what one can ask of an execution, and
   `durable.bodies`, where functions run.
4. `durable.storage`: what a node keeps, and three engines to keep it in.
5. `durable.membership` and `durable.routing`: who is there, and where a workflow belongs (pure).
6. `durable.copies` and `durable.replication`: what the copies of a journal say to each other; who owns a partition, and what is
   committed (pure).
7. `durable.desk` and `durable.rpc`: asking the owner, wherever it is. `durable.cluster` and `durable.transports`: processes
   that are nodes; `durable.sim` puts the same into a simulation.
"""

from typing import TYPE_CHECKING

from durable.desk.handle import WorkflowHandle
from durable.errors import (
    ClusterError,
    DurableError,
    EncodingError,
    FunctionFailed,
    FunctionTimeout,
    JournalCorrupted,
    MailRefused,
    NonDeterminismError,
    NoQuorum,
    NotAllowedHere,
    NotOwner,
    NotRegistered,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    ReplayError,
    SagaRollbackFailed,
    StoreClosed,
    StoreCorrupted,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    ValueTooLarge,
    WorkflowAlreadyExists,
    WorkflowCancelled,
    WorkflowError,
    WorkflowFailed,
    WorkflowNotFound,
)
from durable.journal.entries import EntryType, JournalEntry, Status, WorkflowMetadata
from durable.journal.retry import RetryPolicy
from durable.runtime.config import NodeConfig
from durable.runtime.opening import open
from durable.runtime.runtime import NodeRuntime
from durable.storage.node import NodeStorage
from durable.workflows.context import Context, Winner
from durable.workflows.definition import Call, Function, Workflow, current_call, function, workflow

__version__ = "0.1.0"

__all__ = [
    "Call",
    "ClusterError",
    "Context",
    "DurableError",
    "EncodingError",
    "EntryType",
    "Function",
    "FunctionFailed",
    "FunctionTimeout",
    "JournalCorrupted",
    "JournalEntry",
    "MailRefused",
    "NoQuorum",
    "NodeConfig",
    "NodeRuntime",
    "NodeStorage",
    "NonDeterminismError",
    "NotAllowedHere",
    "NotOwner",
    "NotRegistered",
    "OutcomeUnknown",
    "Overloaded",
    "ProtocolError",
    "ReplayError",
    "RetryPolicy",
    "SagaRollbackFailed",
    "Status",
    "StoreClosed",
    "StoreCorrupted",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreReadOnly",
    "ValueTooLarge",
    "Winner",
    "Workflow",
    "WorkflowAlreadyExists",
    "WorkflowCancelled",
    "WorkflowError",
    "WorkflowFailed",
    "WorkflowHandle",
    "WorkflowMetadata",
    "WorkflowNotFound",
    "current_call",
    "function",
    "open",
    "workflow",
]

if TYPE_CHECKING:
    from durable.storage import InMemoryStore as InMemoryStore
    from durable.storage import LevelDBStore as LevelDBStore
    from durable.storage import RocksDBStore as RocksDBStore
else:  # a type checker that saw this would take every name for one of durable's

    def __getattr__(name: str) -> object:
        """The stores, when they are first used. They are not in ``__all__``: neither `durable` nor a ``*`` needs an engine."""
        if name not in ("InMemoryStore", "LevelDBStore", "RocksDBStore"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from durable import storage

        return getattr(storage, name)
