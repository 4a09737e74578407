"""What is rare and once stayed so for ever: with a majority alive, all comes to an owner and every copy is filled."""

from __future__ import annotations

import pytest
from replicacluster import Cluster, Host, cluster_with_data, join, write

from durable.copies.messages import Hello, Message, SnapshotPiece, decode, encode
from durable.copies.rows import ROSTER
from durable.membership.member import NodeId

FOUNDERS = ("a", "b", "c", "d", "e")


def stall(host: Host) -> None:
    """An fsync begins that does not come back."""
    host.syncing = True
    host.synced = lambda *_: None  # type: ignore[method-assign]


def sealed(cluster: Cluster, *, roster: bool) -> list[tuple[Host, int]]:
    """Who has written a seal, and of which partition."""
    return [
        (host, number)
        for host in cluster.hosts.values()
        if host.core is not None
        for number, replica in host.core.replicas.items()
        if (number == ROSTER) is roster and replica.owner is not None and replica.closed()
    ]


def founded_late() -> tuple[Cluster, Host]:
    """A birth of five, and the one of them whose disk has not got the roster yet that it has heard of."""
    cluster = Cluster(*FOUNDERS, partitions=16)
    late = cluster["d"]
    cluster.birth(*FOUNDERS)
    cluster.run(10, until=lambda: late.core is not None and late.core.roster is not None)
    stall(late)
    return cluster, late


@pytest.mark.parametrize("roster", [False, True])
@pytest.mark.parametrize("stalls_s", [5.0, 10.0])
def test_those_who_heard_that_their_generation_is_over_elect_again_when_who_said_so_is_lost(roster: bool, stalls_s: float) -> None:
    """It had told them at once, and what the next generation begins with waited for its fsync."""
    cluster = cluster_with_data("a", "b", "c")
    join(cluster, "d")
    cluster.run(60, until=lambda: bool(sealed(cluster, roster=roster)))
    owner, partition = sealed(cluster, roster=roster)[0]
    stall(owner)
    cluster.run(stalls_s)
    cluster.kill(owner.name)

    def owned_by_others() -> bool:
        left = [host for host in cluster.hosts.values() if host is not owner]
        return any(host.core is not None and host.core.replicas[partition].owner is not None for host in left)

    cluster.run(120, until=owned_by_others)


def test_what_a_roster_begins_with_counts_when_it_is_on_the_disk_of_who_has_heard_of_it() -> None:
    cluster, _ = founded_late()
    said: list[int] = []
    carry = cluster.carry

    def listen(sender: NodeId, to: NodeId, frame: bytes) -> None:
        said.extend(message.roster_version for message in decode(frame) if sender == "d" and isinstance(message, Hello))
        carry(sender, to, frame)

    cluster.carry = listen  # type: ignore[method-assign]
    cluster.run(3)
    assert set(said) == {0}


def test_who_missed_the_first_roster_gets_what_it_began_with_from_another() -> None:
    """Of partitions that nobody has owned yet: one member is lost, one has begun, and one comes to know only the next roster."""
    cluster, late = founded_late()
    cluster.run(0.5)
    for name in ("c", "d"):
        cluster.kill(name)
    del late.synced  # type: ignore[method-assign]
    cluster.run(3)
    join(cluster, "f")
    cluster.run(120, until=lambda: cluster.version() == 2)
    cluster.start("d")
    cluster.run(60, until=lambda: len(cluster.owners()) == 16)


def test_rosters_go_on_though_their_owner_never_heard_one_of_the_dead() -> None:
    cluster = Cluster(*FOUNDERS, partitions=16, replace_after_s=60.0).born(*FOUNDERS)
    cluster.run(5)
    write(cluster, b"1")
    cluster.run(3)
    for name in FOUNDERS:
        cluster.kill(name)
    cluster.run(5)
    for name in ("a", "d", "e"):
        cluster.start(name)
    join(cluster, "f")
    cluster.run(1500, until=lambda: cluster.core("f").voter)


@pytest.mark.parametrize("piece_s", [0.9, 1.2, 3.0])
def test_a_copy_is_filled_however_long_a_piece_of_a_snapshot_is_on_the_way(piece_s: float) -> None:
    """A question for the next piece begins it anew: with a wait that never grew, it never came to the end."""
    cluster = Cluster("a", "b", "c", partitions=1, tail_entries=2).born("a", "b", "c")
    cluster.run(3)
    waiting: dict[tuple[str, str], list[Message]] = {}
    under_way: set[tuple[str, str]] = set()
    carry = cluster.carry

    def pump(sender: NodeId, to: NodeId, hello: Message) -> None:
        way = sender, to
        if way in under_way or not waiting[way]:
            return
        under_way.add(way)
        piece = waiting[way].pop(0)

        def there() -> None:
            under_way.discard(way)
            cluster.hosts[to].receive(sender, encode([hello, piece]))
            pump(sender, to, hello)

        cluster.at(cluster.now + piece_s, there)

    def slowly(sender: NodeId, to: NodeId, frame: bytes) -> None:
        hello, *messages = decode(frame)
        pieces = [message for message in messages if isinstance(message, SnapshotPiece)]
        if pieces:  # what was ordered before, and has not left, is not sent any more
            waiting[sender, to] = list(pieces)
            pump(sender, to, hello)
        carry(sender, to, encode([hello, *(message for message in messages if message not in pieces)]))

    cluster.carry = slowly  # type: ignore[method-assign]
    owner = cluster.owners()[0]
    lagging = next(name for name in ("a", "b", "c") if name != owner)
    cluster.cut([lagging], [name for name in ("a", "b", "c") if name != lagging])
    for number in range(6):
        cluster[owner].append(0, b"%04d" % number + b"x" * 600)
        cluster.run(0.05)
    cluster.run(3)
    cluster.cuts.clear()
    cluster.run(300, until=lambda: len(cluster[lagging].rows(0)) == 6)
