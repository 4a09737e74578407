"""Several engines, one truth: partitions that move between nodes, without the network and the replicas between them.

The nodes share a store, as if every row that is durable were everywhere at once; each has a `DelayedLog` of its own on it. Who
owns a partition, `Twins.move` says. The old owner's log is fenced in that moment: what it had not made durable never will be, and
its engine is told at once, later, or only by its next append. `Twins.carry` and `RoutedDesk` are the network, which may lose a
request or an answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from delayed import DelayedLog

from durable import NodeConfig, NodeStorage
from durable.desk.face import Face
from durable.desk.listing import merge
from durable.errors import ClusterError, NotOwner, OutcomeUnknown, Unreachable
from durable.journal import keys
from durable.journal.entries import Envelope, Failure, Status, WorkflowMetadata
from durable.ports import Clock
from durable.runtime.desk import LocalDesk
from durable.runtime.engine import Engine
from durable.storage import InMemoryStore


class SkewedClock:
    """A clock that is ahead of another one, or behind."""

    def __init__(self, base: Clock, ahead_ms: int) -> None:
        self._base = base
        self._ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return self._base.now_ms() + self._ahead_ms

    def at_least(self, now_ms: int) -> None:
        self._ahead_ms += max(0, now_ms - self.now_ms())


class _Behind:
    """A reader to whom one partition looks as it did."""

    def __init__(self, now: InMemoryStore, before: InMemoryStore, partition: bytes) -> None:
        self._now, self._before, self._partition = now, before, partition

    def _store(self, key: bytes) -> InMemoryStore:
        return self._before if key.startswith(self._partition) else self._now

    def get(self, key: bytes) -> bytes | None:
        return self._store(key).get(key)

    def scan(self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False) -> Any:
        return self._store(prefix).scan(prefix, start=start, reverse=reverse)


class Twin:
    """One node."""

    def __init__(self, twins: Twins, name: str, ahead_ms: int, config: dict[str, Any]) -> None:
        world = asyncio.get_running_loop().durable_world  # type: ignore[attr-defined]
        self.name = name
        self.log = DelayedLog(twins.store, seed=twins.random.randrange(2**32))
        storage = NodeStorage.make(twins.store)
        self.engine = Engine(
            storage, NodeConfig(node_id=name, **config), self.log, SkewedClock(world.clock, ahead_ms), world.entropy,
            twins, twins.elsewhere,
        )
        world.prepare(self.engine)
        self.desk = LocalDesk(self.engine)


class Twins:
    """The nodes, and who owns what. Made inside a virtual loop. Implements `durable.ports.Courier`."""

    def __init__(self, names: Sequence[str] = ("a", "b"), seed: int = 0, loss: float = 0.0, **config: Any) -> None:
        self.store = InMemoryStore.open()
        self.random = random.Random(seed)
        self.loss = loss
        self.owner: dict[int, str] = {}
        self.epoch: dict[int, int] = {}
        self.nodes = {name: Twin(self, name, 700 * number, config) for number, name in enumerate(names)}
        self.desk = RoutedDesk(self)
        world = asyncio.get_running_loop().durable_world  # type: ignore[attr-defined]
        self.face = Face(self.desk, world.entropy, 2**20)

    def node(self, workflow_id: str) -> Twin:
        return self.nodes[self.owner[keys.partition_of(workflow_id)]]

    def elsewhere(self, partition: int) -> ClusterError:
        return NotOwner(partition, self.owner.get(partition), self.epoch.get(partition, 0))

    def give(self, *names: str) -> None:
        """Every partition to one of the nodes, in turns."""
        for partition in range(keys.PARTITIONS):
            self.move(partition, names[partition % len(names)])

    def move(self, partition: int, to: str, *, told: bool = True, committed: int = 0) -> None:
        """Another owner. ``told``: the old one's engine learns it now, and not only from its log."""
        before = self.owner.get(partition)
        self.owner[partition] = to
        self.epoch[partition] = self.epoch.get(partition, 0) + 1
        error = self.elsewhere(partition)
        if before is not None:
            self.nodes[before].log.lose(partition, error, committed=committed)
            if told or before == to:
                self.nodes[before].engine.drop(partition, error)
        self.nodes[to].log.regain(partition)
        self.nodes[to].engine.adopt(partition, self.epoch[partition])

    def hold(self, workflow_id: str) -> int:
        """Nothing of its partition becomes durable until its owner's log is told to `let` it. The partition."""
        partition = keys.partition_of(workflow_id)
        self.node(workflow_id).log.hold(partition)
        return partition

    def hide(self, workflow_id: str) -> None:
        """Node a's copy is behind: it does not have this execution's rows until `show`."""
        engine, behind = self.nodes["a"].engine, InMemoryStore.open()
        partition = keys.number(keys.partition_of(workflow_id), 2)
        behind.write([row for row in self.store.scan(b"") if not row[0].startswith(partition)])
        real, engine.storage = engine.storage, NodeStorage(_Behind(self.store, behind, partition))
        self._show = lambda: setattr(engine, "storage", real)

    def show(self) -> None:
        self._show()

    async def carry(self, envelope: Envelope) -> Failure | None:
        return await self.over_network(lambda: self.node(envelope.receiver).desk.post(envelope))

    async def over_network(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        await self._travel()
        task = asyncio.ensure_future(ask())
        done, _ = await asyncio.wait([task], timeout=5.0)
        if not done:
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise Unreachable("no answer within 5 s")
        answer = task.result()
        await self._travel()
        return answer

    async def _travel(self) -> None:
        await asyncio.sleep(self.random.random() * 0.01)
        if self.random.random() < self.loss:
            raise Unreachable("lost")

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.engine.close()


class RoutedDesk:
    """Implements `durable.desk.desk.Desk` by asking whoever owns the execution, again and again."""

    def __init__(self, twins: Twins) -> None:
        self._twins = twins

    def __getattr__(self, question: str) -> Callable[..., Awaitable[Any]]:
        async def ask(workflow_id: str, *args: Any) -> Any:
            return await self._ask(question, workflow_id, workflow_id, *args)

        return ask

    async def submit(self, workflow: str, version: int | None, input_json: bytes, workflow_id: str) -> None:
        await self._ask("submit", workflow_id, workflow, version, input_json, workflow_id)

    async def send(self, workflow_id: str, channel: str, value_json: bytes, key: str | None) -> None:
        key = key or self._twins.random.randbytes(8).hex()
        await self._ask("send", workflow_id, workflow_id, channel, value_json, key)

    async def outcome(self, workflow_id: str, timeout_s: float | None) -> Any:
        while (row := await self._ask("outcome", workflow_id, workflow_id, 2.0)) is None:
            if timeout_s is not None and (timeout_s := timeout_s - 2.0) <= 0:
                return None
        return row

    async def _ask(self, question: str, workflow_id: str, *args: Any) -> Any:
        while True:
            desk = self._twins.node(workflow_id).desk
            try:
                return await self._twins.over_network(lambda: getattr(desk, question)(*args))  # noqa: B023
            except (ClusterError, OutcomeUnknown):
                await asyncio.sleep(0.05)

    async def listing(
        self, partitions: Sequence[int] | None, status: Status | None, workflow: str | None, limit: int, after: str | None
    ) -> list[WorkflowMetadata]:
        listings = [
            await node.desk.listing(None, status, workflow, limit, after) for node in self._twins.nodes.values()
        ]
        return merge(listings, limit)

    async def purge(self, partitions: Sequence[int] | None, older_than_s: float, request_id: str) -> list[str]:
        return [each for node in self._twins.nodes.values() for each in await node.desk.purge(None, older_than_s, request_id)]
