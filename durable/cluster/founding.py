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

A seed is a member if that one advertises it as it stands in the list, or as the name server has it. The founders are told to
the core by what they advertise, which is the same on all of them, however each list is spelled.

**Limits.** A name in the list is looked up once, when the node joins, and of several addresses the first is taken; what a member
advertises is not looked up. An address that leads to it in any other way is not recognised, and then the birth waits: give the
list as the nodes advertise themselves.

Read next: `durable.cluster.host`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from durable.cluster.replicated import ReplicatedLog
from durable.errors import JoinRejected
from durable.membership.member import NodeAddress, NodeId
from durable.replication.standing import Role
from durable.storage.folder import WAY_BACK
from durable.transports.names import is_number

WITNESS_ALONE = "a witness owns nothing, and a cluster of it alone runs nothing. Nothing was touched. Name the others as its seeds"


class Seed(NamedTuple):
    """An entry of the list: as it is written, and as it was looked up; twice the same if it is in numbers, or was not found."""

    written: NodeAddress
    looked_up: NodeAddress

    def is_at(self, address: NodeAddress) -> bool:
        """Whether it means whoever advertises this address."""
        return _plain(address) in self


class Founding:
    """Of one node, until it has a roster."""

    def __init__(self, log: ReplicatedLog, me: NodeAddress, *, ran_alone: bool, witness: bool) -> None:
        self._log = log
        self._me = me
        self._ran_alone = ran_alone
        self._witness = witness
        self._seeds: tuple[Seed, ...] | None = None

    def begin(self, seeds: Iterable[Seed], members: Mapping[NodeAddress, NodeId]) -> None:
        """The node joins by this list; its own address may be in it. Raises `JoinRejected`."""
        seeds = tuple(seeds)
        alone = all(seed.is_at(self._me) for seed in seeds)
        if self._log.core.roster is None and self._ran_alone and not alone:
            raise JoinRejected(
                "its store holds what ran without a cluster (`durable.open`). Where others take part it cannot come along. Nothing "
                "was touched. Found a cluster of this node alone (`durable node --bootstrap`); the others, on empty folders, join "
                "it and get copies of everything. Or start this node on an empty folder, too"
            )
        if self._log.core.roster is None and self._witness and alone:
            raise JoinRejected(WITNESS_ALONE)
        self._seeds = seeds
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
        if missing := ", ".join(str(seed.written) for seed, member in _found(self._seeds, members).items() if member is None):
            return f"the cluster begins when each of its seeds is up, and accepts nothing until then; missing: {missing}"
        return "the seeds have not founded a cluster yet: were all told the same list, and are their stores empty?"

    def look(self, members: Mapping[NodeAddress, NodeId]) -> None:
        """The membership has changed, perhaps all of the list is there now; or a roster came."""
        core, seeds = self._log.core, self._seeds
        if seeds is None:
            return
        others = [seed for seed in seeds if not seed.is_at(self._me)]
        if core.roster is not None:
            self._seeds = None
            if not core.voter:
                self._log.tell(core.ask_in)
        elif not others:
            self._log.tell(lambda now: core.birth(now, (), ()))
        elif len(others) == len(seeds):
            self._seeds = None
            self._log.tell(core.ask_in)
        elif None not in (found := _found(seeds, members).values()):
            founders = dict(member for member in found if member is not None)  # two seeds may be one member
            self._log.tell(lambda now: core.birth(now, tuple(map(str, founders.values())), tuple(founders)))


async def look_up(seed: NodeAddress) -> Seed:
    """Whom an entry of the list means. A name that is not found is kept as it is."""
    looked_up = written = _plain(seed)
    if not is_number(seed.host):
        with contextlib.suppress(OSError, UnicodeError):  # the latter: no host can have that name
            found = await asyncio.get_running_loop().getaddrinfo(seed.host, seed.port)
            looked_up = _plain(NodeAddress(str(found[0][4][0]), seed.port))
    return Seed(written, looked_up)


def _found(seeds: Iterable[Seed], members: Mapping[NodeAddress, NodeId]) -> dict[Seed, tuple[NodeId, NodeAddress] | None]:
    """The member that each seed means, and where that one says it is; None: nobody who is there."""
    at = {_plain(address): (node, address) for address, node in members.items()}
    return {seed: at.get(seed.written) or at.get(seed.looked_up) for seed in seeds}


def _plain(address: NodeAddress) -> NodeAddress:
    """An address in numbers has many spellings; this is the one to compare by. A name is left as it is."""
    return NodeAddress(str(ip_address(address.host)), address.port) if is_number(address.host) else address
