"""What runs in a simulated cluster while its clients watch: nodes as in production, and workflows of every shape.

===========  ==================================================================================================
workflow     what it tries
===========  ==================================================================================================
steps        calls, one after another
sleeper      a durable timer between two calls
ledger       messages from outside, in order, each once, until `END`
parent       a child in another partition, and its result
postman      messages to a child in another partition, in order, each once
===========  ==================================================================================================

Worlds differ, by their seeds:

==================  ===========================================================================================
one in              is a world
==================  ===========================================================================================
`ALL_EVERY`         of all partitions; the others have `FEW`
`SHORT_EVERY`       whose nodes keep so little of a log that who lags gets a snapshot, in pieces
`SHRINKING_EVERY`   that replaces a dead voter within the storm, and not long after it
`WITNESSED_EVERY`   in which `WITNESS`, one of the founders, keeps logs and owns nothing
==================  ===========================================================================================

Read next: `durable.trials.clients`.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from durable.cluster.config import ClusterConfig
from durable.cluster.node import ClusterNode
from durable.copies.tuning import ReplicationTuning
from durable.journal.keys import PARTITIONS, partition_of
from durable.storage.node import NodeStorage
from durable.trials.story import END
from durable.workflows.context import Context
from durable.workflows.definition import Workflow, current_call, function, workflow

if TYPE_CHECKING:
    from durable.ports import Clock, Entropy, Store, Transport
    from durable.sim.process import SimProcess
    from durable.sim.world import SimWorld

FEW = 16
ALL_EVERY = 16
SHORT_EVERY = 4
SHRINKING_EVERY = 7
WITNESSED_EVERY = 11
REPLACE_AFTER_S = 10.0
WITNESS = "node-3"
SHORT_TAIL = 4
"""How many entries below the applied one are kept there."""
SHORT_PIECE_BYTES = 200


def partitions_in(world: SimWorld) -> int:
    """How many partitions a world has: all in one of `ALL_EVERY` seeds. Partitions share nothing but the roster, and most of
    what 256 of them cost is idle talk.
    """
    return FEW if world.seed % ALL_EVERY else PARTITIONS


def placed(name: str, partitions: int) -> str:
    """An id that begins so, and lies in one of the first partitions."""
    number = 0
    while partition_of(f"{name}.{number}") >= partitions:
        number += 1
    return f"{name}.{number}"


# --- where it runs


def tuning_of(world: SimWorld) -> dict[str, Any]:
    """What the replication of a world has in place of its defaults."""
    told: dict[str, Any] = {"partitions": partitions_in(world)}
    if world.seed % SHORT_EVERY == SHORT_EVERY - 1:
        told |= {"tail_entries": SHORT_TAIL, "piece_bytes": SHORT_PIECE_BYTES}
    if world.seed % SHRINKING_EVERY == 4:
        told["replace_after_s"] = REPLACE_AFTER_S
    return told


def tuned(told: ClusterConfig, tuning: dict[str, Any]) -> ClusterConfig:
    """As it is told, but for some numbers of its replication."""

    class Tuned(ClusterConfig):
        def replication(self) -> ReplicationTuning:
            return replace(super().replication(), **tuning)

    return Tuned(**{field.name: getattr(told, field.name) for field in fields(told)})


def make_runner(
    world: SimWorld,
    name: str,
    transport: Transport,
    clock: Clock,
    entropy: Entropy,
    store: Store,
    *,
    tuning: dict[str, Any] | None = None,
) -> ClusterNode:
    """A node that runs workflows, as in production. ``tuning`` is `tuning_of` its world if it is not told."""
    process = world.machine(name).process
    assert process is not None
    ports: Any = {"transport": transport, "clock": clock, "entropy": entropy, "syncer": process.syncer}
    told = replace(world.config_of(name), witness=name == WITNESS and world.seed % WITNESSED_EVERY == 7)
    return ClusterNode(tuned(told, tuning_of(world) if tuning is None else tuning), NodeStorage.make(store), **ports)


# --- what is run


def ran(process: SimProcess, workflow_id: str, sequence_number: int) -> None:
    """Tell whoever watches bodies that one has run."""
    for watcher in process.world.watchers:
        heard = getattr(watcher, "ran", None)
        if heard is not None:
            heard(process, workflow_id, sequence_number)


@function("sim-add")
async def add(n: int) -> int:
    process: SimProcess = asyncio.get_running_loop().process  # type: ignore[attr-defined]
    ran(process, current_call().workflow_id, current_call().sequence_number)
    await asyncio.sleep(0.01)
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
        if word == END:
            return words
        words.append(word)


@workflow("sim-parent")
async def parent(ctx: Context, n: int) -> int:
    n = await ctx.call(add, n)
    return await ctx.start(steps, n, workflow_id=placed(f"{ctx.workflow_id}-child", FEW))


@workflow("sim-postman")
async def postman(ctx: Context, n: int) -> int:
    letters = [f"{ctx.workflow_id}/{number}" for number in range(3)]
    child = ctx.start(ledger, n, workflow_id=placed(f"{ctx.workflow_id}-ledger", FEW))
    for word in [*letters, END]:
        await child.send("words", word)
        n = await ctx.call(add, n)
    words = await child
    return n if words == letters else -1


KINDS: dict[str, tuple[Workflow[Any, Any], int]] = {
    "steps": (steps, 3),
    "sleeper": (sleeper, 2),
    "ledger": (ledger, 0),
    "parent": (parent, 4),
    "postman": (postman, 4),
}
"""Each with what it adds to its input."""
