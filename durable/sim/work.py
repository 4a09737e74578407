"""Clients of a simulated cluster: they submit, send, ask and wait all through a storm, and hold the cluster to each answer.

**How it works.** Each client is a process with a `ClusterClient`, on a machine of its own that no fault but the network's hits.
What it does is drawn from the seed. It sends again, under the same id, what it got no answer to, as everybody is told to. When
the storm is over it waits for every workflow that was ever accepted.

===========  ==================================================================================================
workflow     what it tries
===========  ==================================================================================================
steps        calls, one after another
sleeper      a durable timer between two calls
ledger       messages from outside, in order, each once, until "end"
parent       a child in another partition, and its result
===========  ==================================================================================================

==========================  ===========================================================================================
law                         says
==========================  ===========================================================================================
answered means committed    an accepted workflow is on stable storage on a majority
executed after committed    so is the workflow of which a function runs
one result                  the right one, whoever asks
nothing twice               no body ran more often than its partition had owners: once more for each failover that hit it
the story adds up           there is an order of what all clients did in which each answer is right (`durable.linearizable`)
the end                     everything accepted has completed
==========================  ===========================================================================================

Read next: `durable.sim.runs`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, fields, replace
from random import Random
from typing import TYPE_CHECKING, Any

from durable import linearizable
from durable.cluster.client import ClusterClient
from durable.cluster.config import ClusterConfig
from durable.cluster.node import ClusterNode
from durable.errors import DurableError, WorkflowNotFound
from durable.journal.entries import FINISHED
from durable.journal.keys import PARTITIONS, STATUS, of, partition_of
from durable.sim.checks import Law, LawBroken
from durable.sim.journals import Journals
from durable.sim.world import SECRET
from durable.storage.node import NodeStorage
from durable.workflows.context import Context
from durable.workflows.definition import Workflow, current_call, function, workflow

if TYPE_CHECKING:
    from durable.copies.tuning import ReplicationTuning
    from durable.ports import Clock, Entropy, Store, Transport
    from durable.sim.process import SimProcess
    from durable.sim.world import SimWorld

ENDLESS = float("inf")
CLIENTS = 3
PAUSE_S = (0.05, 1.5)
PATIENCE_S = 8.0


FEW = 16
ALL_EVERY = 16


class FewPartitions(ClusterConfig):
    """Only the first partitions exist. Partitions share nothing but the roster, and most of what 256 of them cost is idle talk."""

    def replication(self) -> ReplicationTuning:
        return replace(super().replication(), partitions=FEW)


def partitions_in(world: SimWorld) -> int:
    """How many partitions a world has: all in one of `ALL_EVERY` seeds."""
    return FEW if world.seed % ALL_EVERY else PARTITIONS


def placed(name: str, partitions: int) -> str:
    """An id that begins so, and lies in one of the first partitions."""
    number = 0
    while partition_of(f"{name}.{number}") >= partitions:
        number += 1
    return f"{name}.{number}"


def make_runner(world: SimWorld, name: str, transport: Transport, clock: Clock, entropy: Entropy, store: Store) -> ClusterNode:
    """A node that runs workflows, as in production."""
    process = world.machine(name).process
    assert process is not None
    storage = NodeStorage.make(store)
    ports: Any = {"transport": transport, "clock": clock, "entropy": entropy, "syncer": process.syncer}
    config = world.config_of(name)
    if partitions_in(world) == FEW:
        config = FewPartitions(**{field.name: getattr(config, field.name) for field in fields(config)})
    return ClusterNode(config, storage, **ports)


# --- what is run


@function("sim-add")
async def add(n: int) -> int:
    await asyncio.sleep(0.01)
    process: SimProcess = asyncio.get_running_loop().process  # type: ignore[attr-defined]
    for watcher in process.world.watchers:
        if isinstance(watcher, Clients):
            watcher.ran(process, current_call().workflow_id, current_call().sequence_number)
    return n + 1


@workflow("sim-steps")
async def steps(ctx: Context, n: int) -> int:
    for _ in range(3):
        n = await ctx.call(add, n)
    return n


@workflow("sim-sleeper")
async def sleeper(ctx: Context, n: int) -> int:
    n = await ctx.call(add, n)
    await ctx.sleep(5.0)
    return await ctx.call(add, n)


@workflow("sim-ledger")
async def ledger(ctx: Context, n: int) -> list[str]:
    words: list[str] = []
    while True:
        word = await ctx.receive("words", str)
        if word == "end":
            return words
        words.append(word)


@workflow("sim-parent")
async def parent(ctx: Context, n: int) -> int:
    n = await ctx.call(add, n)
    return await ctx.start(steps, n, workflow_id=placed(f"{ctx.workflow_id}-child", FEW))


KINDS: dict[str, tuple[Workflow[Any, Any], int]] = {
    "steps": (steps, 3),
    "sleeper": (sleeper, 2),
    "ledger": (ledger, 0),
    "parent": (parent, 4),
}
"""Each with what it adds to its input."""


# --- who asks


@dataclass(frozen=True)
class Operation:
    """What one client did, and was told. ``answer`` is None where nobody knows."""

    client: str
    what: str
    target: str
    began: float
    ended: float
    answer: Any


class Clients(Law):
    """`CLIENTS` clients, and the laws of the table."""

    def __init__(self, world: SimWorld, journals: Journals) -> None:
        super().__init__(world)
        self.accepted: dict[str, tuple[str, int]] = {}
        self.operations: list[Operation] = []
        self._journals = journals
        self._results: dict[str, Any] = {}
        self._words: dict[str, list[str]] = {}
        self._bodies: Counter[tuple[str, int]] = Counter()
        self._ending = False
        self._broken: LawBroken | None = None

    # As a law

    def begins(self) -> None:
        for number in range(1, CLIENTS + 1):
            process = self.world.enter(f"client-{number}")
            process.spawn(self._live(process, Random(f"{self.world.seed}/client-{number}")))

    def healed(self) -> None:
        self._ending = True

    def stepped(self, process: SimProcess) -> None:
        if self._broken is not None:
            raise self._broken

    def missing(self) -> str | None:
        if not self._ending:
            return None
        unfinished = [workflow_id for workflow_id in self.accepted if workflow_id not in self._results]
        if unfinished:
            return f"{len(unfinished)} of {len(self.accepted)} accepted workflows have not completed, {unfinished[0]} for one"
        for (workflow_id, number), times in self._bodies.items():
            if times > self._journals.tenures[partition_of(workflow_id)]:
                raise LawBroken("nothing twice", self.world, workflow_id, f"function {number}", f"{times} times")
        for target, operations in linearizable.parts(self.operations, lambda one: one.target).items():
            if not linearizable.check(operations, Known(), step):
                raise LawBroken("the story adds up", self.world, target, *operations)
        return None

    def _break(self, law: str, *facts: object) -> None:
        self._broken = self._broken or LawBroken(law, self.world, *facts)

    def ran(self, process: SimProcess, workflow_id: str, sequence_number: int) -> None:
        """A function's body has run."""
        self._bodies[workflow_id, sequence_number] += 1
        self._committed("executed after committed", workflow_id)

    def _committed(self, law: str, workflow_id: str) -> None:
        partition = partition_of(workflow_id)
        enough = self._journals.majority(partition)
        copies = self._journals.durable_on(partition, of(partition, STATUS, workflow_id), enough)
        if copies < enough:
            self._break(law, workflow_id, f"on {copies} disks")

    # What a client does

    async def _live(self, process: SimProcess, dice: Random) -> None:
        seeds = [self.world.machine(name).address for name in self.world.seeds]
        client = ClusterClient(seeds, SECRET, rpc_timeout=PATIENCE_S, transport=process.transport, entropy=process.entropy)
        await client.open()
        number = 0
        while True:
            await asyncio.sleep(dice.uniform(*PAUSE_S))
            if self._ending:
                break
            number += 1
            await self._act(client, process.name, dice, number)
        for workflow_id, (kind, n) in list(self.accepted.items()):
            if workflow_id.startswith(f"{process.name}-"):
                await self._await(client, process.name, workflow_id, kind, n)

    async def _act(self, client: ClusterClient, me: str, dice: Random, number: int) -> None:
        known = list(self.accepted)
        ledgers = [one for one in known if self.accepted[one][0] == "ledger"]
        what = dice.random()
        if ledgers and what < 0.3:
            target, word = dice.choice(ledgers), f"{me}-{number}"
            if await self._do(me, f"send {word}", target, client.handle(target).send("words", word, key=word)):
                self._words.setdefault(target, []).append(word)
        elif known and what < 0.5:
            await self._ask(client, me, dice.choice(known))
        else:
            kind = dice.choice(list(KINDS))
            await self._submit(client, me, placed(f"{me}-{number}", partitions_in(self.world)), kind, number)

    async def _submit(self, client: ClusterClient, me: str, workflow_id: str, kind: str, n: int) -> None:
        for _ in range(5):
            if await self._do(me, "submit", workflow_id, client.submit(KINDS[kind][0], n, workflow_id=workflow_id)):
                self.accepted[workflow_id] = kind, n
                self._committed("answered means committed", workflow_id)
                return

    async def _ask(self, client: ClusterClient, me: str, workflow_id: str) -> None:
        handle = client.handle(workflow_id)
        status = await self._do(me, "status", workflow_id, handle.status())
        if status in FINISHED:
            await self._do(me, "result", workflow_id, handle.result())

    async def _await(self, client: ClusterClient, me: str, workflow_id: str, kind: str, n: int) -> None:
        handle = client.handle(workflow_id)
        ended = kind != "ledger"
        result = None
        while result is None:
            if not ended:
                ended = bool(await self._do(me, "send end", workflow_id, handle.send("words", "end", key="end")))
            if ended:
                result = await self._do(me, "result", workflow_id, handle.result(timeout=PATIENCE_S))
            await asyncio.sleep(0.5)
        self._results[workflow_id] = result
        words = self._words.get(workflow_id, [])
        if kind == "ledger":
            if len({*result}) != len(result) or [word for word in words if word not in result]:
                self._break("one result", workflow_id, result, words)
        elif result != n + KINDS[kind][1]:
            self._break("one result", workflow_id, result, n)

    async def _do(self, me: str, what: str, target: str, doing: Any) -> Any:
        """Do it, note it, and return the answer; None where there was none."""
        began, ended, answer = self.world.now, ENDLESS, None
        try:
            answer = await doing
            ended = self.world.now
            answer = True if answer is None or what == "submit" else answer
        except WorkflowNotFound:
            ended, answer = self.world.now, "not found"
            return None
        except (DurableError, TimeoutError):
            return None
        finally:
            told = answer
            if what == "status" and answer != "not found":
                told = "final" if answer in FINISHED else "not final"
            self.operations.append(Operation(me, what, target, began, ended, None if ended == ENDLESS else repr(told)))
        return answer


# --- what they may be told


@dataclass(frozen=True)
class Known:
    """An execution, as far as clients can know it."""

    exists: bool = False
    final: bool = False
    result: str | None = None


def step(state: Known, operation: Operation) -> Known | None:
    """The state after an operation; None if it cannot have been answered so."""
    answer = operation.answer
    if operation.what == "submit":
        return Known(True, state.final, state.result)
    if answer is None:
        return state
    if answer == repr("not found"):
        return None if state.exists else state
    if not state.exists:
        return None
    if operation.what == "status":
        final = answer == repr("final")
        return None if state.final and not final else Known(True, state.final or final, state.result)
    if operation.what == "result":
        return None if state.result not in (None, answer) else Known(True, True, answer)
    return state
