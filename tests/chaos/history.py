"""What clients of a cluster did and were told, with real times; and whether an order explains it.

**How it works.** `History.call` notes when an operation began, when it ended and how. `judge` asks `durable.trials.story`, for each
workflow id on its own, whether there is an order of the operations that explains all answers.

Read next: `chaos.load`, whose clients fill a history.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chaos.losses import Contradiction
from durable import linearizable
from durable.trials.story import ENDLESS, Operation, explained

T = TypeVar("T")


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


# --- the judgement


def judge(history: History, check: Callable[..., bool] = linearizable.check) -> list[str]:
    """What no order of the operations explains: a line for each execution concerned, with its operations."""
    wrong: list[str] = []
    for target, unordered in history.by_target().items():
        operations = sorted(unordered, key=lambda one: one.began)
        if not explained(operations, check):
            first = operations[0].began
            told = "; ".join(
                f"{one.client} {one.what}{one.given or ''} {one.began - first:.3f}-{one.ended - first:.3f}: {one.answer}"
                for one in operations
            )
            wrong.append(Contradiction(f"{target}: no order of what its clients did explains what they were told: {told}"))
    return wrong
