"""What is left of a cluster that has lost a majority of its disks, made into a store that runs by itself.

**Why it exists.** When two of three disks are lost, no rule can know what they had, so the third one accepts nothing any more. To
go on with what it has is a decision, and takes a person: `recover` carries it out, and says for which partitions something may
be missing.

**How it works.** The folders that are left are read, never written. Of each partition the furthest copy counts, by the rule by
which an owner is elected (R2):

======================================  ==========================================================================
a copy in these folders                 then
======================================  ==========================================================================
was never filled, or has a hole         it is passed by: it holds a part
is of the newest generation here        before those of older ones; of several the highest ``log_epoch``, then the longest log
was voted for by a majority of disks    when so many of its members are given: nothing can be missing
has entries that are not applied        they are applied: of what a client was told, some may be there only
======================================  ==========================================================================

The result is a store as ``durable.open`` makes it, of the engine that is named, or else that of the first folder. It is written
aside, and gets its name when it is whole.

**Limits.** Who runs the result and one of the old nodes runs everything twice; nobody can prevent that from here.

Read next: `durable.replication.replica`, for the rules.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from durable.copies.messages import Epoch
from durable.copies.rows import PREFIX, ROSTER, Loaded, State, decode_entry, decode_seal, is_seal
from durable.errors import StoreError
from durable.journal import keys
from durable.ports import Batch, Reader, Write
from durable.storage import engine_and_path, open_store
from durable.storage.beside import CopiedStore, open_read_only
from durable.storage.folder import distrusted, engine_of, is_held, locked, sync_names
from durable.storage.node import NodeStorage

BATCH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of it. ``unsure``: the partitions of which too few copies were given to exclude that something is missing;
    ``missing``: those without any.
    """

    folder: Path
    executions: int
    unsure: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of one partition, whole, on the disk that the others know as ``store_id``."""

    store_id: bytes | None
    reader: Reader
    state: State
    applied: int
    entries: Sequence[tuple[int, bytes]]

    @property
    def last(self) -> int:
        return self.entries[-1][0] if self.entries else self.applied

    @property
    def rank(self) -> tuple[int, Epoch, int]:
        """R2, over generations: what one begins with holds all that was committed in those before."""
        return self.state.generation, self.state.log_epoch, self.last

    @property
    def leads_to(self) -> int:
        """The newest generation that this copy knows of."""
        seals = [decode_seal(entry).version for _, entry in self.entries if is_seal(entry)]
        return max(self.state.generation, self.state.next_generation, *seals)


def copies_in(reader: Reader, store_id: bytes | None, loaded: Loaded) -> dict[int, Copy]:
    """The whole copies that a store holds, by partition: filled to the end, and without a hole."""
    found = {}
    for number, state in loaded.states.items():
        applied, entries = loaded.applied.get(number, 0), loaded.logs.get(number, ())
        unbroken = [index for index, _ in entries] == list(range(state.base + 1, state.base + 1 + len(entries)))
        if number != ROSTER and state.ready and unbroken and state.base <= applied <= state.base + len(entries):
            found[number] = Copy(store_id, reader, state, applied, entries)
    return found


def furthest(copies: Iterable[Copy]) -> Copy:
    """The one that has most."""
    return max(copies, key=lambda copy: copy.rank)


def is_sure(copies: Collection[Copy]) -> bool:
    """Whether a majority of those who vote is here, and nobody knows that the partition has moved on from them: then the furthest
    has everything that was committed.
    """
    best = furthest(copies).state
    voting = {copy.store_id for copy in copies if copy.state.generation == best.generation}
    voting.intersection_update(best.members.values())
    return 2 * len(voting) > len(best.members) and max(copy.leads_to for copy in copies) == best.generation


class _Folder:
    """What a node of a cluster has left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir() and is_held(path):
            raise locked(path)
        self.reader: CopiedStore = open_read_only(path)
        try:
            if NodeStorage(self.reader).check_format() is None:
                raise StoreError(f"{path} is a store, but not one of durable's. Nothing was touched. Check the path.")
            loaded = Loaded(self.reader.scan(PREFIX))
            if loaded.roster is None:
                raise StoreError(
                    f"{path} is of no cluster's node, so there is nothing to recover: durable.open takes it as it is, and "
                    "`durable node --bootstrap` founds a cluster with it. Nothing was touched."
                )
            self.cluster_id = loaded.roster.cluster_id
            self.copies = copies_in(self.reader, distrusted(path) or self.reader.get(keys.STORE_ID), loaded)
        except BaseException:
            self.reader.close()
            raise


def recover(folders: Sequence[str | Path], to: str | Path) -> Recovered:
    """Make a store at ``to`` of the furthest copy of each partition in the ``folders`` of a cluster's nodes.

    All of them may be written as `open_store` takes them. The nodes must have stopped. Raises `StoreLocked` when one of them runs,
    `StoreError` when there is something at ``to``, when a folder is none of a cluster's node, or when they are of different
    clusters, and `ValueError` for a store in memory.

    >>> recover(["node-3.db"], "orders.db")
    Traceback (most recent call last):
        ...
    durable.errors.StoreError: node-3.db holds no store. Nothing was touched. Check the path.
    """
    engine, path = engine_and_path(to)
    if engine == "memory":
        raise ValueError("a store in memory would be gone with this process: name a folder")
    target = Path(path)
    if target.exists():
        raise StoreError(f"there is something at {target} already. Nothing was touched. Name a folder that does not exist yet.")
    opened: list[_Folder] = []
    try:
        for folder in dict.fromkeys(engine_and_path(each)[1] for each in folders):
            opened.append(_Folder(Path(folder)))
        _are_of_one_cluster(opened)
        return _recover(opened, target, engine or str(engine_of(opened[0].path)).lower())
    finally:
        for each in opened:
            each.reader.close()


def _are_of_one_cluster(folders: Sequence[_Folder]) -> None:
    for one in folders[1:]:
        if one.cluster_id != folders[0].cluster_id:
            raise StoreError(f"{folders[0].path} and {one.path} are of two clusters. Nothing was touched. Recover each by itself.")


def _recover(folders: Sequence[_Folder], target: Path, engine: str) -> Recovered:
    numbers = range(keys.PARTITIONS)
    copies = {number: [one.copies[number] for one in folders if number in one.copies] for number in numbers}
    aside = target.with_name(f".{target.name}.recovering")
    if aside.exists():
        raise StoreError(f"{aside} was left by a recovery that was broken off. Nothing was touched. Delete it, and try again.")
    best = {number: furthest(found) for number, found in copies.items() if found}
    try:
        executions = _fill(f"{engine}:{aside}", best)
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_names(target.parent)
    unsure = tuple([number for number in best if not is_sure(copies[number])])
    return Recovered(target, executions, unsure, tuple([number for number in numbers if number not in best]))


def _fill(url: str, copies: Mapping[int, Copy]) -> int:
    """A store of these copies; how many executions it has."""
    store = open_store(url)
    try:
        storage = NodeStorage.make(store)
        for partition, copy in copies.items():
            for batch in writes_of(partition, copy):
                store.write(batch)
        store.sync()
        return sum(1 for _ in storage.statuses())
    finally:
        store.close()


def writes_of(partition: int, copy: Copy) -> Iterator[Batch]:
    """Its rows, and then what its log would have done to them."""
    batch: list[Write] = []
    size = 0
    for key, value in copy.reader.scan(partition.to_bytes(2, "big")):
        batch.append((key, value))
        size += len(key) + len(value)
        if size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch
    for index, entry in copy.entries:
        if index > copy.applied and not is_seal(entry):
            yield decode_entry(entry)
