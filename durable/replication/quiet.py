"""What need not be said again: most partitions rest most of the time, and a node has 256 of them.

**Why it exists.** An owner's digest tells each copy that the owner is there and how far it is; the answer tells the owner the same
of the copy. Listing every partition every time makes an idle cluster work. So a line that a peer has answered alike is said once;
from then on a digest carries how many such lines there are, and the sum of their checksums. If the peer finds the same sum, every
one of them was said, and heard.

=====================  =============================================  ===================================================
side                   a line comes in when                           all of them stand for
=====================  =============================================  ===================================================
``said`` (owner's)     the peer's answer is what the line says        that copy was heard when the last answer came
``heard`` (copy's)     what the line says is so here                  that owner was heard when the last digest came
=====================  =============================================  ===================================================

A line goes out as soon as anything about it changes at either side (`stir`), and the replica is looked at at every beat again, as
all are that are not calm. When the sums differ, both sides forget all lines, and the owner lists everything at once.

**Limits.** It is about who is heard, never about what is safe: no promise, vote or acknowledgement is ever left out. Two different
sets of lines have the same count and sum once in four billion times; then a silent copy counts as heard until something changes.

Read next: `replica`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.copies.lines import Lines
from durable.membership.member import NodeId

if TYPE_CHECKING:
    from durable.replication.replica import Replica


class Quiet:
    """The lines of one node, and the replicas that are not calm: all that a beat has to look at."""

    def __init__(self) -> None:
        self.said: dict[NodeId, Lines] = {}
        self.heard: dict[NodeId, Lines] = {}
        self.restless: dict[int, Replica] = {}

    def last_heard(self, replica: Replica) -> float:
        """When the owner that a copy follows was heard of it."""
        lines = self.heard.get(replica.promised[1])
        if lines is not None and replica.partition in lines.rows:
            return max(replica.heard_at, lines.at)
        return replica.heard_at

    def last_answered(self, partition: int, node: NodeId, at: float) -> float:
        """When a copy was heard, of which by itself nothing came since ``at``."""
        lines = self.said.get(node)
        return max(at, lines.at) if lines is not None and partition in lines.rows else at

    def stir(self, replica: Replica) -> None:
        """Something about it changes: to be called before it does."""
        partition = replica.partition
        lines = self.heard.get(replica.promised[1])
        if lines is not None and partition in lines.rows:
            replica.heard_at = max(replica.heard_at, lines.at)
            lines.drop(partition)
        if replica.owner is not None:
            replica.owner.stir(was_calm=partition not in self.restless)
        self.restless[partition] = replica

    def forget_heard(self, node: NodeId, replicas: dict[int, Replica]) -> None:
        """That owner is not heard any more, or says other lines: those who followed it look for themselves."""
        lines = self.heard.get(node)
        for partition in list(lines.rows) if lines is not None else ():
            self.stir(replicas[partition])

    def forget_said(self, node: NodeId, replicas: dict[int, Replica]) -> None:
        """That peer does not answer any more, or knows other lines."""
        lines = self.said.get(node)
        for partition in list(lines.rows) if lines is not None else ():
            self.stir(replicas[partition])

    def forget(self, node: NodeId, replicas: dict[int, Replica]) -> None:
        """Nothing need be known of that node any more."""
        self.forget_heard(node, replicas)
        self.forget_said(node, replicas)
        self.heard.pop(node, None)
        self.said.pop(node, None)

    def is_calm(self, replica: Replica) -> bool:
        """Whether nothing can become due for it that does not stir it first."""
        if replica.transfer is not None or replica.move is not None or replica.election.stage:
            return False
        if replica.owner is not None:
            return replica.owner.is_calm()
        if not replica.ready and not replica.is_member(replica.home.me):
            return True
        lines = self.heard.get(replica.promised[1])
        return lines is not None and replica.partition in lines.rows and replica.home.is_live(replica.promised[1])
