"""What a journal is made of.

A journal is written in *rows*, and every row is written once. There are three kinds in the order of replay:

- `Start`, row 0: what was asked for. A run begins with it.
- `Command`: the code made an operation ("call charge with this order"). It is recorded before the operation is done, so a
  crash leaves at least the intent behind. Commands are numbered from 0 without gaps, in the order in which the code made
  them: that number is the operation's *sequence number*.
- `Completion`: the world answered (a result, a failure, a timer that fired, a message, a request to cancel). It names the
  command that it answers.

Outside that order stand `Attempt` rows (a function failed and will be tried again) and heartbeats. A reader sees one
`JournalEntry` for each operation, put together from its rows; `durable.journal.journal` does that.

Read next: `durable.journal.codec`, how rows and values become bytes.
"""

from __future__ import annotations

import enum
from typing import Any, TypeAlias

import msgspec

CANCEL = -1
"""The sequence number of a completion that answers no command: somebody asked for the execution to be cancelled."""


class EntryType(enum.Enum):
    """The kinds of operation that a workflow can make."""

    CALL = "CALL"
    SIDE_EFFECT = "SIDE_EFFECT"
    SLEEP = "SLEEP"
    STATE = "STATE"
    SEND = "SEND"
    RECEIVE = "RECEIVE"
    CHILD = "CHILD"
    FIRST = "FIRST"
    PATCH = "PATCH"
    CHECKPOINT = "CHECKPOINT"
    CANCEL = "CANCEL"


INSTANT = frozenset({EntryType.STATE, EntryType.FIRST, EntryType.PATCH, EntryType.CHECKPOINT})
"""Operations that are complete as soon as they are recorded: the world has nothing to answer."""


class Status(enum.Enum):
    """Where an execution stands. `durable.runtime.transitions.TRANSITIONS` says how it gets from one to another."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DIVERGED = "DIVERGED"

    @property
    def finished(self) -> bool:
        """True when nothing will ever change any more."""
        return self in FINISHED


FINISHED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An exception, as it is recorded.

    ``rebuildable`` says that ``module`` and ``qualname`` name a class which, called with the values of ``args_json``, gives
    an equal exception back. It is decided once, when the failure is recorded, so that every replay raises the same type.
    ``cause`` is the exception from which it was raised.
    """

    module: str
    qualname: str
    message: str
    args_json: bytes = b"[]"
    rebuildable: bool = False
    traceback: str = ""
    cause: Failure | None = None

    @property
    def error_type(self) -> str:
        return self.qualname if self.module == "builtins" else f"{self.module}.{self.qualname}"


class Address(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One operation of one execution: where an answer belongs. ``run`` counts continue-as-new, from 0."""

    workflow_id: str
    incarnation: bytes
    run: int
    sequence_number: int


class Start(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="s"):
    """Row 0 of a run. Times are milliseconds since 1970.

    ``seed`` decides what ``ctx.random`` gives, ``child_base`` begins the ids of children. A fork keeps the seed of its
    origin, and for its first ``forked_at`` commands, which are recorded, also the bases that those were made with:
    ``origin_child_bases`` holds ``(until, base)`` of the origin, its origin, and so on. Children that ran where it was forked
    it starts anew: ``restarted`` holds ``(at, base, commands)``, what those children are called from command ``at`` on.
    """

    workflow: str
    version: int
    input_json: bytes
    timestamp: int
    python: str
    incarnation: bytes
    run: int = 0
    seed: str = ""
    child_base: str = ""
    forked_at: int = 0
    origin_child_bases: tuple[tuple[int, str], ...] = ()
    parent: Address | None = None
    state: dict[str, bytes] = {}
    checkpoint: bytes | None = None
    restarted: tuple[tuple[int, str, tuple[int, ...]], ...] = ()

    def child_id(self, number: int, recorded_id: str, made: int) -> str:
        """The id of the child of command ``number``, for code that has made ``made`` commands.

        >>> fork = Start("greet", 1, b"null", 0, "3.11", b"01234567", forked_at=3, restarted=((3, "fork", (1,)),))
        >>> fork.child_id(1, "child", 2), fork.child_id(1, "child", 3), fork.child_id(2, "other", 3)
        ('child', 'fork.1', 'other')
        """
        for at, base, commands in self.restarted:
            if at <= made and number in commands:
                recorded_id = f"{base}.{number}"
        return recorded_id


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="c"):
    """The code made an operation. ``where`` is its source line, ``file.py:12``."""

    entry_type: EntryType
    name: str
    input_json: bytes
    timestamp: int
    where: str = ""


class Completion(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="d"):
    """The world answered the command of this sequence number: a value, or a failure."""

    sequence_number: int
    output_json: bytes | None
    timestamp: int
    error: Failure | None = None


Row: TypeAlias = Start | Command | Completion


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An attempt of a function that failed and will be tried again at ``next_at_ms``. ``attempt`` counts from 1."""

    sequence_number: int
    attempt: int
    started_at_ms: int
    next_at_ms: int
    error: Failure
    failed_at_ms: int = 0


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a workflow, as a reader sees it.

    Times are milliseconds since 1970. ``output_json`` is None until the operation is complete, and for a failure.
    ``completion_order`` says when its completion was applied among all completions (0 is the first), None before that and
    for operations that are complete as soon as they are made.
    """

    sequence_number: int
    entry_type: EntryType
    name: str
    input_json: str
    output_json: str | None
    timestamp: int
    completed: bool
    error: Failure | None = None
    attempts: tuple[Attempt, ...] = ()
    completion_order: int | None = None
    completed_at: int | None = None
    where: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)


class WorkflowMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an execution without its journal. Times are milliseconds since 1970."""

    workflow_id: str
    workflow: str
    version: int
    status: Status
    input_json: str
    output_json: str | None
    error: Failure | None
    created_at: int
    updated_at: int
    owner: str
    epoch: int
    incarnation: str
    run: int

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)


class EnvelopeKind(enum.Enum):
    """What one execution tells another."""

    SEND = "send"
    START = "start"
    RESULT = "result"
    CANCEL = "cancel"


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message between executions, on its way. It leaves only when the batch that holds its row is durable.

    ``sender`` is the operation that sent it. ``number`` grows with every SEND of the sender, and ``previous`` is the number
    of the last one to the same receiver (0: the first of a run): so the receiver knows a repetition and a gap.
    """

    kind: EnvelopeKind
    sender: Address
    receiver: str
    number: int
    name: str = ""
    previous: int = 0
    body_json: bytes = b"null"
    version: int = 1
    error: Failure | None = None
    target: Address | None = None


class Mail(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message that was accepted and that nobody has received yet."""

    channel: str
    value_json: bytes
    sender: str
    received_at_ms: int


class StatusRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The one row of an execution that is rewritten: where it stands. The rest of its metadata is in `Start`."""

    workflow: str
    status: Status
    incarnation: bytes
    run: int
    created_at: int
    updated_at: int
    owner: str
    output_json: bytes | None = None
    error: Failure | None = None
    paused: bool = False
