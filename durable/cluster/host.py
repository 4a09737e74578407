"""`Host`: what a node of a cluster owns, and how everybody reaches it: one log, one engine, one desk.

**How it works.** Three parts that do not know each other meet here. The `ReplicatedLog` says which partitions this node owns; the
`Engine`, the same one as on a single node, runs exactly those and waits for the log; the `RemoteDesk` answers whatever is asked
of any execution, from here if it is owned here, else from its owner.

==================  ==================================================================================================
what happens        what follows
==================  ==================================================================================================
a partition won     the engine adopts it: replays what was unfinished, arms its timers, carries its letters
a partition lost    the engine drops it at once, and throws away what its functions still answer
a roster decided    its voters that seem alive are put on the ring
an envelope leaves  it goes to the owner of its receiver's partition, until somebody has it durably
==================  ==================================================================================================

**Limits.** Partitions are 256, because the keys of every store are made for that. ``value_bytes_max`` is bounded by what a link
carries.

Read next: `durable.cluster.node`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from random import Random

from durable.cluster.ask import Copies
from durable.cluster.config import ClusterConfig
from durable.cluster.events import EventStream
from durable.cluster.founding import WITNESS_ALONE
from durable.cluster.remembered import KEY, Remembered
from durable.cluster.replicated import ReplicatedLog, Syncs
from durable.copies.messages import Epoch, Roster
from durable.copies.rows import PREFIX
from durable.errors import ClusterError, JoinRejected, NoQuorum, NotOwner, ProtocolError, StoreError, StoreFull
from durable.journal.entries import Envelope, Failure, StatusRow
from durable.journal.keys import PARTITIONS, STORE_ID
from durable.membership.joining import settings_that_differ
from durable.membership.member import Member, NodeAddress, NodeId
from durable.ports import Batch, Clock, Entropy, Link, Store, Transport
from durable.replication.replication import Replication
from durable.replication.standing import Role
from durable.routing.partitions import PartitionRing
from durable.routing.router import Router
from durable.rpc.calls import RpcClient, RpcServer
from durable.rpc.frames import ANSWER, REPLICATION, REQUEST
from durable.rpc.peers import Peers
from durable.rpc.remote import RemoteDesk
from durable.runtime.config import NodeConfig
from durable.runtime.desk import LocalDesk
from durable.runtime.engine import Engine
from durable.storage.engine import DiskStore
from durable.storage.folder import distrust, distrusted
from durable.storage.node import NodeStorage

log = logging.getLogger("durable")
STORE_ID_BYTES = 16
GRACE_S = 1.0


class Host:
    """Made when the node begins to listen, so that it is on the loop.

    Args:
        config, node_config: what the node, and its engine, are told.
        storage: where everything is kept.
        transport, clock, entropy, syncer: the world.
        address_of: where a member listens, None for one that is not known.
        ring: the node's ring, which the router reads.
    """

    def __init__(
        self,
        config: ClusterConfig,
        node_config: NodeConfig,
        storage: NodeStorage,
        *,
        transport: Transport,
        clock: Clock,
        entropy: Entropy,
        syncer: Syncs,
        address_of: Callable[[NodeId], NodeAddress | None],
        ring: PartitionRing,
    ) -> None:
        if 2 * node_config.value_bytes_max > ReplicatedLog.batch_bytes_max:  # a message stands in the journal and in the outbox
            most = ReplicatedLog.batch_bytes_max // 2
            raise ValueError(f"value_bytes_max is {node_config.value_bytes_max:,}; in a cluster it is {most:,} at most")
        self._me = NodeId(config.node_id)
        self.ran_alone = storage.is_single()  # then it must not hear of a cluster: it would be filled with what others have
        self._address_of = address_of
        self._dropped = transport.dropped
        self.streams: list[EventStream[dict[int, int]]] = []
        self.owned_now: dict[int, int] = {}
        self.peers = Peers(transport)
        self.remembered = Remembered(self._me, storage.store.get(KEY), self._keep)
        self.core = Replication(
            self._me,
            store_id(storage.store, entropy),
            tuning=config.replication(),
            random=Random(int.from_bytes(entropy.random_bytes(16), "big")),
            rows=storage.store.scan(PREFIX),
            witness=config.witness,
            busy=lambda: self.engine.busy(),
            now=asyncio.get_running_loop().time(),
        )
        if self.core.roster is not None:
            differ = settings_that_differ(config.replication().settings, self.core.roster.settings)
            if differ:
                raise JoinRejected(f"the cluster of this folder was born with other settings: {differ}. Give the node the same")
        self.log = ReplicatedLog(self.core, storage.store, syncer, self._post, self)
        self.engine = Engine(storage, node_config, self.log, clock, entropy, courier=self, elsewhere=self._elsewhere)
        self.router = Router(ring, self._me)
        self.calls = RpcClient(self.peers)
        local = LocalDesk(self.engine)
        self.desk = RemoteDesk(
            self.router,
            self.calls,
            address_of,
            entropy,
            local=local,
            copy=self._final,
            rpc_timeout_s=config.rpc_timeout,
            replicas=config.replicas,
            owners=self.owners,
        )
        if isinstance(store := storage.store, DiskStore):
            folder = store.folder
            store.on_sync_failed = lambda error: self._distrust(folder, entropy, error)
        self.server = RpcServer(local, self._dropped, owners=self.owners, copy=self._final)
        self.on_roster: Callable[[], None] = lambda: None
        self.on_failed: Callable[[BaseException], None] = lambda error: None

    # What the transport brings

    def frame(self, link: Link, data: bytes) -> None:
        """One frame of a link, by its first byte."""
        kind = data[:1]
        if kind == REPLICATION:
            self._replication(data)
        elif kind == REQUEST:
            self.server.frame(link, data[1:])
        elif kind == ANSWER:
            self.calls.frame(link, data[1:])
        else:
            self._dropped["unknown frame"] += 1

    def link_lost(self, link: Link) -> None:
        self.peers.link_lost(link)
        self.calls.link_lost(link)
        self.server.link_lost(link)

    def bootstrap(self) -> None:
        """Found a cluster of this node alone. Raises `ClusterError` for a witness."""
        if not self.core.home.standing and self.core.roster is None:
            raise ClusterError(WITNESS_ALONE)
        self.log.tell(self.core.bootstrap)

    def _replication(self, data: bytes) -> None:
        if self.ran_alone and self.core.roster is None:
            self._dropped["it ran alone"] += 1
            return
        length = int.from_bytes(data[1:2])
        try:
            sender = NodeId(data[2 : 2 + length].decode())
            self.log.receive(sender, data[2 + length :])
        except (ProtocolError, UnicodeDecodeError):
            self._dropped["unreadable"] += 1

    def _post(self, to: NodeId, frame: bytes) -> bool:
        address = self._address_of(to)
        if address is None:
            self._dropped["not sent: unknown member"] += 1
            return False
        name = self._me.encode()
        return self.peers.send(address, REPLICATION + bytes([len(name)]) + name + frame)

    # What the membership tells

    def seen(self, member: Member) -> None:
        """A member changed."""
        if member.node_id != self._me:
            if not member.status.is_live:
                self.calls.gone(member.address)
            self.log.seen(member.node_id, member.status.is_live)

    # What the log tells

    def owned(self, partition: int, epoch: Epoch) -> None:
        self.router.learn(partition, self._me, epoch[0])
        self.owned_now[partition] = epoch[0]
        self.engine.adopt(partition, epoch[0])
        self._tell()

    def lost(self, partition: int, why: ClusterError) -> None:
        self.owned_now.pop(partition, None)
        self.engine.drop(partition, why)
        if isinstance(why, NotOwner) and why.owner is not None:
            self.router.learn(partition, NodeId(why.owner), why.epoch)
        self._tell()

    def roster_changed(self, roster: Roster) -> None:
        log.info("%s: roster %d: %s", self._me, roster.version, ", ".join(roster.voters))
        self.on_roster()

    def failed(self, error: BaseException) -> None:
        """The disk has failed. What was acknowledged is safe; what this node still believes to own, it does not."""
        self.engine.fail(error)
        self.owned_now.clear()
        self._tell()
        self.on_failed(error)

    def _distrust(self, folder: Path, entropy: Entropy, error: StoreError) -> None:
        """R7, over a restart. An fsync has failed: what was in the same pages may be gone too, acknowledged or not, and the engines
        take a log that ends too early for the end of what was written. So the next process must not vote with this folder. It gets
        another id: under it the node is what one with a new disk is, a learner until a roster change makes it a voter again.

        Not so after a failed *write*, or for want of space: these leave alone what was durable, what was not durable was not
        acknowledged, and what an engine finds when it is opened it has written anew, durably. Three disks that are full at once
        must not cost a cluster its majority. Nor for the only voter: nobody else could give it what it may have lost.
        """
        roster = self.core.roster
        if isinstance(error, StoreFull) or roster is None or list(roster.voters) == [self._me]:
            return
        lacks = f"{self._me}: after the failed fsync {folder} may lack what this node acknowledged"
        try:
            mark = distrust(folder, entropy.random_bytes(STORE_ID_BYTES), str(error))
        except OSError as refused:
            log.critical(
                "%s, and it does not take the mark that says so (%s). Do not start a node on it again: an empty folder is filled "
                "from the others",
                lacks,
                refused,
            )
        else:
            log.critical(
                "%s. It is marked (%s): started again, the node votes only when the others have filled it. If they are lost, and "
                "this copy is the best there is, delete the mark",
                lacks,
                mark,
            )

    def _tell(self) -> None:
        """Who listens gets the newest, and misses what was in between."""
        for stream in self.streams:
            stream.put_latest(dict(self.owned_now))

    # What others ask

    def owners(self) -> list[tuple[int, str, int]]:
        """Partition, owner, epoch: of every partition that can have an owner now, as far as this node knows."""
        found = []
        for partition in range(PARTITIONS):
            owner, epoch = self.core.owner(partition)
            if owner is not None and not isinstance(self.core.error(partition), NoQuorum):
                found.append((partition, str(owner), epoch[0]))
        return found

    def _final(self, workflow_id: str) -> StatusRow | None:
        return self.engine.storage.final(workflow_id, self.engine.clock.now_ms())

    def _keep(self, rows: Batch) -> None:
        self.core.home.persist(rows)
        self.log.tell(self.core.tick)

    @property
    def voters(self) -> Collection[NodeId]:
        """Who is in the roster; nobody while there is none."""
        return self.core.roster.voters if self.core.roster is not None else ()

    def on_ring(self, live: dict[NodeId, None]) -> dict[NodeId, None]:
        """Of those who seem alive the voters that may own, or else those that witness; all of them, while there are no voters."""
        voters = {node: None for node in live if node in (self.voters or live)}
        return {node: None for node in voters if node not in self.core.home.witnesses} or voters

    def standing(self, members: Iterable[Member]) -> tuple[dict[NodeId, Role], Copies]:
        """What everybody is to the journals, and this node's own copies."""
        named = dict.fromkeys([*(one.node_id for one in members), *self.voters])
        return {node: self.core.role(node) for node in named}, Copies(*self.core.copies)

    async def carry(self, envelope: Envelope) -> Failure | None:
        """Bring an envelope to the owner of its receiver. Raises `ClusterError`: not yet."""
        return await self.desk.post(envelope)

    def _elsewhere(self, partition: int) -> ClusterError:
        return self.core.error(partition)

    # The end

    async def leave(self, within_s: float) -> None:
        """Hand over, and be taken out of the roster; return when nobody needs this node's copies or is there to take them over, or
        after ``within_s``.
        """
        core = self.core
        if core.roster is None or not core.roster.voters.keys() - {self._me, *core.roster.witnesses}:
            return  # nobody to leave anything to: a witness owns nothing
        self.log.tell(core.ask_out)
        self.log.tell(core.hand_over_all)
        if not core.may_leave:
            log.info("%s leaves, within %g s: %s", self._me, within_s, core.leaving)
        if not await self.log.until(lambda: core.may_leave, within_s):
            log.warning(
                "%s goes after %g s, before the others can do without it (%s). Nothing is lost: it stays a voter, and its folder "
                "holds what it held. Start it again if something waits for it; let it leave when the others are there",
                self._me,
                within_s,
                core.leaving,
            )

    async def close(self) -> None:
        """Stop. What was accepted goes on elsewhere, or here when the node is started again.

        What is under way to the others has `GRACE_S` to be committed; without them it is not waited for.
        """
        await self.server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self.engine.batches.drained()
        for partition in list(self.owned_now):
            self.engine.drop(partition, NotOwner(partition))
        await self.engine.close()
        await self.log.close()
        self.calls.end("this node is closed. What was submitted goes on elsewhere; what was under way may have been done")
        await self.peers.close()


def store_id(store: Store, entropy: Entropy) -> bytes:
    """What a folder is known by to the others. A disk that was lost and made anew is another one, and votes for nothing; so is one
    that was marked after a failed fsync.
    """
    known = store.get(STORE_ID)
    if known is None:
        known = entropy.random_bytes(STORE_ID_BYTES)
        store.write([(STORE_ID, known)])
        store.sync()
    return (distrusted(store.folder) if isinstance(store, DiskStore) else None) or known
