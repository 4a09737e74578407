"""What the logs of one partition have to do with each other, on all disks of a world: nobody has what its owner has not.

**How it works.** `Logs` is told of each batch before it is written (by `durable.trials.journals`), and holds, for each epoch, what
the owner's own disk was ever told of its log. A row of a log is written by its owner first: what others copy leaves later.

=============================  ========================================================================================
law                            says
=============================  ========================================================================================
a promise never falls          R1: the promised epoch of a partition, on one disk
a prefix of its owner's        R3: a disk whose log is of an epoch holds the entries of that epoch's owner, and none other
nothing behind a seal          R8: an entry behind a seal belongs to the generation that the seal names, or a later one; so
                               no disk applies, in an earlier one, more than that generation began with anywhere
every later owner has it       R2: whoever begins to own holds everything that was ever applied in an earlier epoch; if its log
                               ends with a seal, all but what later generations applied
=============================  ========================================================================================

**Limits.** What was never applied anywhere is not known to be committed. Entries below a log's base are judged by what they did.

Read next: `durable.trials.workloads`.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from durable.copies.messages import ZERO, Epoch
from durable.copies.rows import PREFIX, ROSTER, State, applied_key, decode_seal, is_seal, log_key, log_prefix, state_key
from durable.membership.member import COUNTER_MAX
from durable.sim.checks import LawBroken

if TYPE_CHECKING:
    from durable.sim.process import Machine
    from durable.sim.world import SimWorld

STATES, LOGS, APPLIED = PREFIX + b"s", PREFIX + b"l", PREFIX + b"a"
_state = lru_cache(maxsize=512)(msgspec.msgpack.Decoder(State).decode)  # each row is looked at again with what follows it


class Logs:
    """The laws of the table."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._owned: dict[tuple[int, Epoch], dict[int, bytes]] = {}
        self._bases: dict[tuple[int, Epoch], int] = {}
        """Up to where the owner had truncated its log when its epoch began: copies may still have what is gone there."""
        self._applied: dict[int, Counter[tuple[int, Epoch]]] = {}
        """By partition: up to where it was applied anywhere, by generation and epoch."""
        self._begun: dict[int, dict[int, int]] = {}
        """By partition and generation: the least that was applied on a disk when it took part in it."""
        self.fewest: dict[int, int] = {}
        """By partition: how many members the smallest of its replica sets had."""

    def written(self, machine: Machine, fresh: dict[bytes, bytes | None]) -> None:
        """A batch is about to be written: what each of its keys will hold."""
        found: dict[int, list[tuple[int, bytes]]] = {}
        moved: dict[int, None] = {}
        for key, value in fresh.items():
            if value is None or not key.startswith(PREFIX):
                continue
            number = int.from_bytes(key[4:6], "big")
            if key.startswith(LOGS):
                found.setdefault(number, []).append((int.from_bytes(key[6:], "big"), value))
            elif key.startswith(STATES):
                moved[number] = None
            elif key.startswith(APPLIED):
                self._was_applied(machine, number, int.from_bytes(value, "big"), fresh)
        for number in moved:
            before, after = self._state(machine, number), self._state(machine, number, fresh)
            if after.promised < before.promised:
                facts = (f"partition {number}", before.promised, after.promised)
                raise LawBroken("a promise never falls", self._world, machine.name, *facts)
            if after.ready and after.generation > before.generation and number != ROSTER:
                begun, at = self._begun.setdefault(number, {}), self._applied_to(machine, number, fresh)
                begun[after.generation] = min(at, begun.get(after.generation, at))
            if after.members:
                self.fewest[number] = min(len(after.members), self.fewest.get(number, len(after.members)))
            if after.log_epoch != before.log_epoch and after.log_epoch != ZERO:
                self._adopts(machine, number, after, fresh)
                found.pop(number, None)
        for number, entries in found.items():
            self._look(machine, number, self._state(machine, number, fresh), sorted(entries), fresh)

    def _state(self, machine: Machine, number: int, fresh: dict[bytes, bytes | None] | None = None) -> State:
        key = state_key(number)
        row = (fresh.get(key) if fresh is not None else None) or machine.disk.get(key)
        return State() if row is None else _state(row)

    def _was_applied(self, machine: Machine, number: int, index: int, fresh: dict[bytes, bytes | None]) -> None:
        state = self._state(machine, number, fresh)
        applied = self._applied.setdefault(number, Counter())
        # The first row of a generation names no epoch yet: what it applies was committed in the epoch of the log before it, or came
        # as a snapshot from one who had applied it.
        epoch = state.log_epoch if state.log_epoch != ZERO else self._state(machine, number).log_epoch
        if epoch != ZERO or index > max(applied.values(), default=0):
            at = state.generation, epoch
            applied[at] = max(applied[at], index)
        for generation, begun in self._begun.get(number, {}).items():
            if state.generation < generation and index > begun:
                facts = (f"partition {number}", f"index {index} in generation {state.generation}", f"{generation} began at {begun}")
                raise LawBroken("nothing behind a seal", self._world, machine.name, *facts)

    def _applied_to(self, machine: Machine, number: int, fresh: dict[bytes, bytes | None]) -> int:
        applied = fresh.get(applied_key(number)) or machine.disk.get(applied_key(number)) or b""
        return int.from_bytes(applied, "big")

    def _adopts(self, machine: Machine, number: int, state: State, fresh: dict[bytes, bytes | None]) -> None:
        """Its log is of another epoch from now on: look at all of it."""
        rows: dict[bytes, bytes | None] = {**machine.disk.rows(log_prefix(number))}
        rows |= {key: value for key, value in fresh.items() if key.startswith(log_prefix(number))}
        entries = sorted((int.from_bytes(key[6:], "big"), row) for key, row in rows.items() if row is not None)
        if machine.name == state.log_epoch[1]:
            self._bases[number, state.log_epoch] = state.base
        self._look(machine, number, state, entries, fresh)
        if machine.name != state.log_epoch[1]:
            return
        last = max([state.base, self._applied_to(machine, number, fresh), *(index for index, _ in entries)])
        # One that wins late an epoch which a majority has left may lack what a later one applied: it commits nothing.
        until = state.generation if entries and is_seal(entries[-1][1]) else COUNTER_MAX
        applied_at = self._applied.get(number, Counter()).items()
        needed = [index for (of, epoch), index in applied_at if of <= until and epoch < state.log_epoch]
        if needed and last < max(needed):
            facts = (f"partition {number}", state.log_epoch, f"it ends at {last}, and {max(needed)} was applied")
            raise LawBroken("every later owner has it", self._world, machine.name, *facts)

    def _look(
        self, machine: Machine, number: int, state: State, entries: list[tuple[int, bytes]], fresh: dict[bytes, bytes | None]
    ) -> None:
        epoch = state.log_epoch
        owned = self._owned.setdefault((number, epoch), {})
        for index, entry in entries:
            if index <= state.base:
                continue
            at = log_key(number, index - 1)
            before = fresh[at] if at in fresh else machine.disk.get(at)
            if before is not None and is_seal(before) and number != ROSTER and state.generation < decode_seal(before).version:
                facts = (f"partition {number}", f"entry {index}", f"generation {state.generation}", decode_seal(before).version)
                raise LawBroken("nothing behind a seal", self._world, machine.name, *facts)
            if epoch == ZERO or index <= self._bases.get((number, epoch), 0):
                continue
            held = owned.setdefault(index, entry) if machine.name == epoch[1] else owned.get(index)
            if held != entry:
                where = f"partition {number}, entry {index}, epoch {epoch}"
                raise LawBroken("a prefix of its owner's", self._world, machine.name, where)
