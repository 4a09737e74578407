"""`ClusterNode`: a member of a cluster. A shell, with one pump and one timer, around the membership core.

**Why it exists.** The core (`durable.membership.swim`) knows what to say and cannot speak. The shell speaks, and decides nothing.

**How it works.** Whatever happens, a datagram, a question, the timer or a call, goes the same way: tell the core, carry out
the effects that it hands back, set the timer to its next deadline.

**Joining**, in five steps: connect to a seed over TCP; send `Join` with this node's claim; get `JoinAck` with the full list;
put the members on the ring; gossip does the rest. Seeds that do not answer are asked again, at growing intervals, for ever.

**The watchdog.** Whoever computes on the event loop keeps gossip from answering, and finds everybody else silent. So the
timer is never set further ahead than a quarter of a gossip interval, and if it is late by as much, the core is told (`STALLED`).

**With a storage** the node is more than a member: a `Host` replicates journals, runs the workflows of the partitions that it owns,
and answers for all the others. Then the ring holds the voters that seem alive; before, or without a roster, everybody who does.

**Limits.** Who seems alive is a guess, right within seconds; who may commit is decided by the replicated journal. A listener of
`events` that falls behind by `EVENTS_MAX` is told so, and loses the rest. At most `ASKING_MAX` questions are under way; past that
they are lost, and the core asks again.

Read next: `durable.cluster.local`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, Self

from msgspec.structs import replace

from durable.cluster.ask import NodeView, encode_view, seal_of
from durable.cluster.config import ClusterConfig
from durable.cluster.events import EventStream
from durable.cluster.founding import Founding, look_up
from durable.cluster.host import Host
from durable.cluster.replicated import Syncs
from durable.desk.face import Face
from durable.desk.nobody import no_desk
from durable.errors import ClusterError, JoinRejected, NameTaken, ProtocolError, Unreachable
from durable.journal.keys import PARTITIONS
from durable.membership.effects import Displaced, Effect, Joined, JoinRefused, Left, MemberChanged, Send, Stream
from durable.membership.health import Evidence
from durable.membership.member import Member, NodeAddress, NodeId
from durable.membership.messages import decode, encode
from durable.membership.swim import Swim
from durable.ports import Clock, Entropy, Link, Transport
from durable.routing.partitions import PartitionRing, partition_of
from durable.rpc.calls import refuse
from durable.rpc.frames import MEMBERSHIP, REQUEST, VIEW
from durable.runtime.config import NodeConfig
from durable.storage.node import NodeStorage
from durable.storage.syncer import Syncer
from durable.transports.sockets import SocketTransport
from durable.workflows.definition import REGISTRY, Function, Workflow
from durable.world import SystemClock, SystemEntropy

ASKING_MAX = 256
ADDRESSES_MAX = 8_192
WARN_EVERY_S = 60.0
BOOT_CHANCE_BITS = 10
"""Of a boot number, beside the time in ms: two started at once under one name must not take each other for their own echo."""

log = logging.getLogger("durable")


class ClusterNode(Face):
    """One member.

    ::

        store = durable.storage.open_store("node-1.db")                                          # yours to close, at the end
        storage = durable.NodeStorage.make(store)
        async with ClusterNode(ClusterConfig.from_env(), storage, [process_order]) as node:      # joins; at the end, leaves
            handle = await node.submit(process_order, order, workflow_id="order-7")              # wherever it runs
            print(await handle.result())

    Args:
        config: what the node is told.
        storage: where it keeps journals; without one it is a member only, and runs nothing.
        workflows: what may run here; what is imported is registered already.
        node_config: how its workflows run.
        transport, clock, entropy, syncer: the world; sockets, the operating system's and the disk's by default.

    Raises:
        NotSecured: it would listen beyond this machine without a key.
    """

    def __init__(
        self,
        config: ClusterConfig,
        storage: NodeStorage | None = None,
        workflows: Iterable[Workflow[Any, Any] | Function[..., Any]] = (),
        *,
        node_config: NodeConfig | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        syncer: Syncs | None = None,
    ) -> None:
        config.check_secured()
        if storage is not None and config.partitions != PARTITIONS:
            raise ValueError(f"partitions is {config.partitions}; the keys of a store are made for {PARTITIONS}")
        self.config = config
        self.ring = PartitionRing(config.virtual_nodes_per_node, config.partitions)
        self._storage = storage
        self._node_config = node_config or NodeConfig(node_id=str(config.node_id))
        super().__init__(no_desk(self._why_no_desk), entropy or SystemEntropy(), self._node_config.value_bytes_max)
        for item in workflows:
            REGISTRY.add(item)
        seal = seal_of(config.secrets, config.cluster_name)
        self._transport = transport or SocketTransport(config.bind_address, seal, config.advertise_address)
        self._clock = clock or SystemClock()
        self._syncer = syncer
        self._host: Host | None = None
        self._founding: Founding | None = None
        self._addresses: dict[NodeId, NodeAddress] = {}
        self._swim: Swim | None = None
        self._streams: list[EventStream[MemberChanged]] = []
        self._asking: dict[asyncio.Task[None], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._warn_at = 0.0
        self._joined: asyncio.Future[None] | None = None
        self._was_voter = False
        self._ended: asyncio.Future[None] | None = None
        self._answer: bytes | None = None
        self._unreadable: Counter[str] = Counter()

    def __repr__(self) -> str:
        where = f" at {self._swim.me.address}" if self._swim else ""
        return f"<ClusterNode {self.config.node_id}{where}, {len(self.ring.nodes)} on the ring>"

    def _why_no_desk(self) -> str:
        why = "runs no workflows: it has no storage" if self._storage is None else "has not been started: await node.join()"
        return f"{self.config.node_id} {why}"

    # Coming and going

    async def start(self) -> NodeAddress:
        """Listen, and be a cluster of one. Where others reach this node is returned. Raises `OSError`, `JoinRejected`."""
        if self._swim is not None:
            return self._swim.me.address
        loop = asyncio.get_running_loop()
        bound = await self._transport.open(self)
        self._ended = loop.create_future()
        random = Random(int.from_bytes(self._entropy.random_bytes(16), "big"))
        swim = Swim(
            NodeId(self.config.node_id),
            self.config.advertised(bound),
            boot=self._clock.now_ms() << BOOT_CHANCE_BITS | random.getrandbits(BOOT_CHANCE_BITS),
            random=random,
            tuning=self.config.tuning(),
        )
        self._addresses[swim.me.node_id] = swim.me.address
        if self._storage is not None:
            self._open_host(self._storage, swim.me.address)
        self._swim = swim
        self._replace_ring()
        now = self._due = self._warn_at = loop.time()
        swim.start(now)
        self._carry_out(swim)
        return swim.me.address

    async def join(self, timeout_s: float | None = None, *, seeds: Sequence[NodeAddress] | None = None) -> None:
        """Start if need be, and return when a seed has let this node in, or a roster; the other seeds are asked in the background.

        ``seeds``: those of the configuration, if nothing else is said; who was there when it last ran is asked as well. Without
        any, or with itself as the only one, it returns at once, a cluster of its own. If the node ends, it does what `closed` does.

        Raises:
            JoinRejected: the cluster was born with other settings; or this store has executions that ran without one.
            Unreachable: no seed let it in within ``timeout_s``; it goes on asking. None: it waits for ever.
        """
        address = await self.start()
        listed = {seed: await look_up(seed) for seed in (self.config.seed_nodes if seeds is None else seeds)}
        if self._ended is not None and self._ended.done():
            await self.closed()
            return
        seeds = [seed for seed, meant in listed.items() if not meant.is_at(address)]
        swim, now = self._running()
        if self._founding is not None:
            self._founding.begin(listed.values(), self._by_address())
        joined = self._joined = asyncio.get_running_loop().create_future() if seeds else None
        self._was_voter = self._host is not None and self._host.core.voter
        if asked := self._host.remembered.beside(seeds) if self._host is not None else seeds:
            swim.join(now, asked)
            self._carry_out(swim)
        if joined is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await joined
        except TimeoutError:
            named = ", ".join(str(seed) for seed in seeds)
            raise Unreachable(f"none of {named} let {self.config.node_id} in within {timeout_s:g} s; it goes on asking") from None

    async def bootstrap(self) -> None:
        """An operator's word: start, and found a cluster of this node alone, if it is in none. Others can join it then, and get
        copies of all that it has. Raises `ClusterError` for a witness, or without a storage.
        """
        await self.start()
        if self._host is None:
            raise ClusterError(f"{self.config.node_id} has no storage, and can found nothing")
        self._host.bootstrap()

    def _open_host(self, storage: NodeStorage, address: NodeAddress) -> None:
        host = self._host = Host(
            self.config,
            self._node_config,
            storage,
            transport=self._transport,
            clock=self._clock,
            entropy=self._entropy,
            syncer=self._syncer or Syncer(storage.store),
            address_of=self._addresses.get,
            ring=self.ring,
        )
        host.on_roster = self._place
        host.on_failed = self._end
        self._desk = host.desk
        self._founding = Founding(host.log, address, ran_alone=host.ran_alone, witness=self.config.witness)
        host.log.tell(host.core.tick)  # what the disk holds may have something to do, also if nobody ever says a word

    async def leave(self) -> None:
        """Hand over what it owns and holds, tell the others, and close. Leaving twice is fine.

        Takes as long as it takes to copy what the others lack, at most ``rpc_timeout``. If they cannot do without it by then, it
        goes as it is, and nothing is lost: it stays a voter. Without a storage it takes up to two gossip intervals.
        """
        if self._swim is not None and self._ended is not None and not self._ended.done():
            if self._host is not None:
                await self._host.leave(self.config.rpc_timeout)
            swim, now = self._running()
            swim.leave(now)
            self._carry_out(swim)
            await asyncio.shield(self._ended)
        await self.close()

    async def close(self) -> None:
        """Go without a word: the others will find this node dead."""
        self._end(None)
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        if self._host is not None:
            await self._host.close()
        await self._transport.close()

    async def closed(self) -> None:
        """Return when the node has left or was closed. Raises `NameTaken` if another process runs under its name, and
        `StoreError` if its disk has failed: it is of no more use then, and whoever runs it closes it, or starts it anew.
        """
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def __aenter__(self) -> Self:
        try:
            await self.join()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    # What is to be seen

    def members(self) -> tuple[Member, ...]:
        """The list by name, as this node believes it, itself included; the dead and the left for ``dead_timeout`` more."""
        return self._swim.members() if self._swim is not None else ()

    def waits_for(self) -> str | None:
        """What keeps it from taking part yet, in words; None: nothing."""
        if self._joined is not None and not self._joined.done():
            named = ", ".join(str(seed) for seed in self.config.seed_nodes)
            return f"no seed has let it in yet. It goes on asking {named}: is one of them up, with the same key and cluster name?"
        return self._founding.waits_for(self._by_address()) if self._founding is not None else None

    def events(self) -> EventStream[MemberChanged]:
        """Every change of the list from now on, as `MemberChanged`; ends when the node does."""
        stream: EventStream[MemberChanged] = EventStream(self._streams)
        if self._ended is not None and self._ended.done():
            stream.end()
        return stream

    def ownership(self) -> EventStream[dict[int, int]]:
        """The partitions that this node owns, with their epochs' counters: now, and whenever that has changed.

        Ends with the node; at once if it has no storage, since it will never own any.
        """
        stream: EventStream[dict[int, int]] = EventStream(self._host.streams if self._host is not None else [])
        if self._host is None or (self._ended is not None and self._ended.done()):
            stream.end()
        else:
            stream.put_latest(dict(self._host.owned_now))
        return stream

    def owner(self, workflow_id: str) -> NodeId | None:
        """The node that runs an execution, as far as this one knows; None if it knows of none. Like `members` it is no coroutine:
        ``node.owner("order-7")``. A client knows nothing by itself, and asks: ``await client.owner("order-7")``.
        """
        if self._host is None:
            return self.ring.get_node(workflow_id) if self.ring.nodes else None
        return self._host.core.owner(partition_of(workflow_id))[0]

    def view(self) -> NodeView:
        """What this node sees, counters included."""
        swim, now = self._running()
        aged = tuple([replace(one, since=max(0.0, now - one.since)) for one in swim.members()])
        standing = self._host.standing(aged) if self._host is not None else ()
        return NodeView(swim.me.node_id, aged, self.dropped(), swim.health.score, self.config.cluster_name, *standing)

    def dropped(self) -> dict[str, int]:
        """How many packets and messages were dropped, by reason: forged, foreign, unreadable, of an older epoch, ..."""
        cores = [one for one in (self._swim, self._host.core if self._host is not None else None) if one is not None]
        return dict(sorted(sum((one.dropped for one in cores), self._transport.dropped + self._unreadable).items()))

    # What the transport calls

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        """One packet of the membership core."""
        self._feed(sender, data)

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        """See `frames`."""
        if self._is_over():
            return None
        if data == VIEW:
            return encode_view(self.view())
        if data[:1] == MEMBERSHIP:
            return self._feed(sender, data[1:], asked=True)
        self._unreadable["unknown question"] += 1
        return None

    def frame(self, link: Link, data: bytes) -> None:
        """One frame of a standing link: replication, a request, an answer."""
        if self._host is not None:
            self._host.frame(link, data)
        elif data[:1] != REQUEST or not refuse(link, data[1:], self.config.node_id):
            self._unreadable["frame for a node without a storage"] += 1

    def link_lost(self, link: Link) -> None:
        """A standing link has ended."""
        if self._host is not None:
            self._host.link_lost(link)

    # The pump

    def _feed(self, sender: NodeAddress, data: bytes, *, asked: bool = False) -> bytes | None:
        """Tell the core; what it streams to one who asked is returned."""
        if self._is_over():
            return None
        try:
            packet = decode(data)
        except ProtocolError:
            self._unreadable["unreadable"] += 1
            return None
        swim, now = self._running()
        swim.receive(now, sender, packet)
        self._answer = None
        self._carry_out(swim, sender if asked else None)
        return self._answer

    def _is_over(self) -> bool:
        """Whether it has ended, or not begun: such a node answers nobody, or the others would take it for alive."""
        return self._swim is None or self._swim.stopped or self._ended is None or self._ended.done()

    def _wake(self) -> None:
        self._timer = None
        swim, now = self._running()
        swim.tick(now)
        if self.config.is_open and now >= self._warn_at:
            self._warn_at = now + WARN_EVERY_S
            log.warning("%s listens on %s without a key (CLUSTER_INSECURE=1)", self.config.node_id, self.config.bind_address)
        self._carry_out(swim)

    def _running(self) -> tuple[Swim, float]:
        """The core and the time; before it is told anything, it is told of a stall that it could not see itself."""
        swim = self._swim
        if swim is None:
            raise ClusterError(f"{self.config.node_id} has not been started: await node.join()")
        now, stall_s = asyncio.get_running_loop().time(), swim.tuning.stall_s
        if now - self._due > stall_s and not swim.stopped:
            deadline = swim.next_deadline()
            if deadline is None or now - deadline <= stall_s:  # else it notices by itself
                swim.health.record(Evidence.STALLED)
            self._due = now
        return swim, now

    def _carry_out(self, swim: Swim, asked_by: NodeAddress | None = None) -> None:
        for effect in swim.effects():
            match effect:
                case Send():
                    self._transport.send(effect.to, encode(effect.packet))
                case Stream() if effect.to == asked_by:
                    self._answer = MEMBERSHIP + encode(effect.packet)
                case Stream():
                    self._ask(effect)
                case _:
                    self._tell(effect)
        self._arm(swim)

    def _arm(self, swim: Swim) -> None:
        if self._ended is None or self._ended.done():
            return
        loop = asyncio.get_running_loop()
        latest = loop.time() + swim.tuning.stall_s
        wanted = min(latest, swim.next_deadline() or latest)
        if self._timer is not None:
            if self._timer.when() <= wanted:
                return  # waking early costs nothing
            self._timer.cancel()
        self._due = wanted
        self._timer = loop.call_at(wanted, self._wake)

    def _ask(self, stream: Stream) -> None:
        if len(self._asking) >= ASKING_MAX:
            self._unreadable["not sent: too many questions"] += 1
            return
        task = asyncio.get_running_loop().create_task(self._ask_and_feed(stream.to, MEMBERSHIP + encode(stream.packet)))
        self._asking[task] = None
        task.add_done_callback(lambda done: self._asking.pop(done, None))

    async def _ask_and_feed(self, to: NodeAddress, data: bytes) -> None:
        try:
            answer = await self._transport.ask(to, data)
        except Unreachable as error:
            log.debug("%s: %s", self.config.node_id, error)
            return
        if answer[:1] == MEMBERSHIP:
            self._feed(to, answer[1:])

    # What the core tells

    def _tell(self, effect: Effect) -> None:
        match effect:
            case MemberChanged():
                self._changed(effect.member)
                for stream in list(self._streams):
                    stream.put(effect)
            case Joined():
                _conclude(self._joined)
            case JoinRefused():
                log.warning("%s was not let in by %s: %s", self.config.node_id, effect.seed, effect.why)
                if effect.final:
                    _conclude(self._joined, JoinRejected(f"{effect.seed} does not let {self.config.node_id} in: {effect.why}"))
            case Displaced():
                why = f"another process runs as {self.config.node_id}, at {effect.by.address}: this one has stopped"
                log.error(why)
                self._end(NameTaken(f"{why}. Give each node a name of its own"))
            case Left():
                self._end(None)

    def _changed(self, member: Member) -> None:
        self._addresses[member.node_id] = member.address
        if len(self._addresses) > ADDRESSES_MAX:
            voters = self._host.voters if self._host is not None else ()
            for node in self._addresses.keys() - {*voters, *(one.node_id for one in self.members())}:
                del self._addresses[node]
        if self._host is not None:
            self._host.seen(member)
        self._place()

    def _place(self) -> None:
        """Members or voters have changed: what that means for the ring, for a node that is not a voter yet, and for a restart."""
        if self._founding is not None and self._host is not None:
            self._founding.look(self._by_address())
            self._host.remembered.update(self.members(), self._host.voters)
            if self._host.core.voter and not self._was_voter:
                _conclude(self._joined)  # let in by a majority, which may know it from an earlier life when all its seeds are gone
        self._replace_ring()

    def _by_address(self) -> dict[NodeAddress, NodeId]:
        return {member.address: member.node_id for member in self.members() if member.status.is_live}

    def _replace_ring(self) -> None:
        """Who seems alive, as far as they own anything."""
        live = {member.node_id: None for member in self.members() if member.status.is_live}
        self.ring.hold(self._host.on_ring(live) if self._host is not None else live)

    def _end(self, error: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for stream in [*self._streams, *(self._host.streams if self._host is not None else ())]:
            stream.end()
        for future in (self._ended, self._joined):
            _conclude(future, error)


def _conclude(future: asyncio.Future[None] | None, error: BaseException | None = None) -> None:
    if future is not None and not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()  # counts as seen: nobody may be waiting
