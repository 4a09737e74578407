"""The simulated disk: what was synced stays, and what was not is lost but for a prefix that the seed chooses."""

from __future__ import annotations

from random import Random

import pytest

from durable.errors import StoreClosed, StoreError
from durable.sim.disk import SimDisk


def rows(disk: SimDisk) -> list[bytes]:
    return sorted(disk.rows())


@pytest.mark.parametrize("seed", range(50))
def test_after_a_crash_there_is_what_was_synced_and_a_prefix_of_the_rest(seed: int) -> None:
    disk = SimDisk(Random(seed))
    store = disk.open()
    for number in range(4):
        store.write([(b"%d" % number, b"x")])
    store.sync()
    for number in range(4, 9):
        store.write([(b"%d" % number, b"x"), (b"last", b"%d" % number), (b"%d" % (number - 4), None)])
    disk.crash()
    found = disk.rows()
    last = int(found.get(b"last", b"3"))
    assert 3 <= last <= 8
    assert sorted(found) == sorted([b"%d" % n for n in range(max(0, last - 3), last + 1)] + ([b"last"] if last > 3 else []))
    assert disk.lost_batches == 8 - last


def test_every_length_of_prefix_occurs_and_torn_tails_among_them() -> None:
    lasts, torn = [0] * 6, 0
    for seed in range(300):
        disk = SimDisk(Random(seed))
        store = disk.open()
        for number in range(5):
            store.write([(b"%d" % number, b"value")])
        disk.crash()
        lasts[len(rows(disk))] += 1
        torn += disk.torn
    assert min(lasts[:5]) > 30
    assert torn > 200


def test_a_crash_takes_back_what_a_batch_has_overwritten_and_deleted() -> None:
    for seed in range(20):
        disk = SimDisk(Random(seed))
        store = disk.open()
        store.write([(b"a", b"1"), (b"b", b"1")])
        store.sync()
        store.write([(b"a", b"2"), (b"b", None), (b"a", b"3"), (b"c", b"3" * 100)])
        disk.crash()
        assert disk.rows() in ({b"a": b"1", b"b": b"1"}, {b"a": b"3", b"c": b"3" * 100})


def test_a_sync_beside_the_process_covers_what_was_written_when_it_began() -> None:
    lost = 0
    for seed in range(40):
        disk = SimDisk(Random(seed))
        store = disk.open()
        store.write([(b"before", b"1")])
        seconds, end = store.begin_sync()
        assert seconds > 0
        store.write([(b"after", b"1")])
        assert end() is None
        disk.crash()
        assert b"before" in disk.rows()
        lost += b"after" not in disk.rows()
    assert lost > 10


def test_after_a_failed_sync_the_store_takes_nothing_until_it_is_opened_anew() -> None:
    disk = SimDisk(Random(1))
    store = disk.open()
    disk.failing_syncs = 1
    store.write([(b"a", b"1")])
    with pytest.raises(StoreError, match="fsync failed"):
        store.sync()
    assert store.get(b"a") == b"1"
    for refused in (lambda: store.write([(b"b", b"1")]), store.sync):
        with pytest.raises(StoreError, match="open it anew"):
            refused()
    disk.crash()
    anew = disk.open()
    anew.write([(b"b", b"1")])
    anew.sync()


def test_the_store_of_a_dead_process_knows_the_disk_no_more() -> None:
    disk = SimDisk(Random(1))
    dead = disk.open()
    disk.crash()
    for last_word in (lambda: dead.write([(b"a", b"1")]), dead.sync, lambda: dead.get(b"a"), dead.snapshot):
        with pytest.raises(StoreClosed):
            last_word()
    second = disk.open()
    disk.open()
    with pytest.raises(StoreClosed):
        second.sync()


def test_a_sync_stops_the_process_for_as_long_as_the_disk_takes() -> None:
    stalls: list[float] = []
    disk = SimDisk(Random(1))
    disk.sync_s = (0.5, 2.0)
    disk.open(stalls.append).sync()
    assert 0.5 <= stalls[0] <= 2.0


def test_a_wiped_disk_is_empty() -> None:
    disk = SimDisk(Random(1))
    store = disk.open()
    store.write([(b"a", b"1")])
    store.sync()
    disk.wipe()
    assert rows(disk) == []
