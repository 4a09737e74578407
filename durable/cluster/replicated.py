"""`ReplicatedLog`: the `Log` for which "durable" means: on stable storage at a majority. The shell of `durable.replication`.

**Why it exists.** The core decides who owns a partition, what a replica accepts and what is committed; it has no disk, no clock
and no network. This is where its effects become writes, fsyncs and frames.

**How it works.** Whatever happens in one turn of the event loop, appends, frames from peers, the timer, is told to the core, and
at the end of the turn its effects are carried out together: one batch for the store, one frame a peer, one fsync. The order is
the safety of it all:

====  ===================================================================================================================
1     rows are written, in the order of the effects
2     what may leave at once leaves: an owner's Append is on its way while its own disk works
3     one fsync covers everything that was written before it began
4     what says something about the disk (promises, acknowledgements) leaves, and the core hears that its own copy counts
====  ===================================================================================================================

An append is done when it is committed *and* applied here, so whoever waited for it can read it.

A frame that a link does not take, or refuses, is lost, as any frame may be: it keeps nothing else of the turn from being done.
Nor does an owner that fails when it is told something. A partition that it could not begin to run is given up; so is one of which
a batch is too large: what comes behind it may need it, so nothing may be appended any more, and who cannot append must not own.

**Limits.** A store that fails ends this node's part in replication for good: it says nothing more, and votes no more. Where an
fsync takes more than six gossip intervals or so, a partition may find no owner; a warning says so from `SLOW_INTERVALS` on.

Read next: `durable.cluster.host`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from durable.cluster.snapshots import SnapshotSender
from durable.copies.effects import (
    Apply,
    Committed,
    Confirmed,
    Drop,
    Effect,
    InstallSnapshot,
    Lost,
    Owned,
    Persist,
    RosterChanged,
    Send,
    SendSnapshot,
    SendSynced,
)
from durable.copies.frames import ENTRY_BYTES_MAX, frames
from durable.copies.messages import Epoch, Message, Roster, decode, encode
from durable.errors import ClusterError, DurableError, NotOwner, Overloaded, StoreError, ValueTooLarge
from durable.membership.member import NodeId
from durable.ports import Batch, Store, Write
from durable.replication.replication import Replication
from durable.storage.syncer import Done

log = logging.getLogger("durable")
BESIDE_BYTES = 1 << 20
"""How much longer than its keys and values an entry may be."""
SLOW_INTERVALS = 4
"""An election needs three fsyncs in a row, and those who wait for it are patient for a few gossip intervals."""
WARN_EVERY_S = 60.0


class Syncs(Protocol):
    """What makes the store's writes durable: `durable.storage.syncer.Syncer`, or a simulated disk."""

    @property
    def busy(self) -> bool: ...

    @property
    def last_s(self) -> float: ...

    def start(self, done: Done) -> None: ...

    def close(self) -> None: ...


class Owner(Protocol):
    """Whom the log tells what this node owns."""

    def owned(self, partition: int, epoch: Epoch) -> None:
        """From now on this node runs the partition; everything committed before can be read from the store."""

    def lost(self, partition: int, why: ClusterError) -> None:
        """No longer. What was appended and not acknowledged may be committed or not."""

    def roster_changed(self, roster: Roster) -> None: ...

    def failed(self, error: BaseException) -> None:
        """The store has failed: nothing is durable here any more."""


class ReplicatedLog:
    """Replicates the partitions of one node.

    Args:
        core: the protocol.
        store: where its rows and the applied rows are.
        syncer: makes writes to the store durable.
        post: sends a frame to a member; may lose it. False: it is not taken now.
        owner: is told what is owned.
    """

    def __init__(
        self, core: Replication, store: Store, syncer: Syncs, post: Callable[[NodeId, bytes], bool], owner: Owner
    ) -> None:
        self.core = core
        self._store = store
        self._syncer = syncer
        self._post = post
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._snapshots = SnapshotSender(store, self._say, core.tuning.piece_bytes)
        self._waiting: dict[int, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._queued: dict[int, deque[tuple[Batch, asyncio.Future[None]]]] = {}
        self._rounds: dict[int, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._held: list[tuple[NodeId, Message]] = []
        self._written, self._synced = 0, -1
        """Marks. Not even what was found is known to be on the disk: a process that died may have left it with the system only."""
        self._watchers: list[asyncio.Event] = []
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._failure: DurableError | None = None
        self._closed = False
        self._warn_at = 0.0

    # The port

    batch_bytes_max = ENTRY_BYTES_MAX - BESIDE_BYTES

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]:
        """Done when the batch is committed, and applied here. Fails with `NotOwner` or `NoQuorum` for this partition."""
        done: asyncio.Future[None] = self._loop.create_future()
        queue = self._queued.get(partition)
        if queue is not None:
            queue.append((batch, done))
        else:
            self._append(partition, batch, done)
        return done

    def _append(self, partition: int, batch: Batch, done: asyncio.Future[None]) -> None:
        try:
            if self._failure is not None:
                raise self._failure
            index = self.core.append(self._loop.time(), partition, batch)
        except Overloaded:  # too much is on its way: it waits here, in its place
            self._queued.setdefault(partition, deque()).append((batch, done))
        except DurableError as error:
            done.set_exception(error)
            if isinstance(error, ValueTooLarge):
                self._give_up(partition, "what was to be recorded is too much")
        else:
            waiting = self._waiting.get(partition)
            if waiting is None:
                waiting = self._waiting[partition] = deque()
            waiting.append((index, done))
            self._touch()

    def check(self, partition: int) -> None:
        """Raises `NotOwner` or `NoQuorum` when a new request is better not begun here, or not now."""
        self.core.check(partition)

    def confirm(self, partition: int) -> asyncio.Future[None]:
        """Done when a majority has said, since this call, that it knows no other owner."""
        done: asyncio.Future[None] = self._loop.create_future()
        try:
            if self._failure is not None:
                raise self._failure
            number = self.core.confirm(self._loop.time(), partition)
        except DurableError as error:
            done.set_exception(error)
        else:
            self._rounds.setdefault(partition, deque()).append((number, done))
            self._touch()
        return done

    # What the node tells

    def receive(self, sender: NodeId, frame: bytes) -> None:
        """A frame of a peer. Raises `ProtocolError` for what cannot be understood; then nothing was done."""
        if self._closed or self._failure is not None:
            return
        messages = decode(frame)
        now = self._loop.time()
        for message in messages:
            self.core.receive(now, sender, message)
        self._touch()

    def seen(self, node_id: NodeId, live: bool) -> None:
        """What the membership holds of a node."""
        self.core.seen(self._loop.time(), node_id, live)
        self._touch()

    def tell(self, what: Callable[[float], None]) -> None:
        """Call one of the core's other methods, with the time, and carry out what it wants."""
        what(self._loop.time())
        self._touch()

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Wait until something holds of the core; looked at after every turn. False if it did not come about in time."""
        turned = asyncio.Event()
        self._watchers.append(turned)
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    turned.clear()
                    await turned.wait()
        except TimeoutError:
            return False
        finally:
            self._watchers.remove(turned)
        return True

    async def close(self) -> None:
        """Say nothing more. What waits is told that this node is gone."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for partition in {**self._waiting, **self._queued, **self._rounds}:
            self._let_go(partition, NotOwner(partition))
        self._snapshots.close()
        self._syncer.close()

    # The turn

    def _touch(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._closed or self._failure is not None:
            return
        try:
            while self._failure is None and not self._closed and (effects := self.core.effects()):
                self._carry_out(effects)
        except StoreError as error:
            self._fail(error)
        finally:  # a fault is told to the loop, and is not the end of this node's part
            if self._failure is None and not self._closed:
                for watcher in self._watchers:
                    watcher.set()
                self._arm()

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        writes: list[Write] = []
        at_once: dict[NodeId, list[Message]] = {}
        told: list[Effect] = []
        for effect in effects:
            match effect:
                case Persist():
                    writes.extend(effect.writes)
                    self._written = effect.mark
                case Apply():
                    writes.extend(effect.writes)
                case InstallSnapshot() | Drop():
                    self._write(writes)
                    self._replace(effect)
                    self._written = effect.mark
                    writes = []
                case Send():
                    at_once.setdefault(effect.to, []).append(effect.message)
                case SendSynced():
                    self._held.append((effect.to, effect.message))
                case _:
                    told.append(effect)
        self._write(writes)
        try:
            self._send(at_once)
        finally:  # the core has said it once, and does not say it again
            self._tell_all(told, at_once)

    def _tell_all(self, told: list[Effect], at_once: dict[NodeId, list[Message]]) -> None:
        for effect in told:
            try:
                self._tell(effect)
            except StoreError:
                raise
            except Exception as fault:  # of whoever is told; the core has said it once, as all the rest of the turn
                self._loop.call_exception_handler({"message": f"told {effect!r}, a node failed", "exception": fault})
                if isinstance(effect, Owned):
                    self._give_up(effect.partition, "it cannot be run here")
        if self._written > self._synced or self._held:
            if at_once:
                self._loop.call_soon(self._sync)  # behind the links, which write at the end of a turn
            else:
                self._sync()

    def _give_up(self, partition: int, why: str) -> None:
        """Nobody runs it here, so nobody may own it here: another does, or this node when it tries again."""
        log.critical("partition %d is given up: %s", partition, why)
        self.core.replicas[partition].step_down(why)
        self._touch()

    def _write(self, writes: list[Write]) -> None:
        if writes:
            self._store.write(writes)

    def _replace(self, effect: InstallSnapshot | Drop) -> None:
        gone: list[Write] = [(key, None) for prefix in effect.clear for key, _ in self._store.scan(prefix)]
        self._store.write([*gone, *effect.writes])

    def _send(self, messages: dict[NodeId, list[Message]]) -> None:
        hello = self.core.hello
        said: list[tuple[list[Message], list[NodeId]]] = []
        for to, mine in messages.items():
            if said and said[-1][0] == mine:  # an owner says the same to all its copies
                said[-1][1].append(to)
            else:
                said.append((mine, [to]))
        for mine, peers in said:
            for frame in frames(hello, mine):
                for to in peers:
                    self._give(to, frame)

    def _say(self, to: NodeId, message: Message) -> bool:
        return self._give(to, encode([self.core.hello, message]))

    def _give(self, to: NodeId, frame: bytes) -> bool:
        """A frame that cannot be sent is lost, whatever the reason: the rest of the turn has to be done."""
        try:
            return self._post(to, frame)
        except Exception:
            log.exception("a frame of %s bytes for %s is lost", f"{len(frame):,}", to)
            return False

    # The disk

    def _sync(self) -> None:
        if self._syncer.busy or self._failure is not None or self._closed:
            return  # when it is done, it begins again
        mark, held = self._written, self._held
        self._held = []
        if mark == self._synced:
            self._release(held)  # all that it speaks of is on the disk
        else:
            self._syncer.start(lambda error: self._on_disk(mark, held, error))

    def _on_disk(self, mark: int, held: list[tuple[NodeId, Message]], error: StoreError | None) -> None:
        if self._closed:
            return
        if error is not None:
            self._fail(error)
            return
        self._look_at_speed(self._syncer.last_s)
        self._synced = mark
        self.core.synced(self._loop.time(), mark)
        self._release(held)
        if self._written > mark or self._held:
            self._sync()
        self._touch()

    def _look_at_speed(self, took_s: float) -> None:
        interval_s, now = self.core.tuning.gossip_interval_s, self._loop.time()
        if took_s > SLOW_INTERVALS * interval_s and now >= self._warn_at:
            self._warn_at = now + WARN_EVERY_S
            log.warning(
                "an fsync of %s took %.1f s, and elections count on less than %.1f s: nothing is lost, but owners may change "
                "without need, or not be found. Give the node a faster disk, or all nodes a longer gossip_interval (it is %g s)",
                self.core.home.me,
                took_s,
                SLOW_INTERVALS * interval_s,
                interval_s,
            )

    def _release(self, held: list[tuple[NodeId, Message]]) -> None:
        messages: dict[NodeId, list[Message]] = {}
        for to, message in held:
            messages.setdefault(to, []).append(message)
        self._send(messages)

    def _fail(self, error: StoreError) -> None:
        """After a failed write or fsync nobody knows what the disk has: this node is out."""
        if self._failure is None:
            self._failure = error
            log.critical("this node replicates no more: %s", error)
            self.core.distrust(self._loop.time(), str(error))
            self._snapshots.close()
            self._owner.failed(error)
            for partition in {**self._waiting, **self._queued, **self._rounds}:
                self._let_go(partition, error)

    # What the core tells

    def _tell(self, effect: Effect) -> None:
        match effect:
            case Committed():
                self._committed(effect.partition, effect.index)
            case Confirmed():
                rounds = self._rounds.get(effect.partition)
                while rounds and rounds[0][0] <= effect.round:
                    _done(rounds.popleft()[1])
            case Owned():
                self._owner.owned(effect.partition, effect.epoch)
            case Lost():
                owner, epoch = self.core.owner(effect.partition)
                lost = NotOwner(effect.partition, owner, epoch[0])
                try:
                    self._owner.lost(effect.partition, lost)
                finally:
                    self._let_go(effect.partition, lost)
            case RosterChanged():
                self._owner.roster_changed(effect.roster)
            case SendSnapshot():
                self._snapshots.send(effect)

    def _committed(self, partition: int, index: int) -> None:
        waiting = self._waiting.get(partition)
        while waiting and waiting[0][0] <= index:
            _done(waiting.popleft()[1])
        queue = self._queued.pop(partition, None)
        while queue:
            batch, done = queue.popleft()
            self._append(partition, batch, done)
            if partition in self._queued:  # full again
                self._queued[partition].extend(queue)
                return

    def _let_go(self, partition: int, error: DurableError) -> None:
        waiting = [done for _, done in self._waiting.pop(partition, ())]
        waiting += [done for _, done in self._queued.pop(partition, ())]
        waiting += [done for _, done in self._rounds.pop(partition, ())]
        for done in waiting:
            if not done.done():
                done.set_exception(error)
                done.exception()  # counts as seen: nobody may be waiting


    # The timer

    def _arm(self) -> None:
        deadline = self.core.next_deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.core.tick(self._loop.time())
        self._touch()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


