"""What clients of a cluster did and were told, with real times; and the model that such a history is held against.

**Why it exists.** "Nothing was lost" is easily said of a store that one has just written oneself. What counts is what the clients
saw, all of them together: an answer to one must not contradict what another was told before it asked.

**How it works.** `History.call` notes when an operation began, when it ended and how. An operation whose end is not known (a
timeout, an answer that never came) may have taken effect at any time after its beginning, or never. `judge` asks the checker of
`durable.linearizable`, for each workflow id on its own, whether there is an order of the operations that respects
real time and in which each answer is the one that the model gives.

======================  ===============================================================================================
operation               in the model
======================  ===============================================================================================
submit(name, input)     creates the execution; again with the same name and input: nothing changes
status                  NotFound before it is created; finished or not after that; what is finished stays so
result                  only of a finished one; every later result is the same
send(key, word)         adds the word to the ledger, unless the key was used before; refused before it is created
ledger's result         exactly the words that were added before the first END, in their order
======================  ===============================================================================================

An execution finishes by itself at some moment, which no client's operation marks: in the model it may happen at any time.

**Limits.** A send that was answered by an error is taken for one that may have been accepted. That weakens the check, and never
accuses wrongly.

Read next: `chaos.load`, whose clients fill a history.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chaos.cluster_app import END
from chaos.losses import Contradiction
from durable import linearizable

T = TypeVar("T")
ENDLESS = float("inf")


@dataclass(frozen=True)
class Operation:
    """One call of one client. ``answer`` is None where the outcome is unknown."""

    client: str
    what: str
    target: str
    given: tuple[Any, ...]
    began: float
    ended: float
    answer: Any

    @property
    def known(self) -> bool:
        return self.ended < ENDLESS


@dataclass
class History:
    """Everything that all clients did, in the order in which it ended."""

    operations: list[Operation] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    async def call(
        self,
        client: str,
        what: str,
        target: str,
        given: tuple[Any, ...],
        doing: Awaitable[T],
        told: Callable[[T], Any],
        errors: dict[type[Exception], Any] | None = None,
    ) -> T:
        """Await ``doing`` and note it; ``told`` makes the answer of its value, ``errors`` of an exception that is an answer.

        Any other exception, a cancel included, leaves the outcome unknown. All exceptions go on to the caller.
        """
        began = self.clock()
        ended, answer = ENDLESS, None
        try:
            value = await doing
            ended, answer = self.clock(), told(value)
            return value
        except Exception as error:
            for kind, said in (errors or {}).items():
                if isinstance(error, kind):
                    ended, answer = self.clock(), said
            raise
        finally:
            self.operations.append(Operation(client, what, target, given, began, ended, answer))

    def of(self, target: str) -> list[Operation]:
        return self.by_target().get(target, [])

    def by_target(self) -> dict[str, list[Operation]]:
        found: dict[str, list[Operation]] = {}
        for one in self.operations:
            found.setdefault(one.target, []).append(one)
        return found


# --- the model


@dataclass(frozen=True)
class Seen:
    """An execution as clients can know it. ``words`` is what a ledger has taken, with the keys used."""

    exists: bool = False
    finished: bool = False
    result: str | None = None
    words: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    ended: bool = False


NOT_FOUND, CREATED, REFUSED, ACCEPTED, FINISHED, UNFINISHED = (
    "not found", "created", "refused", "accepted", "finished", "unfinished"
)  # fmt: skip


def step(state: Seen, operation: Operation) -> Seen | None:
    """The state after the operation; None if it cannot have been answered so in this state."""
    answer, known = operation.answer, operation.known
    match operation.what:
        case "submit":
            return Seen(**{**vars(state), "exists": True})
        case "status":
            return _status(state, answer) if known else state
        case "result":
            return _result(state, answer) if known else state
        case "send":
            return _send(state, *operation.given, answer if known else None)
    raise ValueError(f"{operation.what!r} is no operation of the model")


def _status(state: Seen, answer: str) -> Seen | None:
    if answer == NOT_FOUND:
        return None if state.exists else state
    if not state.exists or (state.finished and answer == UNFINISHED):
        return None
    return Seen(**{**vars(state), "finished": answer == FINISHED})


def _result(state: Seen, answer: str) -> Seen | None:
    if answer == NOT_FOUND:
        return None if state.exists else state
    if not state.exists or state.result not in (None, answer):
        return None
    if state.used and not (state.ended and answer == repr(list(state.words))):  # a ledger
        return None
    return Seen(**{**vars(state), "finished": True, "result": answer})


def _send(state: Seen, key: str, word: str, answer: str | None) -> Seen | None:
    if not state.exists:
        return None if answer == ACCEPTED else state
    if answer == REFUSED:
        return state if state.ended else None
    if key in state.used:
        return state
    if state.ended:  # taken by the mailbox, and never read
        return Seen(**{**vars(state), "used": (*state.used, key)})
    words = state.words if word == END else (*state.words, word)
    return Seen(**{**vars(state), "words": words, "used": (*state.used, key), "ended": word == END})


# --- the judgement


def judge(history: History, check: Callable[..., bool] = linearizable.check) -> list[str]:
    """What no order of the operations explains: a line for each execution concerned, with its operations."""
    wrong: list[str] = []
    for target, unordered in history.by_target().items():
        operations = sorted(unordered, key=lambda one: one.began)
        if not check(operations, Seen(), step):
            first = operations[0].began
            told = "; ".join(
                f"{one.client} {one.what}{one.given or ''} {one.began - first:.3f}-{one.ended - first:.3f}: {one.answer}"
                for one in operations
            )
            wrong.append(Contradiction(f"{target}: no order of what its clients did explains what they were told: {told}"))
    return wrong
