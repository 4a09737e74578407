"""One copy of one partition: its durable state, and the rules that nobody may break.

**Why it exists.** "The owner replicates to the next live nodes, and who takes over takes the journal of any of them" commits
two histories as soon as messages are lost. What keeps it from that is not who seems alive, but what each copy has promised,
and from whose log it has copied. Each rule is one small method here, so that a test can break one and see what follows.

=====  ===========================================================  ==========================================
rule   says                                                         method, or place
=====  ===========================================================  ==========================================
R1     nothing below ``promised`` is accepted; it never falls       `accepts`, `promise`
R2     of a majority's logs, that of the highest ``log_epoch``      `rank`; `election`
       wins, then the longest
R3     entries of an epoch only on top of that epoch's log          `adopted`, `fits`, `is_whole`
R4     committed is what a majority holds in the owner's epoch      `copies_needed`; `owner`
R6     after a restart no epoch is continued                        a replica is loaded without a role
R7     a disk that lost something does not vote                     `may_vote`, `is_member`
R8     nothing behind a seal; only who knows it committed moves     `closed`, `apply`; `moving`
=====  ===========================================================  ==========================================

**How it works.** A replica has no role but following, until it campaigns (`election`) or owns (`owner`); `following` answers
owners and candidates; a `Transfer` holds what is fetched, apart from the log until it is complete.

**Limits.** It believes what its peers say (they hold the cluster's key); it survives crashes, not lies. A folder that was set
back to an older copy of itself is not noticed.

Source: Viewstamped Replication Revisited (Liskov, Cowling 2012), sections 4.1 to 4.3; that the epoch of the log, not of its
last entry, decides is its "last normal view". Read next: `following`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from durable.copies.effects import Apply, Lost
from durable.copies.log import LogTail
from durable.copies.messages import ZERO, Ack, Epoch, Promise, Superseded
from durable.copies.rows import (
    ROSTER,
    Seal,
    State,
    applied_row,
    decode_entry,
    decode_seal,
    encode_row,
    is_seal,
    log_key,
    log_prefix,
    state_key,
)
from durable.errors import StoreCorrupted
from durable.membership.member import NodeId
from durable.ports import Write
from durable.replication.election import Election
from durable.replication.home import Home
from durable.replication.moving import Move
from durable.replication.owner import Owner

if TYPE_CHECKING:
    from durable.replication.transfer import Transfer

NOTHING = State()
EPOCH_LEAP_MAX = 2**32
"""How far above what was promised here an epoch may be. With an election a second a copy misses so many in a century; and whoever
holds the key cannot use up the numbers, which go to 2**64, with a few messages, so that nobody could campaign any more."""
PIN_TAILS = 8
"""While somebody fetches, the tail may grow to so many times ``tail_bytes`` before it is truncated all the same."""


class Replica:
    """A copy of ``partition``. It is driven by `Replication`; all that it wants done goes into ``home``."""

    __slots__ = (
        "ack_due", "applied", "commit", "election", "generation", "heard_at", "home", "log", "log_epoch", "members", "move",
        "next_generation", "next_members", "order", "owner", "partition", "pinned_until", "promised", "ready", "sealed",
        "superseded", "transfer",
    )  # fmt: skip

    def __init__(
        self, home: Home, partition: int, state: State = NOTHING, applied: int = 0, entries: Sequence[tuple[int, bytes]] = ()
    ) -> None:
        self.home = home
        self.partition = partition
        self.generation = state.generation
        self.members = state.members
        self.order: tuple[NodeId, ...] = tuple(state.members)
        self.promised = state.promised
        self.log_epoch = state.log_epoch
        self.ready = state.ready
        self.next_generation = state.next_generation
        self.next_members = state.next_members
        if [index for index, _ in entries] != list(range(state.base + 1, state.base + 1 + len(entries))):
            raise StoreCorrupted(f"the log of partition {partition} has a hole. This copy must not vote again")
        self.log = LogTail(state.base, [entry for _, entry in entries])
        if not state.base <= applied <= self.log.last:
            raise StoreCorrupted(f"partition {partition} was applied up to {applied}, its log is {state.base}..{self.log.last}")
        self.applied = self.commit = applied
        self.sealed = False
        self.owner: Owner | None = None
        self.election = Election(self)
        self.transfer: Transfer | None = None
        self.move: Move | None = None
        self.superseded = 0
        self.heard_at = home.now
        self.pinned_until = home.now
        self.ack_due = False
        self._see_seal()
        if self.sealed and not self.next_generation and self.ready and applied == self.log.last:
            self.applied = self.commit = applied - 1  # what comes with a seal was not written: apply it once more
        self._resume_move()
        home.quiet.stir(self)

    owner_class: type[Owner] = Owner

    # The rules

    def accepts(self, epoch: Epoch) -> bool:
        """R1. Nothing of an epoch below the promised one."""
        return epoch >= self.promised

    def believes(self, epoch: Epoch) -> bool:
        """Whether elections can have come to this epoch. What is not believed is counted, and raises nothing."""
        if epoch[0] - self.promised[0] <= EPOCH_LEAP_MAX:
            return True
        self.home.dropped["absurd epoch"] += 1
        return False

    def adopted(self, epoch: Epoch) -> bool:
        """R3. Whether this log is that of the epoch's owner (its beginning): only then do its entries fit."""
        return epoch == self.log_epoch

    def fits(self, epoch: Epoch, prev: int) -> bool:
        """R3. Whether entries of an epoch may go into this log: only if it is that epoch's, wherever they begin."""
        return self.adopted(epoch)

    def is_whole(self, transfer: Transfer) -> bool:
        """R3. Whether what is staged may be swapped in: all that the epoch, or the generation, began with; never a piece."""
        return transfer.end >= transfer.floor

    def rank(self, promise: Promise) -> tuple[Epoch, int]:
        """R2. Which of the promised logs holds all that can be committed: the one of the highest epoch, then the longest."""
        return promise.log_epoch, promise.last

    def quorum(self) -> int:
        """A majority of the members: any two of them share a node."""
        return len(self.members) // 2 + 1

    def copies_needed(self) -> int:
        """R4. On how many disks an entry must be, in the owner's epoch, to be committed."""
        return self.quorum()

    def may_vote(self) -> bool:
        """R7, R8. A member, by its disk and not only by its name, that holds what its generation began with."""
        home = self.home
        return self.ready and not home.suspect and not self.next_generation and self.is_member(home.me)

    def closed(self) -> bool:
        """R8. Nothing is appended behind a seal."""
        return self.sealed

    # Who is who

    def is_member(self, node: NodeId) -> bool:
        """Whether the node that speaks under this name is the member: a wiped disk is not."""
        store = self.members.get(node)
        return store is not None and self.home.stores.get(node) == store

    @property
    def known_generation(self) -> int:
        """The newest generation of which this replica knows that it was begun."""
        return self.next_generation or self.generation

    def is_past(self, sender: NodeId, generation: int) -> bool:
        """Whether a message is of a generation that is over; its sender is told."""
        if generation >= self.known_generation:
            return False
        members = self.next_members or self.members
        if members:  # a deleted learner knows of none
            self.home.send(sender, Superseded(self.partition, self.known_generation, members))
        return True

    def preferred(self) -> NodeId | None:
        """The first of the ring that is alive and may own."""
        for node in self.order:
            if self.home.may_own(node):
                return node
        return None

    # State

    def state_row(self) -> Write:
        state = State(
            self.generation, self.members, self.promised, self.log_epoch, self.log.base, self.ready,
            self.next_generation, self.next_members,
        )  # fmt: skip
        return state_key(self.partition), encode_row(state)

    def save(self) -> None:
        self.home.persist([self.state_row()])

    def promise(self, epoch: Epoch, why: str) -> None:
        """R1. Nobody older is followed from here on. To be on stable storage before anybody hears of it."""
        assert epoch > self.promised, "a promise never falls"
        self.home.quiet.stir(self)
        self.step_down(why)
        self.promised = epoch
        self.election.vain += 1
        self.heard_at = self.home.now
        self.save()

    def step_down(self, why: str) -> None:
        """No owner, no candidate any more."""
        self.home.quiet.stir(self)
        owner, self.owner = self.owner, None
        self.election.stop()
        if self.transfer is not None and not self.transfer.is_base:
            self.transfer = None
        if owner is not None and owner.in_office:
            self.home.tell(Lost(self.partition, owner.epoch, why))

    def extend(self, entries: Sequence[bytes]) -> None:
        """Append to the log."""
        partition, index = self.partition, self.log.last
        writes: list[Write] = []
        for entry in entries:
            index += 1
            writes.append((log_key(partition, index), entry))
        self.log.extend(entries)
        self._see_seal()
        self.home.persist(writes)

    def adopt(self, epoch: Epoch) -> None:
        """The log becomes that of ``epoch``, in the same batch as whatever was swapped in before: see `transfer`."""
        self.log_epoch = epoch
        self.election.has_owner(epoch[1])
        self._see_seal()

    def enter(self, generation: int, members: dict[NodeId, bytes]) -> None:
        """Take part in a generation, holding what it begins with."""
        self.home.quiet.stir(self)
        if generation != self.generation:
            self.move = None
        self.generation, self.members, self.order = generation, members, tuple(members)
        self.next_generation, self.next_members = 0, {}
        self.ready = True
        self.election.stop()

    def may_give_whole(self, node: NodeId, log_epoch: Epoch) -> bool:
        """R8. A member that never came to hold what this generation began with may have this copy as it stands, under the epoch of
        its log: it has promised nobody anything in this generation, so it is as if that epoch's Sync had reached it late.
        """
        held = self.ready and self.owner is None and not self.next_generation and self.is_member(self.home.me)
        return held and self.partition != ROSTER and self.adopted(log_epoch) and log_epoch != ZERO and self.is_member(node)

    def _see_seal(self) -> None:
        log = self.log
        self.sealed = log.sealed and decode_seal(log.entries[-1]).version > self.generation

    # Commit

    def advance(self, commit: int) -> None:
        """Everything up to ``commit`` is committed; what of it is here will be applied at the end of the turn."""
        commit = min(commit, self.log.last)
        if commit > self.commit:
            self.commit = commit
            self.home.dirty[self.partition] = self

    def durable(self, epoch: Epoch, last: int) -> None:
        """On stable storage: own entries up to ``last`` (R4), or the own promise (R2)."""
        if self.owner is not None and self.owner.epoch == epoch:
            self.owner.own_durable(last)
        else:
            self.election.own_promise(epoch)

    def flush(self) -> None:
        """The end of a turn: what came together in it is sent, counted, applied and acknowledged once."""
        owner = self.owner
        if owner is not None:
            owner.flush()
        if self.applied < self.commit:
            self.apply()
        if owner is not None and owner is self.owner:
            owner.report()
        if self.ack_due:
            self.ack_due = False
            if self.accepts(self.log_epoch):
                self.home.send_synced(
                    self.log_epoch[1], Ack(self.partition, self.generation, self.log_epoch, self.log.last)
                )
        self._trim()

    def apply(self) -> None:
        """What is committed takes effect, in order, with the index of the last in the same batch."""
        writes: list[Write] = []
        index, log = self.applied, self.log
        seal: Seal | None = None
        while index < self.commit and seal is None:
            index += 1
            entry = log.entry(index)
            if not is_seal(entry):
                writes += decode_entry(entry)
            elif decode_seal(entry).version > self.generation:
                seal = decode_seal(entry)
        self.applied = index
        if self.partition == ROSTER:
            if seal is not None and seal.roster is not None:
                self.home.decided.append(seal.roster)
            return
        writes.append(applied_row(self.partition, index))
        self.home.effects.append(Apply(self.partition, index, writes))
        if seal is not None:
            self.leave_generation(seal, index)

    def leave_generation(self, seal: Seal, index: int) -> None:
        """R8. The seal is committed: on to the next generation, as a member or as one who still holds what it begins with."""
        owned, before = self.owner is not None, self.order
        self.step_down(f"the partition moves to the replica set of roster {seal.version}")
        self.transfer = None
        if seal.members.get(self.home.me) == self.home.store_id:
            self.enter(seal.version, seal.members)
            self.log_epoch = ZERO
        else:
            self.next_generation, self.next_members = seal.version, seal.members
        self.sealed = False
        self.heard_at = self.home.now
        self.save()
        self.move = Move(self, seal.version, seal.members, index, hand_over=owned)
        self.move.offer()
        if owned:
            for node in before:
                if node not in seal.members:
                    self.home.send(node, Superseded(self.partition, seal.version, seal.members))

    def _resume_move(self) -> None:
        """After a restart: who knows of a committed seal goes on telling, until it is known not to be needed."""
        if self.partition == ROSTER or not self.is_member(self.home.me):
            return
        if self.next_generation:
            self.move = Move(self, self.next_generation, self.next_members, self.log.last, hand_over=False)
        elif self.generation > 1:  # who lacks the first one, as nobody should, asks
            self.offer_beginning()

    def offer_beginning(self) -> None:
        """R8. Nobody has owned this generation yet, so this log is what it began with: whoever lacks it may have it from here."""
        held = self.ready and not self.next_generation and self.is_member(self.home.me)
        if held and self.log_epoch == ZERO and self.generation and self.move is None and self.partition != ROSTER:
            self.home.quiet.stir(self)
            self.move = Move(self, self.generation, self.members, self.log.last, hand_over=False)

    def _trim(self) -> None:
        """Truncate what was applied long ago. Its rows were written before: no crash keeps this and loses them."""
        tuning, log = self.home.tuning, self.log
        held = self.applied - log.base
        if held <= 2 * tuning.tail_entries and (log.bytes <= 2 * tuning.tail_bytes or held < 2):
            return
        if self.home.now < self.pinned_until and log.bytes <= PIN_TAILS * tuning.tail_bytes:
            return
        base = self.applied - min(tuning.tail_entries, held // 2)
        deletes: list[Write] = [(log_key(self.partition, index), None) for index in range(log.base + 1, base + 1)]
        log.truncate(base)
        self.home.persist([*deletes, self.state_row()])

    def forget(self) -> None:
        """Nobody needs this copy any more. What was promised is kept, and where the partition went: others will ask."""
        self.step_down("this copy is not needed any more")
        move = self.move
        self.transfer = self.move = None
        self.log = LogTail()
        self.applied = self.commit = 0
        self.ready = self.sealed = False
        self.generation, self.log_epoch = (self.known_generation if move is None else move.generation), ZERO
        self.members = {} if move is None else move.members
        self.order, self.next_members, self.next_generation = tuple(self.members), {}, 0
        key = applied_row(self.partition, 0)[0]
        clear = (self.partition.to_bytes(2, "big"), log_prefix(self.partition))
        self.home.drop(self.partition, clear, [(key, None), self.state_row()])
