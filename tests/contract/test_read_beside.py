"""Reading a store that another live process holds: it shows what was written, and its owner is left alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from children import child
from stores import DISK_ENGINES, LEVELDB, NO_LEVELDB, open_engine

from durable.errors import StoreClosed, StoreCorrupted, StoreError
from durable.storage import beside, open_read_only
from durable.storage.engine import DiskStore

OWNER = """
    import sys
    from durable.storage import open_store
    store = open_store(sys.argv[1])
    print("open", flush=True)
    for line in sys.stdin:
        first, last = map(int, line.split())
        for number in range(first, last):
            store.write([(b"%08d" % number, b"v" * 1000)])
        store.sync()
        print(store.get(b"%08d" % first), flush=True)
"""

BUSY_OWNER = """
    import sys
    from durable.storage import open_store
    store = open_store(sys.argv[1])
    for number in range(10**9):
        store.write([(b"%08d" % number, b"v" * 10_000), (b"twin %08d" % number, b"v")])
        if number == 2_000:
            print("busy", flush=True)
"""


@pytest.fixture(params=DISK_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {entry.name: (entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(folder)}


def test_it_shows_what_the_live_owner_wrote_and_changes_nothing(engine: str, tmp_path: Path) -> None:
    with child(OWNER, f"{engine}:{tmp_path}") as owner:
        assert owner.line() == "open"
        for first, last in [(0, 100), (100, 10_000), (10_000, 10_001)]:  # 10 MB: LevelDB has tables by then
            owner.tell(f"{first} {last}")
            owner.line()
            before = state_of(tmp_path) if last == 100 else None  # later the owner itself may be at work
            reader = open_read_only(tmp_path)
            assert [key for key, _ in reader.scan(b"")] == [b"%08d" % number for number in range(last)]
            assert next(reader.scan(b"", reverse=True))[0] == b"%08d" % (last - 1)
            assert reader.get(b"%08d" % (last - 1)) == b"v" * 1000
            reader.close()
            if before is not None:
                assert state_of(tmp_path) == before
        owner.tell("10001 10002")  # and the owner goes on
        assert owner.line() == str(b"v" * 1000)


def test_while_the_owner_writes_at_full_speed_it_shows_one_instant(engine: str, tmp_path: Path) -> None:
    with child(BUSY_OWNER, f"{engine}:{tmp_path}") as owner:
        assert owner.line() == "busy"
        seen = 2_000
        for _ in range(5):
            reader = open_read_only(tmp_path)
            keys = [key for key, _ in reader.scan(b"0")]
            assert keys == [b"%08d" % number for number in range(len(keys))]  # no hole
            assert [key for key, _ in reader.scan(b"twin ")] == [
                b"twin " + key for key in keys
            ]  # no half batch
            assert len(keys) >= seen
            seen = len(keys)
            reader.close()


@pytest.mark.parametrize("just_before", [".log", "MANIFEST-"])
def test_when_the_owner_changes_its_files_in_mid_copy_it_begins_again(
    engine: str, just_before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_engine(engine, tmp_path)
    store.write([(b"%06d" % number, b"v") for number in range(1_000)])
    copy_file, copied = shutil.copyfile, []

    def change_then_copy(source: Path, target: Path) -> None:
        if just_before in source.name and not any(just_before in name for name in copied):
            store._db.compact_range(*((None, None) if engine == "rocksdb" else ()))  # type: ignore[attr-defined]
            if engine == "rocksdb":
                store._db.flush()  # type: ignore[attr-defined]
        copied.append(source.name)
        copy_file(source, target)

    monkeypatch.setattr(shutil, "copyfile", change_then_copy)
    reader = open_read_only(tmp_path)
    assert len(list(reader.scan(b""))) == 1_000
    assert len([name for name in copied if just_before in name]) > 1
    reader.close()
    store.close()


def test_no_file_of_a_leveldb_copy_is_the_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if LEVELDB is None:
        pytest.skip(NO_LEVELDB)
    store = open_engine("leveldb", tmp_path)
    store.write([(b"%06d" % number, b"v" * 1000) for number in range(10_000)])
    store._db.compact_range()  # type: ignore[attr-defined]
    assert list(tmp_path.glob("*.ldb"))
    open_files = beside._open_files
    links: list[int] = []

    def look_then_open(engine: str, copy: Path) -> DiskStore:
        links.extend(path.stat().st_nlink for path in copy.iterdir())
        return open_files(engine, copy)

    monkeypatch.setattr(beside, "_open_files", look_then_open)
    open_read_only(tmp_path).close()
    assert set(links) == {1}
    store.close()


def test_a_closed_reader_says_so_and_leaves_no_copy(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(beside.tempfile, "tempdir", str(copies))
    store = open_engine(engine, tmp_path / "store")
    store.write([(b"k", b"v")])
    reader = open_read_only(tmp_path / "store")
    assert len(list(copies.iterdir())) == 1
    reader.close()
    reader.close()
    with pytest.raises(StoreClosed):
        reader.get(b"k")
    assert list(copies.iterdir()) == []
    store.write([(b"k", b"2")])  # the owner's lock and log are untouched, in the same process too
    store.close()


def test_where_there_is_no_store_it_says_so_and_makes_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StoreError, match="holds no store"):
            open_read_only(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_missing_is_damage(engine: str, tmp_path: Path) -> None:
    store = open_engine(engine, tmp_path)
    store.write([(b"k", b"v")])
    store.close()
    next(tmp_path.glob("MANIFEST-*")).unlink()
    with pytest.raises(StoreCorrupted):
        open_read_only(tmp_path)
