"""Bugs to plant in nodes that are otherwise those of production: each takes a pytest.MonkeyPatch.

=================  ==================================================================================================
broken             what it stands for
=================  ==================================================================================================
fsync skipped      promises and acknowledgements leave though nothing is on stable storage
answered early     whoever waits for an append is told at once
letters early      a letter leaves before its sender's step is committed
bodies early       a function begins before the row of its call is committed
reads unconfirmed  an owner answers without asking whether it still is one
the others         rules of the core, see `replicamutations`
=================  ==================================================================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import replicamutations
from replicaworld import WatchedReplica

from durable.cluster import host
from durable.cluster.replicated import Done, ReplicatedLog
from durable.copies.effects import Owned
from durable.copies.messages import ZERO
from durable.copies.rows import ROSTER, State, encode_row, state_key
from durable.ports import Batch, Write
from durable.replication.owner import Owner
from durable.replication.replica import Replica
from durable.replication.replication import Replication
from durable.runtime.batches import PartitionBatch
from durable.sim.process import SimSyncer


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

    def told(self: ReplicatedLog, partition: int, batch: Batch, done: asyncio.Future[None]) -> None:
        append(self, partition, batch, done)
        if not done.done():
            done.set_result(None)

    patch.setattr(ReplicatedLog, "_append", told)


def early(waits_not: Callable[[Any], bool]) -> Callable[[pytest.MonkeyPatch], None]:
    """Some of what is to happen when a batch is durable does not wait for it."""

    class NoWaiting(list[Any]):
        def append(self, effect: Any) -> None:
            if waits_not(effect):
                asyncio.get_running_loop().call_soon(*effect)
            else:
                super().append(effect)

    made = PartitionBatch.__init__

    def make(self: PartitionBatch, partition: int) -> None:
        made(self, partition)
        self.effects = NoWaiting()

    return lambda patch: patch.setattr(PartitionBatch, "__init__", make)


def is_letter(effect: Any) -> bool:
    return getattr(effect[0], "__name__", "") == "deliver"


def is_later_call(effect: Any) -> bool:
    """The first call of a workflow is recorded together with its start."""
    return getattr(effect[0], "__name__", "") == "run_call" and effect[2].sequence_number > 0


def reads_unconfirmed(patch: pytest.MonkeyPatch) -> None:
    """An owner answers from what it has, and asks nobody whether it still is one."""

    def confirm(self: ReplicatedLog, partition: int) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    patch.setattr(ReplicatedLog, "confirm", confirm)


def promises_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A promise is kept in memory only, until the log is of its epoch."""

    def state_row(self: Replica) -> Write:
        promised = self.promised if self.log_epoch == ZERO else self.log_epoch
        state = State(
            self.generation, self.members, promised, self.log_epoch, self.log.base, self.ready,
            self.next_generation, self.next_members,
        )  # fmt: skip
        return state_key(self.partition), encode_row(state)

    patch.setattr(Replica, "state_row", state_row)


def epochs_resumed(patch: pytest.MonkeyPatch) -> None:
    """After a restart an owner goes on with the epoch that it led."""
    made = Replication.__init__

    def make(self: Replication, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        for partition, replica in self.replicas.items():
            led = replica.promised == replica.log_epoch != ZERO and replica.promised[1] == self.home.me
            if partition != ROSTER and led and replica.may_vote():
                owner = replica.owner = Owner(replica, replica.promised)
                owner.adopted = owner.in_office = True
                owner.own_last = replica.log.last
                self.home.tell(Owned(partition, owner.epoch))

    patch.setattr(Replication, "__init__", make)


def disks_by_name(patch: pytest.MonkeyPatch) -> None:
    """A disk is known by its node's name: an empty one votes like the one that was lost."""

    def store_id(store: Any, entropy: Any) -> bytes:
        process: Any = asyncio.get_running_loop().process  # type: ignore[attr-defined]
        return str(process.name).encode().ljust(host.STORE_ID_BYTES)

    patch.setattr(host, "store_id", store_id)


def rosters_alone(patch: pytest.MonkeyPatch) -> None:
    """Whoever owns the roster decides it alone."""

    def copies_needed(self: Replica) -> int:
        return 1 if self.partition == ROSTER else self.quorum()

    patch.setattr(Replica, "copies_needed", copies_needed)


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "fsync skipped": fsync_skipped,
    "answered early": answered_early,
    "letters early": early(is_letter),
    "bodies early": early(is_later_call),
    "reads unconfirmed": reads_unconfirmed,
    "one copy is enough": a_rule_of_the_core("oneack"),
    "appended behind a seal": a_rule_of_the_core("sealopen"),
    "the own log wins": a_rule_of_the_core("norecover"),
    "on a log of another epoch": a_rule_of_the_core("nosync"),
    "an owner of the past": a_rule_of_the_core("zombie"),
    "promises forgotten": promises_forgotten,
    "the longest log wins": a_rule_of_the_core("longest"),
    "a piece is enough": a_rule_of_the_core("piece"),
    "epochs resumed": epochs_resumed,
    "disks known by name": disks_by_name,
    "moved before the seal": a_rule_of_the_core("earlyinstall"),
    "a roster decided alone": rosters_alone,
}
