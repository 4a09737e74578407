"""What goes wrong with a disk, made to happen: each is its own error, says what to do, and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from children import child, output_of
from stores import DISK_ENGINES, LEVELDB, NO_LEVELDB, open_engine

from durable.errors import StoreCorrupted, StoreError, StoreLocked
from durable.ports import Store
from durable.storage import InMemoryStore, RocksDBStore, open_store

HOLDER = """
    import sys
    from durable.storage import open_store
    store = open_store(sys.argv[1])
    store.write([(b"k", b"v")])
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=DISK_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def kept(store: Store) -> list[int]:
    return [int(key) for key, _ in store.scan(b"")]


# Locked


def test_two_processes_on_one_folder_the_second_is_told_who_has_it(engine: str, tmp_path: Path) -> None:
    with child(HOLDER, f"{engine}:{tmp_path}") as holder:
        assert holder.line() == "open"
        with pytest.raises(StoreLocked) as refused:
            open_engine(engine, tmp_path)
        assert f"pid {holder.pid} " in str(refused.value)
        assert f"({sys.executable} -c" in str(refused.value)
        assert "nothing is lost" in str(refused.value)
        holder.kill()
    store = open_engine(engine, tmp_path)  # a dead process holds nothing
    assert store.get(b"k") == b"v"
    store.close()


def test_one_process_opening_a_folder_twice_is_told_so_and_keeps_its_lock(
    engine: str, tmp_path: Path
) -> None:
    store = open_engine(engine, tmp_path / "store")
    (tmp_path / "alias").symlink_to(tmp_path / "store")
    for path in (tmp_path / "store", tmp_path / "alias"):
        with pytest.raises(StoreLocked, match=f"this very process .pid {os.getpid()}"):
            open_engine(engine, path)
    refused = "import sys; from durable.storage import open_store; open_store(sys.argv[1])"
    second = subprocess.run(
        [sys.executable, "-c", refused, f"{engine}:{tmp_path / 'store'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        f"StoreLocked: {tmp_path / 'store'} is held by another process: pid {os.getpid()} " in second.stderr
    )
    store.write([(b"k", b"v")])
    store.close()
    open_engine(engine, tmp_path / "alias").close()


def test_a_store_that_was_dropped_without_close_does_not_hold_its_folder(engine: str, tmp_path: Path) -> None:
    store = open_engine(engine, tmp_path)
    store.write([(b"1", b"v")])
    del store
    again = open_engine(engine, tmp_path)
    assert kept(again) == [1]
    again.close()


# Not writable


READ_ONLY = """
    import os, sys
    from durable.errors import StoreReadOnly
    from durable.storage import open_store
    import pickle, durable.storage.memory, durable.storage.rocksdb  # now: this user may not read them
    if "leveldb" in sys.argv[1]:
        import durable.storage.leveldb
    os.setuid(65534)
    for path in sys.argv[1:]:
        try:
            open_store(path)
        except StoreReadOnly as error:
            print(error)
"""


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root can become a user who may not write"
)
@pytest.mark.parametrize("modes", [(0o555, 0o444), (0o777, 0o444)], ids=["the folder", "the files in it"])
def test_a_folder_that_cannot_be_written_says_so(engine: str, modes: tuple[int, int], tmp_path: Path) -> None:
    folder = tmp_path / "store"
    open_engine(engine, folder).close()
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o055)
    for entry in folder.iterdir():
        entry.chmod(modes[1])
    folder.chmod(modes[0])
    said = output_of(READ_ONLY, f"{engine}:{folder}", f"{engine}:{tmp_path / 'new'}")
    assert said.count("cannot be written by this user. Nothing that was acknowledged is lost.") == 2
    assert str(folder) in said
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_way_is_an_error_of_the_store(engine: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        open_engine(engine, tmp_path / "file")


# Full


FULL = """
    import resource, sys
    from durable.errors import StoreFull
    from durable.storage import open_store
    store = open_store(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    acknowledged = -1
    try:
        for number in range(100_000):
            store.write([(b"%d" % number, b"v" * 150)])
            store.sync()
            acknowledged = number
    except StoreFull as error:
        first = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for operation in (store.sync, lambda: store.write([(b"999999", b"v")])):
        try:
            operation()
        except StoreFull as error:
            assert str(error) == first
        else:
            raise AssertionError("it took a write after it had failed")
    assert store.get(b"0") == b"v" * 150
    store.close()
    print(acknowledged, first)
"""


def test_a_full_disk_refuses_and_loses_nothing(engine: str, tmp_path: Path) -> None:
    acknowledged, _, message = output_of(FULL, f"{engine}:{tmp_path}").partition(" ")
    assert "Nothing that was acknowledged is lost. Free some space" in message
    assert int(acknowledged) > 100
    store = open_engine(engine, tmp_path)
    # Every acknowledged write is there. The one that failed may be too: nobody may rely on it either way.
    assert sorted(kept(store))[: int(acknowledged) + 1] == list(range(int(acknowledged) + 1))
    assert len(kept(store)) <= int(acknowledged) + 2
    store.close()


# Damaged


FILL_AND_DIE = """
    import os, random, signal, sys
    from durable.storage import open_store
    store = open_store(sys.argv[1])
    noise = random.Random(1)
    for number in range(1_000):
        store.write([(b"%06d" % number, noise.randbytes(200))])
    store.sync()
    print("synced", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def folder_with_a_log(engine: str, folder: Path) -> Path:
    """A store whose 1,000 rows are all in its log, as a crash leaves it."""
    with child(FILL_AND_DIE, f"{engine}:{folder}") as filler:
        assert filler.line() == "synced"
        filler.process.wait()
    (log,) = (path for path in folder.glob("*.log") if path.stat().st_size > 0)
    return log


def damage(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_a_log_that_ends_too_early_is_cut_there(engine: str, tmp_path: Path) -> None:
    log = folder_with_a_log(engine, tmp_path)
    os.truncate(log, log.stat().st_size - 20)  # the last append was under way when the power went
    for _ in range(2):
        store = open_engine(engine, tmp_path)
        assert kept(store) == list(range(999))
        store.close()


@pytest.mark.parametrize("where", [0.5, 0.999], ids=["in the middle", "in the last record"])
def test_damage_in_the_log_is_never_passed_over(engine: str, where: float, tmp_path: Path) -> None:
    log = folder_with_a_log(engine, tmp_path)
    damage(log, int(log.stat().st_size * where))
    content = log.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreCorrupted, match="Keep a copy of the folder"):
            open_engine(engine, tmp_path)
    assert log.read_bytes() == content  # nothing was dropped: the operator can still rescue it


def folder_with_a_table(engine: str, folder: Path) -> Path:
    """A store whose 1,000 rows are all in one table."""
    folder_with_a_log(engine, folder)
    open_engine(engine, folder).close()  # recovery writes the log out as a table
    (table,) = (path for path in folder.iterdir() if path.suffix in (".sst", ".ldb"))
    return table


def test_damage_in_a_table_is_told_by_whoever_meets_it(engine: str, tmp_path: Path) -> None:
    table = folder_with_a_table(engine, tmp_path)
    damage(table, table.stat().st_size // 2)
    store = open_engine(engine, tmp_path)  # tables are read when they are needed: opening does not see it
    snapshot = store.snapshot()
    reads: list[Callable[[], object]] = [
        lambda: kept(store),
        lambda: list(store.scan(b"", reverse=True)),
        lambda: list(snapshot.scan(b"")),
        lambda: [store.get(b"%06d" % number) for number in range(1_000)],
        lambda: [snapshot.get(b"%06d" % number) for number in range(1_000)],
    ]
    for read in reads:
        with pytest.raises(StoreCorrupted):
            read()
    assert store.get(b"000000") is not None  # the rest can still be read
    store.close()


@pytest.mark.parametrize("missing", ["table", "CURRENT", "MANIFEST"])
def test_a_missing_file_is_damage_and_not_a_fresh_start(engine: str, missing: str, tmp_path: Path) -> None:
    table = folder_with_a_table(engine, tmp_path)
    {
        "table": table.unlink,
        "CURRENT": (tmp_path / "CURRENT").unlink,
        "MANIFEST": next(tmp_path.glob("MANIFEST-*")).unlink,
    }[missing]()
    with pytest.raises(StoreCorrupted):
        open_engine(engine, tmp_path)
    assert missing == "table" or table.exists()


# The other engine


@pytest.mark.skipif(LEVELDB is None, reason=NO_LEVELDB)
@pytest.mark.parametrize(("first", "then"), [("rocksdb", "leveldb"), ("leveldb", "rocksdb")])
def test_a_folder_of_the_other_engine_is_refused_untouched(first: str, then: str, tmp_path: Path) -> None:
    store = open_engine(first, tmp_path)
    store.write([(b"1", b"v")])
    store.close()
    with pytest.raises(StoreError, match=f"(?i)belongs to {first} and was to be opened with {then}"):
        open_engine(then, tmp_path)
    store = open_engine(first, tmp_path)
    assert kept(store) == [1]
    store.close()


# LevelDB's logs


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was given to fsync, of which nothing else is changed."""
    from durable.storage import leveldb

    paths: list[Path] = []
    real_fsync = leveldb._fsync
    monkeypatch.setattr(leveldb, "_fsync", lambda path: (paths.append(path), real_fsync(path)))
    return paths


def fill_the_table(store: Store) -> None:
    """More than LevelDB's table in memory holds: it begins another log."""
    store.write([(b"%06d" % number, os.urandom(1_000)) for number in range(5_000)])
    store.write([(b"behind", b"v")])


@pytest.mark.skipif(LEVELDB is None, reason=NO_LEVELDB)
def test_a_sync_syncs_every_log_there_is_and_the_folder_when_one_is_new(tmp_path: Path, synced: list[Path]) -> None:
    store = open_engine("leveldb", tmp_path)
    (first,) = tmp_path.glob("*.log")
    size = first.stat().st_size
    store.sync()
    assert synced == [first, tmp_path]
    assert first.stat().st_size == size, "LevelDB itself is given nothing to do, which other writes would wait for"
    store.sync()
    assert synced == [first, tmp_path, first]
    synced.clear()
    fill_the_table(store)
    store.sync()
    (newest,) = (log for log in tmp_path.glob("*.log") if log != first)
    assert synced[-2:] == [newest, tmp_path]
    assert first in synced or not first.exists(), "LevelDB closed it unsynced, and syncs the table that is made of it"
    store.close()


@pytest.mark.skipif(LEVELDB is None, reason=NO_LEVELDB)
def test_a_sync_syncs_what_was_written_before_it_also_when_a_log_begins_meanwhile(
    tmp_path: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable.storage import leveldb

    store = leveldb.LevelDBStore.open(tmp_path)
    store.sync()
    (first,) = tmp_path.glob("*.log")
    store.write([(b"before", b"v")])
    synced.clear()
    note = leveldb._fsync

    def turn(path: Path) -> None:
        monkeypatch.setattr(leveldb, "_fsync", note)
        fill_the_table(store)
        note(path)

    monkeypatch.setattr(leveldb, "_fsync", turn)
    store.sync()
    assert first in synced or not first.exists()
    synced.clear()
    store.sync()
    assert tmp_path in synced, "the name of the log that began meanwhile"
    store.close()


@pytest.mark.skipif(LEVELDB is None, reason=NO_LEVELDB)
def test_what_leveldb_was_given_is_with_the_system_when_write_returns(tmp_path: Path) -> None:
    store = open_engine("leveldb", tmp_path)
    (log,) = tmp_path.glob("*.log")
    for size in (10, 40_000, 200_000):  # less than a block of the log, more than one, more than a buffer of LevelDB
        value = os.urandom(size)
        store.write([(b"k", value)])
        assert log.read_bytes()[-10:] == value[-10:], "else no fsync of the file could reach it"
    store.close()


# The room's door


def test_importing_the_room_imports_no_engine() -> None:
    program = """
        import sys, durable.storage
        durable.storage.open_store("memory:").close()
        print(sorted({"rocksdict", "plyvel"} & set(sys.modules)))
    """
    assert output_of(program) == "[]\n"


def test_without_plyvel_the_message_names_the_extra() -> None:
    program = """
        import sys
        sys.modules["plyvel"] = None
        import durable.storage
        try:
            durable.storage.open_store("leveldb:somewhere")
        except ImportError as error:
            print(error)
    """
    assert "pip install 'durable[leveldb]'" in output_of(program)


def test_a_url_names_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_store("memory:"), InMemoryStore)
    for url in ("plain", "rocksdb:named", f"rocksdb://{tmp_path}/absolute"):
        store = open_store(url)
        assert isinstance(store, RocksDBStore)
        store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["absolute", "named", "plain"]
    with pytest.raises(ValueError, match="no path"):
        open_store("memory:somewhere")
