"""Virtual time: months in milliseconds, with threads that are real."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

import durable
from durable import Context, FunctionTimeout, NotAllowedHere
from durable.storage import InMemoryStore, syncer
from durable.testing import NothingWillHappen, run, virtual_time


@durable.function
def blocking(n: int) -> int:
    time.sleep(0.02)
    return n + 1


@durable.function
def runs_its_own_loop(n: int) -> int:
    return asyncio.run(asyncio.sleep(0, n * 2))


@durable.function(executor="process")
def elsewhere(n: int) -> int:
    return n * 3


@durable.function(executor="process")
def enlarged(n: int) -> str:
    return "x" * n


@durable.function(timeout=30.0)
async def too_slow() -> None:
    await asyncio.sleep(3600)


@durable.workflow("virtual-sleeper")
async def sleeper(ctx: Context, days: int) -> float:
    before = ctx.now()
    await ctx.sleep(timedelta(days=days))
    return (ctx.now() - before).total_seconds()


@durable.workflow("virtual-threads")
async def threads(ctx: Context, n: int) -> list[int]:
    return [await ctx.call(f, n) for f in (blocking, runs_its_own_loop, elsewhere)]


@durable.workflow("virtual-large")
async def large(ctx: Context, n: int) -> int:
    return len(await ctx.call(enlarged, n))


@durable.workflow("virtual-timeout")
async def times_out(ctx: Context) -> str:
    try:
        await ctx.call(too_slow)
    except FunctionTimeout:
        return f"{ctx.now():%H:%M:%S}"
    return "never"


@durable.workflow("virtual-listener")
async def listener(ctx: Context) -> str:
    return str(await ctx.receive("word", str))


async def result_of(workflow: durable.Workflow, *given: object) -> object:
    async with durable.open("memory:") as runtime:
        return await (await runtime.submit(workflow, *given)).result()


@pytest.mark.parametrize("days", [1, 30, 365, 36_000])
def test_a_sleep_of_many_days_takes_as_long_as_it_says_and_no_time(days: int) -> None:
    began = time.monotonic()
    assert run(result_of(sleeper, days)) == days * 86_400
    assert time.monotonic() - began < 5


def test_functions_in_threads_and_processes_take_no_virtual_time() -> None:
    with virtual_time() as virtual:
        assert virtual.run(result_of(threads, 1)) == [2, 2, 3]
        assert virtual.elapsed_s < 0.01


def test_the_result_of_a_process_is_held_to_the_bound_of_the_node() -> None:
    async def main() -> int:
        async with durable.open("memory:", durable.NodeConfig(value_bytes_max=64 << 20)) as runtime:
            return await (await runtime.submit(large, 20_000_000)).result()

    assert run(main()) == 20_000_000


def test_a_timeout_strikes_at_its_virtual_time() -> None:
    assert run(result_of(times_out)) == "00:00:30"


def test_to_thread_and_run_in_executor_hold_the_time() -> None:
    async def main() -> float:
        await asyncio.to_thread(time.sleep, 0.02)
        return asyncio.get_running_loop().time()

    assert run(main()) == 0.0


def test_a_plain_sleep_advances_loop_and_date_together() -> None:
    with virtual_time(start=datetime(2024, 2, 28, tzinfo=UTC)) as virtual:
        virtual.run(asyncio.sleep(2 * 86_400))
        assert virtual.now() == datetime(2024, 3, 1, tzinfo=UTC)
        virtual.run(asyncio.sleep(1))
        assert virtual.elapsed_s == 2 * 86_400 + 1


def test_waiting_for_what_can_never_come_is_an_error_and_no_hang() -> None:
    with pytest.raises(NothingWillHappen, match="nothing will ever happen"):
        run(asyncio.Event().wait())
    with pytest.raises(NothingWillHappen):
        run(result_of(listener))


def test_there_is_no_network_and_the_error_says_what_to_do() -> None:
    with pytest.raises(NotAllowedHere, match="Put a fake"):
        run(asyncio.open_connection("127.0.0.1", 9))
    with pytest.raises(NotAllowedHere, match="subprocess_exec"):
        run(asyncio.create_subprocess_exec("true"))


def test_no_socket_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection"))
    assert run(result_of(sleeper, 1)) == 86_400


def test_it_runs_inside_a_running_event_loop_as_in_a_notebook() -> None:
    async def cell() -> object:
        return run(result_of(sleeper, 30))

    assert asyncio.run(cell()) == 30 * 86_400


def test_a_node_draws_the_same_ids_on_every_run() -> None:
    async def drawn() -> str:
        async with durable.open("memory:") as runtime:
            return (await runtime.submit(sleeper, 1)).workflow_id

    assert run(drawn()) == run(drawn()) != run(drawn(), seed=1)


def test_an_error_of_the_coroutine_comes_out() -> None:
    async def broken() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(broken())


def test_a_node_on_a_disk_goes_on_where_it_was(tmp_path: object) -> None:
    async def first() -> None:
        async with durable.open(f"rocksdb:{tmp_path}/store") as runtime:
            await runtime.submit(sleeper, 2, workflow_id="s")
            await asyncio.sleep(86_400)

    async def then() -> object:
        async with durable.open(f"rocksdb:{tmp_path}/store") as runtime:
            return await runtime.handle("s").result()

    with virtual_time() as virtual:
        virtual.run(first())
        assert virtual.run(then()) == 2 * 86_400
        assert virtual.elapsed_s == pytest.approx(2 * 86_400, abs=1)


@durable.workflow("virtual-slow-disk")
async def slow_disk(ctx: Context, text: str) -> str:
    return text


def test_a_disk_that_is_slow_takes_no_virtual_time_and_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncer, "FAST_SYNC_S", -1.0)  # every sync is held to be slow,
    monkeypatch.setattr(syncer._Flusher, "steal", lambda flusher: None)  # and its thread to be quick to begin
    monkeypatch.setattr(InMemoryStore, "sync", lambda store: time.sleep(0.02))

    async def main() -> str:
        async with durable.open("memory:") as runtime:
            return await (await runtime.submit(slow_disk, "now")).result()

    assert run(main()) == "now"
