"""A saga: what was done is undone, in reverse, when a later step fails.

A transaction over several services does not exist; a sequence of steps with a *compensation* each does. Compensations are
ordinary function calls, so they are journaled: a crash in the middle of a rollback goes on with the rollback. They run on
failure and on cancel, newest first. One that fails does not stop the others; at the end `SagaRollbackFailed` names it.

The source: H. Garcia-Molina and K. Salem, "Sagas", SIGMOD 1987.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any

from durable.errors import SagaRollbackFailed

if TYPE_CHECKING:
    from durable.workflows.context import Context
    from durable.workflows.definition import Function


class Saga:
    """Made by ``ctx.saga()``::

        async with ctx.saga() as saga:
            payment = await ctx.call(charge, order)
            saga.on_rollback(refund, payment)
            await ctx.call(ship, order)             # if this fails, refund(payment) runs
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._compensations: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def on_rollback(self, f: Function[..., Any] | str, *args: Any, **kwargs: Any) -> None:
        """Undo something by calling ``f(*args, **kwargs)`` if the saga does not succeed."""
        self._compensations.append((f, args, kwargs))

    async def __aenter__(self) -> Saga:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not _is_failure(error):
            return False
        failures, cancelled = await self._roll_back()
        if failures:
            names = ", ".join(name for name, _ in failures)
            raise SagaRollbackFailed(
                f"{len(failures)} of {len(self._compensations)} compensations failed ({names}) while undoing after "
                f"{type(error).__name__}: {error}. The others ran; what these should have undone still stands.",
                tuple(failures),
            ) from error
        if cancelled is not None:
            raise cancelled
        return False

    async def _roll_back(self) -> tuple[list[tuple[str, BaseException]], asyncio.CancelledError | None]:
        """All of it, also when it is cancelled meanwhile: that is told when all is undone."""
        failures: list[tuple[str, BaseException]] = []
        cancelled: asyncio.CancelledError | None = None
        for f, args, kwargs in reversed(self._compensations):
            try:
                undoing = self._context.call(f, *args, **kwargs)
                while not undoing.done():
                    try:
                        await asyncio.shield(undoing)
                    except asyncio.CancelledError as error:
                        cancelled = error
                undoing.result()
            except Exception as error:
                failures.append((f if isinstance(f, str) else f.name, error))
        return failures, cancelled


def _is_failure(error: BaseException) -> bool:
    """Errors and cancellation undo; leaving memory, diverging or continuing as new do not: nothing has failed."""
    return isinstance(error, Exception | asyncio.CancelledError)
