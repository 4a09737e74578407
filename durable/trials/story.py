"""What clients of a cluster did and were told, and the model that it is held against: the story must add up.

**Why it exists.** "Nothing was lost" is easily said of a store that one has just written oneself. What counts is what the clients
saw, all of them together: an answer to one must not contradict what another was told before it asked.

**How it works.** An `Operation` whose end is not known (a timeout, an answer that never came) may have taken effect at any time
after its beginning, or never. `explained` asks `durable.linearizable` whether there is an order of the operations on one execution
that respects real time and in which each answer is the one that the model gives.

======================  ===============================================================================================
operation               in the model
======================  ===============================================================================================
submit                  creates the execution; again with the same input: nothing changes
status                  not found before it is created; finished or not after that; what is finished stays so
result                  only of a finished one; every later result is the same
send(key, word)         adds the word to the ledger, unless the key was used before; refused before it is created
ledger's result         exactly the words that were added before the first END, in their order
pause, resume           what is paused does not finish; what had finished is not paused
cancel                  lets what is paused go on; it ends as cancelled, if it had not finished or, a ledger, been told END
======================  ===============================================================================================

An execution finishes by itself at some moment, which no client's operation marks: in the model it may happen at any time.

**Limits.** A send that was answered by an error is taken for one that may have been accepted. That weakens the check, and never
accuses wrongly.

Read next: `durable.trials.workloads`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from durable import linearizable

ENDLESS = float("inf")
END = "end"
"""The word that ends a ledger."""
LEDGER = "ledger"
"""How the name of a workflow ends whose result is the words that it was sent."""

NOT_FOUND, CREATED, REFUSED, ACCEPTED, FINISHED, UNFINISHED, DONE, OVER, CANCELLED = (
    "not found", "created", "refused", "accepted", "finished", "unfinished", "done", "over", "cancelled"
)  # fmt: skip
"""What operations answer. `DONE`: paused, resumed or cancelled; `OVER`: there was nothing to pause any more."""


@dataclass(frozen=True)
class Operation:
    """One call of one client. ``answer`` is None where the outcome is unknown, and ``ended`` then `ENDLESS`."""

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

    def __str__(self) -> str:
        given = ", ".join(map(str, self.given))
        return f"{self.client} {self.what}({given}) {self.began:.3f}-{self.ended:.3f}: {self.answer}"


@dataclass(frozen=True)
class Seen:
    """An execution as clients can know it. ``words`` is what a ledger has taken, with the keys used.

    ``cancelled``: somebody asked for it, so it may end so; ``doomed``: it must, for it had not finished by then.
    """

    exists: bool = False
    ledger: bool = False
    finished: bool = False
    result: str | None = None
    words: tuple[str, ...] = ()
    used: frozenset[str] = frozenset()
    ended: bool = False
    paused: bool = False
    cancelled: bool = False
    doomed: bool = False


def explained(operations: Sequence[Operation], check: Callable[..., bool] = linearizable.check) -> bool:
    """Whether some order of the operations on one execution explains every answer.

    >>> early = Operation("a", "status", "x", (), 0.0, 1.0, NOT_FOUND)
    >>> asked = Operation("b", "submit", "x", (), 0.5, 2.0, CREATED)
    >>> late = Operation("a", "status", "x", (), 3.0, 4.0, NOT_FOUND)
    >>> explained([early, asked]), explained([early, asked, late])
    (True, False)
    """
    told = [one.answer for one in operations if one.what == "result" and one.known and one.answer != NOT_FOUND]
    ordered = sorted(operations, key=lambda one: one.began)
    return check(ordered, Seen(), partial(step, result=told[0] if told else None))


def step(state: Seen, operation: Operation, result: str | None = None) -> Seen | None:
    """The state after the operation; None if it cannot have been answered so in this state, or if what comes to ``result``, as is
    known from elsewhere, cannot come to it from there.
    """
    answer, known = operation.answer, operation.known
    match operation.what:
        case "submit":
            return replace(state, exists=True, ledger=state.ledger or _is_ledger(operation))
        case "status":
            return _status(state, answer) if known else state
        case "result":
            return _result(state, answer) if known else state
        case "send":
            key, word = operation.given
            return _send(state, key, word, answer if known else None, result)
        case "pause" | "resume" | "cancel":
            return _steer(state, operation.what, answer if known else None, result)
    raise ValueError(f"{operation.what!r} is no operation of the model")


def _is_ledger(submitted: Operation) -> bool:
    return bool(submitted.given) and str(submitted.given[0]).endswith(LEDGER)


def _status(state: Seen, answer: str) -> Seen | None:
    if answer == NOT_FOUND:
        return None if state.exists else state
    if not state.exists or (state.finished and answer == UNFINISHED) or (state.paused and answer == FINISHED):
        return None
    return replace(state, finished=answer == FINISHED, doomed=state.doomed or (state.cancelled and answer == UNFINISHED))


def _result(state: Seen, answer: str) -> Seen | None:
    if answer == NOT_FOUND:
        return None if state.exists else state
    if not state.exists or state.paused or state.result not in (None, answer):
        return None
    if answer == CANCELLED:
        right = state.cancelled
    elif state.ledger or state.used:
        right = state.ended and not state.doomed and answer == repr(list(state.words))
    else:
        right = not state.doomed
    return replace(state, finished=True, result=answer) if right else None


def _send(state: Seen, key: str, word: str, answer: str | None, result: str | None) -> Seen | None:
    if not state.exists:
        return None if answer == ACCEPTED else state
    if answer == REFUSED:
        over = (state.ended or state.cancelled) and not state.paused
        return replace(state, finished=True) if over else None
    if key in state.used:
        return state
    if state.finished:
        return None if answer == ACCEPTED else state
    used = state.used | {key}
    if state.ended or result == CANCELLED:  # taken by the mailbox, and never read; or nobody will ever know what was
        return replace(state, used=used, ended=state.ended or word == END)
    words = state.words if word == END else (*state.words, word)
    if result is not None and not result.startswith(repr(list(words))[:-1]):
        return None
    return replace(state, words=words, used=used, ended=word == END)


def _steer(state: Seen, what: str, answer: str | None, result: str | None) -> Seen | None:
    if not state.exists:
        return state if answer in (NOT_FOUND, None) else None
    if answer == NOT_FOUND:
        return None
    if what == "cancel":
        return state if state.finished else _cancelled(state, result)
    if what == "resume":
        return replace(state, paused=False)
    if answer == OVER:
        return None if state.paused else replace(state, finished=True)
    if state.finished:
        return None if answer == DONE else state
    return replace(state, paused=True)


def _cancelled(state: Seen, result: str | None) -> Seen | None:
    doomed = state.doomed or (state.ledger and not state.ended)
    if doomed and result not in (None, CANCELLED):
        return None
    return replace(state, paused=False, cancelled=True, doomed=doomed)
