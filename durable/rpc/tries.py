"""`Tries`: one question about a partition, asked of one node after the other: whom next, when, and what it all means at the end.

**How it works.** The route comes first, then the other nodes of the ring, each once a round; between rounds a pause that grows
from `PAUSE_S` to `PAUSE_S_MAX`. The owner that a `NotOwner` names is learned, and so is the next to be asked. Who was silent
lately (`Doubts`), whatever the question, comes last: that it is the owner is known from before, and the others know more. The table
of what follows what is in `durable.rpc.remote`. Pure, but for the event loop's clock.

Read next: `durable.rpc.remote`.
"""

from __future__ import annotations

import asyncio

from durable.errors import (
    DurableError,
    EmptyRing,
    NoQuorum,
    NotOwner,
    OutcomeUnknown,
    Overloaded,
    Unanswered,
    Unreachable,
)
from durable.membership.member import NodeId
from durable.routing.router import Local, Router

PAUSE_S, PAUSE_S_MAX = 0.02, 1.0
CANDIDATES_MAX = 16
PATIENCE_SHARE, PATIENCE_S_MAX = 3, 3.0
"""A node that says nothing for a third of the whole time, or so long, is left, and the next is asked."""


DOUBT_S = 10.0
"""How long who was silent is asked last: about as long as it takes until it is found dead, and another owns what it had."""
DOUBTS_MAX = 1_024


class Doubts:
    """Who has not answered lately."""

    def __init__(self) -> None:
        self._until: dict[NodeId, float] = {}

    def silent(self, node: NodeId) -> None:
        """It was asked, and has not answered."""
        self._until.pop(node, None)
        self._until[node] = asyncio.get_running_loop().time() + DOUBT_S
        if len(self._until) > DOUBTS_MAX:
            del self._until[next(iter(self._until))]

    def answered(self, node: NodeId) -> None:
        """Whatever it said."""
        self._until.pop(node, None)

    def about(self, node: NodeId) -> bool:
        """Whether it is better asked last."""
        return self._until.get(node, 0.0) > asyncio.get_running_loop().time()


class Tries:
    """The tries of one question until ``deadline`` (of the event loop's clock).

    ``request_id``: of a request that writes; None if it only reads, or is numbered otherwise.
    """

    def __init__(
        self, router: Router, partition: int, deadline: float, request_id: str | None = None, doubts: Doubts | None = None
    ) -> None:
        self.partition = partition
        self._doubts = doubts or Doubts()
        self._request_id = request_id
        self.pause_s = 0.0
        self._router = router
        self._deadline = deadline
        self._round: dict[NodeId, None] = {}
        self._next_pause_s = PAUSE_S
        self._perhaps: DurableError | None = None
        self._refused: NoQuorum | None = None
        self._last: DurableError | None = None

    @property
    def late(self) -> bool:
        """Whether no more should be tried."""
        return asyncio.get_running_loop().time() + self.pause_s >= self._deadline

    def patience_s(self, timeout_s: float) -> float:
        """How long the next node may take."""
        left_s = self._deadline - asyncio.get_running_loop().time()
        return max(0.001, min(left_s, timeout_s / PATIENCE_SHARE, PATIENCE_S_MAX))

    def next_node(self) -> NodeId | None:
        """Whom to ask now. None: everybody was asked, and the round is over; or nobody is there to be asked."""
        self.pause_s = 0.0
        try:
            route = self._router.route_partition(self.partition)
            likely = self._router.me if isinstance(route, Local) else route.owner
            others = self._router.candidates(self.partition, CANDIDATES_MAX)
        except EmptyRing as error:
            self._last, likely, others = error, None, []
        nodes = [node for node in (likely, *others) if node is not None]
        for node in sorted(nodes, key=self._doubts.about):
            if node not in self._round:
                self._round[node] = None
                return node
        self._rest()
        return None

    def heard(self, error: Exception) -> None:
        """What a node said instead of an answer; if it is one after all, it is raised."""
        match error:
            case NotOwner():
                if error.owner is not None:
                    self._router.learn(self.partition, NodeId(error.owner), error.epoch)
            case NoQuorum():
                self._refused = error
            case Overloaded() if self._request_id is None or self._perhaps is not None:
                self._rest()
            case Unanswered() | OutcomeUnknown():
                self._perhaps = error
            case Unreachable():
                pass
            case _:
                raise error
        self._last = error

    def put_off(self, error: Overloaded) -> None:
        """Nothing was done there, and elsewhere perhaps: it is asked again after a pause."""
        self._last = error
        self._rest()

    def again(self) -> None:
        """The node was not asked about this partition after all: it is to be asked once more."""
        self._round.clear()

    def verdict(self, replicas: int) -> DurableError:
        """The error for the caller."""
        request_id = self._request_id
        last = f"; the last try: {self._last}" if self._last is not None else ""
        if self._perhaps is not None and request_id is not None:
            text = f"nobody can tell whether the request was recorded. Ask again with the same id, {request_id!r}{last}"
            return OutcomeUnknown(text, request_id)
        if isinstance(self._last, Overloaded):
            return self._last
        if self._perhaps is not None:
            return Unanswered(f"the owner of partition {self.partition} has not answered{last}")
        return self._no_quorum(replicas)

    def _no_quorum(self, replicas: int) -> NoQuorum:
        """As it was refused, or as nobody has answered."""
        said = self._refused or NoQuorum(self.partition, 0, replicas // 2 + 1)
        if self._request_id is None:
            said = NoQuorum(said.partition, said.have, said.need, said.retry_after_s, asked=True)
        if self._refused is None:
            said.__cause__ = self._last
        return said

    def _rest(self) -> None:
        self.pause_s = self._next_pause_s
        self._next_pause_s = min(self._next_pause_s * 2, PAUSE_S_MAX)
        self._round.clear()
