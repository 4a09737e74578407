"""One life of a node: from opening its store to its end, or to the crash that was planned for it.

`Plan` says what is asked of the node: a workflow, its input, messages from outside. `live` opens a node on a store in memory,
in virtual time, carries the plan out, and lets the node die at a chosen journal write. What the store then holds is all that
the next life gets.

A *journal write* is one batch that the node hands to its log. A crash *before* it loses the batch; a crash *after* it keeps the
batch, but nothing acts on it: no function starts, no message leaves, nobody is answered. The process is dead from within that
very call: the exception that ends it (`Crash`) leaves the event loop, and nothing of the loop runs again.

`Witness` sits between the node and the store through all lives of a trial, and sees every row that is kept and every
function body that runs. It notes what must never happen:

- a journal row is changed, or a command gets two answers;
- a body runs before its command is recorded;
- a body runs although its answer is recorded.

Read next: `durable.testing.crashes`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from durable.bodies.runner import FunctionRunner, RunningCall
from durable.desk.handle import WorkflowHandle
from durable.errors import StoreClosed
from durable.journal import keys
from durable.journal.codec import unpack_row
from durable.journal.entries import CANCEL, Command, Completion, Row, Start, Status, StatusRow
from durable.ports import Batch, Store
from durable.runtime.config import NodeConfig
from durable.runtime.runtime import NodeRuntime
from durable.storage.node import NodeStorage
from durable.testing.virtual import NothingWillHappen, VirtualLoop
from durable.workflows.definition import Workflow

Step = tuple[str, int, int]
"""``(workflow_id, run, sequence_number)``: one operation of one execution."""

SYNC_S = 0.001
WRITES_MAX = 5_000
"""A workflow with more journal writes than this could not be crashed at each of them in a lifetime."""
OTHERS_S = 86_400.0
"""How long the other executions (detached children) go on when the one that was asked for has finished, in virtual time."""


class Crash(SystemExit):
    """The process dies here. A `SystemExit`, because that is what leaves an event loop at once."""


class Endless(SystemExit):
    """This life goes round in circles. A `SystemExit` for the same reason."""


class Send(msgspec.Struct, frozen=True):
    """A message from outside: to ``channel``, ``after`` virtual seconds, by default to the workflow under test."""

    channel: str
    value: Any = None
    after: float = 0.0
    workflow_id: str | None = None


class Plan(msgspec.Struct, frozen=True):
    """What is asked of a node. A client that repeats it after a crash changes nothing: ids and keys are fixed."""

    workflow: Workflow[Any, Any]
    input: tuple[Any, ...]
    workflow_id: str
    sends: tuple[Send, ...] = ()
    cancel_after: float | None = None
    config: NodeConfig = NodeConfig()


class Death(msgspec.Struct, frozen=True):
    """The planned crash: at the ``write``-th journal write of this life (1 is the first), after it or before it."""

    write: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} write {self.write}"


class Ending(msgspec.Struct, frozen=True):
    """How an execution stands at the end: its status, and its result or error as they are recorded."""

    status: Status
    output_json: bytes | None = None
    error: str = ""

    def __str__(self) -> str:
        told = self.error or (self.output_json or b"").decode(errors="replace")
        return f"{self.status.value} {told}".strip()


class Witness:
    """Sees what the store keeps and which bodies run, through all lives of one trial."""

    def __init__(self) -> None:
        self.writes = 0
        self.commands: dict[Step, Command] = {}
        self.answers: dict[Step, Completion] = {}
        self.bodies: dict[Step, int] = {}
        self.faults: list[str] = []
        self._rows: dict[bytes, bytes] = {}
        self._made: dict[tuple[str, int], int] = {}

    def kept(self, batch: Batch) -> None:
        """The store has taken this batch."""
        self.writes += 1
        for key, value in batch:
            if key[2:3] == keys.JOURNAL and key[:2] != keys.NODE and value is not None:
                self._row(key, value)

    def _row(self, key: bytes, value: bytes) -> None:
        known = self._rows.setdefault(key, value)
        workflow_id, run = keys.parse_id(key), int.from_bytes(key[-8:-4], "big")
        if known is not value:
            self.faults.append(f"row {int.from_bytes(key[-4:], 'big')} of {workflow_id!r} was written twice")
            return
        row: Row = unpack_row(value)
        if isinstance(row, Command):
            number = self._made.get((workflow_id, run), 0)
            self._made[workflow_id, run] = number + 1
            self.commands[workflow_id, run, number] = row
        elif isinstance(row, Completion) and row.sequence_number != CANCEL:
            step = (workflow_id, run, row.sequence_number)
            if step in self.answers:
                self.faults.append(f"{_named(step)} got two answers")
            self.answers[step] = row

    def body_begins(self, step: Step) -> None:
        """A function's or side effect's body begins to run."""
        self.bodies[step] = self.bodies.get(step, 0) + 1
        if step not in self.commands:
            self.faults.append(f"the body of {_named(step)} ran before its command was recorded")
        if step in self.answers:
            self.faults.append(f"the body of {_named(step)} ran again although its answer was recorded")

    def node_raised(self, context: dict[str, Any]) -> None:
        """A callback of the node raised: a fault of this library, or of a log or store put under it."""
        self.faults.append(f"{context.get('message', 'the node raised')}: {context.get('exception')!r}")


def _named(step: Step) -> str:
    return f"entry {step[2]} of {step[0]!r}"


class MortalLog:
    """A `durable.ports.Log` that makes batches durable a virtual millisecond later, in order, until the planned write.

    The millisecond is the fsync: a node that does not wait for it acts before its rows are kept, and is seen.
    """

    batch_bytes_max = 1 << 30

    def __init__(self, store: Store, witness: Witness, death: Death | None, writes_max: int) -> None:
        self._store = store
        self._witness = witness
        self._death = death
        self._writes_max = writes_max
        self._waiting: deque[tuple[Batch, asyncio.Future[None]]] = deque()
        self.writes = 0

    def append(self, partition: int, batch: Batch) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        durable: asyncio.Future[None] = loop.create_future()
        self._waiting.append((list(batch), durable))
        loop.call_later(SYNC_S, self._next)
        return durable

    def check(self, partition: int) -> None:
        """Nothing stands in the way of one node."""

    def confirm(self, partition: int) -> asyncio.Future[None]:
        """Done at once: nobody else has this store."""
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed

    def _next(self) -> None:
        batch, durable = self._waiting.popleft()
        self.writes += 1
        if self.writes > self._writes_max:
            raise Endless
        dies = self._death is not None and self.writes == self._death.write
        if self._death is None or not dies or self._death.after:
            self._keep(batch)
        if dies:
            raise Crash
        durable.set_result(None)

    def _keep(self, batch: Batch) -> None:
        self._store.write(batch)
        self._witness.kept(batch)


class ConstantEntropy:
    """The same bytes every time: ids then do not depend on how often a crash made the node draw them again.

    A trial's store is its own, and no id is used twice in it, so nothing can be confused.
    """

    def random_bytes(self, count: int) -> bytes:
        return b"\x5a" * count


class Life(msgspec.Struct):
    """What became of one life: ``endings`` of all executions, or None when it crashed; and when, in virtual seconds."""

    endings: dict[str, Ending] | None
    elapsed_s: float
    writes: int


def live(
    plan: Plan,
    store: Store,
    witness: Witness,
    death: Death | None = None,
    elapsed_s: float = 0.0,
    writes_max: int = WRITES_MAX,
) -> Life:
    """Open a node on the store, carry out the plan, and come to the end or to the crash.

    ``elapsed_s`` is the virtual time at which the life before ended: a crashed process is back in no time. A life that makes
    more than ``writes_max`` journal writes is ended: it goes round in circles.
    """
    loop = VirtualLoop(elapsed_s=elapsed_s)
    loop.set_exception_handler(lambda _, context: witness.node_raised(context))
    log = MortalLog(store, witness, death, writes_max)
    made: list[NodeRuntime] = []
    endings = None
    try:
        endings = loop.run_until_complete(_carry_out(plan, store, log, witness, made))
    except Crash:
        pass
    except NothingWillHappen:
        endings = endings_in(store)
    except Endless:
        witness.faults.append(f"it came to no end within {writes_max:,} journal writes")
        endings = endings_in(store)
    finally:
        for runtime in made:
            _bury(runtime)
        _freeze(loop)
    return Life(endings, loop.now_s, log.writes)


async def _carry_out(
    plan: Plan, store: Store, log: MortalLog, witness: Witness, made: list[NodeRuntime]
) -> dict[str, Ending]:
    storage = NodeStorage.make(store)
    runtime = await NodeRuntime.make(storage, plan.config, log=log, entropy=ConstantEntropy())
    made.append(runtime)
    _watch(runtime._engine.runner, witness)
    given = {"input": plan.input[0]} if plan.input else {}
    handle = await runtime.submit(plan.workflow, workflow_id=plan.workflow_id, **given)
    client = asyncio.ensure_future(_client(plan, runtime, handle))
    main = asyncio.ensure_future(_finished(handle))
    await asyncio.wait([client, main], return_when=asyncio.FIRST_EXCEPTION)
    client.cancel()
    main.result()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(OTHERS_S):
            for workflow_id in [workflow_id for workflow_id, row in storage.statuses() if not row.status.finished]:
                await _finished(runtime.handle(workflow_id))
    await runtime.close()
    return endings_in(store)


async def _finished(handle: WorkflowHandle[Any]) -> None:
    with contextlib.suppress(Exception):  # how it ended is read from the store
        await handle.result()


async def _client(plan: Plan, runtime: NodeRuntime, handle: WorkflowHandle[Any]) -> None:
    """Everybody outside: sends what is to be sent, each message once however often this is repeated."""
    loop = asyncio.get_running_loop()
    acts: list[tuple[float, int, Send | None]] = [(send.after, number, send) for number, send in enumerate(plan.sends)]
    if plan.cancel_after is not None:
        acts.append((plan.cancel_after, len(acts), None))
    for after, number, send in sorted(acts, key=lambda act: act[:2]):
        await asyncio.sleep(after - loop.time())
        with contextlib.suppress(Exception):  # it has finished already: a client learns that, and goes on
            if send is None:
                await handle.cancel()
            else:
                receiver = handle if send.workflow_id is None else runtime.handle(send.workflow_id)
                await receiver.send(send.channel, send.value, key=str(number))


def _watch(runner: FunctionRunner, witness: Witness) -> None:
    """Have the witness told when a body begins; not when it is scheduled, because a crash may come in between."""
    run_task, run_thread = runner._run_task, runner._run_thread
    begun: dict[int, RunningCall] = {}  # a thread's body may return a coroutine, which is no second run

    def begins(running: RunningCall) -> None:
        if id(running) not in begun:
            begun[id(running)] = running
            witness.body_begins(
                (running.execution.workflow_id, running.execution.run, running.operation.sequence_number)
            )

    def watched_task(running: RunningCall, body: Callable[[], Any], context: Any) -> None:
        def watched() -> Any:
            begins(running)
            return body()

        run_task(running, watched, context)

    def watched_thread(running: RunningCall, body: Callable[[], Any], context: Any) -> None:
        def watched() -> Any:
            begins(running)
            return body()

        run_thread(running, watched, context)

    runner._run_task = watched_task  # type: ignore[method-assign]
    runner._run_thread = watched_thread  # type: ignore[method-assign]


def _bury(runtime: NodeRuntime) -> None:
    """A dead node in this process must not move any more: drop its coroutines, and have it refuse everything."""
    engine = runtime._engine
    if not engine.closed:
        engine.closed = True
        engine._let_go(StoreClosed("the process has crashed"))
        engine.runner.close()


def _freeze(loop: VirtualLoop) -> None:
    """End a loop as the death of its process would: nothing of it runs again. Threads are waited for: they cannot be killed."""
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            task.get_coro().close()
    loop.wait_for_threads()
    loop.close()


def endings_in(store: Store) -> dict[str, Ending]:
    """How every execution in a store stands."""
    return {workflow_id: _ending(row) for workflow_id, row in NodeStorage(store).statuses()}


def _ending(row: StatusRow) -> Ending:
    error = "" if row.error is None else f"{row.error.error_type}: {row.error.message}"
    return Ending(row.status, row.output_json, error)


def journals(store: Store) -> dict[str, tuple[Start, Sequence[Row]]]:
    """The current run of every execution in a store."""
    storage = NodeStorage(store)
    found: dict[str, tuple[Start, Sequence[Row]]] = {}
    for workflow_id, status in storage.statuses():
        rows = storage.rows(workflow_id, status.incarnation, status.run)
        assert isinstance(rows[0], Start)
        found[workflow_id] = rows[0], rows
    return found
