"""The rules, one by one, by messages to one replica: the table of `following`, row by row."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from durable.copies.effects import Apply, InstallSnapshot, Persist, Send, SendSnapshot, SendSynced
from durable.copies.messages import (
    Ack,
    Append,
    Base,
    BaseHeld,
    Behind,
    Digest,
    DigestAnswer,
    Fetch,
    HandOver,
    Hello,
    Piece,
    Prepare,
    PreVote,
    PreVoted,
    Promise,
    Refused,
    RosterNews,
    SnapshotPiece,
    Superseded,
    Sync,
)
from durable.copies.rows import decode_entry, encode_entry
from durable.membership.member import NodeId
from durable.replication import ZERO, Replication, ReplicationTuning, Roster

A, B, C, D = (NodeId(name) for name in "abcd")
TUNING = ReplicationTuning(partitions=1, virtual_nodes_per_node=3, tail_entries=2)
MEMBERS = {name: b"disk-" + name.encode() for name in (A, B, C)}
ROSTER_1 = Roster(1, b"cluster", MEMBERS, (), TUNING.settings)


class Alone:
    """Node ``a`` with what it is sent by hand; it owns nothing, and hears of no time."""

    def __init__(self) -> None:
        self.core = Replication(A, MEMBERS[A], tuning=TUNING, random=Random(1))
        for node, store in {**MEMBERS, D: b"disk-d"}.items():
            self.core.receive(0.0, node, Hello(store, b"cluster" if node != D else b"", 1, True))
            self.core.seen(0.0, node, True)
        self.core.receive(0.0, B, RosterNews(ROSTER_1))
        self.effects = self.core.effects()
        self.now = 0.0

    def told(self, sender: NodeId, message: Any) -> list[Any]:
        """The messages that it answers with, without a digest's."""
        self.core.receive(self.now, sender, message)
        self.effects = self.core.effects()
        return [effect.message for effect in self.effects if isinstance(effect, Send | SendSynced)]

    @property
    def replica(self) -> Any:
        return self.core.replicas[0]

    def last_synced(self) -> bool:
        """Whether the answer waits for a write that came before it."""
        kinds = [type(effect) for effect in self.effects]
        return SendSynced in kinds and Persist in kinds[: kinds.index(SendSynced)] and Send not in kinds

    def follow(self, epoch: Any = (1, B), *entries: bytes) -> None:
        self.told(B, Sync(0, 1, epoch, MEMBERS, 0, 0))
        self.told(B, Append(0, 1, epoch, 0, [encode_entry([(b"\0\0" + entry, entry)]) for entry in entries], 0))


def entry(name: bytes) -> bytes:
    return encode_entry([(b"\0\0" + name, name)])


def test_r1_a_promise_leaves_after_it_is_written_and_names_the_log_as_it_is() -> None:
    node = Alone()
    assert node.told(B, Prepare(0, 1, (1, B))) == [Promise(0, 1, (1, B), ZERO, 0, 0)]
    assert node.last_synced()


def test_r1_what_is_older_than_the_promise_is_refused() -> None:
    node = Alone()
    node.told(C, Prepare(0, 1, (5, C)))
    refused = [Refused(0, 1, (4, B), (5, C))]
    assert node.told(B, Prepare(0, 1, (4, B))) == refused
    assert node.told(B, Sync(0, 1, (4, B), MEMBERS, 0, 0)) == refused
    assert node.core.dropped["append of an older epoch"] == 0
    assert node.told(B, Append(0, 1, (4, B), 0, [entry(b"x")], 0)) == refused
    assert node.core.dropped["append of an older epoch"] == 1
    assert node.told(B, Fetch(0, 1, (4, B), 1)) == refused
    assert node.replica.log.last == 0


def test_r1_a_repeated_prepare_is_answered_again_and_written_once() -> None:
    node = Alone()
    node.told(B, Prepare(0, 1, (1, B)))
    assert node.told(B, Prepare(0, 1, (1, B))) == [Promise(0, 1, (1, B), ZERO, 0, 0)]
    assert not any(isinstance(effect, Persist) for effect in node.effects)


@pytest.mark.parametrize("epoch", [(1, C), (1, A), (1, D)])
def test_nobody_campaigns_or_owns_in_anothers_name(epoch: Any) -> None:
    node = Alone()
    assert node.told(B, Prepare(0, 1, epoch)) == node.told(B, Sync(0, 1, epoch, MEMBERS, 0, 0)) == []
    assert node.replica.promised == ZERO


def test_who_is_no_member_by_its_disk_is_promised_nothing() -> None:
    node = Alone()
    assert node.told(D, Prepare(0, 1, (1, D))) == []
    node.core.receive(0.0, B, Hello(b"a new disk", b"cluster", 1, True))
    assert node.told(B, Prepare(0, 1, (1, B))) == []


def test_r3_entries_of_an_epoch_that_was_not_adopted_are_not_appended() -> None:
    node = Alone()
    assert node.told(B, Append(0, 1, (1, B), 0, [entry(b"x")], 0)) == [Behind(0, 1, (1, B))]
    assert node.replica.log.last == 0


def test_r3_a_log_without_anything_to_fetch_is_adopted_at_once_and_then_appended_to() -> None:
    node = Alone()
    assert node.told(B, Sync(0, 1, (1, B), MEMBERS, 0, 0)) == [Ack(0, 1, (1, B), 0)] and node.last_synced()
    assert node.told(B, Append(0, 1, (1, B), 0, [entry(b"x"), entry(b"y")], 1)) == [Ack(0, 1, (1, B), 2)]
    assert node.last_synced()
    applied = [effect for effect in node.effects if isinstance(effect, Apply)]
    assert [(effect.index, effect.writes[0]) for effect in applied] == [(1, (b"\0\0x", b"x"))]


def test_r3_until_the_whole_log_is_here_a_promise_reports_the_old_one() -> None:
    node = Alone()
    node.follow((1, B), b"mine")
    assert node.told(C, Sync(0, 1, (2, C), MEMBERS, 3, 0)) == [Fetch(0, 1, (2, C), 1)]
    assert node.told(C, Piece(0, 1, (2, C), 1, [entry(b"1"), entry(b"2")], 1)) == [Fetch(0, 1, (2, C), 3)]
    assert node.told(B, Prepare(0, 1, (3, B))) == [Promise(0, 1, (3, B), (1, B), 1, 0)]
    assert node.told(C, Piece(0, 1, (2, C), 3, [entry(b"3")], 1)) == [], "void: somebody newer was promised"
    assert (node.replica.log_epoch, node.replica.log.last) == ((1, B), 1)


def test_r3_log_and_epoch_are_swapped_in_one_batch() -> None:
    node = Alone()
    node.follow((1, B), b"mine", b"too")
    node.told(C, Sync(0, 1, (2, C), MEMBERS, 1, 0))
    assert node.told(C, Piece(0, 1, (2, C), 1, [entry(b"theirs")], 1)) == [Ack(0, 1, (2, C), 1)]
    swaps = [effect for effect in node.effects if isinstance(effect, Persist)]
    assert len(swaps) == 1 and len(swaps[0].writes) == 2 + 1 + 1, "two deleted, one written, and the state"
    assert (node.replica.log_epoch, node.replica.log.last) == ((2, C), 1)


def test_entries_that_came_twice_are_appended_once_and_a_gap_is_fetched() -> None:
    node = Alone()
    node.follow((1, B), b"1", b"2")
    assert node.told(B, Append(0, 1, (1, B), 1, [entry(b"2"), entry(b"3")], 0)) == [Ack(0, 1, (1, B), 3)]
    assert node.told(B, Append(0, 1, (1, B), 5, [entry(b"6")], 0)) == [Fetch(0, 1, (1, B), 4)]
    assert node.told(B, Append(0, 1, (1, B), 3, [entry(b"4"), entry(b"5"), entry(b"6")], 0)) == [Ack(0, 1, (1, B), 6)]
    assert node.told(B, Piece(0, 1, (1, B), 4, [entry(b"4"), entry(b"5"), entry(b"6")], 0)) == []
    assert node.told(B, Append(0, 1, (1, B), 6, [entry(b"7")], 0)) == [Ack(0, 1, (1, B), 7)]


def test_a_catch_up_that_ends_after_newer_entries_came_by_themselves_does_not_cut_them_off() -> None:
    """Seed 112 of the crashing world: what had been acknowledged was lost."""
    node = Alone()
    node.follow((1, B), b"1")
    node.told(B, Append(0, 1, (1, B), 2, [entry(b"3")], 0))
    node.told(B, Append(0, 1, (1, B), 1, [entry(b"2"), entry(b"3"), entry(b"4")], 0))
    assert node.replica.log.last == 4
    node.told(B, Piece(0, 1, (1, B), 2, [entry(b"2"), entry(b"3")], 0))
    assert node.replica.log.last == 4


def test_a_digest_tells_what_is_committed_and_what_is_missing() -> None:
    node = Alone()
    node.follow((1, B), b"1", b"2")
    answers = node.told(B, Digest([(0, 1, (1, B), 3, 2)]))
    assert answers == [Fetch(0, 1, (1, B), 3), DigestAnswer([(0, 1, (1, B), (1, B), 2)])]
    assert node.replica.commit == 2


def test_a_digest_about_a_partition_that_is_not_here_is_answered_with_nothing() -> None:
    node = Alone()
    assert node.told(B, Digest([(77, 1, (1, B), 3, 2)])) == [DigestAnswer([(77, 0, ZERO, ZERO, 0)])]


def test_a_pre_vote_is_granted_when_no_owner_is_heard_and_changes_nothing() -> None:
    node = Alone()
    assert node.told(B, PreVote(0, 1, 9)) == [PreVoted(0, 1, 9, True, ZERO)]
    node.follow((1, B))
    assert node.told(C, PreVote(0, 1, 9)) == [PreVoted(0, 1, 9, False, (1, B))]
    node.now = TUNING.owner_timeout_s + 0.1
    assert node.told(C, PreVote(0, 1, 9)) == [PreVoted(0, 1, 9, True, (1, B))]
    node.now = 0.0
    node.core.seen(0.0, B, False)
    assert node.told(C, PreVote(0, 1, 9)) == [PreVoted(0, 1, 9, True, (1, B))]
    assert node.replica.promised == (1, B)


def test_a_source_gives_its_log_to_whom_it_promised_and_to_nobody_older() -> None:
    node = Alone()
    node.follow((1, B), b"1", b"2")
    node.told(C, Prepare(0, 1, (2, C)))
    assert node.told(C, Fetch(0, 1, (2, C), 2)) == [Piece(0, 1, (2, C), 2, [entry(b"2")], 0)]
    node.told(B, Prepare(0, 1, (3, B)))
    assert node.told(C, Fetch(0, 1, (2, C), 2)) == [Refused(0, 1, (2, C), (3, B))]


def test_what_was_truncated_is_given_as_a_snapshot() -> None:
    node = Alone()
    node.follow((1, B), *(b"%d" % number for number in range(20)))
    node.told(B, Digest([(0, 1, (1, B), 20, 20)]))
    assert node.replica.log.base == 18, "a tail of two"
    node.told(C, Prepare(0, 1, (2, C)))
    assert node.told(C, Fetch(0, 1, (2, C), 5)) == []
    assert [effect for effect in node.effects if isinstance(effect, SendSnapshot)] == [SendSnapshot(C, 0, 1, (2, C))]


def test_a_snapshot_replaces_the_applied_range_in_one_batch_with_the_entries_behind_it() -> None:
    node = Alone()
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 6, 5))
    node.told(B, SnapshotPiece(0, 1, (1, B), 5, 0, True, [(b"\0\0k1", b"v")]))
    assert node.told(B, SnapshotPiece(0, 1, (1, B), 5, 1, False, [(b"\0\0k2", b"v")])) == [Fetch(0, 1, (1, B), 6)]
    assert node.replica.log.last == 0, "staged"
    assert node.told(B, Piece(0, 1, (1, B), 6, [entry(b"6")], 5)) == [Ack(0, 1, (1, B), 6)]
    (install,) = [effect for effect in node.effects if isinstance(effect, InstallSnapshot)]
    assert install.index == 5 and install.clear[0] == b"\0\0" and len(install.writes) == 2 + 1 + 1 + 1
    assert (node.replica.applied, node.replica.log.base, node.replica.log.last) == (5, 5, 6)


def test_pieces_of_a_snapshot_that_are_missing_or_of_another_are_not_mixed() -> None:
    node = Alone()
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 5, 5))
    node.told(B, SnapshotPiece(0, 1, (1, B), 5, 0, True, []))
    assert node.told(B, SnapshotPiece(0, 1, (1, B), 5, 2, False, [])) == []
    assert node.told(B, SnapshotPiece(0, 1, (1, B), 6, 1, False, [])) == []
    assert node.replica.applied == 0
    node.told(B, SnapshotPiece(0, 1, (1, B), 5, 1, False, []))
    assert node.replica.applied == 5


def test_r8_a_base_is_fetched_from_who_knows_the_seal_and_reported_when_it_is_written() -> None:
    node = Alone()
    node.follow((1, B), b"1")
    after = {A: MEMBERS[A], D: b"disk-d"}
    assert node.told(D, Base(0, 2, after, 2, (1, B), True)) == [Fetch(0, 2, ZERO, 1)]
    assert node.told(D, Piece(0, 2, ZERO, 1, [entry(b"1"), b"\x82\xa7version\x02\xa7members\x80"], 2)) == [BaseHeld(0, 2)]
    assert node.last_synced()
    assert (node.replica.generation, node.replica.log_epoch, node.replica.promised) == (2, ZERO, (1, B))
    assert node.told(B, Append(0, 1, (1, B), 1, [entry(b"2")], 1)) == [Superseded(0, 2, after)]


def test_r8_a_base_that_is_not_for_this_disk_is_not_taken() -> None:
    node = Alone()
    assert node.told(B, Base(0, 2, {A: b"another disk", B: MEMBERS[B]}, 0, ZERO, True)) == []


def test_a_copy_that_is_superseded_asks_whether_it_may_go() -> None:
    node = Alone()
    after = {B: MEMBERS[B], D: b"disk-d"}
    node.told(B, Superseded(0, 2, after))
    node.core.tick(1.0)
    asked = [effect for effect in node.core.effects() if isinstance(effect, SendSynced) and isinstance(effect.message, Base)]
    assert [(effect.to, effect.message.held) for effect in asked] == [(B, False), (D, False)]
    node.told(B, BaseHeld(0, 2))
    assert node.replica.ready
    node.told(D, BaseHeld(0, 2))
    assert not node.replica.ready and (node.replica.generation, node.replica.members) == (2, after)


def test_a_word_to_take_over_counts_only_from_the_owner_whose_log_this_is() -> None:
    node = Alone()
    node.follow((3, B))
    node.told(C, HandOver(0, 1, (3, B)))
    node.told(B, HandOver(0, 1, (2, B)))
    assert node.replica.promised == (3, B)
    node.told(B, HandOver(0, 1, (3, B)))
    assert node.replica.promised == (4, A)


def test_messages_of_strangers_and_of_other_clusters_are_dropped() -> None:
    node = Alone()
    node.told(NodeId("x"), Prepare(0, 1, (1, NodeId("x"))))
    node.core.receive(0.0, B, Hello(MEMBERS[B], b"another cluster", 1, True))
    assert node.told(B, Prepare(0, 1, (1, B))) == []
    assert node.core.dropped["stranger"] == 2


def test_applied_rows_are_those_of_the_entries() -> None:
    assert decode_entry(entry(b"x")) == [(b"\0\0x", b"x")]
