"""What a node keeps in its store, and how it is read back.

The runtime writes through the `Log`, never here: a batch is durable where the log says so. Here are the reads, one method
a question, and the row that says which store this is. Everything that the runtime does not hold in memory can be
read here; what it has written and not yet made durable cannot, and it never asks for that.

Read next: `durable.storage.log`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from durable.copies.rows import ROSTER_KEY
from durable.errors import JournalCorrupted, StoreCorrupted
from durable.journal import keys
from durable.journal.codec import CorruptRow, RowType, pack
from durable.journal.entries import Attempt, Envelope, Mail, Row, Start, StatusRow, WorkflowMetadata
from durable.journal.journal import decode_rows
from durable.ports import Reader, Store, Write

log = logging.getLogger("durable")
T = TypeVar("T")
FORMAT = 1
_FORMAT_KEY = keys.NODE + b"format"
TOMBSTONE_MS = 3_600_000
"""How long a purged id stays taken: longer than any caller repeats a submit whose answer it did not get."""
_OLD_CLOCK_KEY = keys.NODE + b"clock"

STATUS_ROW = RowType(StatusRow)
ATTEMPT_ROW = RowType(Attempt)
ENVELOPE_ROW = RowType(Envelope)
MAIL_ROW = RowType(Mail)
PURGE_ROW = RowType(tuple[int, list[str]])


class NodeStorage:
    """Reads a node's tables. Made by `make`, which checks that the store is one of this format."""

    def __init__(self, store: Reader) -> None:
        self._reader = store

    @classmethod
    def make(cls, store: Store) -> NodeStorage:
        """The storage of a node in this store. Raises `StoreCorrupted` for a store of another format."""
        storage = cls(store)
        if storage.check_format() is None:
            store.write([(_FORMAT_KEY, keys.number(FORMAT))])
            store.sync()
        storage._store = store
        return storage

    _store: Store | None = None

    @property
    def store(self) -> Store:
        """The store to write to. Only a storage made by `make` has one; others are read-only."""
        if self._store is None:
            raise StoreCorrupted("this storage was opened for reading only")
        return self._store

    def check_format(self) -> int | None:
        """The store's format, None for an empty store. Raises `StoreCorrupted` for one that this version cannot read."""
        found = self._reader.get(_FORMAT_KEY)
        if found is None:
            return None
        if found != keys.number(FORMAT):
            raise StoreCorrupted(
                f"the store has format {int.from_bytes(found, 'big')}, and this version of durable reads format {FORMAT}. "
                "Nothing was changed; open it with the version that wrote it."
            )
        return FORMAT

    def is_clusters(self) -> bool:
        """Whether it is that of a cluster's node: who runs it alone runs what others run too, and they never hear of it."""
        return self.has(ROSTER_KEY)

    def is_single(self) -> bool:
        """Whether it holds what ran without a cluster."""
        first = next(iter(self._reader.scan(b"")), None)
        return first is not None and first[0] < keys.NODE and not self.is_clusters()

    # --- one execution

    def status(self, workflow_id: str) -> StatusRow | None:
        """Where an execution stands. Raises `JournalCorrupted` when the row cannot be read."""
        data = self._reader.get(keys.of(keys.partition_of(workflow_id), keys.STATUS, workflow_id))
        return None if data is None else _unpack(STATUS_ROW, data, "status", workflow_id)

    def final(self, workflow_id: str, now_ms: int) -> StatusRow | None:
        """How an execution has ended, if these rows may say it by themselves, whoever owns the partition. A final result never
        changes, but an id that was purged may begin again. Rows that are younger than half of what a tombstone lasts cannot have
        missed both; the other half is for clocks that differ. Rows of a time to come are of a clock that differs by more.
        """
        row = self.status(workflow_id)
        if row is None or not row.status.finished:
            return None
        return row if abs(now_ms - self.clock_ms(keys.partition_of(workflow_id))) < TOMBSTONE_MS // 2 else None

    def raw_rows(self, workflow_id: str, incarnation: bytes, run: int) -> list[bytes]:
        prefix = journal_prefix(workflow_id, incarnation, run)
        return [value for _, value in self._reader.scan(prefix)]

    def rows(self, workflow_id: str, incarnation: bytes, run: int) -> list[Row]:
        """The journal of a run. Raises `JournalCorrupted` naming the row that cannot be read."""
        return decode_rows(workflow_id, self.raw_rows(workflow_id, incarnation, run))

    def start(self, workflow_id: str, status: StatusRow) -> Start:
        data = self._reader.get(journal_prefix(workflow_id, status.incarnation, status.run) + keys.number(0))
        row = decode_rows(workflow_id, [] if data is None else [data])[0]
        assert isinstance(row, Start)
        return row

    def attempts(self, workflow_id: str, incarnation: bytes, run: int) -> list[Attempt]:
        prefix = keys.of(keys.partition_of(workflow_id), keys.ATTEMPT, workflow_id) + incarnation + keys.number(run)
        return [_unpack(ATTEMPT_ROW, value, "an attempt", workflow_id) for _, value in self._reader.scan(prefix)]

    def heartbeat(self, workflow_id: str, incarnation: bytes, run: int, sequence_number: int) -> bytes | None:
        """The JSON of the last heartbeat of a call."""
        return self._reader.get(heartbeat_key(workflow_id, incarnation, run, sequence_number))

    def mail(self, workflow_id: str, incarnation: bytes) -> list[tuple[int, Mail]]:
        """Unread messages with their arrival numbers, in order."""
        prefix = keys.of(keys.partition_of(workflow_id), keys.MAIL, workflow_id) + incarnation
        return [
            (int.from_bytes(key[-8:], "big"), _unpack(MAIL_ROW, value, "a message", workflow_id))
            for key, value in self._reader.scan(prefix)
        ]

    def last_from_sender(self, key: bytes) -> int:
        data = self._reader.get(key)
        return int.from_bytes(data, "big") if data else 0

    def has(self, key: bytes) -> bool:
        return self._reader.get(key) is not None

    def has_any(self, prefix: bytes) -> bool:
        return next(iter(self._reader.scan(prefix)), None) is not None

    def number_at(self, key: bytes) -> int | None:
        data = self._reader.get(key)
        return None if data is None else int.from_bytes(data, "big")

    def metadata(self, workflow_id: str, status: StatusRow) -> WorkflowMetadata:
        start = self.start(workflow_id, status)
        return WorkflowMetadata(
            workflow_id=workflow_id,
            workflow=status.workflow,
            version=start.version,
            status=status.status,
            input_json=start.input_json.decode(),
            output_json=None if status.output_json is None else status.output_json.decode(),
            error=status.error,
            created_at=status.created_at,
            updated_at=status.updated_at,
            owner=status.owner,
            epoch=0,
            incarnation=status.incarnation.hex(),
            run=status.run,
        )

    def all_keys(self, workflow_id: str, tables: Iterable[bytes] = keys.OF_ONE_EXECUTION) -> list[bytes]:
        """Every key of a finished execution, which has no timers left: what a purge removes. Or those of other ``tables``."""
        partition = keys.partition_of(workflow_id)
        return [key for name in tables for key, _ in self._reader.scan(keys.of(partition, name, workflow_id))]

    # --- a partition

    def active(self, partition: int) -> Iterator[str]:
        """The ids of executions with work to go on with."""
        for key, _ in self._reader.scan(keys.table(partition, keys.ACTIVE)):
            yield keys.parse_id(key)

    def tombstones(self, partition: int) -> Iterator[tuple[str, int]]:
        """The ids that were purged, and when."""
        for key, value in self._reader.scan(keys.table(partition, keys.TOMBSTONE)):
            yield keys.parse_id(key), int.from_bytes(value, "big")

    def purges(self, partition: int, begin: str = "") -> Iterator[tuple[bytes, tuple[int, list[str]]]]:
        """When requests have purged which ids lately, with the rows' keys; of requests whose ids ``begin`` so."""
        for key, value in self._reader.scan(keys.table(partition, keys.PURGE) + begin.encode()):
            try:
                yield key, PURGE_ROW.unpack(value)
            except CorruptRow as error:
                log.error("what a purge has deleted in partition %d cannot be read: %s", partition, error)

    def purged_by(self, partition: int, request_id: str) -> list[str]:
        """The ids that a request has purged. An earlier version kept them in one row, whose key had the request's id alone."""
        old, ids = keys.table(partition, keys.PURGE) + request_id.encode(), []
        for key, (_, purged) in self.purges(partition, request_id):
            if key == old or (purged and key == keys.purge(partition, request_id, purged[0])):
                ids += purged
        return ids

    def outbox(self, partition: int) -> Iterator[tuple[bytes, Envelope]]:
        """Envelopes on their way, with their keys, each sender's in order."""
        for key, value in self._reader.scan(keys.table(partition, keys.OUTBOX)):
            try:
                yield key, _unpack(ENVELOPE_ROW, value, "an envelope", keys.parse_id(key))
            except JournalCorrupted as error:
                log.error("%s", error)  # it stays where it is; all others are delivered

    def timers(self, partition: int, from_ms: int, until_ms: int) -> Iterator[tuple[int, str, int, int]]:
        """Timers that fire from ``from_ms`` on and before ``until_ms``, soonest first."""
        prefix = keys.table(partition, keys.TIMER)
        for key, _ in self._reader.scan(prefix, start=prefix + keys.number(from_ms, 8)):
            timer = keys.parse_timer(key)
            if timer[0] >= until_ms:
                return
            yield timer

    def statuses(
        self, after: str | None = None, partitions: Iterable[int] = range(keys.PARTITIONS)
    ) -> Iterator[tuple[str, StatusRow]]:
        """Every execution of these partitions, by partition and id; ``after`` goes on behind that id."""
        first = 0 if after is None else keys.partition_of(after)
        for partition in sorted(partitions):
            if partition < first:
                continue
            prefix = keys.table(partition, keys.STATUS)
            begin = keys.of(partition, keys.STATUS, after) + b"\0" if after is not None and partition == first else None
            for key, value in self._reader.scan(prefix, start=begin):
                workflow_id = keys.parse_id(key)
                try:
                    yield workflow_id, _unpack(STATUS_ROW, value, "status", workflow_id)
                except JournalCorrupted as error:
                    log.error("%s", error)

    def clock_ms(self, partition: int) -> int:
        """A time that was seen by whoever ran the partition last: the clock of its next owner does not go back behind it."""
        return self.number_at(keys.table(partition, keys.CLOCK)) or 0

    # --- the node

    def old_clock_ms(self) -> int:
        """What an earlier version kept in place of a time for each partition."""
        return self.number_at(_OLD_CLOCK_KEY) or 0


def clock_write(partition: int, now_ms: int) -> Write:
    return keys.table(partition, keys.CLOCK), keys.number(now_ms, 8)


def journal_prefix(workflow_id: str, incarnation: bytes, run: int) -> bytes:
    return keys.of(keys.partition_of(workflow_id), keys.JOURNAL, workflow_id) + incarnation + keys.number(run)


def attempt_write(workflow_id: str, incarnation: bytes, run: int, attempt: Attempt) -> Write:
    prefix = keys.of(keys.partition_of(workflow_id), keys.ATTEMPT, workflow_id) + incarnation + keys.number(run)
    return prefix + keys.number(attempt.sequence_number) + keys.number(attempt.attempt), pack(attempt)


def heartbeat_key(workflow_id: str, incarnation: bytes, run: int, sequence_number: int) -> bytes:
    prefix = keys.of(keys.partition_of(workflow_id), keys.HEARTBEAT, workflow_id) + incarnation
    return prefix + keys.number(run) + keys.number(sequence_number)


def _unpack(kind: RowType[T], data: bytes, what: str, workflow_id: str) -> T:
    try:
        return kind.unpack(data)
    except CorruptRow as error:
        raise JournalCorrupted(
            f"{what} of execution {workflow_id!r} cannot be read: {error}. Only this execution is affected; restore the store "
            "from a backup, or purge the execution."
        ) from error
