"""The loop of a simulated process: time is told to it, it never waits, and nothing of the real world comes in."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

import pytest

from durable.errors import NotAllowedHere
from durable.sim.loop import ITERATIONS_MAX, SimLoop


class Told:
    """A loop, and the hand that moves its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.inbox: deque[Callable[[], object]] = deque()
        self.loop = SimLoop(lambda: self.now, (self.inbox,))
        self.seen: list[object] = []

    def at(self, now: float) -> list[object]:
        self.now = now
        self.loop.run_ready()
        return self.seen


@pytest.fixture
def told():  # type: ignore[no-untyped-def]
    told = Told()
    yield told
    told.loop.bury()


def test_a_timer_runs_when_its_time_has_come_and_not_before(told: Told) -> None:
    told.loop.call_at(10.0, told.seen.append, "ten")
    assert told.at(9.9999999) == []
    assert told.loop.next_timer() == 10.0
    assert told.at(10.0) == ["ten"]
    assert told.loop.next_timer() is None


def test_whoever_sets_a_timer_again_because_it_came_too_early_does_not_spin(told: Told) -> None:
    """asyncio's loops run a timer up to their clock's resolution early; real time goes on meanwhile, ours does not."""

    def again() -> None:
        told.seen.append(told.now)
        if told.now < 5.0000005:
            told.loop.call_at(5.0000005, again)

    told.loop.call_at(5.0, again)
    assert told.at(5.0) == [5.0]
    assert told.at(5.0000005) == [5.0, 5.0000005]


def test_a_cancelled_timer_is_nothing_to_wait_for(told: Told) -> None:
    for when in (1.0, 2.0, 3.0):
        told.loop.call_at(when, told.seen.append, when).cancel()
    told.loop.call_at(4.0, told.seen.append, 4.0)
    assert told.loop.next_timer() == 4.0


@pytest.mark.parametrize("when", [2.0**24 + 0.3, 2.0**31 + 0.7])
def test_a_loop_works_on_after_years(told: Told, when: float) -> None:
    told.now = when
    told.loop.call_later(1e-6, told.seen.append, "later")
    timer = told.loop.next_timer()
    assert timer is not None
    assert told.at(timer) == ["later"]


def test_tasks_timeouts_and_locks_are_asyncios_own(told: Told) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await asyncio.sleep(100.0)
        told.seen.append(asyncio.get_running_loop().time())

    task = told.loop.create_task(work())
    told.at(0.0)
    assert not task.done()
    assert told.at(3.0) == [3.0]
    assert task.done()


def test_what_has_arrived_is_read_one_at_a_time_before_the_timers(told: Told) -> None:
    """As asyncio does it: one datagram of a socket, then the timers that are due, then the next datagram."""
    told.loop.call_at(1.0, told.seen.append, "timer")
    for number in (1, 2):
        told.inbox.append(lambda number=number: told.seen.append(number))  # type: ignore[misc]
    assert told.at(1.0) == [1, "timer", 2]


def test_work_for_ever_at_one_moment_is_a_fault(told: Told) -> None:
    def again() -> None:
        told.loop.call_soon(again)

    again()
    with pytest.raises(AssertionError, match="no time passes"):
        told.at(1.0)
    assert ITERATIONS_MAX >= 10_000


def test_a_thread_or_a_socket_is_refused(told: Told) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(NotAllowedHere, match="real time"):
            await asyncio.to_thread(print)
        with pytest.raises(NotAllowedHere, match="no network"):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(NotAllowedHere, match="no network"):
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        with pytest.raises(NotAllowedHere):
            await asyncio.create_subprocess_exec("true")
        with socket.socket() as plain, pytest.raises(NotAllowedHere):
            await loop.sock_connect(plain, ("127.0.0.1", 1))
        told.seen.append("refused")

    told.loop.create_task(work())
    assert told.at(0.0) == ["refused"]


def test_a_loop_that_was_stopped_runs_nothing_more_and_no_finally(told: Told) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
        finally:
            told.seen.append("finally")

    told.loop.create_task(work())
    told.at(0.0)
    told.loop.stop_for_ever()
    told.loop.call_soon(told.seen.append, "called")
    assert told.at(100.0) == []
    told.loop.bury()
    assert told.seen == ["finally"]  # when the world has ended, and nobody looks any more
