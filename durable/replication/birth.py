"""How a cluster is born: once, by all of its founders, or not at all.

**Why it exists.** Nodes that start with empty disks cannot know whether a cluster exists. If some of them may found one, two
halves of a cut network found two. So *all* nodes of the seed list must be there, be empty, and have been told the same list.

========================  =====================================================================================
step                      who
========================  =====================================================================================
1. Found to all           the first founder by name, every gossip interval
2. Accepted               each that is empty and has the same seeds; on stable storage first: from here on it is
                          in no other first roster
3. the cluster's id       minted by the first founder when all have accepted; roster 1 on its stable storage
4. RosterNews             tells the others: with it they begin as members of every partition that is theirs
========================  =====================================================================================

Any node that knows a roster answers with it, which ends the birth. A node that nobody answers waits; an operator can say
``bootstrap``. Without seeds a node is a cluster of one at once.

**Limits.** A founder that loses its disk between steps 2 and 4 holds the birth up until an operator steps in. Read next:
`roster`.
"""

from __future__ import annotations

from durable.copies.messages import Accepted, Found, Members, Roster
from durable.copies.rows import FOUND_KEY, encode_row
from durable.membership.member import NodeId
from durable.replication.home import Home


class Birth:
    """A node's part in it. ``decided`` is the first roster, when this node has made it."""

    def __init__(self, home: Home, found: Found | None, *, witness: bool) -> None:
        self._home = home
        self._witness = witness
        self._promised = found
        """On stable storage, or on its way: the list that was accepted."""
        self._wanted: Found | None = None
        self._accepted: dict[NodeId, tuple[bool, bytes]] = {}
        """Whether it is a witness, and the disk that it has promised with."""
        self._mark = 0
        self.decided: Roster | None = None

    @property
    def founders(self) -> tuple[NodeId, ...]:
        """Who is to be in the first roster."""
        return self._wanted.founders if self._wanted is not None else ()

    def want(self, seeds: tuple[str, ...], founders: tuple[NodeId, ...]) -> None:
        """All seeds answer membership's calls, under these names."""
        self._wanted = Found(tuple(sorted(seeds)), tuple(sorted(founders)), self._home.tuning.settings)
        self.beat()

    def beat(self) -> None:
        """Every gossip interval: the first founder asks who has not accepted."""
        found, home = self._wanted, self._home
        if found is None or home.me != found.founders[0] or not self._accept(found):
            return
        for node in found.founders:
            if node != home.me and node not in self._accepted:
                home.send_synced(node, found)

    def _accept(self, found: Found) -> bool:
        if self._promised is None:
            self._promised = found
            self._mark = self._home.persist([(FOUND_KEY, encode_row(found))])
        return self._promised == found

    def on_found(self, sender: NodeId, found: Found) -> None:
        """Only the same list, from its first founder."""
        home = self._home
        if found != self._wanted or sender != found.founders[0]:
            home.dropped["another birth"] += 1
        elif self._accept(found):
            home.send_synced(sender, Accepted(found.founders, self._witness, home.stores.get(sender, b"")))

    def on_accepted(self, sender: NodeId, accepted: Accepted) -> None:
        home = self._home
        if accepted.asked_by != home.store_id:
            home.dropped["another birth"] += 1  # an earlier disk of this node asked, and may have founded a cluster
        elif self._wanted is not None and accepted.founders == self._wanted.founders and sender in self.founders:
            self._accepted[sender] = accepted.witness, home.stores.get(sender, b"")
            self.settle(self._mark)

    def settle(self, synced_mark: int) -> None:
        """If all have accepted, and this node's own word is on stable storage: the first roster."""
        found, home = self._wanted, self._home
        if found is None or self._promised != found or home.me != found.founders[0] or synced_mark < self._mark:
            return
        self._accepted = {node: said for node, said in self._accepted.items() if home.stores.get(node) == said[1]}
        self._accepted[home.me] = self._witness, home.store_id
        if all(node in self._accepted for node in found.founders):
            self.decided = self.first_roster({node: self._accepted[node][1] for node in found.founders})

    def first_roster(self, voters: Members) -> Roster:
        """Roster 1, with an id that no other cluster has."""
        home = self._home
        cluster_id = home.random.getrandbits(128).to_bytes(16, "big")
        accepted = self._accepted or {home.me: (self._witness, home.store_id)}
        witnesses = tuple(node for node in voters if node in accepted and accepted[node][0])
        return Roster(1, cluster_id, dict(sorted(voters.items())), witnesses, home.tuning.settings)
