"""The tests of the tests, in whole worlds: a rule is broken in a node that is otherwise the one of production, and a law says so.

=================  ==================================================================================================
broken             what it stands for
=================  ==================================================================================================
fsync skipped      promises and acknowledgements leave though nothing is on stable storage
answered early     whoever waits for an append is told at once
letters early      a letter leaves before its sender's step is committed
the others         rules of the core, see `replicamutations`
=================  ==================================================================================================

The rules whose breach needs a rarer coincidence are broken in `test_replication_model`, in thousands of small worlds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import replicamutations
from replicaworld import WatchedReplica

from durable.cluster.replicated import Done, ReplicatedLog
from durable.copies.rows import ROSTER
from durable.ports import Batch
from durable.replication.replica import Replica
from durable.replication.replication import Replication
from durable.runtime.batches import PartitionBatch
from durable.sim.process import SimSyncer
from durable.sim.runs import play


class EveryPartition:
    """In place of the one partition that the small worlds have."""

    def __eq__(self, other: object) -> bool:
        return other != ROSTER

    __hash__ = None  # type: ignore[assignment]


def a_rule_of_the_core(rule: str) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(WatchedReplica, "apply", Replica.apply)  # the laws are the world's
        patch.setattr(replicamutations, "P", EveryPartition())
        patch.setattr(Replication, "replica_class", replicamutations.BROKEN[rule])

    return plant


def fsync_skipped(patch: pytest.MonkeyPatch) -> None:
    def start(self: SimSyncer, done: Done) -> None:
        self._process.loop.call_soon(done, None)

    patch.setattr(SimSyncer, "start", start)


def answered_early(patch: pytest.MonkeyPatch) -> None:
    append = ReplicatedLog._append

    def early(self: ReplicatedLog, partition: int, batch: Batch, done: asyncio.Future[None]) -> None:
        append(self, partition, batch, done)
        if not done.done():
            done.set_result(None)

    patch.setattr(ReplicatedLog, "_append", early)


class NoWaiting(list[Any]):
    """What is to happen when a batch is durable; letters do not wait for it."""

    def append(self, effect: Any) -> None:
        if getattr(effect[0], "__name__", "") == "deliver":
            asyncio.get_running_loop().call_soon(*effect)
        else:
            super().append(effect)


def letters_early(patch: pytest.MonkeyPatch) -> None:
    made = PartitionBatch.__init__

    def make(self: PartitionBatch, partition: int) -> None:
        made(self, partition)
        self.effects = NoWaiting()

    patch.setattr(PartitionBatch, "__init__", make)


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int, str]] = {
    "fsync skipped": (fsync_skipped, 1, "answered means committed"),
    "answered early": (answered_early, 1, "answered means committed"),
    "letters early": (letters_early, 4, "sent after committed"),
    "one copy is enough": (a_rule_of_the_core("oneack"), 1, "answered means committed"),
    "appended behind a seal": (a_rule_of_the_core("sealopen"), 16, "nothing behind a seal"),
    "the own log wins": (a_rule_of_the_core("norecover"), 6, "every later owner has it"),
    "on a log of another epoch": (a_rule_of_the_core("nosync"), 6, "a prefix of its owner's"),
}
"""How it is broken; from seed 2 on, so many seeds to find it in; and the law that finds it."""
FIRST_SEED = {"on a log of another epoch": 70}
"""Where it shows once in some fifty worlds, and so in others after each change of what nodes do."""


@pytest.mark.parametrize("what", PLANTED)
def test_a_broken_rule_breaks_a_law_in_a_whole_world(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, seeds, law = PLANTED[what]
    plant(monkeypatch)
    first = FIRST_SEED.get(what, 2)
    assert any(f"'{law}'" in (play(seed, "workflows").broken or "") for seed in range(first, first + seeds))


def test_the_same_worlds_hold_when_nothing_is_broken() -> None:
    for seed in (2, 3, 5):
        played = play(seed, "workflows")
        assert played.broken is None, f"python -m durable.sim --scene workflows --first {seed} --trace"
        assert played.faults.total() >= 10
