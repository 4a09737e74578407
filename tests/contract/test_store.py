"""The contract of `durable.ports.Store`, on every store, the failing one of the other suites included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from children import child
from stores import DISK_ENGINES, ENGINES, FailingStore, open_engine

from durable.errors import StoreClosed, StoreFull
from durable.ports import Store
from durable.sim.disk import SimDisk

KEYS = [
    b"a",
    b"a\x00",
    b"aa",
    b"ab",
    b"a\xff",
    b"a\xff\xff",
    b"b",
    b"\xfe",
    b"\xff",
    b"\xff\xff",
    b"\xff\xffz",
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*ENGINES, "a failing store that does not fail", "a simulated disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param in ("memory", "rocksdb", "leveldb"):
        opened = open_engine(request.param, tmp_path / "store")
    elif request.param == "a simulated disk":
        opened = SimDisk(Random(1)).open()
    else:
        opened = FailingStore(open_engine("memory", tmp_path), "write", after=1_000_000)
    yield opened
    opened.close()


def fill(store: Store, keys: list[bytes] = KEYS) -> None:
    store.write([(key, b"value of " + key) for key in keys])


def keys_of(rows: Iterator[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for key, _ in rows]


# Batches


def test_a_written_key_has_its_value_and_another_has_none(store: Store) -> None:
    store.write([(b"key", b"value"), (b"empty", b"")])
    assert store.get(b"key") == b"value"
    assert store.get(b"empty") == b""
    assert store.get(b"ke") is None
    assert store.get(b"key\x00") is None


def test_the_later_write_of_a_key_in_a_batch_wins(store: Store) -> None:
    store.write(
        [(b"k", b"1"), (b"k", b"2"), (b"gone", b"1"), (b"gone", None), (b"back", None), (b"back", b"1")]
    )
    assert list(store.scan(b"")) == [(b"back", b"1"), (b"k", b"2")]


def test_a_deleted_key_is_gone_and_deleting_an_absent_one_is_fine(store: Store) -> None:
    fill(store)
    store.write([(b"aa", None), (b"never there", None)])
    assert store.get(b"aa") is None
    assert keys_of(store.scan(b"")) == [key for key in KEYS if key != b"aa"]


def test_an_empty_batch_changes_nothing(store: Store) -> None:
    fill(store)
    store.write([])
    store.sync()
    assert keys_of(store.scan(b"")) == KEYS


def test_a_batch_that_cannot_be_written_whole_is_not_written_at_all(store: Store) -> None:
    with pytest.raises(TypeError):
        store.write([(b"first", b"1"), (b"second", "text")])  # type: ignore[list-item]
    assert store.get(b"first") is None
    store.write([(b"later", b"1")])  # the caller's mistake is no fault of the disk: the store goes on
    assert store.get(b"later") == b"1"


def test_a_snapshot_on_another_thread_never_shows_half_a_batch(store: Store) -> None:
    seen: list[tuple[bytes | None, bytes | None]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            snapshot = store.snapshot()
            seen.append((snapshot.get(b"left"), snapshot.get(b"right")))
            snapshot.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(2_000):
        value = b"%d" % number
        filler = [(b"m%d" % (number * 8 + i), value) for i in range(8)]
        store.write([(b"left", value), *filler, (b"right", value)])
    done.set()
    watcher.join()
    assert seen
    assert all(left == right for left, right in seen)


# Scans


@pytest.mark.parametrize(
    "prefix", [b"", b"a", b"a\xff", b"ab", b"none", b"\xfe", b"\xff", b"\xff\xff", b"\xff" * 3]
)
def test_a_scan_gives_its_range_in_order(store: Store, prefix: bytes) -> None:
    fill(store)
    snapshot = store.snapshot()
    for start in [None, b"", b"a", b"a\xfe", b"ab", b"b", b"\xff", b"\xff\xff", b"\xff\xff\xff"]:
        wanted = [key for key in KEYS if key.startswith(prefix)]
        ahead = [key for key in wanted if start is None or key >= start]
        behind = [key for key in wanted if start is None or key <= start]
        for reader in (store, snapshot):
            assert keys_of(reader.scan(prefix, start=start)) == ahead
            assert keys_of(reader.scan(prefix, start=start, reverse=True)) == behind[::-1]
    snapshot.close()


def test_a_scan_gives_values_too(store: Store) -> None:
    fill(store)
    assert list(store.scan(b"ab")) == [(b"ab", b"value of ab")]
    assert list(store.scan(b"ab", reverse=True)) == [(b"ab", b"value of ab")]


def test_a_long_scan_is_whole_both_ways(store: Store) -> None:
    keys = [b"%06d" % number for number in range(5_000)]
    fill(store, keys[::2])
    fill(store, keys[1::2])
    assert keys_of(store.scan(b"")) == keys
    assert keys_of(store.scan(b"", reverse=True)) == keys[::-1]
    assert keys_of(store.scan(b"0012")) == keys[1200:1300]


def test_two_scans_of_one_snapshot_do_not_disturb_each_other(store: Store) -> None:
    keys = [b"%06d" % number for number in range(2_000)]
    fill(store, keys)
    snapshot = store.snapshot()
    store.write([(key, None) for key in keys[::2]])
    up, down = snapshot.scan(b"0"), snapshot.scan(b"0", reverse=True)
    pairs = [(next(up)[0], next(down)[0], snapshot.get(keys[0])) for _ in keys]
    assert pairs == [(first, last, b"value of 000000") for first, last in zip(keys, keys[::-1], strict=True)]
    snapshot.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_writing_during_a_scan_neither_skips_nor_repeats_what_was_there(store: Store, reverse: bool) -> None:
    keys = [b"%06d" % number for number in range(3_000)]
    fill(store, keys)
    seen = []
    for key, _ in store.scan(b"0", reverse=reverse):
        seen.append(key)
        if len(key) == 6:
            store.write([(key, None), (key + b"new", b"new"), (b"0" + key + b"new", b"new")])
    assert [key for key in seen if len(key) == 6] == (keys[::-1] if reverse else keys)
    assert len(seen) == len(set(seen))


def test_a_scan_that_is_left_early_holds_nothing_up(store: Store) -> None:
    fill(store)
    rows = store.scan(b"a")
    assert next(rows)[0] == b"a"
    store.write([(b"a", None)])
    assert keys_of(store.scan(b"a"))[0] == b"a\x00"


# Snapshots


def test_a_snapshot_does_not_change(store: Store) -> None:
    fill(store)
    snapshot = store.snapshot()
    store.write([(b"a", b"changed"), (b"aa", None), (b"new", b"1")])
    later = store.snapshot()
    store.write([(b"a", b"changed again"), (b"ab", None)])
    assert snapshot.get(b"a") == b"value of a"
    assert snapshot.get(b"new") is None
    assert list(snapshot.scan(b"")) == [(key, b"value of " + key) for key in KEYS]
    assert keys_of(snapshot.scan(b"a", start=b"aa", reverse=True)) == [b"aa", b"a\x00", b"a"]
    assert (later.get(b"a"), later.get(b"aa"), later.get(b"ab")) == (b"changed", None, b"value of ab")
    assert store.get(b"a") == b"changed again"
    snapshot.close()
    later.close()


def test_a_closed_snapshot_says_so(store: Store) -> None:
    snapshot = store.snapshot()
    snapshot.close()
    snapshot.close()
    with pytest.raises(StoreClosed):
        snapshot.get(b"a")
    with pytest.raises(StoreClosed):
        list(snapshot.scan(b""))


# Closing


def test_a_closed_store_says_so_and_closing_twice_is_fine(store: Store) -> None:
    fill(store)
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.get(b"a"),
        lambda: store.scan(b""),
        lambda: store.write([(b"a", b"1")]),
        lambda: store.write([]),
        store.sync,
        store.snapshot,
    ]
    for call in calls:
        with pytest.raises(StoreClosed):
            call()


@pytest.mark.parametrize("engine", DISK_ENGINES)
def test_closing_cuts_off_scans_and_snapshots_and_frees_the_folder(engine: str, tmp_path: Path) -> None:
    store = open_engine(engine, tmp_path)
    fill(store)
    scan, snapshot = store.scan(b""), store.snapshot()
    scan_of_snapshot = snapshot.scan(b"")
    next(scan), next(scan_of_snapshot)
    store.close()
    again = open_engine(engine, tmp_path)  # all four are still referred to, and must not hold the folder
    for cut_off in (scan, scan_of_snapshot):
        with pytest.raises(StoreClosed):
            list(cut_off)
    with pytest.raises(StoreClosed):
        snapshot.get(b"a")
    assert keys_of(again.scan(b"")) == KEYS
    again.close()


# Durability


@pytest.mark.parametrize("engine", DISK_ENGINES)
def test_reopening_keeps_what_was_written(engine: str, tmp_path: Path) -> None:
    for round_ in range(3):
        store = open_engine(engine, tmp_path)
        assert len(keys_of(store.scan(b""))) == 10 * round_
        store.write([(b"%d %d" % (round_, number), b"v") for number in range(10)])
        store.sync()
        store.close()


WRITER = """
    import sys
    from durable.storage import open_store
    store = open_store(sys.argv[1])
    number = 0
    while True:
        store.write([(b"%08d" % number, b"v" * 150), (b"twin %08d" % number, b"v" * 150)])
        store.sync()
        print(number, flush=True)
        number += 1
"""


@pytest.mark.parametrize("engine", DISK_ENGINES)
def test_sigkill_loses_nothing_that_was_synced_and_leaves_no_half_batch(engine: str, tmp_path: Path) -> None:
    for _ in range(3):
        with child(WRITER, f"{engine}:{tmp_path}") as writer:
            synced = [int(writer.line()) for _ in range(50)]
            writer.kill()
        store = open_engine(engine, tmp_path)
        for number in synced:
            assert store.get(b"%08d" % number) == b"v" * 150
        singles = keys_of(store.scan(b"0"))
        assert [b"twin " + key for key in singles] == keys_of(store.scan(b"twin "))
        store.close()


# Failing


@pytest.mark.parametrize("fail_on", ["write", "sync"])
def test_after_a_failure_it_refuses_writes_with_the_same_error_and_still_reads(
    engine: str, fail_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = open_engine(engine, tmp_path)
    fill(store)
    if engine == "memory":
        store = FailingStore(store, fail_on, after=1)  # type: ignore[arg-type]
        store.write([(b"one", b"works")])
        store.sync()
    else:

        def fail(*_: object) -> None:
            raise RuntimeError("IO error: While appending to file: 000004.log: No space left on device")

        monkeypatch.setattr(store, f"_{fail_on}", fail)
    with pytest.raises(StoreFull) as first:
        store.write([(b"not", b"kept")])
        store.sync()
    monkeypatch.undo()  # the disk has room again: the store does not believe it
    operations: list[Callable[[], None]] = [lambda: store.write([(b"more", b"1")]), store.sync]
    for operation in operations:
        with pytest.raises(StoreFull) as later:
            operation()
        assert later.value.args == first.value.args
    assert store.get(b"a") == b"value of a"
    assert store.get(b"more") is None
    store.close()
