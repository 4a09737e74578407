"""Where the others were when this node last ran: a restart finds them, though its list of seeds is of another day.

**Why it exists.** A list of seeds is written once; a cluster grows, and nodes leave. When all of it is started anew, whoever has
only seeds that have left would wait for ever, or find half of the others, and nobody would tell the two halves of each other.

**How it works.** One row of the node's own: the address of each member, by name. It is written when that has changed. When the
node joins, it asks these too.

============================================  ==============================================
a name that was heard of                      its address is
============================================  ==============================================
a member, alive, suspected, or found dead     kept, the newest
left                                          forgotten
no member any more, on the roster             kept: it is expected back
neither                                       forgotten
============================================  ==============================================

**Limits.** `REMEMBERED_MAX` addresses, those of voters first. Read next: `durable.cluster.founding`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from durable.journal.keys import NODE
from durable.membership.joining import SEEDS_MAX
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId
from durable.ports import Batch

KEY = NODE + b"remembered"
REMEMBERED_MAX = 32
"""A few suffice to find all: whoever lets a node in gives it the whole list."""

_decode = msgspec.msgpack.Decoder(dict[NodeId, NodeAddress]).decode
_encode = msgspec.msgpack.Encoder(order="sorted").encode


class Remembered:
    """Of the node ``me``. ``row``: what it remembers, if anything; ``write`` keeps what has changed."""

    def __init__(self, me: NodeId, row: bytes | None, write: Callable[[Batch], object]) -> None:
        self._me = me
        self._write = write
        self._at: dict[NodeId, NodeAddress] = {} if row is None else _decode(row)

    def beside(self, seeds: Sequence[NodeAddress]) -> list[NodeAddress]:
        """Whom to ask: the seeds, and who is remembered, as long as there is room."""
        return list(dict.fromkeys((*seeds, *self._at.values())))[: max(len(seeds), SEEDS_MAX)]

    def update(self, members: Iterable[Member], voters: Collection[NodeId]) -> None:
        """The list of members has changed, or the roster. ``voters``: none if no roster is known."""
        at = {node: address for node, address in self._at.items() if node in voters or not voters}
        for member in members:
            if member.status is MemberStatus.LEFT:
                at.pop(member.node_id, None)
            elif member.node_id != self._me:
                at[member.node_id] = member.address
        kept = sorted(at, key=lambda node: (node not in voters, node))[:REMEMBERED_MAX]
        at = {node: at[node] for node in kept}
        if at != self._at:
            self._at = at
            self._write([(KEY, _encode(at))])
