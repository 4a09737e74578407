"""What all replicas of a node share: who it is, whom it can reach, and the list of what is to be done.

**Why it exists.** A replica decides about one partition. Who is alive, whose disk is whose, the number of the last write and
what must wait for an fsync are the node's, and stand here once.

Read next: `replica`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING

from durable.copies.effects import Committed, Drop, Effect, InstallSnapshot, Lost, Owned, Persist, Send, SendSynced
from durable.copies.messages import Epoch, Message, Roster
from durable.copies.rows import ROSTER
from durable.membership.member import NodeId
from durable.ports import Write
from durable.replication.quiet import Quiet

if TYPE_CHECKING:
    from random import Random

    from durable.copies.tuning import ReplicationTuning
    from durable.replication.replica import Replica

PROMISED = -1
"""In place of an index: what became durable is a promise."""
DOUBLINGS_MAX = 4


def doubled(times: int) -> int:
    """By what a wait is multiplied after so many failures.

    >>> [doubled(times) for times in (-1, 0, 1, 3, 9)]
    [1, 1, 2, 8, 16]
    """
    return 1 << min(max(times, 0), DOUBLINGS_MAX)


class Home:
    """Shared by the replicas of one node. ``now`` is that of the call under way."""

    def __init__(self, me: NodeId, store_id: bytes, tuning: ReplicationTuning, random: Random) -> None:
        self.me = me
        self.store_id = store_id
        self.tuning = tuning
        self.random = random
        self.now = 0.0
        self.live: dict[NodeId, None] = {me: None}
        """Whom membership holds alive."""
        self.stores: dict[NodeId, bytes] = {me: store_id}
        """Which disk each node last said it has."""
        self.witnesses: tuple[NodeId, ...] = ()
        self.suspect = ""
        """R7. Why this node's disk is not to be trusted, if it is not."""
        self.standing = True
        """False: it campaigns for nothing more, because it leaves, or is a witness."""
        self.resting: dict[NodeId, None] = {}
        """The others of whom the same is so."""
        self.busy: Callable[[], Container[int]] = tuple
        """Partitions in which something is under way that a change of owner would begin again."""
        self._busy: tuple[float, Container[int]] = (-1.0, ())
        self.effects: list[Effect] = []
        self.mark = self.synced_mark = 0
        self.dirty: dict[int, Replica] = {}
        """Replicas with something to send, count or apply at the end of the turn."""
        self.waiting: deque[tuple[int, Replica, Epoch, int]] = deque()
        """What counts when everything up to a mark is on stable storage."""
        self.decided: list[Roster] = []
        self.quiet = Quiet()
        self.changes = 0
        """Grows when it may have become better that another owns or holds something."""
        self.dropped: Counter[str] = Counter()

    def is_live(self, node: NodeId) -> bool:
        return node in self.live

    def may_own(self, node: NodeId) -> bool:
        """Whether a node is alive, and would own a partition."""
        standing = self.standing if node == self.me else node not in self.resting
        return standing and node in self.live and node not in self.witnesses

    def is_busy(self, partition: int) -> bool:
        """By what was said at the first question of this call."""
        if self._busy[0] != self.now:
            self._busy = (self.now, self.busy())
        return partition in self._busy[1]

    def persist(self, writes: Sequence[Write]) -> int:
        self.mark += 1
        self.effects.append(Persist(writes, self.mark))
        return self.mark

    def install(self, partition: int, index: int, clear: tuple[bytes, ...], writes: Sequence[Write]) -> None:
        self.mark += 1
        self.effects.append(InstallSnapshot(partition, index, clear, writes, self.mark))

    def drop(self, partition: int, clear: tuple[bytes, ...], writes: Sequence[Write]) -> None:
        self.mark += 1
        self.effects.append(Drop(partition, clear, writes, self.mark))

    def tell(self, news: Owned | Lost | Committed) -> None:
        """To the engine, which does not know of the roster's partition."""
        if news.partition != ROSTER:
            self.effects.append(news)

    def send(self, to: NodeId, message: Message) -> None:
        self.effects.append(Send(to, message))

    def send_synced(self, to: NodeId, message: Message) -> None:
        self.effects.append(SendSynced(to, message))

    def when_synced(self, replica: Replica, epoch: Epoch, last: int) -> None:
        """Tell the replica when all that was written so far is on stable storage."""
        self.waiting.append((self.mark, replica, epoch, last))

    def synced(self, mark: int) -> None:
        self.synced_mark = max(self.synced_mark, mark)
        waiting = self.waiting
        while waiting and waiting[0][0] <= mark:
            _, replica, epoch, last = waiting.popleft()
            replica.durable(epoch, last)
