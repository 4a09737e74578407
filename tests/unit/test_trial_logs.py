"""The laws of `durable.trials.logs`, told of batches one by one: what a late winner may lack, and what it may not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from durable.copies.messages import Epoch, Members
from durable.copies.rows import Seal, State, applied_row, encode_entry, encode_row, log_key, state_key
from durable.membership.member import NodeId
from durable.sim.checks import LawBroken
from durable.sim.process import Machine
from durable.sim.world import SimWorld
from durable.trials.logs import Logs

PARTITION = 1
A, B, C, D = map(NodeId, "abcd")
OLD: Members = {A: b"1", B: b"2", C: b"3"}
NEW: Members = {B: b"2", C: b"3", D: b"4"}
FIRST, LATE, SECOND = (1, A), (2, C), (3, B)
SEAL = encode_row(Seal(2, NEW))
PUT = encode_entry([(b"k", b"v")])

Writes = Callable[..., None]


@pytest.fixture
def writes() -> Writes:
    """Writes one batch to a node's disk, which `Logs` has looked at before."""
    logs = Logs(cast(SimWorld, SimpleNamespace(seed=0, now=0.0)))
    disks: dict[str, dict[bytes, bytes]] = {}

    def write(name: NodeId, state: State, *entries: bytes, applied: int | None = None, gone: Sequence[int] = ()) -> None:
        disk = disks.setdefault(name, {})
        machine = SimpleNamespace(name=name, disk=SimpleNamespace(get=disk.get, rows=lambda prefix: rows(disk, prefix)))
        batch: dict[bytes, bytes | None] = {log_key(PARTITION, index): None for index in gone}
        batch[state_key(PARTITION)] = encode_row(state)
        batch |= {log_key(PARTITION, state.base + 1 + at): entry for at, entry in enumerate(entries)}
        if applied is not None:
            batch |= [applied_row(PARTITION, applied)]
        logs.written(cast(Machine, machine), batch)
        disk.update({key: value for key, value in batch.items() if value is not None})
        for index in gone:
            del disk[log_key(PARTITION, index)]

    return write


def rows(disk: dict[bytes, bytes], prefix: bytes) -> dict[bytes, bytes]:
    return {key: value for key, value in disk.items() if key.startswith(prefix)}


def old(epoch: Epoch) -> State:
    return State(1, OLD, promised=epoch, log_epoch=epoch, ready=True)


def new(promised: Epoch) -> State:
    return State(2, NEW, promised=promised, ready=True)


def test_who_wins_late_may_lack_what_a_later_epoch_applied_as_the_next_generation_began(writes: Writes) -> None:
    """Found by seed 92004593: a candidate stood still between its promises and its log. A later owner sealed the log meanwhile."""
    writes(B, old(FIRST))
    writes(B, old(SECOND))
    writes(B, old(SECOND), SEAL)
    writes(B, new(SECOND), SEAL, applied=1)
    writes(D, new(SECOND), applied=1)
    writes(C, old(LATE))


def test_who_wins_may_not_lack_what_an_earlier_epoch_applied_as_the_next_generation_began(writes: Writes) -> None:
    writes(A, old(FIRST), SEAL)
    writes(A, new(FIRST), SEAL, applied=1)
    with pytest.raises(LawBroken, match="every later owner has it"):
        writes(C, old(LATE))


def test_what_one_alone_applied_before_there_was_an_epoch_is_in_every_epoch(writes: Writes) -> None:
    """A store that founds a cluster: nobody else can tell of what it holds."""
    writes(A, State(1, OLD, ready=True), applied=1)
    with pytest.raises(LawBroken, match="every later owner has it"):
        writes(C, old(LATE))


def test_a_seal_that_the_same_batch_takes_away_is_not_in_front_of_anything(writes: Writes) -> None:
    """Found by seed 92006083: a deposed owner's own seal was dropped as it took the log that the others had gone on with."""
    writes(A, old(FIRST), PUT, SEAL)
    writes(B, old(SECOND), PUT, PUT, PUT)
    writes(A, replace(old(SECOND), base=2), PUT, gone=(1, 2))


def test_nothing_follows_a_seal_in_its_generation(writes: Writes) -> None:
    with pytest.raises(LawBroken, match="nothing behind a seal"):
        writes(A, old(FIRST), SEAL, PUT)
