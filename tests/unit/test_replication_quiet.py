"""What rests costs nothing: an idle cluster says next to nothing, and still everybody knows at once who is gone."""

from __future__ import annotations

from typing import Any

import pytest
from replicacluster import Cluster, Host

from durable.copies.messages import Digest, DigestAnswer
from durable.membership.member import NodeId
from durable.replication import decode

NAMES = ("a", "b", "c", "d", "e")


def idle_cluster(partitions: int = 32) -> Cluster:
    cluster = Cluster(*NAMES, partitions=partitions).born(*NAMES)
    cluster.run(12)
    return cluster


def restless(host: Host) -> list[int]:
    assert host.core is not None
    return sorted(host.core.home.quiet.restless)


def listen(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every message from here on."""
    said: list[Any] = []
    carry = cluster.carry

    def heard(sender: Any, to: Any, frame: bytes) -> None:
        said.extend(decode(frame))
        carry(sender, to, frame)

    monkeypatch.setattr(cluster, "carry", heard)
    return said


def test_an_idle_cluster_lists_no_partition_and_looks_at_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = idle_cluster()
    assert [restless(host) for host in cluster.hosts.values()] == [[]] * 5
    said = listen(cluster, monkeypatch)
    owners = cluster.owners()
    cluster.run(60)
    assert cluster.owners() == owners and [host.lost for host in cluster.hosts.values()] == [[]] * 5
    digests = [message for message in said if isinstance(message, Digest)]
    assert len(digests) >= 60 * 5 * 4 and not any(digest.rows for digest in digests)
    assert sum(digest.quiet for digest in digests) >= 60 * 2 * 32, "two copies a partition and second"
    assert all(answer.known and not answer.rows for answer in said if isinstance(answer, DigestAnswer))


def test_after_an_append_one_line_is_said_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = idle_cluster()
    said = listen(cluster, monkeypatch)
    cluster[cluster.owners()[7]].append(7, b"x")
    cluster.run(4)
    rows = [row for message in said if isinstance(message, Digest) for row in message.rows]
    assert [row[0] for row in rows] == [7, 7] and {row[3:] for row in rows} == {(1, 1)}
    assert [restless(host) for host in cluster.hosts.values()] == [[]] * 5


def test_a_copy_that_was_said_to_be_alike_hears_of_a_commit_that_came_later() -> None:
    """The owner's own disk is slow, and the third copy cut off: the other answers the digest before anything is committed, so
    that there is nothing more to say about it; until there is.
    """
    cluster = Cluster("a", "b", "c", partitions=1).born("a", "b", "c")
    cluster.run(12)
    owner = cluster.owners()[0]
    near, far = (name for name in "abc" if name != owner)
    cluster.cut([owner, near], [far])
    cluster.run(1)
    cluster[owner].syncing = True  # until it is done
    cluster[owner].append(0, b"x")
    cluster.run(4)
    said = cluster.core(owner).home.quiet.said[NodeId(near)]
    assert 0 in said.rows and cluster[owner].committed == {} and cluster[near].rows(0) == []
    cluster[owner].syncing = False
    cluster[owner].turn()
    cluster.run(2.5)
    assert cluster[owner].committed == {0: 1}
    assert cluster[near].rows(0) == [b"x"]


def test_an_owner_that_dies_unnoticed_is_missed_after_three_digests_though_its_partitions_rested() -> None:
    cluster = idle_cluster()
    silent = cluster.owners()[7]
    cluster.cut([silent], [name for name in NAMES if name != silent])
    cluster[silent].stop()
    took_s = cluster.run(20, until=cluster.all_owned)
    assert 2.5 < took_s < 6


def test_an_owner_that_rested_for_long_and_is_cut_off_resigns_after_a_third_of_the_rpc_timeout_and_not_at_once() -> None:
    cluster = idle_cluster()
    cluster.run(200)
    alone = cluster.owners()[7]
    cut_at = cluster.now
    cluster.cut([alone], [name for name in NAMES if name != alone])
    cluster.run(60, until=lambda: bool(cluster[alone].lost))
    assert 10 <= cluster[alone].lost[0][0] - cut_at <= 15


def test_lines_that_differ_are_said_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that was restarted knows no lines: the next digest finds it out, and is followed by all lines."""
    cluster = idle_cluster()
    cluster["a"].stop()
    cluster.start("a")
    said = listen(cluster, monkeypatch)
    cluster.run(1.3)
    refused = [message for message in said if isinstance(message, DigestAnswer) and not message.known]
    listed = [message for message in said if isinstance(message, Digest) and message.rows]
    assert len(refused) == 4 <= len(listed)
    cluster.run(20, until=cluster.all_owned)
    cluster.run(12)
    assert [restless(host) for host in cluster.hosts.values()] == [[]] * 5
