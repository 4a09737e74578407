"""Clients that keep a cluster busy, and never forget what they were told.

**How it works.** A client runs a few *sessions* at once; a session submits one workflow, does with it what its shape asks for, and
waits for the result. Whatever is answered by "not now" or "I do not know" is tried again under the same id, until it is answered.
So the load is bounded, goes on through every fault, and at its end everything that was submitted was also accepted.

Some executions are submitted by two clients at once, and many are watched by a third: their answers must agree.

**Limits.** The clients live in the process of the harness: they are never killed.

Read next: `chaos.faults`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from chaos.cluster_app import END
from chaos.history import History
from chaos.losses import Contradiction
from durable import errors
from durable.trials.story import ACCEPTED, CREATED, FINISHED, NOT_FOUND, REFUSED, UNFINISHED

T = TypeVar("T")
AGAIN = (errors.ClusterError, errors.OutcomeUnknown, errors.Overloaded, TimeoutError, ConnectionError)
"""What a client answers by trying again. It says of none of them that nothing was done."""

RESULT_TIMEOUT_S = 4.0
PAUSE_S = (0.05, 0.3)
INPUTS = {
    "chaos-three": (0, 1_000), "chaos-saga": (1, 4), "chaos-timer": (1, 1_500), "chaos-ping": (1, 4), "chaos-ledger": (0, 1),
}  # fmt: skip
SHAPES = tuple(INPUTS)


class Lost(Exception):
    """A promise to a client was not kept."""


@dataclass
class Told:
    """What is known of one execution by those who asked for it."""

    workflow: str
    given: int
    accepted_at: float = 0.0
    finished_at: float = 0.0
    results: list[str] = field(default_factory=list)


class Load:
    """``clients`` by name. ``run`` until ``stop``, then each session brings its workflow to its end."""

    def __init__(self, clients: dict[str, Any], draw: random.Random, sessions: int = 3) -> None:
        self.history = History()
        self.told: dict[str, Told] = {}
        self.losses: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.good: list[float] = []
        self._clients = clients
        self._draw = draw
        self._sessions = sessions
        self._number = 0
        self._give_up_at = self._stopped_at = float("inf")
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Sessions of every client, until `stop`; returns when the last one is done."""
        self.good.append(time.monotonic())
        names = [name for name in self._clients for _ in range(self._sessions)]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._client(name))

    def stop(self, patience_s: float) -> None:
        """No new sessions. What is not done after so long is lost."""
        self._stopped_at = time.monotonic()
        self._give_up_at = self._stopped_at + patience_s
        self._stopping.set()

    async def more_ends(self, count: int, patience_s: float) -> bool:
        """Wait until so many more executions have ended; False: they did not within ``patience_s``."""
        wanted = self._finished() + count
        try:
            async with asyncio.timeout(patience_s):
                while self._finished() < wanted:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            return False
        return True

    def _finished(self) -> int:
        return sum(told.finished_at > 0 for told in self.told.values())

    @property
    def longest_gap_s(self) -> float:
        """The longest time in which no client was answered anything, while they asked."""
        times = sorted(time for time in [*self.good, self._stopped_at] if time <= self._stopped_at and time < float("inf"))
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    async def read_again(self, clients: dict[str, Any], *, finished_only: bool = False) -> None:
        """Every result once more, by other clients: it must be what was told before. ``finished_only``: of those that were told."""

        async def read(name: str, client: Any) -> None:
            for workflow_id, told in list(self.told.items()):
                if finished_only and not told.finished_at:
                    continue
                try:
                    await self._result(name, client, workflow_id)
                except Exception as error:
                    self.losses.append(f"{workflow_id}: read again by {name}: {type(error).__name__}: {error}")

        await asyncio.gather(*(read(name, client) for name, client in clients.items()))

    # One session

    async def _client(self, name: str) -> None:
        while not self._stopping.is_set():
            self._number += 1
            workflow = self._draw.choice(SHAPES)
            workflow_id = f"{workflow.removeprefix('chaos-')}-{self._number}"
            try:
                await self._session(name, workflow, workflow_id)
            except Exception as error:
                self.losses.append(f"{workflow_id}: {type(error).__name__}: {error}")
            await self._pause()

    async def _session(self, name: str, workflow: str, workflow_id: str) -> None:
        given = self._draw.randint(*INPUTS[workflow])
        others = [other for other in self._clients if other != name]
        submitters = [name, *(others[:1] if self._draw.random() < 0.25 else [])]
        self.told[workflow_id] = Told(workflow, given)
        over = asyncio.Event()
        watching = asyncio.create_task(self._watch(self._draw.choice(others or [name]), workflow_id, over))
        try:
            await asyncio.gather(*(self._submit(one, workflow, given, workflow_id) for one in submitters))
            if workflow == "chaos-ledger":
                await self._fill(submitters, workflow_id)
            await asyncio.gather(*(self._result(one, self._clients[one], workflow_id) for one in submitters))
        finally:
            over.set()
            await watching

    async def _submit(self, name: str, workflow: str, given: int, workflow_id: str) -> None:
        async def submit() -> None:
            await self._clients[name].submit(workflow, given, workflow_id=workflow_id)

        await self._persist(name, "submit", workflow_id, (workflow, given), submit, lambda _: CREATED)
        told = self.told[workflow_id]
        told.accepted_at = told.accepted_at or time.monotonic()

    async def _result(self, name: str, client: Any, workflow_id: str) -> None:
        def ask() -> Awaitable[Any]:
            return client.handle(workflow_id).result(timeout=RESULT_TIMEOUT_S)

        not_found = {errors.WorkflowNotFound: NOT_FOUND}
        answer = repr(await self._persist(name, "result", workflow_id, (), ask, repr, not_found))
        told = self.told[workflow_id]
        told.finished_at = told.finished_at or time.monotonic()
        self._ended.set()
        if told.results and answer != told.results[0]:
            words = f"{workflow_id}: {name} was told {answer}, and before that {told.results[0]} had been told"
            self.losses.append(Contradiction(words))
        told.results.append(answer)

    async def _fill(self, senders: Sequence[str], workflow_id: str) -> None:
        """Words from every submitter, each one's in order; some twice under one key; then the end."""

        async def words(name: str) -> None:
            for n in range(self._draw.randint(1, 4)):
                for _ in range(2 if self._draw.random() < 0.3 else 1):
                    await self._send(name, workflow_id, f"{name}-{n}", f"{name} says {n}")

        await asyncio.gather(*(words(name) for name in senders))
        await self._send(senders[0], workflow_id, "the-end", END)

    async def _send(self, name: str, workflow_id: str, key: str, word: str) -> None:
        def send() -> Awaitable[Any]:
            return self._clients[name].handle(workflow_id).send("in", word, key=key)

        refused = {errors.MailRefused: REFUSED}
        await self._persist(name, "send", workflow_id, (key, word), send, lambda _: ACCEPTED, refused)

    async def _watch(self, name: str, workflow_id: str, over: asyncio.Event) -> None:
        """A third one asks now and then where it stands; asked once each time, and an error is no answer."""

        def told(status: Any) -> str:
            return FINISHED if status.finished else UNFINISHED

        while not over.is_set():
            asking = self._clients[name].handle(workflow_id).status()
            not_found = {errors.WorkflowNotFound: NOT_FOUND}
            try:
                await self.history.call(name, "status", workflow_id, (), asking, told, not_found)
            except errors.WorkflowNotFound:
                pass  # noted: an answer like others
            except AGAIN as error:
                self.refusals[type(error).__name__] += 1
            await self._pause(over)

    # How

    async def _persist(
        self,
        name: str,
        what: str,
        target: str,
        given: tuple[Any, ...],
        attempt: Callable[[], Awaitable[T]],
        told: Callable[[T], Any],
        answers: dict[type[Exception], Any] | None = None,
    ) -> T:
        while True:
            try:
                value = await self.history.call(name, what, target, given, attempt(), told, answers)
                self.good.append(time.monotonic())
                return value
            except AGAIN as error:
                self.refusals[type(error).__name__] += 1
                if time.monotonic() > self._give_up_at:
                    raise Lost(f"{what} is still answered by {type(error).__name__}: {error}") from error
            await self._pause()

    async def _pause(self, until: asyncio.Event | None = None) -> None:
        """A moment, so that clients do not fill the machine; cut short when it is over."""
        try:
            async with asyncio.timeout(self._draw.uniform(*PAUSE_S)):
                await (until or asyncio.Event()).wait()
        except TimeoutError:
            return
