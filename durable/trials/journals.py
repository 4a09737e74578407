"""What replicated journals promise, held against what the disks of a world are told and what its nodes believe they own.

**How it works.** Everything that a node replicates goes through its store, so the laws look at each batch before it is written:
nothing that reaches a disk is missed, whatever the core believes.

==========================  ==========================================================================================
law                         says
==========================  ==========================================================================================
one owner an epoch          R6: an epoch is led in one life of one process
committed stays             an index of a partition is applied with the same entry on every disk, for ever
written once                a row of a journal has one value, on every disk, and is not written before the row in front of it
a witness owns nothing      nor does it lead an epoch
what is done stays so       an execution that has ended does so with one outcome, and on no disk does it run on
sent after committed        a child begins, and a message lies in a mailbox, when the step that sends it is on stable storage
                            on a majority
of logs                     see `durable.trials.logs`
the end                     one owner a partition, equal replicas
==========================  ==========================================================================================

**Limits.** A replica that is behind is right about the past; so what is compared is each entry, not the state.

Read next: `durable.trials.logs`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from durable.copies.rows import PREFIX, applied_index, log_key, log_prefix, state_key
from durable.journal.codec import unpack_row
from durable.journal.entries import FINISHED, Command, Start, Status
from durable.journal.keys import JOURNAL, MAIL, NODE, PARTITIONS, STATUS, of, parse_id, partition_of
from durable.ports import Batch
from durable.sim.checks import Law, LawBroken
from durable.storage.node import MAIL_ROW, STATUS_ROW
from durable.trials.logs import Logs

if TYPE_CHECKING:
    from durable.sim.process import Machine, SimProcess
    from durable.sim.world import SimWorld

APPLIED = ord("a")
ROW_NUMBER_BYTES = 4


class Journals(Law):
    """The laws of the table, for nodes with a storage."""

    def __init__(self, world: SimWorld, partitions: int = PARTITIONS) -> None:
        super().__init__(world)
        self._partitions = partitions
        self._led: dict[tuple[int, int, str], int] = {}
        self._owned: dict[str, dict[int, int]] = {}
        self._entries: dict[tuple[int, int], bytes] = {}
        self._rows: dict[bytes, bytes] = {}
        self._ends: dict[bytes, tuple[Status, bytes | None]] = {}
        self._mail: set[bytes] = set()
        self._broken: LawBroken | None = None
        self._logs = Logs(world)

    def began(self, process: SimProcess) -> None:
        process.machine.disk.on_write = partial(self._looked_at, process.machine)
        self._owned[process.name] = {}

    def stepped(self, process: SimProcess) -> None:
        if self._broken is not None:
            raise self._broken
        host = getattr(process.node, "_host", None)
        if host is None or host.owned_now == self._owned[process.name]:
            return
        before, now = self._owned[process.name], dict(host.owned_now)
        self._owned[process.name] = now
        if now and process.name in host.core.roster.witnesses:
            raise LawBroken("a witness owns nothing", self.world, process, *now)
        for partition, counter in now.items():
            if before.get(partition) != counter:
                life = self._led.setdefault((partition, counter, process.name), process.life)
                if life != process.life:
                    raise LawBroken("one owner an epoch", self.world, process, f"partition {partition}", f"epoch {counter}", life)

    # What is written

    def _looked_at(self, machine: Machine, batch: Batch) -> None:
        """A law that is broken in the middle of a write is told when the step has ended: no node may catch it."""
        try:
            self._look_at(machine, batch)
        except LawBroken as broken:
            self._broken = self._broken or broken

    def _look_at(self, machine: Machine, batch: Batch) -> None:
        fresh: dict[bytes, bytes | None] = {}
        for key, value in batch:
            if key.startswith(PREFIX):
                if value is not None and key[len(PREFIX)] == APPLIED:
                    self._apply(machine, key, value, fresh)
            elif not key.startswith(NODE) and value is not None:
                if key[2:3] == JOURNAL:
                    self._row(machine, key, value)
                elif key[2:3] == STATUS:
                    self._status(machine, key, value)
                elif key[2:3] == MAIL and key not in self._mail:
                    self._mail.add(key)
                    self._arrives(machine, key, value)
            fresh[key] = value
        self._logs.written(machine, fresh)

    def _apply(self, machine: Machine, key: bytes, value: bytes, fresh: dict[bytes, bytes | None]) -> None:
        number, after = int.from_bytes(key[len(PREFIX) + 1 :], "big"), int.from_bytes(value, "big")
        before = fresh.get(key) or machine.disk.get(key) or b""
        for index in range(int.from_bytes(before, "big") + 1, after + 1):
            at = log_key(number, index)
            entry = fresh[at] if at in fresh else machine.disk.get(at)
            if entry is None:
                continue  # it came by a snapshot
            if self._entries.setdefault((number, index), entry) != entry:
                raise LawBroken("committed stays", self.world, machine.name, f"partition {number}", f"index {index}", entry)

    def _row(self, machine: Machine, key: bytes, value: bytes) -> None:
        if key not in self._rows and key.endswith(b"\0\0\0\0"):
            self._begins_life(machine, key, value)
        if self._rows.setdefault(key, value) != value:
            raise LawBroken("written once", self.world, machine.name, key, value, machine.disk.get(key))
        row = int.from_bytes(key[-ROW_NUMBER_BYTES:], "big")
        if row and key[:-ROW_NUMBER_BYTES] + (row - 1).to_bytes(ROW_NUMBER_BYTES, "big") not in self._rows:
            raise LawBroken("written once", self.world, machine.name, key, "the row in front of it was never written")

    def _begins_life(self, machine: Machine, key: bytes, value: bytes) -> None:
        """Its first row is written somewhere for the first time. If a parent has asked for it, that is safe."""
        start = unpack_row(value)
        if type(start) is Start and start.parent is not None:
            self._was_sent(machine, key, start.parent.workflow_id, b'["%b",' % parse_id(key).encode())

    def _arrives(self, machine: Machine, key: bytes, value: bytes) -> None:
        """A message is written somewhere for the first time. If a workflow has sent it, that is safe."""
        mail = MAIL_ROW.unpack(value)
        if mail.sender:
            self._was_sent(machine, key, mail.sender, b'["%b",%b]' % (parse_id(key).encode(), mail.value_json))

    def _was_sent(self, machine: Machine, key: bytes, sender: str, words: bytes) -> None:
        partition = partition_of(sender)
        enough = self.majority(partition)
        copies = self.durable_on(partition, (of(partition, JOURNAL, sender),), enough, words)
        if copies < enough:
            raise LawBroken("sent after committed", self.world, machine.name, key, f"the step of {sender} is on {copies} disks")

    def _status(self, machine: Machine, key: bytes, value: bytes) -> None:
        row = STATUS_ROW.unpack(value)
        before = self._ends.get(key)
        if row.status in FINISHED:
            ended = row.status, row.output_json
            if self._ends.setdefault(key, ended) != ended:
                raise LawBroken("what is done stays so", self.world, machine.name, key, before, ended)
        elif before is not None and (had := machine.disk.get(key)) and STATUS_ROW.unpack(had).status in FINISHED:
            raise LawBroken("what is done stays so", self.world, machine.name, key, before, row.status)

    # What is asked by others

    def majority(self, partition: int) -> int:
        """Of the smallest replica set that it ever had: when all others have left the cluster, one voter is all there is."""
        return self._logs.fewest[partition] // 2 + 1

    def row_of_call(self, machine: Machine, workflow_id: str, sequence_number: int) -> bytes | None:
        """The key of the row in which a machine has recorded the command of this number; None if it has not."""
        rows = machine.disk.rows(of(partition_of(workflow_id), JOURNAL, workflow_id))
        commands = [key for key, row in rows.items() if type(unpack_row(row)) is Command]
        return commands[sequence_number] if sequence_number < len(commands) else None

    def durable_on(self, partition: int, prefixes: tuple[bytes, ...], enough: int, needle: bytes = b"") -> int:
        """On how many disks a row whose key begins with one of these, and that has ``needle`` in it, is on stable storage: applied,
        or in an entry of the log; or was until the disk was lost. Counted up to ``enough``.
        """
        count = 0
        for machine in self.world.machines.values():
            disk, log = machine.disk, log_prefix(partition)
            applied = [row for prefix in prefixes for row in disk.durable(prefix).values()]
            applied += [row for key, row in disk.wiped.items() if key.startswith(prefixes)]
            logged = [*disk.durable(log).values(), *(row for key, row in disk.wiped.items() if key.startswith(log))]
            if any(needle in row for row in applied) or any(
                needle in entry and any(prefix in entry for prefix in prefixes) for entry in logged
            ):
                count += 1
                if count == enough:
                    break
        return count

    # The end

    def missing(self) -> str | None:
        hosts = [(process, process.node._host) for process in self.world.running() if process.node._host is not None]
        owners: dict[int, str] = {}
        for process, host in hosts:
            if host.core.roster is None:
                return f"{process.name} knows no roster"
            for partition in host.owned_now:
                if owners.setdefault(partition, process.name) != process.name:
                    return f"{process.name} and {owners[partition]} believe that they own partition {partition}"
        if len(owners) < self._partitions:
            lacking = next(number for number in range(self._partitions) if number not in owners)
            return f"{self._partitions - len(owners)} partitions have no owner, partition {lacking} for one"
        return self._unequal()

    def _unequal(self) -> str | None:
        world = self.world
        core = max((process.node._host.core for process in world.running()), key=lambda core: core.roster.version)
        sets = [[str(name) for name in core.replica_set(partition)] for partition in range(self._partitions)]
        for partition, held in enumerate(sets):
            for name in held:
                if not world.machines[name].running:
                    return f"{name}, which keeps partition {partition}, does not run"
                if world.machines[name].disk.get(state_key(partition)) is None:
                    return f"{name} has no copy of partition {partition}"
            applied = {name: applied_index(world.machines[name].disk.get, partition) for name in held}
            if len({*applied.values()}) > 1:
                return f"partition {partition} is applied up to {applied}"
        for partition, held in enumerate(sets):
            copies = [world.machines[name].disk.rows(partition.to_bytes(2, "big")) for name in held]
            if any(copy != copies[0] for copy in copies):
                raise LawBroken("equal replicas", world, f"partition {partition}", *held)
        return None
