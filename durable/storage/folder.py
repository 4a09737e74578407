"""A store's folder: who holds it, which engine wrote it, and what an engine's complaint about it means.

Why it exists: an engine says ``IO error: While lock file: ...: Resource temporarily unavailable``; a person
at a terminal needs to read *which process* has the folder, whether anything is lost, and what to do. Both
disk engines come through here, so that both say the same things.

How it works:

- **Who holds it.** Both engines take a POSIX lock on the file ``LOCK``. The kernel lists those locks, with
  the pid that holds each, in ``/proc/locks``: that cannot go stale, as a pid file would. Within one process a
  POSIX lock protects nothing (closing *any* descriptor of the file drops it), so a second opening by the same
  process is refused here, before an engine sees it, and nothing in this room opens ``LOCK`` itself where
  this process may hold it.
- **Which engine.** RocksDB opens a LevelDB folder without a word and rewrites it in its own format. It leaves
  a file ``IDENTITY``, LevelDB does not.
- **What it means.** Engines report text; `typed_error` sorts it into the `StoreError` tree.
- **Whether it is to be trusted.** After a failed fsync a file beside the engine's, ``DISTRUSTED``, says so to
  the next process (`distrust`): no engine deletes a file whose name it does not know.

Limits: off Linux, the holder cannot be named. In another pid namespace (a container) the kernel reports no
pid.

Read next: `durable.storage.engine`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from weakref import WeakValueDictionary

from durable.errors import StoreClosed, StoreCorrupted, StoreError, StoreFull, StoreLocked, StoreReadOnly

DISTRUSTED = "DISTRUSTED"
"""The file that says that a folder may have lost what was acknowledged. It begins with the id by which the folder goes since."""

WAY_BACK = (
    f"bring the other voters back. If they are lost, and this folder is marked ({DISTRUSTED}), an operator can delete the mark and "
    "start the node again: it votes then with what it has, and what only those have who are lost is gone"
)

_held: WeakValueDictionary[tuple[int, int, int], object] = WeakValueDictionary()
"""What this process has open: (pid, device, inode) of the folder to the store. The pid: a fork copies it."""

_NO_LOSS = "Nothing that was acknowledged is lost."

_SIGNS: tuple[tuple[type[StoreError], tuple[str, ...], str], ...] = (
    (
        StoreFull,
        ("No space left", "File too large", "Disk quota exceeded", "NoSpace", "Out of space"),
        "there is no space left on the device, or the file would pass a size limit (quota, ulimit -f). "
        f"{_NO_LOSS} Free some space, then open the store again.",
    ),
    (
        StoreReadOnly,
        ("Permission denied", "Read-only file system", "Operation not permitted"),
        f"the folder or a file in it cannot be written by this user. {_NO_LOSS} "
        "Give the user write access to the folder and all its files, or choose another folder.",
    ),
    (
        StoreCorrupted,
        ("orruption", "checksum", "missing files", "No such file", "does not exist", "NotFound"),
        "files of the store are damaged or missing. It is not used as it is, because what was acknowledged "
        "could be silently gone. Keep a copy of the folder, then bring back a backup or, in a "
        "cluster, let this node start empty and be filled from its peers.",
    ),
    (StoreClosed, ("already closed", "is closed"), "it was closed before this call; open it again."),
)
"""The first row with a sign in the engine's message decides. Full comes first: RocksDB repeats an old
failure's cause inside later messages, and a full disk is the one that a person can act on."""


def prepare(folder: Path, engine: str) -> None:
    """Make the folder if it is missing, and refuse it if ``engine`` must not open it.

    Raises `StoreLocked` when this process has it open, `StoreReadOnly` when it cannot be written,
    `StoreCorrupted` when it holds tables without their index (an engine would begin afresh and delete them),
    `StoreError` when it belongs to the other engine.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typed_error(error, folder, "making the folder") from error
    if _key(folder) in _held:
        raise locked(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        raise typed_error(refusal, folder, "opening it")
    found = engine_of(folder)
    if found is not None and found != engine:
        raise StoreError(
            f"{folder} belongs to {found} and was to be opened with {engine}, which would rewrite it. "
            f"Nothing was touched. Open it with {found}, or choose another folder."
        )


def engine_of(folder: Path) -> str | None:
    """Which engine wrote the folder, "RocksDB" or "LevelDB"; None when it holds no store yet.

    Raises `StoreCorrupted` when there is data, and the file CURRENT, where reading it begins, is missing.
    """
    try:
        names = {entry.name: entry for entry in os.scandir(folder)}
    except OSError as error:
        raise typed_error(error, folder, "opening it") from error
    if "CURRENT" not in names:
        tables = [name for name in names if name.endswith((".sst", ".ldb"))]
        logs = [name for name, entry in names.items() if name.endswith(".log") and entry.stat().st_size]
        if tables or logs:
            missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder / "CURRENT"))
            raise typed_error(missing, folder, "opening it")
        return None
    return "RocksDB" if "IDENTITY" in names else "LevelDB"


def distrust(folder: Path, new_id: bytes, why: str) -> Path:
    """Leave a mark in the folder, on stable storage, that outlives the process. Raises `OSError`: this disk takes no more.

    It is written under another name first: what `distrusted` finds is whole.
    """
    mark, draft = folder / DISTRUSTED, folder / f"{DISTRUSTED}.new"
    with draft.open("w") as file:
        file.write(f"{new_id.hex()}\n{why}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(mark)
    sync_names(folder)
    return mark


def sync_names(folder: Path) -> None:
    """Which files the folder has, under which names, becomes durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def distrusted(folder: Path) -> bytes | None:
    """The id that `distrust` has left; None: the folder is trusted. Raises `StoreCorrupted` when it cannot be read."""
    try:
        new_id = bytes.fromhex((folder / DISTRUSTED).read_text().split("\n", 1)[0])
        if not new_id:
            raise ValueError("it begins with no id")
        return new_id
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreCorrupted(
            f"{folder / DISTRUSTED} says that this folder may have lost what was acknowledged, and cannot be read ({error}). "
            "Start the node on an empty folder, and let it be filled from its peers."
        ) from error


def hold(folder: Path, store: object) -> None:
    """Note that this process has the folder open, until `release` or until ``store`` is garbage."""
    _held[_key(folder)] = store


def release(folder: Path, store: object) -> None:
    """Forget what `hold` noted, if it is still this store that has the folder."""
    try:
        key = _key(folder)
    except OSError:  # the folder was deleted under the store
        return
    if _held.get(key) is store:
        del _held[key]


def _key(folder: Path) -> tuple[int, int, int]:
    stat = folder.stat()  # not the path: two spellings of one folder are one folder
    return os.getpid(), stat.st_dev, stat.st_ino


def locked(folder: Path) -> StoreLocked:
    """The error that names whoever holds the folder."""
    pid = holder(folder)
    if _key(folder) in _held or pid == os.getpid():
        who = f"this very process (pid {os.getpid()}), which opened it before and has not closed it"
        remedy = "Use the store that is open, or close it first."
    elif pid is None:
        who = "another process (the system does not say which)"
        remedy = "Stop that process, or choose another folder."
    else:
        who = f"another process: pid {pid}{_command_line(pid)}"
        remedy = (
            "Stop that process, or choose another folder. To read beside it: durable.storage.open_read_only."
        )
    return StoreLocked(f"{folder} is held by {who}. Nothing was touched and nothing is lost. {remedy}")


def holder(folder: Path) -> int | None:
    """The pid of the live process that holds the folder's LOCK; None when the kernel does not say."""
    try:
        inode = str((folder / "LOCK").stat().st_ino)
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    for line in table.splitlines():  # 1: POSIX  ADVISORY  WRITE 7171 fe:00:2318955 0 EOF
        fields = line.split()
        if len(fields) < 8 or fields[1] != "POSIX" or fields[5].rpartition(":")[2] != inode:
            continue
        pid = int(fields[4])
        if (
            pid > 0 and Path(f"/proc/{pid}").exists()
        ):  # the same inode on another device may be listed too: rare, and alive
            return pid
    return None


def is_held(folder: Path) -> bool:
    """Whether any process has the folder open, also one that the kernel does not name here, because it is in another container."""
    import fcntl

    if _key(folder) in _held or holder(folder) is not None:
        return True
    try:
        with (folder / "LOCK").open("rb") as file:  # not held by this process, so that closing it gives up nothing
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _command_line(pid: int) -> str:
    try:
        words = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    except OSError:
        return ""
    return f" ({words[:200]})" if words else ""


def typed_error(error: BaseException, folder: Path, doing: str) -> StoreError:
    """The `StoreError` for what an engine or the system complained of while ``doing`` something."""
    if isinstance(error, StoreError):
        return error
    text = error.args[0] if len(error.args) == 1 else str(error)
    said = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    if (
        "LOCK" in said
        and ("lock" in said.replace("LOCK", "") or "unavailable" in said)
        and "denied" not in said
    ):
        return locked(folder)
    for kind, signs, meaning in _SIGNS:
        if any(sign in said for sign in signs):
            return kind(f"{folder}: {doing} failed: {meaning} (The system said: {said})")
    return StoreError(
        f"{folder}: {doing} failed. {_NO_LOSS} Look at the disk, then open the store again. "
        f"(The system said: {said})"
    )
