"""Fetching a log that is not one's own yet: staged aside, swapped in whole.

**Why it exists.** A copy that is cut short so that the new owner's entries can be written behind the cut is, until they are all
there, a copy that lost what a majority was told is safe (314 of 6,000 random runs lost commits so). So what arrives is kept
beside the log; log, ``log_epoch`` and generation change in one durable batch; until then a promise reports the old log.

==========  ====================================  =================================  ======================================
kind        who fetches                           from whom, until                   then
==========  ====================================  =================================  ======================================
CANDIDATE   who has a majority's promises         the best of them; its last         its log is of the new epoch, it owns
SYNC        whose log is not of the epoch         the owner; the epoch's beginning   its log is of that epoch; Ack
CATCH_UP    who missed entries of the epoch       the owner; what it was told of     the entries are appended; Ack
BASE        a member of the next generation       who holds that; the seal, or all   it takes part in that generation
                                                  that an owner put behind it
==========  ====================================  =================================  ======================================

**How it works.** The one who fetches asks for a piece, gets it, asks for the next; who is asked remembers nothing. It fetches
from its own ``commit + 1`` on, because committed entries are the same everywhere. If the source has truncated them, it sends
its applied range instead, which replaces the own one, and the entries behind it.

**Limits.** What is staged lies in memory, all partitions of a node together up to ``snapshot_bytes_max``. When it becomes more,
those who hold least let go and ask again later, until it fits: who holds most goes on, so somebody always comes to an end.

Read next: `election`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from durable.copies.effects import SendSnapshot
from durable.copies.log import LogTail
from durable.copies.messages import ZERO, BaseHeld, Epoch, Fetch, Members, Piece, Refused, SnapshotPiece
from durable.copies.rows import ROSTER, applied_row, is_entry, log_key, log_prefix
from durable.membership.member import NodeId
from durable.ports import Write
from durable.replication.home import doubled

if TYPE_CHECKING:
    from durable.replication.replica import Replica

TRIES_MAX = 3


class Kind(Enum):
    CANDIDATE = "candidate"
    SYNC = "sync"
    CATCH_UP = "catch up"
    BASE = "base"


class Transfer:
    """One log under way. ``end`` is the last index staged; complete when it has reached ``floor``."""

    __slots__ = ("bytes", "commit", "end", "entries", "epoch", "floor", "generation", "heard_at", "kind", "log_epoch", "members",
                 "number", "replica", "restarts", "rows", "snapshot_index", "source", "start", "tries")  # fmt: skip

    def __init__(
        self,
        replica: Replica,
        kind: Kind,
        source: NodeId,
        generation: int,
        members: Members,
        epoch: Epoch,
        floor: int,
        log_epoch: Epoch = ZERO,
    ) -> None:
        self.replica = replica
        self.kind = kind
        self.source = source
        self.generation = generation
        self.members = members
        self.epoch = epoch
        self.floor = floor
        self.log_epoch = log_epoch if kind is Kind.BASE else epoch
        """Whose log this is, when it is here: nobody's, for what a generation begins with."""
        self.start = (replica.log.last if kind is Kind.CATCH_UP else replica.commit) + 1
        self.end = self.start - 1
        self.entries: list[bytes] = []
        self.commit = replica.commit
        self.rows: list[tuple[bytes, bytes]] | None = None
        self.snapshot_index = self.number = self.bytes = self.tries = self.restarts = 0
        self.heard_at = replica.home.now

    @property
    def is_base(self) -> bool:
        return self.kind is Kind.BASE

    def begin(self) -> None:
        """Ask for the first piece; or finish, if there is nothing to fetch."""
        self.replica.home.quiet.stir(self.replica)
        self.replica.transfer = self
        self._go_on()

    def is_overdue(self) -> bool:
        """Nothing has come for a while: twice as long after each restart, or a slow link would never get to the end."""
        home = self.replica.home
        return home.now - self.heard_at > doubled(self.restarts) * home.tuning.gossip_interval_s

    def again(self) -> None:
        """Nothing came for a while: ask for what is missing."""
        if self.number:  # in the middle of a snapshot: from its beginning
            self.rows, self.number, self.bytes = None, 0, 0
            self.restarts += 1
        self.tries += 1
        self.heard_at = self.replica.home.now
        self._ask()

    def _let_go(self) -> None:
        """Forget what is staged. It is asked for again when it has not come for a while."""
        self.rows, self.entries, self.end = None, [], self.start - 1
        self.number = self.bytes = 0

    def _has_room(self) -> bool:
        """Whether this one may go on, now that it holds more. Not: it let go, or is given up, because alone it is too large."""
        home = self.replica.home
        under_way = [replica.transfer for replica in home.quiet.restless.values() if replica.transfer is not None]
        excess = sum([transfer.bytes for transfer in under_way]) - home.tuning.snapshot_bytes_max
        if excess <= 0:
            return True
        if self.bytes > home.tuning.snapshot_bytes_max:
            home.dropped["transfer too large"] += 1
            self.replica.transfer = None
            return False
        for transfer in sorted(under_way, key=lambda transfer: transfer.bytes):
            if excess > 0 and transfer.bytes:
                excess -= transfer.bytes
                home.dropped["transfer put off"] += 1
                transfer._let_go()
        return self.bytes > 0

    def _hear(self) -> None:
        self.heard_at, self.tries = self.replica.home.now, 0
        if self.kind is Kind.CANDIDATE:
            self.replica.election.wait_on()

    def _ask(self) -> None:
        self.replica.home.send(self.source, Fetch(self.replica.partition, self.generation, self.log_epoch, self.end + 1))

    def _go_on(self) -> None:
        if self.replica.is_whole(self):
            self.finish()
        else:
            self._ask()

    def matches(self, sender: NodeId, message: Piece | SnapshotPiece) -> bool:
        return (sender, message.generation, message.epoch) == (self.source, self.generation, self.log_epoch)

    def on_piece(self, piece: Piece) -> None:
        if self.number or piece.start != self.end + 1 or not piece.entries:
            return  # in the middle of a snapshot: an answer to an older question, which would end the transfer with half of it
        if not all(map(is_entry, piece.entries)):
            self.replica.home.dropped["no entry"] += 1
            return
        self.entries += piece.entries
        self.end += len(piece.entries)
        self.bytes += sum(map(len, piece.entries))
        self.commit = max(self.commit, piece.commit)
        self._hear()
        if self._has_room():
            self._go_on()

    def on_snapshot(self, piece: SnapshotPiece) -> None:
        if piece.number == 0:
            if piece.index <= self.end or (self.log_epoch == ZERO and piece.index > self.floor):
                return  # nothing new in it, or more than the generation began with
            self.rows, self.number, self.bytes, self.snapshot_index = [], 0, 0, piece.index
            self.entries, self.end = [], self.start - 1  # they stood on an older snapshot, if there was one
        if self.rows is None or piece.number != self.number or piece.index != self.snapshot_index:
            return
        self.rows += piece.rows
        self.number += 1
        self.bytes += sum([len(key) + len(value) for key, value in piece.rows])
        self._hear()
        if self._has_room() and not piece.more:
            self.number = 0
            self.entries, self.end = [], piece.index
            self.commit = max(self.commit, piece.index)
            self._go_on()

    def is_hopeless(self) -> bool:
        """Asked again and again for what the source has no more, or not since its disk is another one: somebody else may offer it,
        or the owner's next word begins it anew. A candidacy has an end of its own.
        """
        return self.kind is not Kind.CANDIDATE and self.tries >= TRIES_MAX

    def still_wanted(self) -> bool:
        """Whether what was fetched may still be swapped in: the world may have changed meanwhile."""
        replica = self.replica
        if self.is_base:
            return self.generation > replica.known_generation
        if self.epoch != replica.promised or self.generation < replica.known_generation:
            return False
        return self.kind is not Kind.CATCH_UP or replica.adopted(self.epoch)

    def finish(self) -> None:
        """R3. Everything is here: swap it in, in one batch."""
        replica = self.replica
        replica.transfer = None
        if not self.still_wanted():
            return
        if self.kind is Kind.CATCH_UP and not self._is_news():
            return
        if self.is_base:
            self._skip_committed()
            replica.step_down("the partition has moved on")
            replica.promised = max(replica.promised, self.epoch)
        replica.heard_at = replica.home.now
        self._swap()
        replica.advance(self.commit)
        if self.kind is Kind.CANDIDATE:
            replica.election.win()
        elif self.is_base:
            replica.home.send_synced(self.source, BaseHeld(replica.partition, replica.generation))
        else:
            replica.ack_due = True
            replica.home.dirty[replica.partition] = replica

    def _is_news(self) -> bool:
        """Catching up: of the same epoch, so the same entries. What came meanwhile by itself is kept, never cut."""
        last = self.replica.log.last
        if last >= self.end or (self.rows is not None and self.snapshot_index <= last):
            return False
        if self.rows is None and last >= self.start:
            del self.entries[: last + 1 - self.start]
            self.start = last + 1
        return True

    def _skip_committed(self) -> None:
        """The generation before went on meanwhile: what it has committed since is here, and may be truncated already."""
        known = self.replica.commit + 1 - self.start
        if self.rows is None and known > 0:
            del self.entries[:known]
            self.start += known

    def _swap(self) -> None:
        replica, partition, log = self.replica, self.replica.partition, self.replica.log
        if self.generation != replica.generation or not replica.ready:
            replica.enter(self.generation, self.members)
        epoch = self.log_epoch
        if self.rows is not None:
            index = self.snapshot_index
            replica.log = LogTail(index, self.entries)
            replica.applied = replica.commit = index
            replica.adopt(epoch)
            rows: list[Write] = [*self.rows, applied_row(partition, index)]
            rows += [(log_key(partition, index + 1 + place), entry) for place, entry in enumerate(self.entries)]
            clear = (partition.to_bytes(2, "big"), log_prefix(partition))
            replica.home.install(partition, index, clear, [*rows, replica.state_row()])
            return
        writes: list[Write] = [(log_key(partition, index), None) for index in range(self.start, log.last + 1)]
        writes += [(log_key(partition, self.start + place), entry) for place, entry in enumerate(self.entries)]
        log.replace_after(self.start - 1, self.entries)
        replica.adopt(epoch)
        replica.home.persist([*writes, replica.state_row()])


def serve(replica: Replica, sender: NodeId, fetch: Fetch) -> None:
    """Answer a Fetch, if this log is the one that is meant, and has not been promised to somebody newer meanwhile."""
    home, log, epoch = replica.home, replica.log, fetch.epoch
    if home.suspect:
        return
    if epoch == ZERO:
        if replica.move is None or not replica.move.holds(fetch.generation):
            return
    elif replica.is_past(sender, fetch.generation) or fetch.generation != replica.generation:
        return
    elif replica.may_give_whole(sender, epoch):
        pass
    elif not replica.accepts(epoch):
        home.send(sender, Refused(replica.partition, fetch.generation, epoch, replica.promised))
        return
    elif not (replica.owner is not None and replica.owner.epoch == epoch) and not (
        epoch == replica.promised and epoch[1] == sender and not replica.adopted(epoch)
    ):
        return
    replica.pinned_until = home.now + home.tuning.rpc_timeout_s
    if fetch.start <= log.base:
        if replica.partition == ROSTER:
            return
        home.effects.append(SendSnapshot(sender, replica.partition, fetch.generation, epoch))
    else:
        entries = log.slice(fetch.start, home.tuning.piece_bytes)
        home.send(sender, Piece(replica.partition, fetch.generation, epoch, fetch.start, entries, replica.commit))
