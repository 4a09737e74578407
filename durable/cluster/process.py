"""`NodeProcess`: one child of a `LocalCluster`, seen from the parent.

**How it works.** Orders are numbered and answered by number; reports of changes come between the answers. When the pipe ends,
whatever still waits for an answer is told that the process is gone. One whose reports cannot be read is killed: nobody would be
answered any more. Every process that runs is in a list that is killed when the interpreter ends.

Read next: `durable.cluster.child`, the other end of the pipe.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from durable.errors import ClusterError
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId

log = logging.getLogger("durable")
START_S = 30.0
LINE_BYTES_MAX = 2**26
"""A report with the largest result, which JSON in JSON makes twice as long, is below it."""
LAST_WORDS_BYTES = 4_000

OnReport: TypeAlias = Callable[["NodeProcess", Member | None, MemberStatus | None], None]

_running: dict[int, None] = {}


@atexit.register
def _tidy() -> None:
    for process_id in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


class NodeProcess:
    """A process with a node in it. ``state`` is "running", "paused" or "gone".

    ``members`` is what it last said that it sees, ``owned`` the partitions that it last said are its own, with their epochs.
    """

    def __init__(self, node_id: NodeId, process: asyncio.subprocess.Process, on_report: OnReport) -> None:
        self.node_id = node_id
        self.address = NodeAddress("127.0.0.1", 0)
        self.boot = 0
        self.state = "running"
        self.members: dict[NodeId, Member] = {}
        self.owned: dict[int, int] = {}
        self.process_id = process.pid
        self._process = process
        self._on_report = on_report
        self._number = 0
        self._orders: dict[int, asyncio.Future[Any]] = {}
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading: asyncio.Task[None] | None = None
        _running[process.pid] = None

    @classmethod
    async def start(cls, node_id: NodeId, fields: dict[str, Any], on_report: OnReport) -> NodeProcess:
        """Start one; returns when it listens. Raises `ClusterError` with its own words if it does not come to that."""
        pipe = asyncio.subprocess.PIPE
        begin = "import sys; sys.path[:] = eval(sys.argv[1]); from durable.cluster.child import main; main()"
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", begin, repr(sys.path)),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            limit=LINE_BYTES_MAX,
            env={**os.environ, "CLUSTER_NODE_ID": node_id},
        )
        child = cls(node_id, started, on_report)
        child._reading = asyncio.get_running_loop().create_task(child._read())
        try:
            child._write(fields)
            async with asyncio.timeout(START_S):
                await asyncio.shield(child._started)
        except BaseException:
            await child.kill()
            raise
        return child

    async def order(self, do: str, **given: Any) -> Any:
        """Tell it; its answer. Raises `ClusterError`: it says so, it ends before it answers, or it is paused."""
        if self.state != "running":
            raise ClusterError(f"{self.node_id} is {self.state}, and cannot be told to {do}")
        self._number += 1
        answer = self._orders[self._number] = asyncio.get_running_loop().create_future()
        self._write({"number": self._number, "do": do, **given})
        return await answer

    def pause(self) -> None:
        """SIGSTOP."""
        if self.state == "running":
            self._process.send_signal(signal.SIGSTOP)
            self.state = "paused"

    def resume(self) -> None:
        """SIGCONT."""
        if self.state == "paused":
            self._process.send_signal(signal.SIGCONT)
            self.state = "running"

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.gone()

    async def gone(self) -> None:
        """Return when the process has ended and all that it said has been read."""
        if self._reading is not None:
            await asyncio.shield(self._reading)  # whoever gives up waiting does not end the reading

    def _write(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(what) + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        last_words = asyncio.get_running_loop().create_task(_tail(self._process.stderr))
        why = "ended before it answered"
        try:
            async for line in self._process.stdout:
                self._hear(msgspec.json.decode(line))
        except Exception as error:
            log.exception("a report of %s cannot be read: its process is killed", self.node_id)
            why = f"was killed, as its report could not be read: {error}"
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await _tail(self._process.stdout)  # or the pipe is full for ever
        words = await last_words
        await self._process.wait()
        _running.pop(self.process_id, None)
        self.state = "gone"
        gone = ClusterError(f"the process of {self.node_id} {why}. {words}".strip())
        for waiting in (self._started, *self._orders.values()):
            if not waiting.done():
                waiting.set_exception(gone)
        if not self._started.cancelled():
            self._started.exception()
        self._pass_on(None, None)

    def _hear(self, report: dict[str, Any]) -> None:
        if "members" in report:
            self.members = {one.node_id: one for one in msgspec.convert(report["members"], tuple[Member, ...])}
        if "owned" in report:
            self.owned = {int(partition): epoch for partition, epoch in report["owned"].items()}
        if "started" in report:
            self.address, self.boot = NodeAddress.parse(report["started"]), report["boot"]
            self._started.set_result(None)
        if "answers" in report:
            waiting = self._orders.pop(report["answers"])
            if not waiting.done():  # else nobody waits for it any more
                if "error" in report:
                    waiting.set_exception(ClusterError(report["error"]))
                else:
                    waiting.set_result(report["answer"])
        elif "error" in report and not self._started.done():
            self._started.set_exception(ClusterError(f"{self.node_id} did not start: {report['error']}"))
        if "changed" in report:
            was = MemberStatus[report["was"]] if report["was"] else None
            self._pass_on(msgspec.convert(report["changed"], Member), was)
        else:
            self._pass_on(None, None)

    def _pass_on(self, member: Member | None, was: MemberStatus | None) -> None:
        try:
            self._on_report(self, member, was)
        except Exception:  # a mistake of whoever listens, which is no fault of the process
            log.exception("a report of %s was heard, and whoever listens to it failed", self.node_id)


async def _tail(stream: asyncio.StreamReader) -> str:
    last = b""
    while piece := await stream.read(LAST_WORDS_BYTES):
        last = (last + piece)[-LAST_WORDS_BYTES:]
    return last.decode(errors="replace")
