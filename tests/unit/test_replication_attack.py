"""What an adversary would try: late pieces, wiped and suspect disks, copies that know too little, and nonsense under the key."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from durable.copies.effects import InstallSnapshot, Send, SendSynced
from durable.copies.messages import (
    Ack,
    Append,
    AskChange,
    Base,
    BaseHeld,
    Digest,
    DigestAnswer,
    Fetch,
    HandOver,
    Hello,
    Message,
    Piece,
    Plan,
    Prepare,
    PreVote,
    PreVoted,
    Promise,
    Refused,
    RosterNews,
    SnapshotPiece,
    Superseded,
    Sync,
    decode,
    encode,
)
from durable.copies.rows import ROSTER, Seal, State, applied_row, encode_entry, encode_row, state_key
from durable.membership.member import NodeId
from durable.replication import ZERO, Replication, ReplicationTuning, Roster
from durable.replication.replica import EPOCH_LEAP_MAX
from durable.replication.voters import NAMES_MAX

A, B, C, D = (NodeId(name) for name in "abcd")
TUNING = ReplicationTuning(partitions=2, virtual_nodes_per_node=3, tail_entries=2)
MEMBERS = {name: b"disk-" + name.encode() for name in (A, B, C)}
ROSTER_1 = Roster(1, b"cluster", MEMBERS, (), TUNING.settings)


class Alone:
    """Node ``a`` with what it is sent by hand."""

    def __init__(self, now: float = 0.0) -> None:
        self.core = Replication(A, MEMBERS[A], tuning=TUNING, random=Random(1), now=now)
        for node, store in {**MEMBERS, D: b"disk-d"}.items():
            self.core.receive(now, node, Hello(store, b"cluster" if node != D else b"", 1, True))
            self.core.seen(now, node, True)
        self.core.receive(now, B, RosterNews(ROSTER_1))
        self.effects = self.core.effects()

    def told(self, sender: NodeId, message: Any) -> list[Any]:
        """The messages that it answers with."""
        self.core.receive(0.0, sender, message)
        self.effects = self.core.effects()
        return [effect.message for effect in self.effects if isinstance(effect, Send | SendSynced)]

    @property
    def replica(self) -> Any:
        return self.core.replicas[0]


def entry(name: bytes) -> bytes:
    return encode_entry([(b"\0\0" + name, name)])

# Late and doubled pieces


def test_a_late_piece_of_the_log_does_not_end_a_snapshot_that_is_half_here() -> None:
    node = Alone()
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 6, 5))
    node.told(B, SnapshotPiece(0, 1, (1, B), 5, 0, True, [(b"\0\0k1", b"v")]))
    node.told(B, Piece(0, 1, (1, B), 1, [entry(b"%d" % number) for number in range(1, 7)], 5))  # asked for before
    assert not [effect for effect in node.effects if isinstance(effect, InstallSnapshot)]
    node.told(B, SnapshotPiece(0, 1, (1, B), 5, 1, False, [(b"\0\0k2", b"v")]))
    node.told(B, Piece(0, 1, (1, B), 6, [entry(b"6")], 5))
    (install,) = [effect for effect in node.effects if isinstance(effect, InstallSnapshot)]
    assert {b"\0\0k1", b"\0\0k2"} <= {key for key, _ in install.writes}


def test_a_beginning_that_was_asked_for_before_more_was_committed_is_swapped_in_above_what_is_truncated() -> None:
    """Entries that stand where their index is not are applied again, given to others, and found as a hole at the next start."""
    node = Alone()
    entries = [entry(b"%02d" % number) for number in range(1, 13)]
    seal = encode_row(Seal(2, {A: MEMBERS[A], B: MEMBERS[B], D: b"disk-d"}))
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 0, 0))
    node.told(B, Append(0, 1, (1, B), 0, entries, 0))
    node.told(C, Base(0, 2, {A: MEMBERS[A], B: MEMBERS[B], D: b"disk-d"}, 13, (1, B), True))
    node.told(B, Append(0, 1, (1, B), 12, [], 12))  # it lay in another link: applied, and truncated
    assert node.replica.log.base > 0
    node.told(C, Piece(0, 2, ZERO, 1, [*entries, seal], 13))
    log = node.replica.log
    assert node.replica.generation == 2
    assert (log.last, [log.entry(index) for index in range(log.base + 1, 14)]) == (13, [*entries, seal][log.base :])


def test_a_newer_snapshot_that_is_given_up_half_way_takes_the_older_one_along() -> None:
    node = Alone()
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 9, 5))
    node.told(B, SnapshotPiece(0, 1, (1, B), 5, 0, False, [(b"\0\0old", b"v")]))
    node.told(B, SnapshotPiece(0, 1, (1, B), 7, 0, True, [(b"\0\0new", b"v")]))
    node.replica.transfer.again()
    node.told(B, Piece(0, 1, (1, B), 6, [entry(b"%d" % number) for number in range(6, 10)], 5))  # asked for before
    log = node.replica.log
    assert (log.base, log.last) in ((0, 0), (5, 9)), "entries 6 to 9 are no entries 1 to 4"


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_what_a_node_stages_is_bounded_for_all_its_partitions_and_each_gets_through(random: Random, fit: int) -> None:
    """Eight snapshots and the logs behind them come at once, mixed; there is room for ``fit`` of them."""
    tuning = ReplicationTuning(partitions=8, virtual_nodes_per_node=3, tail_entries=2, snapshot_bytes_max=700 * fit)
    core = Replication(A, MEMBERS[A], tuning=tuning, random=Random(1))
    for node in (B, C):
        core.receive(0.0, node, Hello(MEMBERS[node], b"cluster", 1, True))
        core.seen(0.0, node, True)
    core.receive(0.0, B, RosterNews(Roster(1, b"cluster", MEMBERS, (), tuning.settings)))
    core.receive(0.0, B, Digest([]))
    for partition in range(8):
        core.receive(0.0, B, Sync(partition, 1, (1, B), MEMBERS, 8, 8))
    coming: dict[int, list[Any]] = {}
    now = 0.0
    while any(not replica.adopted((1, B)) for partition, replica in core.replicas.items() if partition != ROSTER):
        for effect in core.effects():
            if isinstance(effect, Send) and isinstance(effect.message, Fetch):
                coming[effect.message.partition] = answers(effect.message)
        ready = [partition for partition, pieces in coming.items() if pieces]
        if ready:
            partition = random.choice(ready)
            core.receive(now, B, coming[partition].pop(0))
        else:
            now += 1.1
            assert now < 40, "each is asked for again, and comes to an end"
            core.receive(now, B, Digest([]))
            core.tick(now)
        under_way = [replica.transfer for replica in core.replicas.values() if replica.transfer is not None]
        held = [sum(map(len, one.entries)) + sum([len(key) + len(value) for key, value in one.rows or ()]) for one in under_way]
        assert held == [one.bytes for one in under_way] and sum(held) <= tuning.snapshot_bytes_max
    assert {replica.log.last for partition, replica in core.replicas.items() if partition != ROSTER} == {8}
    assert core.dropped["transfer too large"] == 0


def answers(fetch: Fetch) -> list[Any]:
    """What its owner has: five rows of 100 bytes up to entry 5, and three entries of 50 behind them."""
    partition, epoch = fetch.partition, fetch.epoch
    if fetch.start > 5:
        return [Piece(partition, 1, epoch, index, [entry(bytes(20))], 8) for index in range(fetch.start, 9)]
    rows = [(partition.to_bytes(2, "big") + b"%06d" % row, bytes(92)) for row in range(5)]
    return [SnapshotPiece(partition, 1, epoch, 5, row, row < 4, [rows[row]]) for row in range(5)]


# Who says what it does not know


def test_a_copy_that_was_deleted_says_where_the_partition_went_and_not_that_nobody_has_it() -> None:
    after = {B: MEMBERS[B], C: MEMBERS[C], D: b"disk-d"}
    node = Alone()
    node.told(B, Superseded(0, 2, after))
    node.told(B, BaseHeld(0, 2))
    node.told(C, BaseHeld(0, 2))
    assert not node.replica.ready, "a majority of the new set holds the partition: it was deleted"
    assert node.told(C, PreVote(0, 1, 7)) == [Superseded(0, 2, after)]


def test_an_old_disk_does_not_answer_for_the_one_that_the_next_generation_counts_on() -> None:
    """It holds what the old generation ended with; the member is another disk of the same node, which may hold nothing."""
    after = {B: MEMBERS[B], D: b"disk-d", A: b"another disk of a"}
    node = Alone()
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 0, 0))
    node.told(B, Append(0, 1, (1, B), 0, [entry(b"1"), encode_row(Seal(2, after))], 2))
    assert node.replica.next_generation == 2
    assert BaseHeld(0, 2) not in node.told(D, Base(0, 2, after, 2, (1, B), True))


def test_what_a_disk_holds_does_not_count_when_its_node_speaks_with_another() -> None:
    node = Alone()
    after = {B: MEMBERS[B], C: MEMBERS[C], D: b"another disk of d"}
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 0, 0))
    node.told(B, Append(0, 1, (1, B), 0, [entry(b"1"), encode_row(Seal(2, after))], 2))
    node.told(D, BaseHeld(0, 2))
    node.told(D, Hello(b"another disk of d", b"", 1, True))
    node.told(B, BaseHeld(0, 2))
    assert node.replica.log.last == 2, "one holder is known, and this copy is needed"


def test_who_hears_of_a_move_without_members_still_learns_of_the_real_one() -> None:
    node = Alone()
    node.told(B, Superseded(0, 2, {}))
    node.told(C, Superseded(0, 2, {B: MEMBERS[B], C: MEMBERS[C], D: b"disk-d"}))
    node.told(B, BaseHeld(0, 2))
    node.told(C, BaseHeld(0, 2))
    assert not node.replica.ready


def test_a_suspect_disk_does_not_say_that_it_holds_a_base() -> None:
    node = Alone()
    node.core.distrust(0.0, "a failed fsync")
    assert node.told(B, Base(0, 1, MEMBERS, 1, ZERO, True)) == []


def test_a_disk_that_lost_something_neither_holds_nor_offers_what_its_rows_say() -> None:
    """R7, R8. Loaded under another id, the rows are no member's: an old replica set must not be deleted on their word."""
    members = {A: b"what a had before", B: MEMBERS[B], C: MEMBERS[C]}
    rows = [(state_key(0), encode_row(State(2, members, (1, A), ZERO, 0, ready=True))), applied_row(0, 0)]
    lost, same = (Replication(A, disk, tuning=TUNING, random=Random(1), rows=rows) for disk in (b"another", members[A]))
    for core, said in ((lost, []), (same, [BaseHeld(0, 2)])):
        core.receive(0.0, D, Hello(b"disk-d", b"", 1, True))
        core.receive(0.0, D, Base(0, 2, members, 0, ZERO, True))
        sent = [effect.message for effect in core.effects() if isinstance(effect, Send | SendSynced)]
        assert [message for message in sent if isinstance(message, BaseHeld)] == said
        assert (core.replicas[0].move is not None) is (core is same)


def owning(now: float) -> Replication:
    core = Alone(now).core
    for message in (HandOver(0, 1, ZERO), Promise(0, 1, (1, A), ZERO, 0, 0), Ack(0, 1, (1, A), 0)):
        core.receive(now, B, message)
        carried_out(core, now)
    return core


def test_a_round_of_reads_is_not_confirmed_by_an_answer_to_an_earlier_life() -> None:
    assert owning(1.0).confirm(1.0, 0) != owning(9.0).confirm(9.0, 0)


def sizes(thing: Any, seen: set[int]) -> list[int]:
    """How large the tables are that can be reached from it."""
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, dict | set | list):
        inside = list(thing.values()) if isinstance(thing, dict) else list(thing)
        return [len(thing), *(size for one in inside for size in sizes(one, seen))]
    if not type(thing).__module__.startswith("durable."):
        return []
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    names = [*getattr(thing, "__dict__", ()), *slots]
    return [size for name in names for size in sizes(getattr(thing, name, None), seen)]


def test_names_that_somebody_invents_are_not_remembered_without_end() -> None:
    node = Alone()
    for number in range(3 * NAMES_MAX):
        name = NodeId(f"invented-{number}")
        for hello in (Hello(b"disk", b"cluster", 0, number % 2 == 0), Hello(b"disk", b"another cluster", 0, True)):
            node.core.seen(0.0, name, True)
            node.core.receive(0.0, name, hello)
            node.core.receive(0.0, name, Digest([(0, 1, ZERO, 0, 0)]))
            node.core.receive(0.0, name, AskChange(name, b"disk", False))
            node.core.receive(0.0, name, AskChange(NodeId(f"of-{number}"), None, False))
            node.core.seen(0.0, name, False)
        node.core.effects()
    assert max(sizes(node.core, set())) <= 2 * NAMES_MAX
    assert {A, B, C, D} <= node.core.home.stores.keys(), "the members, and the guest that is alive, are known as before"
    newcomer = NodeId("newcomer")
    node.core.receive(0.0, newcomer, Hello(b"disk-n", b"cluster", 1, True))
    assert node.core.home.stores[newcomer] == b"disk-n"


def test_who_is_started_as_a_witness_owns_nothing_also_while_the_roster_does_not_know() -> None:
    core = Replication(A, MEMBERS[A], tuning=TUNING, random=Random(1), witness=True)
    core.receive(0.0, B, Hello(MEMBERS[B], b"cluster", 1, True))
    core.receive(0.0, B, RosterNews(ROSTER_1))
    core.receive(0.0, B, HandOver(0, 1, ZERO))
    assert core.epoch(0) == ZERO


# Nonsense


ABSURD = (2**53, B)


@pytest.mark.parametrize(
    "message",
    [
        Prepare(0, 1, ABSURD),
        Sync(0, 1, ABSURD, MEMBERS, 0, 0),
        Base(0, 2, MEMBERS, 1, ABSURD, True),
        Base(0, 2, MEMBERS, 1, ZERO, True, ABSURD),
        PreVoted(0, 1, 7, True, ABSURD),
        Refused(0, 1, (1, A), ABSURD),
        DigestAnswer([(0, 1, ABSURD, ZERO, 0)], True),
    ],
)
@pytest.mark.parametrize("owns", [True, False])
def test_an_epoch_that_no_elections_can_have_come_to_is_counted_and_raises_nothing(message: Any, owns: bool) -> None:
    core = owning(0.0) if owns else Alone().core
    replica = core.replicas[0]
    if not owns:
        replica.election.ask()
        message = replace(message, round=replica.election.round) if isinstance(message, PreVoted) else message
    elif isinstance(message, PreVoted):
        return  # who owns has asked nobody
    answers_an_owner = isinstance(message, DigestAnswer)
    core.receive(1.0, B, message)
    carried_out(core, 1.0)
    assert (core.dropped["absurd epoch"] > 0) is (owns or not answers_an_owner)
    replica.step_down("to campaign")
    replica.election.campaign()
    assert core.epoch(0) == (1 + owns, A), "the next epoch is one above what was promised"
    assert replica.transfer is None
    core.receive(1.0, B, Prepare(0, 1, (EPOCH_LEAP_MAX, B)))
    assert core.epoch(0) == (EPOCH_LEAP_MAX, B), "that much can be missed"


SETTINGS = TUNING.settings


@pytest.mark.parametrize(
    "roster",
    [
        Roster(2, b"cluster", MEMBERS, (), {}),
        Roster(2, b"cluster", MEMBERS, (), {**SETTINGS, "partitions": "many"}),
        Roster(2, b"cluster", MEMBERS, (), {**SETTINGS, "partitions": "1"}),
        Roster(2, b"cluster", MEMBERS, (), {**SETTINGS, "virtual_nodes_per_node": "-1"}),
        Roster(2, b"cluster", {}, (), SETTINGS),
    ],
)
def test_a_roster_that_makes_no_sense_is_not_believed(roster: Roster) -> None:
    node = Alone()
    node.told(B, Plan(roster, 1))
    node.told(B, RosterNews(roster))
    assert node.core.roster == ROSTER_1
    newcomer = Replication(D, b"disk-d", tuning=TUNING, random=Random(1))
    newcomer.receive(0.0, B, Hello(MEMBERS[B], b"cluster", 2, True))
    newcomer.receive(0.0, B, RosterNews(roster))
    assert newcomer.roster is None


@pytest.mark.parametrize("wild", [b"", b"\x82", b"\x80", b"\xff", b"\x91\x01"])
def test_an_entry_that_is_none_is_not_appended(wild: bytes) -> None:
    node = Alone()
    node.told(B, Sync(0, 1, (1, B), MEMBERS, 0, 0))
    node.told(B, Append(0, 1, (1, B), 0, [entry(b"1"), wild], 2))
    assert node.replica.log.last == 0
    node.told(B, Sync(0, 1, (2, B), MEMBERS, 2, 0))
    node.told(B, Piece(0, 1, (2, B), 1, [entry(b"1"), wild], 2))
    assert node.replica.log_epoch == (1, B)


def test_nobody_speaks_in_the_name_of_no_epoch() -> None:
    node = Alone()
    nobody = ZERO[1]
    node.told(nobody, Hello(b"disk", b"cluster", 1, True))
    node.told(nobody, Append(0, 1, ZERO, 0, [entry(b"1")], 1))
    assert node.replica.log.last == 0


def test_a_base_of_the_rosters_log_is_not_taken() -> None:
    node = Alone()
    assert node.told(B, Base(ROSTER, 2, MEMBERS, 2, (1, B), True)) == []


names = st.sampled_from([A, B, C, D])
numbers = st.sampled_from([0, 1, 2, 3, 5, 2**40, 2**53 - 1])
epochs = st.tuples(st.sampled_from([0, 1, 2, 3, 9]), names)
members = st.dictionaries(names, st.sampled_from([*MEMBERS.values(), b"disk-d", b""]), max_size=4)
entries = st.lists(st.sampled_from([entry(b"1"), entry(b"2"), b"", b"\x80", b"\xff", encode_row(Seal(2, MEMBERS))]), max_size=3)
by_name = {
    "partition": st.sampled_from([0, 0, 0, 1, 5, ROSTER, 0xFFFF]),
    "generation": st.sampled_from([0, 1, 1, 1, 2, 3]),
    "epoch": epochs,
    "log_epoch": epochs,
    "promised": epochs,
    "entries": entries,
    "members": members,
    "store_id": st.sampled_from([b"disk-a", b"disk-b", b"disk-d", b""]),
}
rosters = st.builds(
    Roster, numbers, st.sampled_from([b"cluster", b"", b"another"]), members, st.lists(names, max_size=2).map(tuple),
    st.sampled_from([SETTINGS, {}, {"partitions": "x"}]),
)  # fmt: skip


def of_kind(kind: type[Any]) -> st.SearchStrategy[Any]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(kind):
        special = field.name in ("rows", "round", "partitions", "owned")
        wild: st.SearchStrategy[Any] = st.nothing() if special else st.from_type(field.type)
        if field.name in by_name:
            wild = by_name[field.name]
        elif field.name == "roster":
            wild = rosters
        elif field.name == "rows" and kind.__name__ == "SnapshotPiece":
            wild = st.just([(b"\0\0k", b"v")])
        elif field.name == "rows" and kind.__name__ == "Digest":
            wild = st.lists(st.tuples(by_name["partition"], numbers, epochs, numbers, numbers), max_size=3)
        elif field.name == "rows" and kind.__name__ == "DigestAnswer":
            wild = st.lists(st.tuples(by_name["partition"], numbers, epochs, epochs, numbers), max_size=3)
        elif field.name == "rows":
            wild = st.lists(st.tuples(by_name["partition"], numbers, epochs), max_size=3)
        elif field.name in ("partitions", "owned"):
            wild = st.lists(by_name["partition"], max_size=3)
        elif field.name in ("node",):
            wild = names
        elif field.name == "settings":
            wild = st.just(SETTINGS)
        elif field.name == "founders":
            wild = st.lists(names, max_size=3).map(tuple)
        elif field.name in ("seeds",):
            wild = st.just(("a:1",))
        elif "int" in str(field.type):
            wild = numbers
        fields[field.name] = wild
    return st.builds(kind, **fields)


KINDS = Message.__args__


def carried_out(core: Replication, now: float) -> None:
    core.effects()
    core.synced(now, core.home.mark)
    core.effects()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([B, C, D]), st.one_of([of_kind(kind) for kind in KINDS])), max_size=25), st.booleans())
def test_whatever_a_peer_says_nothing_raises_and_no_promise_falls(said: list[tuple[NodeId, Any]], owns: bool) -> None:
    core = owning(0.0) if owns else Alone().core
    if owns:
        core.append(0.0, 0, [(b"\0\0k", b"v")])
        core.confirm(0.0, 0)
    now, epoch = 0.0, core.epoch(0)
    assert epoch == ((1, A) if owns else ZERO)
    for sender, message in said:
        now += 0.3
        assert decode(encode([message])) == [message]
        core.receive(now, sender, message)
        core.tick(now)
        carried_out(core, now)
        assert core.epoch(0) >= epoch
        epoch = core.epoch(0)
        for replica in core.replicas.values():
            assert replica.log.base <= replica.applied <= replica.commit <= replica.log.last
