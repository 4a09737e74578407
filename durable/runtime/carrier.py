"""Envelopes for partitions that are not here: each carried in its turn, again and again, until somebody answers.

What one execution sends to another is a *way*, and on a way one envelope goes after the other: the next leaves when the receiver's
owner has answered for the one before. So the receiver sees them in order, and a gap can only mean that it refused one, never
that one is late. Ways do not wait for each other.

A try that fails says nothing: the envelope may have arrived. It is carried again after a pause, which grows; the receiver
knows a repetition. While a way is open, envelopes take it also when the receiver's partition has come here meanwhile: they must
not overtake. It is closed when the sender's partition goes; whoever has that next begins from the outbox.

Some cannot be answered for long: the receiver is paused, or nobody owns its partition. Who is not answered soon leaves its place
and tries on among its like, in places of their own. However many they are, they hold up each other, and nobody else for long.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from durable.errors import ClusterError, DurableError, NoQuorum, Overloaded
from durable.journal import keys
from durable.journal.entries import Envelope, Failure
from durable.ports import Courier

if TYPE_CHECKING:
    from durable.runtime.engine import Engine
    from durable.runtime.tenure import Tenure

log = logging.getLogger("durable")
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 2.0
CARRIED_AT_ONCE_MAX = 1_000
"""Tries under way at once, half of them of envelopes that have waited for long. More ways than that take turns."""
SOON_S = 1.0
"""An envelope that is not answered within this is one that waits for long: many times what a receiver takes that is not held up."""

_Way = tuple[str, bytes, str]
"""The sender's id and incarnation, and the receiver."""


class _Letters:
    """What is to be carried on one way, the first first."""

    __slots__ = ("queue", "task", "tenure", "waiting")

    def __init__(self, tenure: Tenure) -> None:
        self.tenure = tenure
        self.queue: deque[tuple[bytes, Envelope]] = deque()
        self.waiting: dict[bytes, None] = {}
        self.task: asyncio.Task[None] | None = None


class Carrier:
    """The ways of one node. ``here(envelope)`` receives on this node; ``answered`` is told each answer."""

    def __init__(
        self,
        engine: Engine,
        courier: Courier | None,
        here: Callable[[Envelope], Awaitable[Failure | None]],
        answered: Callable[[Tenure, bytes, Envelope, Failure | None], None],
    ) -> None:
        self._engine = engine
        self._courier = courier
        self._here = here
        self._answered = answered
        self._ways: dict[_Way, _Letters] = {}
        self._free = asyncio.Semaphore(CARRIED_AT_ONCE_MAX // 2)
        self._free_for_long = asyncio.Semaphore(CARRIED_AT_ONCE_MAX // 2)

    def is_before(self, envelope: Envelope) -> bool:
        """Whether an earlier envelope of the same sender to the same receiver is still being carried."""
        return bool(self._ways) and _way(envelope) in self._ways

    def add(self, tenure: Tenure, key: bytes, envelope: Envelope) -> None:
        """Carry an envelope. One that waits on its way already is not added again."""
        way = _way(envelope)
        letters = self._ways.get(way)
        if letters is None:
            letters = self._ways[way] = _Letters(tenure)
            letters.task = self._engine.loop.create_task(self._carry_all(way, letters))
        if key not in letters.waiting:
            letters.waiting[key] = None
            letters.queue.append((key, envelope))

    def drop(self, partition: int) -> None:
        """The senders of this partition are run elsewhere."""
        for way, letters in [item for item in self._ways.items() if item[1].tenure.partition == partition]:
            self._close(way, letters)

    def close(self) -> None:
        for way, letters in list(self._ways.items()):
            self._close(way, letters)

    def _close(self, way: _Way, letters: _Letters) -> None:
        del self._ways[way]
        if letters.task is not None:
            letters.task.cancel()

    async def _carry_all(self, way: _Way, letters: _Letters) -> None:
        while letters.queue:
            key, envelope = letters.queue[0]
            failure = await self._carry(envelope)
            letters.queue.popleft()
            del letters.waiting[key]
            try:
                self._answered(letters.tenure, key, envelope, failure)
            except DurableError as error:  # the sender cannot be read: its envelope waits in the outbox
                log.error("an answer to %s waits: %s", envelope.sender.workflow_id, error)
        if self._ways.get(way) is letters:
            del self._ways[way]

    async def _carry(self, envelope: Envelope) -> Failure | None:
        pause_s, long = PAUSE_MIN_S, False
        while True:
            try:
                return await self._try(envelope, long)
            except TimeoutError:
                if not long:
                    long = True
                    continue
            except (ClusterError, Overloaded) as error:
                log.debug("an envelope for %s is carried again: %s", envelope.receiver, error)
                if isinstance(error, NoQuorum):
                    pause_s = max(pause_s, min(error.retry_after_s, PAUSE_MAX_S))
            except Exception as error:  # the receiver cannot be read, or a fault at the other end: neither ends by hurrying
                log.error("an envelope for %s is carried again: %r", envelope.receiver, error)
                pause_s = PAUSE_MAX_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def _try(self, envelope: Envelope, long: bool) -> Failure | None:
        """Raises TimeoutError when there is no answer soon, unless it has waited for ``long``."""
        if self._courier is None or keys.partition_of(envelope.receiver) in self._engine.here:
            return await self._here(envelope)
        async with self._free_for_long if long else self._free, asyncio.timeout(None if long else SOON_S):
            return await self._courier.carry(envelope)


def _way(envelope: Envelope) -> _Way:
    return envelope.sender.workflow_id, envelope.sender.incarnation, envelope.receiver
