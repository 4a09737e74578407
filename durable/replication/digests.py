"""The digests of a node: every gossip interval one to each peer, about all partitions together, and its answer.

**Why it exists.** An owner must know that a majority still follows it, a copy that its owner is there, and both what was
missed. One message a peer says it for all partitions: line by line for those of which something is new, by number and checksum
for those that rest (`quiet`).

==========================  ================================================================================================
the copy finds              then
==========================  ================================================================================================
a line that says what is    it is known from here on, and not listed again before something changes
another line                it answers with how it stands, and fetches what it lacks: `following`
another checksum            it forgets all lines, and says so before anything is on disk: the owner lists everything at once
==========================  ================================================================================================

Read next: `reads`.
"""

from __future__ import annotations

from collections.abc import Iterable

from durable.copies.lines import Lines, checksum
from durable.copies.messages import Digest, DigestAnswer, Row
from durable.membership.member import NodeId
from durable.replication import following
from durable.replication.home import Home
from durable.replication.replica import Replica


class Digests:
    """Of one node, as owner and as copy."""

    def __init__(self, home: Home, replicas: dict[int, Replica]) -> None:
        self._home = home
        self._replicas = replicas

    # Those who were not heard

    def miss_owners(self) -> None:
        """A few times in a gossip interval: whose digests were missed is not heard for any partition."""
        quiet, home = self._home.quiet, self._home
        for node, lines in quiet.heard.items():
            if home.now - lines.at > home.tuning.owner_timeout_s:
                quiet.forget_heard(node, self._replicas)

    def miss_copies(self) -> None:
        """Every gossip interval: who does not answer has to be told everything again."""
        quiet, home = self._home.quiet, self._home
        for node, lines in quiet.said.items():
            if home.now - lines.at > home.tuning.owner_timeout_s:
                quiet.forget_said(node, self._replicas)

    # As owner

    def send(self, peers: Iterable[NodeId]) -> None:
        """To each of them, and to whoever has a copy of ours."""
        rows: dict[NodeId, list[Row]] = {node: [] for node in peers}
        self._list(rows)
        for node, mine in rows.items():
            self._send(node, mine)

    def _list(self, rows: dict[NodeId, list[Row]], only: NodeId | None = None) -> None:
        """The lines that have to be said."""
        said = self._home.quiet.said
        for partition, replica in self._home.quiet.restless.items():
            owner = replica.owner
            if owner is None:
                continue
            row = owner.row()
            listed = checksum(row)
            for node, peer in owner.peers.items():
                if only in (None, node) and owner.speaks(node) and (node not in said or partition not in said[node].rows):
                    peer.listed = listed
                    rows.setdefault(node, []).append(row)

    def _send(self, node: NodeId, rows: list[Row]) -> None:
        lines = self._home.quiet.said.get(node)
        self._home.send(node, Digest(rows, len(lines.rows), lines.total) if lines is not None else Digest(rows))

    def on_answer(self, sender: NodeId, answer: DigestAnswer) -> None:
        quiet = self._home.quiet
        if not answer.known:
            quiet.forget_said(sender, self._replicas)
        elif sender in quiet.said:
            quiet.said[sender].at = self._home.now
        for row in answer.rows:
            replica = self._replicas.get(row[0])
            if replica is not None and replica.owner is not None:
                replica.owner.on_answer(sender, row)
        if not answer.known:
            rows: dict[NodeId, list[Row]] = {sender: []}
            self._list(rows, sender)
            self._send(sender, rows[sender])

    # As copy

    def on_digest(self, sender: NodeId, digest: Digest) -> None:
        quiet = self._home.quiet
        lines = quiet.heard.setdefault(sender, Lines())
        for partition in [row[0] for row in digest.rows if row[0] in lines.rows]:
            quiet.stir(self._replicas[partition])
        known = (digest.quiet, digest.total) == (len(lines.rows), lines.total)
        if not known:
            quiet.forget_heard(sender, self._replicas)
            if digest.quiet and not self._home.suspect:
                self._home.send(sender, DigestAnswer([], False))
        lines.at = self._home.now
        answers = []
        for row in digest.rows:
            replica = self._replicas.get(row[0])
            answers.append(following.on_row(replica, sender, row))
            if replica is not None and following.is_so(replica, row):
                lines.put(row[0], checksum(row))
        if (answers or (digest.quiet and known)) and not self._home.suspect:
            self._home.send_synced(sender, DigestAnswer(answers, True))
