"""`Founding`: how a node with an empty disk comes to be a part of something: by birth, or by being let in.

**How it works.** A cluster is born once, by all the nodes of its seed list together, while all of them are empty. The core decides
it (`durable.replication`), and speaks of nodes by name; here the addresses of the list become names, as soon as the membership
has found a member at each of them. A node that is not in the list never founds anything: it asks to be let in.

==================================  =================================================================================
the disk, and the seed list         what is asked of the core
==================================  =================================================================================
it holds a roster with this disk    nothing: it knows where it belongs
empty, no seeds                     a cluster of one, at once
empty, this node is in the list     a birth, once a member is known at every address of the list
empty, this node is not in it       to be let in
empty, and there is a cluster       to be let in, also under a name that it knows with another disk
it ran without a cluster, no seeds  a cluster of one, which begins with all that is there
it ran without a cluster, seeds     nothing: it is refused, since the others would never get what is there
==================================  =================================================================================

**Limits.** A name in the list is looked up once, when the node joins; an address that leads to a member by another way than its
advertised one is not recognised, and then the birth waits: give the list as the nodes advertise themselves.

Read next: `durable.cluster.host`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from durable.cluster.replicated import ReplicatedLog
from durable.errors import JoinRejected
from durable.membership.member import NodeAddress, NodeId
from durable.replication.standing import Role
from durable.storage.folder import WAY_BACK

WITNESS_ALONE = "a witness owns nothing, and a cluster of it alone runs nothing. Nothing was touched. Name the others as its seeds"


class Founding:
    """Of one node, until it has a roster."""

    def __init__(self, log: ReplicatedLog, me: NodeAddress, *, ran_alone: bool, witness: bool) -> None:
        self._log = log
        self._me = me
        self._ran_alone = ran_alone
        self._witness = witness
        self._seeds: tuple[NodeAddress, ...] | None = None

    async def begin(self, seeds: Sequence[NodeAddress], members: Mapping[NodeAddress, NodeId]) -> None:
        """The node joins by this list; its own address may be in it. Raises `JoinRejected`."""
        resolved = tuple([await _resolved(seed) for seed in dict.fromkeys(seeds)])
        alone = all(seed == self._me for seed in resolved)
        if self._log.core.roster is None and self._ran_alone and not alone:
            raise JoinRejected(
                "its store holds what ran without a cluster (`durable.open`). Where others take part it cannot come along. Nothing "
                "was touched. Found a cluster of this node alone (`durable node --bootstrap`); the others, on empty folders, join "
                "it and get copies of everything. Or start this node on an empty folder, too"
            )
        if self._log.core.roster is None and self._witness and alone:
            raise JoinRejected(WITNESS_ALONE)
        self._seeds = resolved
        self.look(members)

    def waits_for(self, members: Mapping[NodeAddress, NodeId]) -> str | None:
        """Why there is no roster yet, or why this node is not in it, or not out of it, in words; None if it waits for nothing."""
        core = self._log.core
        if core.roster is not None:
            if not core.asks_in:
                return core.leaving
            if core.role(core.home.me) is Role.NEW_DISK:
                known = {node for node in core.roster.voters if core.home.is_live(node) and core.role(node) is not Role.NEW_DISK}
                few = any(2 * len(known.intersection(s)) <= len(s) for s in map(core.replica_set, range(core.tuning.partitions)))
                why = "its disk is not the one that the voters know: it votes when they have filled it, and let it back"
                return f"{why}. Of some partition too few are there for that: {WAY_BACK}" if few else why
            return "it is no voter yet: the voters let it in when they have filled it"
        if self._seeds is None:
            return (
                f"it is not in its own list of seeds, so it founds no cluster, and waits to be let into one. If there is none "
                f"yet, give all founders one list, {self._me} included"
            )
        if missing := ", ".join(str(seed) for seed in self._seeds if seed not in members):
            return f"the cluster begins when each of its seeds is up, and accepts nothing until then; missing: {missing}"
        return "the seeds have not founded a cluster yet: were all told the same list, and are their stores empty?"

    def look(self, members: Mapping[NodeAddress, NodeId]) -> None:
        """The membership has changed, perhaps all of the list is there now; or a roster came."""
        core, seeds = self._log.core, self._seeds
        if seeds is None:
            return
        others = [seed for seed in seeds if seed != self._me]
        if core.roster is not None:
            self._seeds = None
            if not core.voter:
                self._log.tell(core.ask_in)
        elif not others:
            self._log.tell(lambda now: core.birth(now, (), ()))
        elif self._me not in seeds:
            self._seeds = None
            self._log.tell(core.ask_in)
        elif all(seed in members for seed in seeds):
            founders = tuple(members[seed] for seed in seeds)
            addresses = tuple(str(seed) for seed in seeds)
            self._log.tell(lambda now: core.birth(now, addresses, founders))


async def _resolved(seed: NodeAddress) -> NodeAddress:
    try:
        ip_address(seed.host)
    except ValueError:
        with contextlib.suppress(OSError):
            found = await asyncio.get_running_loop().getaddrinfo(seed.host, seed.port)
            return NodeAddress(str(found[0][4][0]), seed.port)
    return seed
