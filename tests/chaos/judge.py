"""After the last fault: is anything lost, done twice, or different from what somebody was told?

Held against each other are four witnesses: what clients were told (`chaos.load`), the copies of every partition in the stores of
all nodes, the journals in them, and the side-effect file, which the bodies wrote.

===============  ======================================================================================================
between          must hold
===============  ======================================================================================================
copies           the committed entries of every two copies are equal; at the same applied index, so is every row
roster, copies   every partition has a complete copy on each node of its replica set
clients, rows    each accepted execution is there, once, COMPLETED, with the result that every client was told
rows, bodies     each recorded result of a call is the value that one run of its body drew, and no other
bodies, faults   no body ran twice in one epoch of one process, and none more often than faults hit it, plus one
rows             nothing is left over: no message on its way, no timer, no work
===============  ======================================================================================================

Everything here is a function from what was read to a list of losses, in words, so that a test can plant each of them. Those that
show broken safety are `Contradiction`s.

Read next: `chaos.cluster`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from chaos.cluster_app import Effect
from chaos.faults import Hit
from chaos.load import Told
from chaos.losses import Contradiction
from durable.errors import ReplayError
from durable.journal import keys
from durable.journal.entries import Command, Completion, EntryType, Status, StatusRow
from durable.ports import Reader
from durable.storage.node import NodeStorage
from durable.trials.story import Operation

TAKEOVER_S = 10.0
"""A fault may still cause a body to run again for so long after it was taken back."""

STEPS = {"chaos-three": lambda given: 3, "chaos-saga": lambda given: 2 * given, "chaos-timer": lambda given: 2}


@dataclass(frozen=True)
class Copy:
    """What one node has of one partition. ``log`` holds the entries that are still there, by index; those up to ``applied`` are
    committed.
    """

    node: str
    partition: int
    generation: int
    applied: int
    log: Mapping[int, bytes]
    rows: Mapping[bytes, bytes]


@dataclass
class Journals:
    """All executions of a cluster, from the furthest copy of each partition."""

    statuses: dict[str, StatusRow] = field(default_factory=dict)
    completions: dict[str, bytes | None] = field(default_factory=dict)
    """Result of each call that succeeded, by idempotency key."""
    calls: dict[str, int] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


class Rows:
    """The rows of one copy, as a `Reader`."""

    def __init__(self, rows: Mapping[bytes, bytes]) -> None:
        self._rows = rows
        self._keys = sorted(rows)

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterable[tuple[bytes, bytes]]:
        return iter([(key, self._rows[key]) for key in self._keys if key.startswith(prefix) and key >= (start or prefix)])


def read_copies(node: str, url: str) -> list[Copy]:
    """Every partition that the store of a stopped node holds a complete copy of, as a member of its replica set."""
    from durable.copies import rows
    from durable.storage import open_store

    store = open_store(url)
    try:
        loaded = rows.Loaded(store.scan(rows.PREFIX))
        return [
            Copy(
                node=node,
                partition=partition,
                generation=state.generation,
                applied=loaded.applied.get(partition, 0),
                log=dict(loaded.logs.get(partition, [])),
                rows=dict(store.scan(partition.to_bytes(2, "big"))),
            )
            for partition, state in loaded.states.items()
            if partition < keys.PARTITIONS and node in state.members and state.ready and not state.next_generation
        ]
    finally:
        store.close()


def read_effects(path: Path) -> list[Effect]:
    """The side-effect file; a line that a kill has torn does not count, as its body did not come back either."""
    effects = []
    for line in path.read_bytes().splitlines():
        try:
            effects.append(msgspec.json.decode(line, type=Effect))
        except msgspec.DecodeError:
            continue
    return effects


# --- copies


def newest(copies: Iterable[Copy]) -> dict[int, list[Copy]]:
    """The copies of each partition that are of its newest generation, the furthest first."""
    found: dict[int, list[Copy]] = {}
    for copy in copies:
        found.setdefault(copy.partition, []).append(copy)
    return {
        partition: sorted(
            (copy for copy in of if copy.generation == max(one.generation for one in of)), key=lambda one: -one.applied
        )
        for partition, of in sorted(found.items())
    }


def copies_agree(copies: Iterable[Copy]) -> list[str]:
    """Losses between the copies of each partition."""
    losses: list[str] = []
    for of in newest(copies).values():
        for place, one in enumerate(of):
            for other in of[place + 1 :]:
                losses += _differences(one, other)
    return losses


def copies_are_whole(copies: Iterable[Copy], sets: Mapping[int, Sequence[str]]) -> list[str]:
    """What lacks a copy: by ``sets``, each partition must have a complete one on every node of its replica set."""
    found = newest(copies)
    losses = []
    for partition, members in sets.items():
        there = {copy.node for copy in found.get(partition, [])}
        lacking = [node for node in members if node not in there]
        if not there:
            losses.append(f"partition {partition} has no copy on any node")
        elif lacking:
            losses.append(f"partition {partition} has no copy on {', '.join(lacking)}, only on {', '.join(sorted(there))}")
    return losses


def _differences(one: Copy, other: Copy) -> list[str]:
    where = f"partition {one.partition}: {one.node} and {other.node}"
    until = min(one.applied, other.applied)
    losses: list[str] = [
        Contradiction(f"{where} committed different entries {index}")
        for index in sorted(set(one.log) & set(other.log))
        if index <= until and one.log[index] != other.log[index]
    ]
    if one.applied == other.applied:
        differing = sorted(key for key in {*one.rows, *other.rows} if one.rows.get(key) != other.rows.get(key))
        said = f"applied {one.applied} and differ in"
    else:  # the one that is behind has nothing that the other has not: rows of a journal are written once
        written_once = keys.table(one.partition, keys.JOURNAL)
        behind = [key for key in other.rows if key.startswith(written_once)]
        differing = sorted(key for key in behind if one.rows.get(key) != other.rows[key])
        said = "have different journals:"
    if differing:
        losses.append(Contradiction(f"{where} {said} {len(differing)} rows, first {differing[0]!r}"))
    return losses


def journals(copies: Iterable[Copy]) -> Journals:
    """What the furthest copy of each partition says."""
    found = Journals()
    for partition, of in newest(copies).items():
        reader: Reader = Rows(of[0].rows)  # type: ignore[assignment]
        storage = NodeStorage(reader)
        for workflow_id, status in storage.statuses():
            found.statuses[workflow_id] = status
            try:
                _read(found, storage, workflow_id, status)
            except (ReplayError, IndexError) as error:
                found.unreadable.append(Contradiction(f"{workflow_id} cannot be read: {type(error).__name__}: {error}"))
        found.leftovers += [f"a message on its way: {envelope.receiver}" for _, envelope in storage.outbox(partition)]
        found.leftovers += [f"a timer of {timer[1]}" for timer in storage.timers(partition, 0, 2**62)]
        found.leftovers += [f"work to do: {workflow_id}" for workflow_id in storage.active(partition)]
    return found


def _read(found: Journals, storage: NodeStorage, workflow_id: str, status: StatusRow) -> None:
    rows = storage.rows(workflow_id, status.incarnation, status.run)
    commands = [row for row in rows if isinstance(row, Command)]
    for row in rows:
        if not isinstance(row, Completion) or row.sequence_number < 0 or row.error is not None:
            continue
        if commands[row.sequence_number].entry_type is EntryType.CALL:
            key = f"{workflow_id}:{status.incarnation.hex()}:{status.run}:{row.sequence_number}"
            found.completions[key] = row.output_json
            found.calls[workflow_id] = found.calls.get(workflow_id, 0) + 1


def longest_wait_s(operations: Iterable[Operation], hits: Sequence[Hit]) -> float:
    """How long a client at most waited for a submit to be accepted, over all its tries, while nothing was done to the cluster."""
    began: dict[tuple[str, str], float] = {}
    ended: dict[tuple[str, str], float] = {}
    for one in operations:
        if one.what == "submit":
            who = one.client, one.target
            began[who] = min(one.began, began.get(who, one.began))
            if one.known:
                ended[who] = min(one.ended, ended.get(who, one.ended))
    return max((_quiet_s(began[who], end, hits) for who, end in ended.items()), default=0.0)


def _quiet_s(began: float, ended: float, hits: Sequence[Hit]) -> float:
    quiet_s, at = 0.0, began
    for hit in sorted(hits, key=lambda hit: hit.began):
        quiet_s += max(0.0, min(hit.began, ended) - at)
        at = max(at, hit.ended)
    return quiet_s + max(0.0, ended - at)


# --- clients, rows, bodies


def told_is_recorded(told: Mapping[str, Told], found: Journals) -> list[str]:
    """Losses between what clients were told and what is recorded."""
    losses: list[str] = []
    for workflow_id, one in told.items():
        status = found.statuses.get(workflow_id)
        if not one.accepted_at:
            continue
        if status is None:
            losses.append(f"{workflow_id} was accepted, and is nowhere")
            continue
        if status.status is not Status.COMPLETED:
            losses.append(f"{workflow_id} was accepted, and is {status.status.value}: {status.error}")
            continue
        recorded = repr(msgspec.json.decode(status.output_json or b"null"))
        others = sorted({said for said in one.results if said != recorded})
        losses += [Contradiction(f"{workflow_id}: {said} was told, {recorded} is recorded") for said in others]
        wanted = STEPS.get(one.workflow, lambda given: 0)(one.given)
        if found.calls.get(workflow_id, 0) != wanted:
            recorded_calls = found.calls.get(workflow_id, 0)
            losses.append(Contradiction(f"{workflow_id} recorded {recorded_calls} results of calls, {wanted} is right"))
    losses += [
        f"{workflow_id} is {status.status.value}, and nobody asked for it to stop"
        for workflow_id, status in found.statuses.items()
        if workflow_id not in told and status.status is not Status.COMPLETED
    ]
    return [*losses, *found.unreadable, *(f"left over: {what}" for what in found.leftovers)]


def recorded_was_run(found: Journals, effects: Sequence[Effect]) -> list[str]:
    """Losses between recorded results and the runs of bodies."""
    drawn: dict[str, set[int]] = {}
    for effect in effects:
        drawn.setdefault(effect.key, set()).add(effect.value)
    losses: list[str] = []
    for key, output in found.completions.items():
        value, gave = msgspec.json.decode(output or b"null"), sorted(drawn.get(key, set()))
        if value not in gave:
            losses.append(Contradiction(f"{key} has the recorded result {value}, which no run of its body gave: {gave}"))
    for key in drawn:
        if key not in found.completions:
            status = found.statuses.get(key.partition(":")[0])
            done = status is not None and status.status is Status.COMPLETED
            words = f"{key} ran, and its result is not recorded"
            losses.append(Contradiction(words) if done else words)
    return losses


def runs_are_explained(effects: Sequence[Effect], hits: Sequence[Hit]) -> tuple[list[str], int]:
    """Losses between the runs of bodies and the faults; and how many bodies ran again."""
    runs: dict[str, list[Effect]] = {}
    for effect in effects:
        runs.setdefault(effect.key, []).append(effect)
    losses: list[str] = []
    again = 0
    for key, of in runs.items():
        again += len(of) - 1
        lives = {(effect.process, effect.epoch) for effect in of}
        if len(lives) < len(of):
            losses.append(Contradiction(f"{key} ran twice in one epoch of one process"))
        first, last = min(effect.at for effect in of), max(effect.at for effect in of)
        near = sum(hit.began <= last and hit.ended + TAKEOVER_S >= first for hit in hits)
        if len(of) - 1 > near:
            losses.append(f"{key} ran {len(of)} times, and {near} faults were near")
    return losses, again
