"""`RemoteDesk`: the whole cluster as one desk. Each question goes to the owner of its partition, wherever that is now.

**How it works.** The `Router` names a node; it is asked, over a link or (this node itself) directly; and what it says is followed,
always with the same id, until there is an answer or ``rpc_timeout_s`` have passed:

===============================  ==========================  =====================================================
it says                          was it done?                then
===============================  ==========================  =====================================================
an answer, or another error      it says so                  the caller has it
`NotOwner`                       no                          the owner that it names, if it was not asked yet
`Unreachable`                    no                          the next node of the ring
`NoQuorum`                       no                          the next node of the ring: this one may be cut off
`Unanswered`, `OutcomeUnknown`   perhaps                     the next node of the ring
a `StoreError` of another node   perhaps                     the same: soon somebody else owns what it had
`Overloaded`                     no                          the caller has it; who reads, asks all or heard "perhaps", waits
===============================  ==========================  =====================================================

When all nodes of the ring were asked, it begins anew after a pause.

At the deadline the caller gets `NoQuorum` if every try ended in "no": nothing was appended. If one ended in "perhaps", a request
that writes ends as `OutcomeUnknown` with its ``request_id``: made again with that id it does nothing twice. What was `Overloaded`
to the end ends so: no node is missing.

Results are waited for in slices of `SLICE_S`: a wait of a day survives the death of every node that it began at.

**Limits.** `listing` and `purge` ask each owner about its own partitions and are no snapshot of one instant. Partitions that
nobody runs are waited for as long as ``rpc_timeout_s``, and named as missing then.

Read next: `durable.cluster.client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from durable.desk.listing import Executions, Purged, merge
from durable.errors import DurableError, NoQuorum, NotOwner, OutcomeUnknown, Overloaded, StoreError, Unanswered, Unreachable
from durable.journal.codec import MISSING
from durable.journal.entries import Attempt, Envelope, Failure, Row, Status, StatusRow, WorkflowMetadata
from durable.membership.member import NodeAddress, NodeId
from durable.routing.router import Router
from durable.rpc.requests import (
    Cancel,
    Export,
    Fork,
    JournalOf,
    Listing,
    Metadata,
    Outcome,
    Owned,
    Owners,
    Pause,
    Post,
    Purge,
    Request,
    Resume,
    RowsBefore,
    SendMessage,
    Submit,
)
from durable.rpc.tries import Doubts, Tries
from durable.workflows.definition import REGISTRY, Workflow

if TYPE_CHECKING:
    from durable.desk.desk import Desk
    from durable.ports import Entropy
    from durable.rpc.calls import RpcClient

SLICE_S = 20.0
KEY_BYTES = 12


class RemoteDesk:
    """A `Desk` for every execution of a cluster.

    Args:
        router: who probably owns what.
        calls: how others are asked.
        address_of: where a node listens; None if that is not known.
        entropy: where the keys of messages come from that were given none.
        local, copy, owners: this node's own desk, how an execution ended if its own rows may say it, and which partitions are
            whose as far as it knows; None for a client.
        rpc_timeout_s: how long a question is asked again.
        replicas: how many keep a partition: what `NoQuorum` says is missing when nobody says it.
        refresh: awaited when nobody could be reached, before trying again: to find out who is there now.
    """

    def __init__(
        self,
        router: Router,
        calls: RpcClient,
        address_of: Callable[[NodeId], NodeAddress | None],
        entropy: Entropy,
        *,
        local: Desk | None = None,
        copy: Callable[[str], StatusRow | None] | None = None,
        rpc_timeout_s: float = 30.0,
        replicas: int = 3,
        owners: Callable[[], list[Owned]] | None = None,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.router = router
        self.rpc_timeout_s = rpc_timeout_s
        self.replicas = replicas
        self._calls = calls
        self._address_of = address_of
        self._entropy = entropy
        self._local = local
        self._copy = copy
        self._owners = owners or (list)
        self._refresh = refresh
        self._doubts = Doubts()

    # The desk

    async def submit(self, workflow: str, version: int | None, input_json: bytes, workflow_id: str) -> None:
        await self._write(workflow_id, Submit(workflow, version, input_json, workflow_id), workflow_id)

    async def outcome(self, workflow_id: str, timeout_s: float | None) -> StatusRow | None:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while True:
            row = self._copy(workflow_id) if self._copy is not None else None
            if row is not None:
                return row
            slice_s = SLICE_S if deadline is None else min(SLICE_S, max(0.0, deadline - loop.time()))
            found: StatusRow | None = await self._read(workflow_id, Outcome(workflow_id, slice_s), slice_s)
            if found is not None or (deadline is not None and loop.time() >= deadline):
                return found

    async def metadata(self, workflow_id: str) -> WorkflowMetadata:
        found: WorkflowMetadata = await self._read(workflow_id, Metadata(workflow_id))
        return found

    async def journal(self, workflow_id: str) -> tuple[list[Row], list[Attempt]]:
        found: tuple[list[Row], list[Attempt]] = await self._read(workflow_id, JournalOf(workflow_id))
        return found

    async def send(self, workflow_id: str, channel: str, value_json: bytes, key: str | None) -> None:
        key = self._entropy.random_bytes(KEY_BYTES).hex() if key is None else key
        await self._write(workflow_id, SendMessage(workflow_id, channel, value_json, key), key)

    async def cancel(self, workflow_id: str) -> None:
        await self._write(workflow_id, Cancel(workflow_id), workflow_id)

    async def pause(self, workflow_id: str) -> None:
        await self._write(workflow_id, Pause(workflow_id), workflow_id)

    async def resume(self, workflow_id: str) -> None:
        await self._write(workflow_id, Resume(workflow_id), workflow_id)

    async def rows_before(self, workflow_id: str, at: int) -> list[Row]:
        found: list[Row] = await self._read(workflow_id, RowsBefore(workflow_id, at))
        return found

    async def fork(self, new_id: str, at: int, rows: list[Row], request_id: str) -> None:
        await self._write(new_id, Fork(new_id, at, rows, request_id), new_id)

    async def export(self, workflow_id: str) -> str:
        text: str = await self._read(workflow_id, Export(workflow_id))
        return text

    async def post(self, envelope: Envelope) -> Failure | None:
        """Raises a `ClusterError`, or `Overloaded`, if it may or may not have arrived: it is numbered, and can be posted again."""
        refused: Failure | None = await self._read(envelope.receiver, Post(envelope))
        return refused

    async def carry(self, envelope: Envelope) -> Failure | None:
        """The same, as the `Courier` of this node's engine."""
        return await self.post(envelope)

    async def listing(
        self,
        partitions: Sequence[int] | None,
        status: Status | None,
        workflow: str | None,
        limit: int,
        after: str | None,
    ) -> Executions:
        wanted = self._all(partitions)
        if after is not None:
            wanted = [one for one in wanted if one >= self.router.partition_of(after)]
        pages, missing = await self._each(wanted, lambda some: Listing(some, status, workflow, limit, after))
        return Executions(merge(pages, limit), missing)

    async def purge(self, partitions: Sequence[int] | None, older_than_s: float, request_id: str) -> Purged:
        wanted = self._all(partitions)
        pages, missing = await self._each(wanted, lambda some: Purge(some, older_than_s, request_id), request_id)
        return Purged(dict.fromkeys(workflow_id for page in pages for workflow_id in page), request_id, missing)

    def _all(self, partitions: Sequence[int] | None) -> list[int]:
        return list(range(self.router.ring.partitions) if partitions is None else partitions)

    # One partition

    async def _write(self, workflow_id: str, request: Request, request_id: str) -> Any:
        return await self._ask(self.router.partition_of(workflow_id), request, request_id)

    async def _read(self, workflow_id: str, request: Request, lasts_s: float = 0.0) -> Any:
        return await self._ask(self.router.partition_of(workflow_id), request, None, lasts_s)

    async def _ask(self, partition: int, request: Request, request_id: str | None, lasts_s: float = 0.0) -> Any:
        """Until there is an answer. ``lasts_s`` is what the question itself may take."""
        tries = self._tries(partition, lasts_s, request_id)
        while True:
            node = tries.next_node()
            if node is not None:
                try:
                    return await self._ask_node(node, request, tries.patience_s(self.rpc_timeout_s) + lasts_s)
                except Exception as error:
                    tries.heard(error)  # raises it, if it is an answer
            elif self._refresh is not None:
                await self._refresh()
            if tries.late:
                raise tries.verdict(self.replicas)
            await asyncio.sleep(tries.pause_s)

    def _tries(self, partition: int, lasts_s: float = 0.0, request_id: str | None = None) -> Tries:
        deadline = asyncio.get_running_loop().time() + self.rpc_timeout_s + lasts_s
        return Tries(self.router, partition, deadline, request_id, self._doubts)

    async def _ask_node(self, node: NodeId, request: Request, within_s: float) -> Any:
        try:
            answer = await self._put(node, request, within_s)
        except (Unanswered, Unreachable):
            self._doubts.silent(node)
            raise
        except DurableError:
            self._doubts.answered(node)
            raise
        self._doubts.answered(node)
        return answer

    async def _put(self, node: NodeId, request: Request, within_s: float) -> Any:
        if node == self.router.me and self._local is not None:
            try:
                async with asyncio.timeout(within_s):
                    return await request.of(self._local)
            except TimeoutError:
                raise Unanswered(f"{node} has not answered itself within {within_s:g} s") from None
        address = self._address_of(node)
        if address is None:
            raise Unreachable(f"where {node} listens is not known here")
        try:
            return await self._calls.call(address, request, within_s)
        except StoreError as error:
            raise Unanswered(f"{node} has lost its store, or closes: {error}") from None

    # All partitions

    async def _each(
        self, partitions: list[int], request: Callable[[list[int]], Request], request_id: str | None = None
    ) -> tuple[list[list[Any]], dict[int, DurableError]]:
        """Ask each owner about its partitions, and ask on about those that turn out to be elsewhere. What was answered; and of
        which partitions nothing is known, and why. Raises that why if it is so of all.
        """
        pages: list[list[Any]] = []
        missing: dict[int, DurableError] = {}
        alone: set[int] = set()
        """Asked about each for itself: the others shall not wait for them."""
        tries = {one: self._tries(one, 0.0, request_id) for one in partitions}
        due = dict.fromkeys(partitions, 0.0)
        loop = asyncio.get_running_loop()
        while tries:
            groups: dict[tuple[NodeId, int], list[int]] = {}
            for partition, one in tries.items():
                if due[partition] > loop.time():
                    continue
                node = one.next_node()
                if node is not None:
                    groups.setdefault((node, partition if partition in alone else -1), []).append(partition)
                due[partition] = loop.time() + one.pause_s
            if not groups and self._refresh is not None:
                await self._refresh()
            within_s = min(one.patience_s(self.rpc_timeout_s) for one in tries.values())
            asked = [self._ask_node(node, request(group), within_s) for (node, _), group in groups.items()]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for ((node, _), group), answer in zip(groups.items(), answers, strict=True):
                if isinstance(answer, BaseException):
                    alone |= await self._heard_of_group(node, [tries[partition] for partition in group], answer, within_s)
                    due.update({partition: loop.time() + tries[partition].pause_s for partition in group})
                else:
                    pages.append(answer)
                    for partition in group:
                        del tries[partition]
            for partition, one in list(tries.items()):
                if one.late:
                    missing[partition] = one.verdict(self.replicas)
                    del tries[partition]
            if tries:
                await asyncio.sleep(max(0.0, min(due[partition] for partition in tries) - loop.time()))
        if missing and not pages:
            raise next(iter(missing.values()))
        return pages, missing

    async def _heard_of_group(self, node: NodeId, group: list[Tries], error: BaseException, within_s: float) -> set[int]:
        """Which of them are to be asked about alone: an owner does not answer in part, and one of them may hold all up."""
        if not isinstance(error, Exception):
            raise error
        if isinstance(error, NotOwner | NoQuorum) and any(one.partition == error.partition for one in group):
            for one in group:
                if one.partition == error.partition:
                    one.heard(error)
                else:
                    one.again()
            if len(group) == 1:
                return {error.partition}
            owned = await self._learned_from(node, within_s)  # which of the others are elsewhere, it says if it is asked
            elsewhere = {error.partition} if isinstance(error, NoQuorum) or error.owner is None else set()
            return elsewhere | ({one.partition for one in group} - owned if owned is not None else set())
        for one in group:
            if isinstance(error, Overloaded):
                one.put_off(error)
            else:
                one.heard(error)
        return {one.partition for one in group} if isinstance(error, Unanswered | OutcomeUnknown) else set()

    async def learn_from(self, node: NodeId, within_s: float) -> bool:
        """Ask a node which partitions are whose, as far as it knows. Whether it said."""
        return await self._learned_from(node, within_s) is not None

    async def _learned_from(self, node: NodeId, within_s: float) -> set[int] | None:
        """The same; of which it knows an owner."""
        try:
            owned = self._owners() if node == self.router.me else await self._ask_node(node, Owners(), within_s)
        except DurableError:
            return None
        for partition, owner, epoch in owned:
            self.router.learn(partition, NodeId(owner), epoch)
        return {partition for partition, _, _ in owned}


class RemoteExecutor:
    """Submits to a node that is named, whoever the router would ask.

    Args:
        calls: how it is asked.
        address_of: where it listens.
        within_s: how long it may take.
    """

    def __init__(self, calls: RpcClient, address_of: Callable[[NodeId], NodeAddress | None], within_s: float = 30.0) -> None:
        self._calls = calls
        self._address_of = address_of
        self._within_s = within_s

    async def submit_workflow(
        self, owner: NodeId, workflow: Workflow[Any, Any] | str, workflow_id: str, input: Any = MISSING
    ) -> None:
        """Returns when the execution is durable there. Raises `NotOwner` if ``owner`` is not, and what `RpcClient.call` raises."""
        address = self._address_of(owner)
        if address is None:
            raise Unreachable(f"where {owner} listens is not known here. Nothing was sent")
        definition = REGISTRY.workflow(workflow)
        request = Submit(definition.name, definition.version, definition.encode_input(input), workflow_id)
        await self._calls.call(address, request, self._within_s)
