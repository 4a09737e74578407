"""What the demonstrations share: real processes to kill, and small services on this machine.

A demonstration shows one idea of `durable`; everything beside the idea is here. Six helpers do most of it:

- `folder`: a place for a store, removed when the notebook ends.
- `worker`: a real process with a real node in it, which can be killed at an exact moment of a journal.
- `service`: an HTTP server in a process of its own, on the loopback address.
- `gate`: where functions stand still until the notebook opens it, on whichever node they run.
- `refused`: what the nodes of a cluster have refused, because it came of an owner of the past.
- `read_journal`: what a folder holds, also when nobody runs it. `gaps`: when nobody did, for the figures.

A worker and a service end with the notebook: they wait on a pipe, and when the notebook is gone, however it went, the pipe
closes.

Read next: `child`, the other side of that pipe.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
from child import pickled  # beside this file

import durable
from durable.journal.codec import ANY
from durable.journal.entries import JournalEntry
from durable.journal.journal import entries
from durable.storage import open_read_only
from durable.storage.node import NodeStorage
from durable.workflows.definition import Function, Workflow

if TYPE_CHECKING:
    from durable.cluster import LocalCluster

PATIENCE_S = 50.0
"""How long an order to a worker may take. Demonstrations take milliseconds; this is for a machine that is asleep."""
REFUSED = "append of an older epoch"
"""Under what a node counts it (`durable.replication.following`)."""

_folders: list[Path] = []
_children: dict[int, asyncio.subprocess.Process] = {}
_workers: dict[str, Worker] = {}
_names: dict[str, int] = {}
_gaps: dict[str, list[tuple[float, float]]] = {}


# --- folders and journals -----------------------------------------------------------------------------------------


class Folder(str):
    """A path that does not show where it is: no two machines have the same temporary folder."""

    def __repr__(self) -> str:
        return f"<folder {Path(self).name}>"


def folder(name: str = "durable-data") -> Folder:
    """A new place for a store. It is removed when the notebook ends."""
    place = Path(tempfile.mkdtemp(prefix="durable-demo-"))
    _folders.append(place)
    return Folder(place / name)


@atexit.register
def _tidy() -> None:
    for child in list(_children.values()):
        with contextlib.suppress(ProcessLookupError):
            child.kill()
    for place in _folders:
        shutil.rmtree(place, ignore_errors=True)


def read_journal(store: str, workflow_id: str) -> list[JournalEntry]:
    """The journal of an execution, read from the files: nothing runs, and a process that holds the folder is not asked."""
    files = open_read_only(store)
    try:
        return _journal(NodeStorage(files), workflow_id)
    finally:
        files.close()


def _journal(storage: NodeStorage, workflow_id: str) -> list[JournalEntry]:
    row = storage.status(workflow_id)
    if row is None:
        raise durable.WorkflowNotFound(f"there is no execution with the id {workflow_id!r}")
    rows = storage.rows(workflow_id, row.incarnation, row.run)
    return entries(rows, storage.attempts(workflow_id, row.incarnation, row.run))


def gaps(store: str, journal: Sequence[JournalEntry] = ()) -> list[tuple[float, float]]:
    """When no process had the store open, for the figures: (killed, back) in milliseconds since 1970.

    A gap ends with the first order to the next worker, or with the first thing that ``journal`` records after the kill.
    """
    recorded = sorted({moment for entry in journal for moment in (entry.timestamp, entry.completed_at) if moment})
    found = []
    for killed, back in _gaps.get(store, []):
        ends = [moment for moment in (back, next((at for at in recorded if at > killed), None)) if moment]
        found.append((killed, min(ends, default=time.time() * 1000)))
    return found


# --- functions that run on the nodes of a cluster -----------------------------------------------------------------


def here() -> str:
    """In a function's body: the name of the node in whose process it runs."""
    return os.environ.get("CLUSTER_NODE_ID", "the notebook")


class Gate:
    """Whoever comes to it waits until it opens. It travels with a notebook's functions to other processes, and is one for all."""

    def __init__(self, place: str) -> None:
        self._place = Path(place)
        self._place.mkdir()

    def __repr__(self) -> str:
        return f"<gate, {'open' if self._opened.exists() else 'closed'}>"

    @property
    def _opened(self) -> Path:
        return self._place / "open"

    def wait(self) -> None:
        """In the body of a function that is no coroutine, and so has a thread to wait in."""
        self._note("came")
        until = time.monotonic() + PATIENCE_S
        while not self._opened.exists() and time.monotonic() < until:
            time.sleep(0.005)
        self._note("went")

    def open(self) -> None:
        """Let all through, from now on."""
        self._opened.touch()

    def close(self) -> None:
        """Let nobody through, and forget who came. Nobody may be on the way."""
        for name in ("open", "came", "went"):
            (self._place / name).unlink(missing_ok=True)

    async def came(self, times: int = 1, node: str | None = None) -> list[str]:
        """Wait until bodies have come to it so often, on one node or anywhere; on which nodes those did that have."""
        return await self._seen("came", times, node)

    async def went(self, times: int = 1, node: str | None = None) -> list[str]:
        """The same, of those that went through."""
        return await self._seen("went", times, node)

    def _note(self, what: str) -> None:
        with (self._place / what).open("a") as lines:  # one short write at the end of a file: nothing comes in between
            lines.write(f"{here()}\n")

    async def _seen(self, what: str, times: int, node: str | None) -> list[str]:
        lines = self._place / what
        async with asyncio.timeout(PATIENCE_S):
            while True:
                nodes = lines.read_text().splitlines() if lines.exists() else []
                seen = [name for name in nodes if node in (None, name)]
                if len(seen) >= times:
                    return seen
                await asyncio.sleep(0.01)


def gate() -> Gate:
    """A new gate, closed."""
    return Gate(folder("gate"))


async def refused(cluster: LocalCluster, nodes: int = 0, than: Mapping[str, int] | None = None) -> dict[str, int]:
    """How many appends each node that runs has refused, because it had promised a later epoch than theirs.

    With ``nodes``: waits until so many of them have refused more than before, which is ``than``.
    """
    before = than or {}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            views = [await cluster.view(node) for node in cluster.running]
            counts = {str(view.node_id): view.dropped.get(REFUSED, 0) for view in views}
            if sum(count > before.get(node, 0) for node, count in counts.items()) >= nodes:
                return counts
            await asyncio.sleep(0.02)


# --- child processes ----------------------------------------------------------------------------------------------


class ProcessGone(Exception):
    """A child process ended before it answered."""


class _Child:
    """A process that takes orders on its standard input and answers, a JSON object a line, on its standard output."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._turn = asyncio.Lock()
        _children[process.pid] = process

    @classmethod
    async def _start(cls, name: str, role: str, *given: Any) -> tuple[Self, dict[str, Any]]:
        begin = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import child; child.{role}()"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", begin, stdin=pipe, stdout=pipe, stderr=pipe, limit=2**26
        )
        child = cls(name, process)
        return child, await child._ask(pickled([p for p in sys.path if p], *given))

    async def _ask(self, order: bytes) -> dict[str, Any]:
        """Send an order; print what the process prints until it answers."""
        assert self._process.stdin is not None and self._process.stdout is not None
        async with self._turn:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(order)
            while line := await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S):
                answer: dict[str, Any] = msgspec.json.decode(line)
                if "said" not in answer:
                    return _good(answer)
                self._say(answer["said"])
        raise ProcessGone(f"{self.name} ended before it answered. {await self._last_words()}".strip())

    async def _last_words(self) -> str:
        assert self._process.stderr is not None
        await self._process.wait()
        return (await self._process.stderr.read()).decode(errors="replace")[-2_000:]

    def _say(self, what: str) -> None:
        print(f"{self.name} │ {what}")  # noqa: T201

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL: the process gets no chance to do anything more. Returns when it is gone."""
        await self._end()
        self._say(f"(killed: exit code {self._process.returncode})")

    async def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()
        _children.pop(self._process.pid, None)

    def __repr__(self) -> str:
        return f"<{self.name}, {'alive' if self.alive else 'gone'}>"


def _good(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        kind = getattr(durable, answer["error"], None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            raise kind(answer["message"])
        raise RuntimeError(f"{answer['error']}: {answer['message']}")
    return answer


class Worker(_Child):
    """A process with a node in it. It runs only while it carries out an order; between two orders it stands still."""

    store: str

    async def kill(self) -> None:
        """SIGKILL: the process gets no chance to do anything more. Returns when it is gone."""
        _gaps.setdefault(self.store, []).append((time.time() * 1000, 0.0))
        await super().kill()

    async def submit(self, workflow: Workflow[Any, Any], *input: Any, workflow_id: str) -> None:
        """Start an execution; returns when it is on the disk."""
        await self._order("submit", workflow=workflow.name, input=input, workflow_id=workflow_id)

    async def run_until(self, *, times: int = 1, **moment: str) -> None:
        """Run, and stand still at a moment: what was recorded until then is on the disk, and nothing else ever will be.

        The moment is one of ``started="name"`` (the operation is recorded, its answer is not), ``finished="name"`` (its
        answer is recorded), ``failed="name"`` (an attempt has failed and will be repeated), ``heartbeat="name"``, and
        ``said="a printed line"``. The name is that of a function, a channel, ..., or a kind of operation ("sleep",
        "checkpoint"). ``times`` counts since the process began. Raises `TimeoutError` when the moment does not come.
        """
        [(kind, name)] = moment.items()
        await self._order("run_until", kind=kind, name=name, times=times)
        often = f" {times} times" if times > 1 else ""
        self._say(f"(stopped here: {name!r} {_SAID[kind]}{often})")

    async def result(self, workflow_id: str) -> Any:
        """Run until the execution has finished; its result."""
        return ANY.decode((await self._order("result", workflow_id=workflow_id))["output_json"].encode())

    async def send(self, workflow_id: str, channel: str, value: Any = None) -> None:
        """A message from outside; returns when it is on the disk."""
        await self._order("send", workflow_id=workflow_id, channel=channel, value=value)

    async def stop(self) -> None:
        """End in good order: close the store, then the process."""
        await self._order("stop")
        await self._process.communicate()
        _children.pop(self._process.pid, None)

    async def _order(self, do: str, **given: Any) -> dict[str, Any]:
        if (gaps := _gaps.get(self.store)) and not gaps[-1][1]:  # its first order opens the store
            gaps[-1] = (gaps[-1][0], time.time() * 1000)
        return await self._ask(pickled(do, given))


_SAID = {
    "started": "is recorded as begun",
    "finished": "is recorded as done",
    "failed": "is recorded as failed",
    "heartbeat": "has a recorded heartbeat",
    "said": "was printed",
}


async def worker(store: str, *known: Workflow[Any, Any] | Function[..., Any], name: str | None = None) -> Worker:
    """A new process that runs ``known`` workflows (and what they call) on a store. An older one on the store is killed."""
    before = _workers.get(store)
    if before is not None and before.alive:
        await before._end()
    _names[store] = _names.get(store, 0) + 1
    made, _ = await Worker._start(name or f"process {_names[store]}", "worker", str(store), known)
    made.store = store
    _workers[store] = made
    return made


class Service(_Child):
    """An HTTP server in a process of its own, on the loopback address. ``url`` is where it listens."""

    url: str

    async def ask(self, path: str, body: Any = None) -> Any:
        """Send a request from here, beside what a workflow sends; the reply."""
        request = urllib.request.Request(f"{self.url}/{path}", json.dumps(body).encode())
        with await asyncio.to_thread(urllib.request.urlopen, request, timeout=PATIENCE_S) as reply:
            return json.load(reply)


async def service(name: str, answer: Callable[[str, Any], tuple[int, Any] | None]) -> Service:
    """Serve POST requests with ``answer(path, body) -> (HTTP status, reply)``; bodies and replies are JSON values.

    An answer of None closes the connection without a word, as when the network fails behind the request.
    """
    made, told = await Service._start(name, "service", answer)
    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), "127.0.0.1"]))
    made.url = f"http://127.0.0.1:{told['port']}"
    return made
