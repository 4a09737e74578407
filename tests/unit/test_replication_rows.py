"""What a replica keeps: keys in the order of the log, entries and seals told apart, and a damaged folder noticed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.copies.log import LogTail
from durable.copies.rows import (
    PREFIX,
    Loaded,
    Seal,
    State,
    applied_index,
    applied_row,
    decode_entry,
    decode_seal,
    encode_entry,
    encode_row,
    is_seal,
    log_key,
    state_key,
)
from durable.errors import StoreCorrupted
from durable.journal.keys import NODE
from durable.membership.member import NodeId
from durable.replication import Replication, ReplicationTuning

A = NodeId("a")


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 2**63)), max_size=20))
def test_byte_order_is_the_order_of_partitions_and_indices(places: list[tuple[int, int]]) -> None:
    keys = [log_key(partition, index) for partition, index in sorted(places)]
    assert keys == sorted(keys) and all(key.startswith(PREFIX) and key.startswith(NODE) for key in keys)


@given(st.lists(st.tuples(st.binary(max_size=9), st.none() | st.binary(max_size=9)), max_size=40))
def test_a_batch_is_an_entry_and_never_taken_for_a_seal(writes: list[tuple[bytes, bytes | None]]) -> None:
    entry = encode_entry(writes)
    assert decode_entry(entry) == writes and not is_seal(entry)


def test_a_seal_is_told_from_a_batch_by_its_first_byte() -> None:
    seal = Seal(4, {A: b"disk"})
    assert is_seal(encode_row(seal)) and decode_seal(encode_row(seal)) == seal


def test_what_was_written_is_what_is_loaded() -> None:
    state = State(2, {A: b"disk"}, (7, A), (6, A), 10, True)
    rows = [(state_key(5), encode_row(state)), applied_row(5, 11), (log_key(5, 11), b"\x90"), (log_key(5, 12), b"\x90")]
    loaded = Loaded(sorted((key, value or b"") for key, value in rows))
    assert (loaded.states, loaded.applied, loaded.logs) == ({5: state}, {5: 11}, {5: [(11, b"\x90"), (12, b"\x90")]})
    assert applied_index(dict(rows).get, 5) == 11 and applied_index({}.get, 5) == 0


def core_with(rows: list[tuple[bytes, bytes]]) -> Replication:
    return Replication(A, b"disk", tuning=ReplicationTuning(partitions=2), random=Random(1), rows=rows)


BASE_1 = (state_key(1), encode_row(State(base=1)))
APPLIED = PREFIX + b"a\0\1"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(state_key(1), b"\xc1")], "cannot be read"),
        ([BASE_1, (log_key(1, 3), b"\x90"), (APPLIED, b"\0" * 7 + b"\1")], "has a hole"),
        ([BASE_1, (log_key(1, 2), b"\x90"), (APPLIED, b"\0" * 7 + b"\3")], "applied up to 3"),
        ([BASE_1, (log_key(1, 2), b"\x90")], "applied up to 0"),
    ],
)
def test_a_folder_whose_rows_do_not_fit_together_is_not_used(rows: list[tuple[bytes, bytes]], says: str) -> None:
    with pytest.raises(StoreCorrupted, match=says):
        core_with(sorted(rows))


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=12), st.data())
def test_a_tail_behaves_like_a_list_whose_beginning_is_gone(entries: list[bytes], data: st.DataObject) -> None:
    log, whole = LogTail(), list(entries)
    log.extend(entries)
    cut = data.draw(st.integers(0, len(entries)))
    log.truncate(cut)
    keep = data.draw(st.integers(cut, len(entries)))
    log.replace_after(keep, [b"new"])
    whole = [*whole[:keep], b"new"]
    assert (log.base, log.last, log.bytes) == (cut, len(whole), sum(map(len, whole[cut:])))
    assert [log.entry(index) for index in range(cut + 1, log.last + 1)] == whole[cut:]
    assert log.slice(cut + 1, 1 << 30) == whole[cut:]
    assert log.slice(cut + 1, 1) == whole[cut : cut + 1], "one at least"


@pytest.mark.parametrize(
    "wrong", [{"gossip_interval_s": 0}, {"rpc_timeout_s": float("inf")}, {"replicas": 0}, {"tail_entries": -1}, {"piece_bytes": 0}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReplicationTuning(**wrong)  # type: ignore[arg-type]
