"""The rules of replication, each switched off: what a test of the tests breaks on purpose.

===============  =====  ============================================================================================
mutation         rule   what goes wrong
===============  =====  ============================================================================================
zombie           R1     an owner of the past is still followed
forgetpromise    R1     a promise does not survive a crash
nofsync          R1/R4  promises and acknowledgements leave before they are on stable storage
longest          R2     the longest log wins, whoever's it is
norecover        R2     whoever campaigns keeps its own log
nosync           R3     entries are appended to a log that is not their epoch's
piece            R3     a log is swapped in before it is all there
oneack           R4     one copy is enough
resume           R6     after a restart an owner goes on
amnesia          R7     a disk that lost everything votes as before
forgiven         R7     a disk that lost something after a failed fsync votes again when its process is started anew
sealopen         R8     entries are appended behind a seal
earlyinstall     R8     the next generation begins before the seal is committed
===============  =====  ============================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs
from replicaworld import Disk, Node, P, ReplicaWorld, WatchedReplica, WatchedReplication

from durable.copies.messages import Epoch, Promise
from durable.copies.rows import Loaded, decode_seal, encode_row, state_key
from durable.replication.owner import Owner, Peer
from durable.replication.transfer import Kind, Transfer


class Zombie(WatchedReplica):
    __slots__ = ()

    def accepts(self, epoch: Epoch) -> bool:
        return True


class Longest(WatchedReplica):
    __slots__ = ()

    def rank(self, promise: Promise) -> tuple[Epoch, int]:
        return (0, self.home.me), promise.last


class NoRecover(WatchedReplica):
    __slots__ = ()

    def rank(self, promise: Promise) -> tuple[Epoch, int]:
        return (0, self.home.me), 0


class OneAck(WatchedReplica):
    __slots__ = ()

    def copies_needed(self) -> int:
        return 1


class EagerOwner(Owner):
    __slots__ = ()

    def follows(self, peer: Peer) -> bool:
        return True


class NoSync(WatchedReplica):
    __slots__ = ()
    owner_class = EagerOwner

    def fits(self, epoch: Epoch, prev: int) -> bool:
        if not self.adopted(epoch) and self.log.base <= self.applied <= prev <= self.log.last:
            self.promised = self.log_epoch = epoch
            self.log.replace_after(prev, [])
            self.save()
        return self.adopted(epoch)


class PieceByPiece(WatchedReplica):
    __slots__ = ()

    def is_whole(self, transfer: Transfer) -> bool:
        return super().is_whole(transfer) or (transfer.kind is Kind.SYNC and bool(transfer.entries))


class SealOpen(WatchedReplica):
    __slots__ = ()

    def closed(self) -> bool:
        return False


class EarlyInstall(WatchedReplica):
    __slots__ = ()

    def extend(self, entries: Sequence[bytes]) -> None:
        super().extend(entries)
        if self.sealed and self.partition == P and self.applied == self.commit:
            self.applied = self.commit = self.log.last
            self.leave_generation(decode_seal(entries[-1]), self.log.last)


BROKEN: dict[str, type[WatchedReplica]] = {
    "zombie": Zombie,
    "longest": Longest,
    "norecover": NoRecover,
    "oneack": OneAck,
    "nosync": NoSync,
    "piece": PieceByPiece,
    "sealopen": SealOpen,
    "earlyinstall": EarlyInstall,
}


class ForgetfulWorld(ReplicaWorld):
    """Promises are kept in memory only."""

    def stop(self, node: Node) -> None:
        super().stop(node)
        state = Loaded(node.disk.safe.items()).states.get(P)
        if state is not None:
            row = encode_row(structs.replace(state, promised=state.log_epoch))
            node.disk.safe[state_key(P)] = node.disk.rows[state_key(P)] = row
        self.laws.promised.pop(node.name, None)


class AmnesiacWorld(ReplicaWorld):
    """Now and then a disk wakes up as it was at the beginning, under its old id."""

    def restart(self, node: Node) -> None:
        if self.random.random() < 0.15:
            node.disk.safe = dict(self.first_rows[node.name])
            node.disk.rows = dict(node.disk.safe)
            self.laws.promised.pop(node.name, None)
        super().restart(node)


class ForgivingWorld(ReplicaWorld):
    """A disk that lost something keeps its id."""

    def rename(self, disk: Disk) -> None:
        pass


class ResumingWorld(ReplicaWorld):
    """An owner goes on after a restart with the epoch that it led."""

    def start(self, node: Node) -> None:
        super().start(node)
        core = node.core
        replica = core.replicas.get(P) if core is not None else None
        led = replica is not None and replica.promised == replica.log_epoch and replica.promised[1] == node.name
        if replica is not None and led and replica.may_vote():
            replica.owner = Owner(replica, replica.promised)
            replica.owner.adopted = replica.owner.in_office = True
            replica.owner.own_last = replica.log.last


def world_class(mutation: str) -> type[ReplicaWorld]:
    """The world in which that rule does not hold."""
    worlds = {"forgetpromise": ForgetfulWorld, "amnesia": AmnesiacWorld, "resume": ResumingWorld, "forgiven": ForgivingWorld}
    if mutation in worlds:
        return worlds[mutation]
    if mutation not in BROKEN:
        return ReplicaWorld
    core_class = type(f"{mutation}-core", (WatchedReplication,), {"replica_class": BROKEN[mutation]})
    return type(f"{mutation}-world", (ReplicaWorld,), {"core_class": core_class})
