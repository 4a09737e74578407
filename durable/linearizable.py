"""Is there an order that explains what all clients were told? The check of a history of concurrent operations.

**Why it exists.** Each client on its own may be content while two of them together were told what cannot be: a word that one was
promised is missing from what the other reads later. A history is *linearizable* if its operations can be put into one order
in which each answer is right, and in which no operation stands before one that had ended when it began.

**How it works.** Depth first, after Wing and Gong, with Lowe's memory: operations that began before the first end of those that are
left may be next; a set of operations done, with the state that they lead to, is looked at once. The model is a function:

==============================  ===================================================================================
``step(state, operation)``      the state after the operation, or None if its answer is not possible in this state
``state``                       anything that can be hashed and compared
``operation.began``, ``ended``  real times; ``ended`` is infinite where the caller was never answered
==============================  ===================================================================================

An operation without an end may have happened at any time after its beginning, or never.

**Limits.** The time grows with the number of operations that overlap, at worst exponentially. Cut a history into parts that do not
touch each other (`parts`) before it is checked: one key, one workflow.

Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for linearizability" (2017).

Read next: `durable.sim.checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)
Key = TypeVar("Key", bound=Hashable)


class Operation(Protocol):
    """What the checker must know of an operation; the model knows the rest."""

    @property
    def began(self) -> float: ...

    @property
    def ended(self) -> float: ...


One = TypeVar("One", bound=Operation)


def parts(operations: Iterable[One], key: Callable[[One], Key]) -> dict[Key, list[One]]:
    """The operations by what they touch, in the order in which they began."""
    found: dict[Key, list[One]] = {}
    for operation in sorted(operations, key=lambda one: one.began):
        found.setdefault(key(operation), []).append(operation)
    return found


def check(operations: Sequence[One], state: State, step: Callable[[State, One], State | None]) -> bool:
    """Whether some order explains all answers, from ``state`` on.

    >>> from collections import namedtuple
    >>> Op = namedtuple("Op", "began ended writes reads")
    >>> def register(value, op):
    ...     return op.writes if op.writes is not None else value if op.reads == value else None
    >>> write, old, new = Op(0, 5, 1, None), Op(1, 2, None, 0), Op(3, 4, None, 1)
    >>> check([write, old, new], 0, register)
    True
    >>> check([write, old._replace(began=6, ended=7), new], 0, register)      # what was read is unread again
    False
    """
    return explain(operations, state, step) is not None


def explain(operations: Sequence[One], state: State, step: Callable[[State, One], State | None]) -> list[One] | None:
    """An order that explains all answers, without those operations that may never have happened; None if there is none."""
    search = _Search(sorted(operations, key=lambda one: one.began), step)
    return search.order() if search.run(state) else None


class _Search(Generic[State, One]):
    """One search: a stack of choices, and a memory of where it has been."""

    def __init__(self, operations: Sequence[One], step: Callable[[State, One], State | None]) -> None:
        self._operations = operations
        self._step = step
        self._stack: list[tuple[int, int]] = []
        """Which operation was chosen, and from which on to choose when it was the wrong one."""

    def order(self) -> list[One]:
        return [self._operations[index] for index, _ in self._stack]

    def run(self, state: State) -> bool:
        operations = self._operations
        must = sum(1 << index for index, one in enumerate(operations) if one.ended < float("inf"))
        done, place = 0, 0
        states = [state]
        seen: set[tuple[int, State]] = set()
        while done & must != must:
            index, after = self._next(done, place, states[-1], seen)
            if index is None:  # nothing fits any more: take the last choice back
                if not self._stack:
                    return False
                index, place = self._stack.pop()
                states.pop()
                done &= ~(1 << index)
                continue
            self._stack.append((index, index + 1))
            states.append(after)
            done |= 1 << index
            place = 0
        return True

    def _next(self, done: int, place: int, state: State, seen: set[tuple[int, State]]) -> tuple[int | None, State]:
        """The first operation from ``place`` on that may come now, is answered rightly, and leads to somewhere new."""
        for index in self._open(done):
            if index < place:
                continue
            after = self._step(state, self._operations[index])
            if after is not None and (done | 1 << index, after) not in seen:
                seen.add((done | 1 << index, after))
                return index, after
        return None, state

    def _open(self, done: int) -> list[int]:
        """The operations left that began before every end of those left. (Whoever began later cannot have ended before that.)"""
        found, first_end = [], float("inf")
        for index in range((~done & (done + 1)).bit_length() - 1, len(self._operations)):
            operation = self._operations[index]
            if done >> index & 1:
                continue
            if operation.began > first_end:
                break
            first_end = min(first_end, operation.ended)
            found.append(index)
        return found
