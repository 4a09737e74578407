"""What a copy does for those who own, or want to own: it promises, adopts, appends, and says how far it is.

============  =========================  ===================================  =========================================
message       epoch below ``promised``   log not of this epoch                log of this epoch
============  =========================  ===================================  =========================================
Prepare       Refused                    promise, then Promise                (nothing: it is adopted already)
Sync          Refused                    promise; fetch, swap in, then Ack    Ack
Append        Refused                    Behind                               append what is new, then Ack; or Fetch
a Digest row  (said in the answer)       (said in the answer)                 commit; Fetch what is missing
============  =========================  ===================================  =========================================

Promise, Ack and DigestAnswer leave when what they say is on stable storage.

**Limits.** Only a node whose name is in the epoch may use it. Read next: `transfer`.
"""

from __future__ import annotations

from durable.copies.messages import (
    ZERO,
    Answer,
    Append,
    Base,
    BaseHeld,
    Behind,
    Epoch,
    Members,
    Piece,
    Prepare,
    Promise,
    Refused,
    Row,
    SnapshotPiece,
    Superseded,
    Sync,
)
from durable.copies.rows import ROSTER, is_entry
from durable.membership.member import NodeId
from durable.replication.moving import Move
from durable.replication.replica import Replica
from durable.replication.transfer import Kind, Transfer


def on_prepare(replica: Replica, sender: NodeId, prepare: Prepare) -> None:
    epoch = prepare.epoch
    if replica.is_past(sender, prepare.generation) or prepare.generation != replica.generation:
        return
    if not replica.may_vote() or not replica.is_member(sender) or epoch[1] != sender or not replica.believes(epoch):
        return
    if not replica.accepts(epoch):
        refuse(replica, sender, prepare.generation, epoch)
    elif not replica.adopted(epoch):
        if epoch > replica.promised:
            replica.promise(epoch, f"{sender} campaigns for epoch {epoch[0]}")
        last, commit = replica.log.last, replica.commit
        promise = Promise(replica.partition, replica.generation, epoch, replica.log_epoch, last, commit)
        replica.home.send_synced(sender, promise)


def on_sync(replica: Replica, sender: NodeId, sync: Sync) -> None:
    epoch = sync.epoch
    if epoch[1] != sender or replica.home.suspect or replica.is_past(sender, sync.generation) or not replica.believes(epoch):
        return
    if replica.partition == ROSTER and sync.generation > replica.generation:
        return  # what that generation begins with is the roster itself, and comes as RosterNews
    if not replica.accepts(epoch):
        refuse(replica, sender, sync.generation, epoch)
        return
    if epoch > replica.promised:
        replica.promise(epoch, f"{sender} owns epoch {epoch[0]}")
    replica.heard_at = replica.home.now
    transfer = replica.transfer
    if sync.generation == replica.generation and replica.adopted(epoch):
        replica.ack_due = True
        replica.home.dirty[replica.partition] = replica
    elif transfer is None or transfer.is_base or (transfer.generation, transfer.epoch) != (sync.generation, epoch):
        Transfer(replica, Kind.SYNC, sender, sync.generation, sync.members, epoch, sync.floor).begin()


def on_append(replica: Replica, sender: NodeId, append: Append) -> None:
    epoch = append.epoch
    if append.generation != replica.generation or replica.next_generation or epoch[1] != sender:
        if not replica.is_past(sender, append.generation) and epoch[1] == sender:
            replica.home.send(sender, Behind(replica.partition, append.generation, epoch))
        return
    if not replica.accepts(epoch):
        replica.home.dropped["append of an older epoch"] += 1
        refuse(replica, sender, append.generation, epoch)
    elif not replica.fits(epoch, append.prev):
        if replica.transfer is None:
            replica.home.send(sender, Behind(replica.partition, append.generation, epoch))
    elif not all(map(is_entry, append.entries)):
        replica.home.dropped["no entry"] += 1
    elif not replica.home.suspect:
        take_entries(replica, append.prev, append.entries, append.commit)


def take_entries(replica: Replica, prev: int, entries: list[bytes], commit: int) -> None:
    """Entries of the epoch whose log this is: what is new of them is appended."""
    home, last = replica.home, replica.log.last
    replica.heard_at = home.now
    if prev > last:
        catch_up(replica, prev + len(entries))
        return
    if prev + len(entries) > last:
        replica.extend(entries[last - prev :] if prev < last else entries)
    replica.ack_due = True
    home.dirty[replica.partition] = replica
    replica.advance(commit)


def catch_up(replica: Replica, last: int) -> None:
    """Fetch what the owner has up to ``last``, unless that is under way."""
    if replica.transfer is None:
        epoch = replica.log_epoch
        Transfer(replica, Kind.CATCH_UP, epoch[1], replica.generation, replica.members, epoch, last).begin()


def on_row(replica: Replica | None, sender: NodeId, row: Row) -> Answer:
    """A line of an owner's digest, and its answer."""
    partition, generation, epoch, last, commit = row
    if replica is None:
        return partition, 0, ZERO, ZERO, 0
    if generation == replica.known_generation and epoch == replica.promised and epoch[1] == sender:
        replica.heard_at = replica.home.now
        if replica.adopted(epoch) and not replica.next_generation and not replica.home.suspect:
            replica.advance(commit)
            if last > replica.log.last:
                catch_up(replica, last)
    else:
        replica.is_past(sender, generation)
    return partition, replica.known_generation, replica.promised, replica.log_epoch, replica.log.last


def is_so(replica: Replica, row: Row) -> bool:
    """Whether a line says what is here."""
    _, generation, epoch, last, commit = row
    here = (replica.known_generation, replica.promised, replica.log_epoch, replica.log.last, replica.commit)
    return here == (generation, epoch, epoch, last, commit) and not replica.next_generation and not replica.home.suspect


def on_piece(replica: Replica, sender: NodeId, piece: Piece | SnapshotPiece) -> None:
    transfer = replica.transfer
    if transfer is None or not transfer.matches(sender, piece):
        replica.home.dropped["piece nobody waits for"] += 1
    elif isinstance(piece, Piece):
        transfer.on_piece(piece)
    else:
        transfer.on_snapshot(piece)


def on_base(replica: Replica, sender: NodeId, base: Base) -> None:
    """R8. Somebody knows that the generation before ``base.generation`` was sealed, and where it ended."""
    home = replica.home
    if home.suspect:
        return
    if replica.known_generation >= base.generation:
        if replica.known_generation == base.generation and base.members.get(home.me) != home.store_id:
            return  # R7. Its rows are of a disk that lost something, and not of the member that is asked
        home.send_synced(sender, BaseHeld(replica.partition, base.generation))
        return
    transfer = replica.transfer
    if base.members.get(home.me) != home.store_id or not base.held or replica.partition == ROSTER:
        return
    if not replica.believes(max(base.promised, base.log_epoch)):
        return
    if transfer is None or transfer.generation < base.generation:
        Transfer(replica, Kind.BASE, sender, base.generation, base.members, base.promised, base.index, base.log_epoch).begin()


def on_superseded(replica: Replica, sender: NodeId, news: Superseded) -> None:
    """R8. What this copy is part of is over. If it has no part in what follows, it asks until it may go."""
    if news.generation <= max(replica.known_generation, replica.superseded) or not news.members:
        return
    replica.superseded = news.generation
    replica.step_down(f"the partition has moved to the replica set of roster {news.generation}")
    if news.members.get(replica.home.me) != replica.home.store_id:
        watch_move(replica, news.generation, news.members)


def watch_move(replica: Replica, generation: int, members: Members) -> None:
    replica.home.quiet.stir(replica)
    replica.move = Move(replica, generation, members, 0, hand_over=False, held=False)


def refuse(replica: Replica, sender: NodeId, generation: int, epoch: Epoch) -> None:
    replica.home.send(sender, Refused(replica.partition, generation, epoch, replica.promised))
