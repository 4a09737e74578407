"""Bodies run at least once, are recorded once, and end as the table in `durable.bodies.runner` says."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from nodes import Gate, asynchronous, held, open_node, turns, until

import durable
from durable import (
    Context,
    EncodingError,
    FunctionTimeout,
    NotAllowedHere,
    OutcomeUnknown,
    RetryPolicy,
    ValueTooLarge,
    WorkflowCancelled,
    WorkflowFailed,
    current_call,
    function,
    workflow,
)
from durable.journal import keys


@workflow("fn-call")
async def call(ctx: Context, name: str) -> Any:
    return await ctx.call(name)


@workflow("fn-caught")
async def caught(ctx: Context, name: str) -> str:
    try:
        return str(await ctx.call(name))
    except Exception as error:
        return type(error).__name__


@function("fn-dies", executor="process")
def dies() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@function("fn-dies-once", executor="process", once=True, retry=RetryPolicy(initial_delay=0.01, max_attempts=3))
def dies_once() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@function("fn-process-misses", executor="process", retry=RetryPolicy(initial_delay=0.01, max_attempts=3, no_retry=(OSError,)))
def misses() -> str:
    return Path("there is none").read_text()


@function("fn-process-large", executor="process")
def large() -> str:
    return "x" * 20_000_000


@function("fn-process-adds", executor="process")
def adds(a: int, b: int) -> int:
    print("this must not mix with the reply")
    subprocess.run(["echo", "nor this"], check=True)
    return a + b


@function("fn-process-sleeps", executor="process", timeout=0.5)
def sleeps() -> None:
    time.sleep(60)


@function("fn-process-knows", executor="process", retry=RetryPolicy(initial_delay=0.01, max_attempts=2))
async def knows() -> list[Any]:
    call = current_call()
    if call.attempt == 1:
        raise ConnectionError("away")
    return [call.workflow_id, call.run, call.sequence_number, call.attempt, call.idempotency_key, call.epoch, call.cancelled]


@function("fn-process-beats", executor="process")
def beats_and_goes_on() -> Any:
    call = current_call()
    if call.last_heartbeat is None:
        call.heartbeat({"row": 41})
        time.sleep(60)
    return call.last_heartbeat


@function("fn-process-beats-and-dies", executor="process", retry=RetryPolicy(initial_delay=0.01, max_attempts=2))
def beats_and_dies() -> Any:
    call = current_call()
    if call.attempt == 1:
        for row in range(1_000):
            call.heartbeat([row, "x" * 100])
        os.kill(os.getpid(), signal.SIGKILL)
    return call.last_heartbeat


@function("fn-process-beats-oddly", executor="process")
def beats_oddly() -> list[str]:
    told = []
    for details in (object(), "x" * 5_000, 7):
        try:
            current_call().heartbeat(details)
        except (EncodingError, ValueTooLarge) as error:
            told.append(type(error).__name__)
    return [*told, str(current_call().last_heartbeat)]


def leave_one_behind(fifo: str) -> None:
    if os.fork() == 0:
        with Path(fifo).open("rb") as waits:  # holds whatever it has inherited, until the test is over
            waits.read()
        os._exit(0)


@function("fn-process-forks", executor="process", timeout=15.0)
def forks(fifo: str) -> int:
    leave_one_behind(fifo)
    return 7


@function("fn-process-forks-and-dies", executor="process")
def forks_and_dies(fifo: str) -> int:
    leave_one_behind(fifo)
    os.kill(os.getpid(), signal.SIGKILL)
    return 7


@function("fn-process-beats-from-a-fork", executor="process")
def beats_from_a_fork() -> int:
    if (child := os.fork()) == 0:
        try:
            current_call().heartbeat("mine")
        except NotAllowedHere:
            os._exit(5)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@function("fn-process-is-signalled", executor="process")
def is_signalled() -> list[Any]:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    other = subprocess.Popen(["sleep", "30"])
    other.terminate()
    return [os.getpgrp() == os.getpid(), other.wait()]


@asynchronous
async def test_an_answer_counts_when_it_is_there_whoever_else_holds_the_pipe(tmp_path: Any) -> None:
    os.mkfifo(fifo := str(tmp_path / "fifo"))
    async with await open_node() as runtime:
        assert await (await runtime.submit(forking, fifo)).result() == 7
    with Path(fifo).open("wb"):
        pass


@asynchronous
async def test_a_process_that_died_is_missed_whoever_else_holds_its_pipe(tmp_path: Any) -> None:
    os.mkfifo(fifo := str(tmp_path / "fifo"))
    async with await open_node() as runtime:
        handle = await runtime.submit(forking_to_die, fifo)
        with await asyncio.to_thread(Path(fifo).open, "wb"):  # it has forked
            async with asyncio.timeout(5):
                with pytest.raises(WorkflowFailed, match="ProcessDied"):
                    await handle.result()


@workflow("fn-forking")
async def forking(ctx: Context, fifo: str) -> int:
    return await ctx.call(forks, fifo)


@workflow("fn-forking-to-die")
async def forking_to_die(ctx: Context, fifo: str) -> int:
    return await ctx.call(forks_and_dies, fifo)


@asynchronous
async def test_a_process_that_the_body_forks_does_not_speak_for_it() -> None:
    async with await open_node() as runtime:
        assert await (await runtime.submit(call, "fn-process-beats-from-a-fork")).result() == 5


@asynchronous
async def test_what_tells_the_node_to_stop_does_not_stop_a_body_in_a_process_of_its_own() -> None:
    """It is in a group of its own, where no Ctrl-C comes; a program that it starts can be terminated as ever."""
    async with await open_node() as runtime:
        assert await (await runtime.submit(call, "fn-process-is-signalled")).result() == [True, -signal.SIGTERM]


NODE = """
import asyncio, os, pathlib, sys, time
import durable

@durable.function(executor="process")
def lasts(path: str) -> None:
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(600)

@durable.workflow
async def lasting(ctx: durable.Context, path: str) -> None:
    await ctx.call(lasts, path)

async def main() -> None:
    async with durable.open("memory:") as runtime:
        await (await runtime.submit(lasting, sys.argv[1])).result()

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends a process with its parent")
def test_a_body_in_a_process_of_its_own_ends_with_its_node(tmp_path: Path) -> None:
    (tmp_path / "lasting_node.py").write_text(NODE)
    os.mkfifo(tmp_path / "id")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    code = "import asyncio, lasting_node; asyncio.run(lasting_node.main())"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "id")], env=environment) as node:
        body = int((tmp_path / "id").read_text())
        seen = os.pidfd_open(body)
        node.kill()
    assert select.select([seen], [], [], 30)[0], "it has ended"
    os.close(seen)


@asynchronous
async def test_a_process_that_is_killed_fails_its_call_and_no_other() -> None:
    @workflow("fn-adds")
    async def flow(ctx: Context) -> int:
        return await ctx.call(adds, 2, 3)

    async with await open_node() as runtime:
        dead = await runtime.submit(caught, "fn-dies")
        alive = await runtime.submit(flow)
        assert await dead.result() == "FunctionFailed"
        assert await alive.result() == 5


@asynchronous
async def test_a_once_function_whose_process_died_is_unknown_and_not_run_again() -> None:
    async with await open_node() as runtime:
        handle = await runtime.submit(caught, "fn-dies-once")
        assert await handle.result() == "OutcomeUnknown"
        assert (await handle.journal())[0].attempts == ()


@asynchronous
async def test_what_is_not_tried_again_is_not_when_only_its_name_came_out_of_the_process() -> None:
    async with await open_node() as runtime:
        handle = await runtime.submit(caught, "fn-process-misses")
        assert await handle.result() == "FunctionFailed"
        assert (await handle.journal())[0].attempts == ()


@asynchronous
async def test_a_result_from_a_process_may_be_as_large_as_the_node_allows() -> None:
    @workflow("fn-measures")
    async def measures(ctx: Context) -> int:
        return len(await ctx.call(large))

    async with await open_node(value_bytes_max=64 << 20) as runtime:
        assert await (await runtime.submit(measures)).result() == 20_000_000


BESIDE = """
import asyncio
import durable

@durable.function(executor="process")
def adds(a: int, b: int) -> int:
    return a + b

@durable.workflow
async def adding(ctx: durable.Context) -> int:
    return await ctx.call(adds, 2, 3)

async def main() -> None:
    async with durable.open("memory:") as runtime:
        print(await (await runtime.submit(adding)).result())
"""


def test_a_process_finds_the_modules_of_the_working_directory(tmp_path: Path) -> None:
    """In a notebook and after ``python -c`` it stands in the path as nothing."""
    (tmp_path / "helpers.py").write_text(BESIDE)
    library = str(Path(durable.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", "import asyncio, helpers; asyncio.run(helpers.main())"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": library}, capture_output=True, text=True, timeout=60,
    )
    assert done.stdout == "5\n", done.stderr


@asynchronous
async def test_a_process_past_its_timeout_is_killed() -> None:
    async with await open_node() as runtime:
        began = time.monotonic()
        assert await (await runtime.submit(caught, "fn-process-sleeps")).result() == "FunctionTimeout"
        assert time.monotonic() - began < 15


@asynchronous
async def test_a_body_in_a_process_of_its_own_knows_which_attempt_it_is() -> None:
    @workflow("fn-knows")
    async def flow(ctx: Context) -> list[Any]:
        await ctx.side_effect("before", lambda: None)
        return await ctx.call(knows)

    async with await open_node() as runtime:
        handle = await runtime.submit(flow, workflow_id="k2")
        workflow_id, run, number, attempt, key, epoch, cancelled = await handle.result()
        assert (workflow_id, run, number, attempt, cancelled) == ("k2", 0, 1, 2, False)
        assert re.fullmatch(r"k2:[0-9a-f]+:0:1", key) and epoch == (await handle.metadata()).epoch


@asynchronous
async def test_a_heartbeat_from_a_process_is_recorded_while_it_runs() -> None:
    log = held()
    runtime = await open_node(log=log)
    await runtime.submit(call, "fn-process-beats", workflow_id="b2")
    await until(lambda: any(key[2:3] == keys.HEARTBEAT for key, _ in log.store.scan(b"")), "a heartbeat was recorded")
    store = log.survivors()
    await runtime.close()
    async with await open_node(store) as again:
        assert await again.handle("b2").result() == {"row": 41}


@asynchronous
async def test_the_last_heartbeat_of_a_process_that_was_killed_reaches_the_next() -> None:
    async with await open_node() as runtime:
        handle = await runtime.submit(call, "fn-process-beats-and-dies")
        assert await handle.result() == [999, "x" * 100]
        assert (await handle.journal())[0].attempts[0].error.message.startswith("ProcessDied")


@asynchronous
async def test_a_heartbeat_that_cannot_be_recorded_raises_in_the_process() -> None:
    async with await open_node(value_bytes_max=4_096) as runtime:
        assert await (await runtime.submit(call, "fn-process-beats-oddly")).result() == ["EncodingError", "ValueTooLarge", "7"]


@asynchronous
async def test_a_timed_out_thread_keeps_its_slot_is_counted_and_comes_back() -> None:
    go, came = threading.Event(), threading.Event()

    @function("fn-stuck", timeout=0.05)
    def stuck() -> None:
        go.wait(10)
        came.set()

    async with await open_node() as runtime:
        handle = await runtime.submit(call, "fn-stuck")
        with pytest.raises(WorkflowFailed) as failed:
            await handle.result()
        assert isinstance(failed.value.__cause__, FunctionTimeout)
        assert runtime.counts["stuck_threads"] == 1
        go.set()
        await until(lambda: runtime.counts["stuck_threads"] == 0, "the thread came back")
        assert came.is_set()


@asynchronous
async def test_a_once_function_past_its_timeout_is_unknown() -> None:
    runs: list[int] = []

    @function("fn-once-slow", once=True, timeout=0.02, retry=RetryPolicy(initial_delay=0.01))
    async def slow() -> None:
        runs.append(1)
        await asyncio.sleep(60)

    async with await open_node() as runtime:
        assert await (await runtime.submit(caught, "fn-once-slow")).result() == "OutcomeUnknown"
        await turns()
    assert runs == [1]
    assert issubclass(OutcomeUnknown, Exception)


@asynchronous
async def test_results_that_cannot_be_recorded_fail_the_call_and_are_not_tried_again() -> None:
    runs: list[str] = []
    forever = RetryPolicy(initial_delay=0.001, max_delay=0.001)

    @function("fn-odd", retry=forever)
    async def odd() -> Any:
        runs.append("odd")
        return {"deep": [object()]}

    @function("fn-large", retry=forever)
    async def large() -> str:
        runs.append("large")
        return "x" * 5_000

    @function("fn-lies", retry=forever)
    async def lies() -> int:
        runs.append("lies")
        return "text"  # type: ignore[return-value]

    async with await open_node(value_bytes_max=4_096) as runtime:
        for name, kind in (("fn-odd", EncodingError), ("fn-large", ValueTooLarge), ("fn-lies", EncodingError)):
            with pytest.raises(WorkflowFailed) as failed:
                await (await runtime.submit(call, name)).result()
            assert isinstance(failed.value.__cause__, kind)
    assert runs == ["odd", "large", "lies"]


@asynchronous
async def test_arguments_that_cannot_be_recorded_raise_where_they_are_given() -> None:
    @function("fn-takes")
    async def takes(value: Any) -> None:
        raise AssertionError("never runs")

    @workflow("fn-gives")
    async def gives(ctx: Context) -> list[str]:
        told = []
        for value in (lambda: 0, {"a": {"b": object()}}, "x" * 5_000, float("nan")):
            try:
                await ctx.call(takes, value)
            except (EncodingError, ValueTooLarge) as error:
                told.append(str(error))
        try:
            await ctx.call("fn-nobody-has-this")
        except Exception as error:
            told.append(f"{type(error).__name__}: {error}")
        return told

    async with await open_node(value_bytes_max=4_096) as runtime:
        handle = await runtime.submit(gives)
        function_, deep, large, nan, unknown = await handle.result()
        assert "fn-takes: args[0]" in function_
        assert "args[0]['a']['b']" in deep
        assert "value_bytes_max" in large
        assert "not a finite number" in nan
        assert unknown.startswith("NotRegistered")
        assert await handle.journal() == []


@asynchronous
async def test_a_function_called_directly_in_a_workflow_says_what_to_write() -> None:
    @function("fn-direct")
    async def direct() -> int:
        return 1

    @workflow("fn-directly")
    async def directly(ctx: Context) -> int:
        return await direct()

    @workflow("fn-to-thread")
    async def to_thread(ctx: Context) -> None:
        await asyncio.to_thread(time.time)

    @workflow("fn-socket")
    async def socket(ctx: Context) -> None:
        await asyncio.open_connection("localhost", 1)

    async with await open_node() as runtime:
        for flow, words in ((directly, "ctx.call"), (to_thread, "Put this in a function"), (socket, "Put this in a function")):
            with pytest.raises(WorkflowFailed, match=words) as failed:
                await (await runtime.submit(flow)).result()
            assert isinstance(failed.value.__cause__, NotAllowedHere)


@asynchronous
async def test_the_idempotency_key_is_that_of_the_call_over_attempts_and_crashes() -> None:
    seen: list[tuple[str, int]] = []
    gate = Gate()

    @function("fn-key", retry=RetryPolicy(initial_delay=0.001, max_attempts=5))
    async def keyed() -> str:
        current = current_call()
        seen.append((current.idempotency_key, current.attempt))
        if current.attempt < 3:
            raise ConnectionError("away")
        await gate.wait()
        return current.idempotency_key

    log = held()
    runtime = await open_node(log=log)
    await runtime.submit(call, "fn-key", workflow_id="k1")
    await gate.entered()
    store = log.survivors()
    await runtime.close()
    gate.open()
    async with await open_node(store) as again:
        key = await again.handle("k1").result()
    assert {found for found, _ in seen} == {key}
    assert [attempt for _, attempt in seen] == [1, 2, 3, 3]


@asynchronous
async def test_a_heartbeat_reaches_the_next_attempt_in_another_process() -> None:
    gate = Gate()
    found: list[Any] = []

    @function("fn-beats")
    async def beats() -> Any:
        current = current_call()
        found.append(current.last_heartbeat)
        if current.last_heartbeat is None:
            current.heartbeat({"row": 41})
            await gate.wait()
        return current.last_heartbeat

    log = held()
    runtime = await open_node(log=log)
    await runtime.submit(call, "fn-beats", workflow_id="b1")
    await gate.entered()
    await turns()
    store = log.survivors()
    await runtime.close()
    async with await open_node(store) as again:
        assert await again.handle("b1").result() == {"row": 41}
    assert found == [None, {"row": 41}]


@asynchronous
async def test_cancelling_reaches_the_body_and_the_next_does_not_run() -> None:
    gate = Gate()
    told: list[str] = []

    @function("fn-long")
    async def long() -> None:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async with await open_node() as runtime:
        handle = await runtime.submit(call, "fn-long")
        await gate.entered()
        await handle.cancel()
        await handle.cancel()
        with pytest.raises(WorkflowCancelled):
            await handle.result()
        await handle.cancel()  # of what has ended: nothing
        await until(lambda: told, "the body heard")
