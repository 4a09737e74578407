"""What runs in the processes that `support` starts: a node, or an HTTP server, at the other end of a pipe.

How a node can be killed at "the fifth recorded step", the same on every run: it writes through a port, its log
(`durable.ports.Log`). The log here is the real one inside a shell, `WatchedLog`, that looks at each row on its way. The
awaited row still reaches the disk; then nothing more is written and nobody is told, so nothing goes on, and the process
waits for its next order, or for its end. Between two orders its event loop stands still.

The functions and workflows of a notebook exist in no module that a process could import: they travel by cloudpickle.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import io
import json
import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cloudpickle
import msgspec

from durable import NodeRuntime
from durable.journal import keys
from durable.journal.codec import encode_value, unpack_row
from durable.journal.entries import INSTANT, Command, Completion
from durable.ports import Batch
from durable.storage import open_store
from durable.storage.log import LocalLog
from durable.storage.node import NodeStorage, journal_prefix
from durable.workflows.definition import REGISTRY, Function, Workflow

# --- how notebook code travels ------------------------------------------------------------------------------------


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Registered code travels as what it was made of, and registers itself where it arrives."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.classes: list[type] = []

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, Workflow):
            made = {"run": item.body, "name": item.name, "version": item.version, "namespace": {}}
            return _blank, (Workflow,), made, None, None, _define
        if isinstance(item, Function):
            made = {key: getattr(item, key) for key in ("body", "name", "retry", "timeout", "once", "executor")}
            return _blank, (Function,), {**made, "namespace": {}}, None, None, _define
        if type(item).__name__ == "DataclassInfo":  # msgspec's notes on a class, made again where it arrives
            return type(None), ()
        if isinstance(item, type) and item.__module__ == "__main__" and item not in self.classes:
            self.classes.append(item)
        return super().reducer_override(item)


def _blank(kind: Any) -> Any:
    return kind.__new__(kind)


def _define(item: Any, made: dict[str, Any]) -> None:
    item.__init__(**made)
    REGISTRY.add(item)


def pickled(*values: Any) -> bytes:
    """The values, and then the notebook's own classes among them, so that the other side knows them by name."""
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(values)
    pickler.dump(list(pickler.classes))
    return stream.getvalue()


def _unpickled(stream: Any) -> Any:
    unpickler = pickle.Unpickler(stream)
    values = unpickler.load()
    for kind in unpickler.load():
        setattr(sys.modules["__main__"], kind.__name__, kind)
        if "__msgspec_cache__" in vars(kind):
            del kind.__msgspec_cache__
    return values


# --- inside the child ---------------------------------------------------------------------------------------------


class _Said(io.TextIOBase):
    """What the child prints, sent to the notebook line by line."""

    def __init__(self, answer: Callable[..., None]) -> None:
        self._answer = answer
        self._line = ""
        self.listener: Callable[[str], None] | None = None

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._answer(said=line)
            if self.listener is not None:
                self.listener(line)
        return len(text)


def _orders() -> tuple[Iterator[Any], Callable[..., None]]:
    """The orders as they come in, and how to answer. When the notebook is gone, the process ends at once."""
    source, target, lock = sys.stdin.buffer, os.fdopen(os.dup(1), "wb"), threading.Lock()
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sys.path[:] = (first := _unpickled(source))[0]

    def read() -> None:
        with contextlib.suppress(EOFError):
            while True:
                waiting.put(_unpickled(source))
        os._exit(0)

    def answer(**what: Any) -> None:
        with lock:
            target.write(msgspec.json.encode(what) + b"\n")
            target.flush()

    sys.stdout = sys.stderr = _Said(answer)
    threading.Thread(target=read, daemon=True).start()
    waiting.put(first[1:])
    return iter(waiting.get, None), answer


def worker() -> None:
    orders, answer = _orders()
    store, _ = next(orders)
    answer(ready=True)
    node, loop = _Node(store), asyncio.new_event_loop()
    for do, given in orders:
        try:
            done = loop.run_until_complete(getattr(node, do)(**given)) or {}
        except Exception as error:
            done = {"error": type(error).__name__, "message": str(error)}
        answer(**done)
        if do == "stop":
            os._exit(0)  # the thread that reads orders cannot be ended in another way


class _Node:
    """The node in a worker: opened by the first order, so that the moment to stand still at is known before it runs."""

    def __init__(self, store: str) -> None:
        self._path = store
        self._opened: tuple[NodeRuntime, WatchedLog] | None = None

    async def _open(self, wanted: tuple[str, str, int] | None = None) -> tuple[NodeRuntime, WatchedLog]:
        if self._opened is None:
            storage = NodeStorage.make(open_store(self._path))
            log = WatchedLog(storage)
            if isinstance(sys.stdout, _Said):
                sys.stdout.listener = log.heard
            log.go_on(wanted)
            self._opened = await NodeRuntime.make(storage, log=log, owns_store=True), log
        else:
            self._opened[1].go_on(wanted)
        return self._opened

    async def submit(self, workflow: str, input: tuple[Any, ...], workflow_id: str) -> None:
        runtime, _ = await self._open()
        given = {"input": input[0]} if input else {}
        await runtime.submit(workflow, workflow_id=workflow_id, **given)

    async def send(self, workflow_id: str, channel: str, value: Any) -> None:
        runtime, _ = await self._open()
        await runtime.handle(workflow_id).send(channel, value)

    async def run_until(self, kind: str, name: str, times: int) -> None:
        _, log = await self._open((kind, name, times))
        await log.reached

    async def result(self, workflow_id: str) -> dict[str, str]:
        runtime, _ = await self._open()
        value = await runtime.handle(workflow_id).result()
        return {"output_json": encode_value(value).decode()}

    async def stop(self) -> None:
        runtime, log = await self._open()
        await runtime.close()
        log.close()


class WatchedLog:
    """A `durable.ports.Log`: the node's own, with a look at each row that passes, and a moment at which it stops.

    A moment is a kind of event, a name, and how often: ("finished", "add_one", 5). What was handed over before it, and the
    row itself, reach the disk; nothing after it does, and nobody is told, until `go_on`.
    """

    batch_bytes_max = LocalLog.batch_bytes_max

    def __init__(self, storage: NodeStorage) -> None:
        self._log = LocalLog(storage.store)
        self._loop = asyncio.get_running_loop()
        self._commands = dict(_recorded(storage))
        self._counts: dict[tuple[str, str], int] = {}
        self._wanted: tuple[str, str, int] | None = None
        self._stopped = False
        self._under_way: dict[asyncio.Future[None], asyncio.Future[None]] = {}
        self._untold: list[asyncio.Future[None]] = []
        self._unwritten: list[tuple[int, Batch, asyncio.Future[None]]] = []
        self.reached: asyncio.Future[None] = self._loop.create_future()

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]:
        if self._stopped:
            told = self._loop.create_future()
            self._unwritten.append((partition, batch, told))
            return told
        written = self._log.append(partition, batch)
        if written not in self._under_way:
            self._under_way[written] = self._loop.create_future()
            written.add_done_callback(self._durable)
        for key, value in batch:
            if value is not None:
                self._look(key, value)
        self._stop_if_there()
        return self._under_way[written]

    def check(self, partition: int) -> None:
        self._log.check(partition)

    def confirm(self, partition: int) -> asyncio.Future[None]:
        return self._log.confirm(partition)

    def go_on(self, wanted: tuple[str, str, int] | None) -> None:
        """Write and tell what was held back, and stop again at the wanted moment."""
        self._wanted, self._stopped, self.reached = wanted, False, self._loop.create_future()
        self._stop_if_there()
        untold, self._untold = self._untold, []
        for told in untold:
            told.set_result(None)
        unwritten, self._unwritten = self._unwritten, []
        for partition, batch, told in unwritten:
            self.append(partition, batch).add_done_callback(partial(_pass_on, told))

    def heard(self, line: str) -> None:
        """Something was printed, perhaps in a thread: that can be the moment, too."""
        self._count("said", line)
        self._stop_if_there()

    def _stop_if_there(self) -> None:
        if self._wanted is not None and self._counts.get(self._wanted[:2], 0) >= self._wanted[2]:
            self._stopped = True
            self._loop.call_soon_threadsafe(self._tell_if_still)

    def _tell_if_still(self) -> None:
        if self._stopped and not self._under_way and not self.reached.done():
            self.reached.set_result(None)

    def _durable(self, written: asyncio.Future[None]) -> None:
        told = self._under_way.pop(written)
        if self._stopped and written.exception() is None:
            self._untold.append(told)
            self._tell_if_still()
        else:
            _pass_on(told, written)

    def _look(self, key: bytes, value: bytes) -> None:
        table = key[2:3]
        if table == keys.JOURNAL:
            row, commands = unpack_row(value), self._commands.setdefault(key[:-4], [])
            if isinstance(row, Command):
                commands.append(row)
                self._seen("started", row)
                if row.entry_type in INSTANT:
                    self._seen("finished", row)
            elif isinstance(row, Completion) and row.sequence_number >= 0:
                self._seen("finished", commands[row.sequence_number])
        elif table in (keys.ATTEMPT, keys.HEARTBEAT):  # behind the id: incarnation (8 bytes), run, sequence number
            numbers = key.index(b"\0", 3) + 1 + 8
            commands = self._commands[key[:2] + keys.JOURNAL + key[3 : numbers + 4]]
            command = commands[int.from_bytes(key[numbers + 4 : numbers + 8])]
            self._seen("failed" if table == keys.ATTEMPT else "heartbeat", command)

    def _seen(self, kind: str, command: Command) -> None:
        for name in {command.name: 0, command.entry_type.value.lower(): 0}:
            self._count(kind, name)

    def _count(self, kind: str, name: str) -> None:
        self._counts[kind, name] = self._counts.get((kind, name), 0) + 1

    def close(self) -> None:
        self._log.close()


def _pass_on(told: asyncio.Future[None], done: asyncio.Future[None]) -> None:
    if (error := done.exception()) is not None:
        told.set_exception(error)
    else:
        told.set_result(None)


def _recorded(storage: NodeStorage) -> Iterator[tuple[bytes, list[Command]]]:
    """The commands that the journals of a store hold already: a completion names its command by number only."""
    for workflow_id, status in storage.statuses():
        rows = storage.rows(workflow_id, status.incarnation, status.run)
        yield (
            journal_prefix(workflow_id, status.incarnation, status.run),
            [row for row in rows if isinstance(row, Command)],
        )


def service() -> None:
    orders, answer = _orders()
    (respond,) = next(orders)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
            answered = respond(self.path.strip("/"), body)
            if answered is None:
                self.close_connection = True
                return
            data = json.dumps(answered[1]).encode()
            self.send_response(answered[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answer(port=server.server_address[1])
    server.serve_forever()
