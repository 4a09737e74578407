"""What may happen to a process and to its connections in a simulated world is what happens to real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from durable.errors import Unreachable
from durable.membership.member import NodeAddress
from durable.ports import Link
from durable.sim import links
from durable.sim.network import Faults
from durable.sim.process import SOCKET_DATAGRAMS_MAX, SimProcess
from durable.sim.world import SimWorld
from durable.trials.workloads import FEW, make_runner, placed, steps


class Ears:
    """A receiver that keeps what it hears."""

    def __init__(self, process: SimProcess) -> None:
        self.process = process
        self.datagrams: list[bytes] = []
        self.frames: list[bytes] = []
        self.links: list[Link] = []
        self.lost: list[float] = []
        self.answer_after_s = 0.0

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        self.datagrams.append(data)

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        await asyncio.sleep(self.answer_after_s)
        return b"answer to " + data if data != b"nothing" else None

    def frame(self, link: Link, data: bytes) -> None:
        if link not in self.links:
            self.links.append(link)
        self.frames.append(data)

    def link_lost(self, link: Link) -> None:
        self.lost.append(self.process.world.now)


class Pair:
    """Two processes that listen, and nothing else."""

    def __init__(self, seed: int = 1, faults: Faults | None = None) -> None:
        self.world = SimWorld(seed, faults)
        self.a, self.b = self.enter("a"), self.enter("b")

    def enter(self, name: str) -> Ears:
        process = self.world.enter(name)
        ears = Ears(process)
        process.spawn(process.transport.open(ears))
        return ears

    def connect(self) -> Link:
        return self.world.call("a", self.a.process.transport.connect(NodeAddress("b", 7800)))

    def ask(self, data: bytes, limit_s: float = 60.0) -> bytes:
        return self.world.call("a", self.a.process.transport.ask(NodeAddress("b", 7800), data), limit_s)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.world.close()


# Links


def test_frames_arrive_in_order_under_loss_and_delay() -> None:
    for seed in range(5):
        pair = Pair(seed, Faults(loss=0.3, delay_s=(0.001, 0.5)))
        link = pair.connect()
        for number in range(100):
            assert link.send(b"%d" % number)
        pair.world.run(20.0)
        assert pair.b.frames == [b"%d" % number for number in range(100)]
        [back] = pair.b.links
        assert back.peer == NodeAddress("a", 7800)
        back.send(b"and back")
        pair.world.run(5.0)
        assert pair.a.frames == [b"and back"]
        pair.world.close()


def test_a_cut_stalls_a_link_and_a_heal_lets_it_go_on(pair: Pair) -> None:
    link = pair.connect()
    pair.world.cut("a", "b")
    link.send(b"late")
    pair.world.run(5.0)
    assert pair.b.frames == []
    pair.world.heal()
    pair.world.run(3.0)
    assert pair.b.frames == [b"late"]
    assert not link.closed


def test_a_link_that_stalls_too_long_is_lost_and_the_silent_end_does_not_notice(pair: Pair) -> None:
    link = pair.connect()
    link.send(b"first")
    pair.world.run(1.0)
    pair.world.partition([["a"], ["b"]])
    link.send(b"never")
    pair.world.run(60.0)
    assert link.closed
    assert not link.send(b"refused")
    [lost_at] = pair.a.lost
    assert lost_at == pytest.approx(1.0 + links.LINK_TIMEOUT_S, abs=links.RETRY_S_MAX + 0.1)
    [back] = pair.b.links
    assert not back.closed and pair.b.lost == []
    pair.world.heal()
    assert back.send(b"is anybody there")
    pair.world.run(5.0)
    assert len(pair.b.lost) == 1 and back.closed


def test_with_the_way_back_cut_frames_arrive_and_their_sender_gives_up(pair: Pair) -> None:
    link = pair.connect()
    pair.world.cut("b", "a")
    for number in range(3):
        link.send(b"%d" % number)
    pair.world.run(20.0)
    assert pair.b.frames == [b"0", b"1", b"2"]
    assert link.closed and len(pair.a.lost) == 1


@pytest.mark.parametrize("power", [False, True])
def test_a_kill_ends_a_link_and_a_loss_of_power_leaves_it_open(pair: Pair, power: bool) -> None:
    link = pair.connect()
    link.send(b"hello")
    pair.world.run(1.0)
    pair.world.crash("b", power=power)
    pair.world.run(30.0)
    assert link.closed is not power
    if power:
        assert link.send(b"into the dark")
        pair.world.run(5.0)
        assert not link.closed
        pair.enter("b")
        pair.world.run(5.0)
        assert link.closed  # the machine is up again and knows nothing of it
    assert len(pair.a.lost) == 1


def test_a_close_lets_arrive_what_was_sent_and_an_abort_does_not(pair: Pair) -> None:
    one, two = pair.connect(), pair.connect()
    one.send(b"one")
    two.send(b"two")
    pair.world.call("a", one.close())
    two.abort()
    pair.world.run(1.0)
    assert pair.b.frames == [b"one"]
    assert len(pair.a.lost) == 2 and len(pair.b.lost) == 2
    assert not pair.a.process.transport.links and not pair.b.process.transport.links


def test_a_link_takes_no_more_than_its_bound_while_nobody_reads(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "LINK_BYTES_MAX", 1000)
    monkeypatch.setattr(links, "RECEIVE_BYTES_MAX", 500)
    link = pair.connect()
    pair.world.pause("b")
    sent = 0
    for _ in range(20):
        sent += sum(link.send(bytes(100)) for _ in range(3))
        pair.world.run(1.0)
    assert sent == 15
    assert not link.closed  # a reader that is slow is not a reader that is gone
    pair.world.resume("b")
    pair.world.run(1.0)
    assert len(pair.b.frames) == 15 and link.send(bytes(1000))
    for wrong in (b"", bytes(links.LINK_FRAME_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match="a frame of"):
            link.send(wrong)


# Questions


def test_a_question_is_answered_refused_or_times_out(pair: Pair) -> None:
    assert pair.ask(b"x") == b"answer to x"
    with pytest.raises(Unreachable, match="closed the connection"):
        pair.ask(b"nothing")
    pair.b.answer_after_s = 100.0
    with pytest.raises(Unreachable, match="closed the connection"):
        pair.ask(b"slow")
    pair.world.pause("b")
    began = pair.world.now
    with pytest.raises(Unreachable, match="did not answer within 15 s"):
        pair.ask(b"paused")
    assert pair.world.now == pytest.approx(began + 15.0, abs=0.1)
    pair.world.crash("b")
    with pytest.raises(Unreachable, match="nobody listens"):
        pair.ask(b"gone", limit_s=1.0)
    pair.world.crash("b", power=True)
    pair.enter("b")
    pair.world.cut("b", "a")
    with pytest.raises(Unreachable, match="did not accept"):
        pair.ask(b"cut")


def test_a_process_that_is_killed_over_a_question_ends_it(pair: Pair) -> None:
    pair.b.answer_after_s = 5.0
    asked = pair.world.spawn("a", pair.a.process.transport.ask(NodeAddress("b", 7800), b"x"))
    pair.world.run(1.0)
    pair.world.crash("b")
    pair.world.run(1.0)
    assert isinstance(asked.exception(), Unreachable)


# Processes


def test_a_paused_process_finds_everything_at_once_as_far_as_its_socket_had_room(pair: Pair) -> None:
    pair.world.pause("b")
    late: list[float] = []
    pair.b.process.loop.call_later(1.0, lambda: late.append(pair.world.now))
    for number in range(SOCKET_DATAGRAMS_MAX + 50):
        pair.a.process.transport.send(NodeAddress("b", 7800), b"%d" % number)
        pair.world.run(0.01)
    assert pair.b.datagrams == late == []
    pair.world.resume("b")
    assert len(pair.b.datagrams) == SOCKET_DATAGRAMS_MAX
    assert late == [pair.world.now]
    assert pair.b.process.transport.dropped["socket full"] == 50


def test_nothing_of_a_killed_process_runs_again_and_its_last_words_are_not_heard(pair: Pair) -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
            said.append("worked")
        finally:
            said.append("finally")

    transport = pair.a.process.transport
    pair.world.spawn("a", work())
    pair.world.crash("a")
    pair.world.run(10.0)
    transport.send(NodeAddress("b", 7800), b"last words")
    pair.world.run(10.0)
    assert said == [] and pair.b.datagrams == []


def test_what_is_sent_after_an_fsync_leaves_later_and_what_was_sent_before_does_not(pair: Pair) -> None:
    pair.a.process.machine.disk.sync_s = (2.0, 2.0)
    heard: list[tuple[bytes, float]] = []
    pair.b.datagram = lambda sender, data: heard.append((data, round(pair.world.now, 2)))  # type: ignore[method-assign]

    async def work() -> None:
        transport, to = pair.a.process.transport, NodeAddress("b", 7800)
        transport.send(to, b"before")
        pair.a.process.store.sync()
        transport.send(to, b"after")

    pair.world.spawn("a", work())
    pair.world.run(5.0)
    assert heard == [(b"before", 0.0), (b"after", 2.0)]


def test_a_sync_beside_the_process_lets_it_go_on(pair: Pair) -> None:
    process = pair.a.process
    process.machine.disk.sync_s = (2.0, 2.0)
    ended: list[tuple[object, float]] = []
    process.store.write([(b"k", b"v")])
    process.syncer.start(lambda error: ended.append((error, pair.world.now)))
    assert process.syncer.busy
    pair.world.run(1.0)
    assert ended == [] and process.now == pair.world.now
    pair.world.run(5.0)
    assert ended == [(None, 2.0)] and not process.syncer.busy and process.syncer.syncs == 1
    process.machine.disk.failing_syncs = 1
    process.syncer.start(lambda error: ended.append((str(error), pair.world.now)))
    pair.world.run(5.0)
    assert "fsync failed" in str(ended[1][0])


def test_each_machine_has_clocks_of_its_own() -> None:
    with SimWorld(1, drift=0.01) as world:
        one, two = world.enter("a"), world.enter("b")
        begins = {process.name: process.loop.time() for process in (one, two)}
        assert abs(begins["a"] - begins["b"]) > 1.0
        wall = one.clock.now_ms()
        world.run(1000.0)
        ran = {process.name: process.loop.time() - begins[process.name] for process in (one, two)}
        assert all(990 <= seconds <= 1010 for seconds in ran.values()) and ran["a"] != ran["b"]
        assert one.clock.now_ms() - wall == pytest.approx(ran["a"] * 1000, abs=2)
        world.set_clock("a", -500.0)
        assert one.clock.now_ms() - wall == pytest.approx(ran["a"] * 1000, abs=2)  # a living process does not go back
        world.set_clock("a", 1500.0)
        assert one.clock.now_ms() - wall > 1_900_000
        world.crash("a")
        assert world.enter("a").clock.now_ms() - wall == pytest.approx(ran["a"] * 1000 + 1_000_000, abs=2)


def test_entropy_is_another_in_each_process_and_life_and_the_same_for_a_seed() -> None:
    def drawn(seed: int) -> list[bytes]:
        with SimWorld(seed) as world:
            first = [world.enter(name).entropy.random_bytes(8) for name in ("a", "b")]
            world.crash("a")
            return [*first, world.enter("a").entropy.random_bytes(8)]

    assert drawn(1) == drawn(1)
    assert len({*drawn(1), *drawn(2)}) == 6


def test_a_node_whose_disk_fails_ends_and_is_found_dead() -> None:
    """It owns nothing any more, and nobody takes it for alive; started anew, it has what it had made durable before."""
    with SimWorld(5, make_node=make_runner) as world:
        world.start_converged(3)
        host = world.node("node-2")._host
        assert world.run_until(lambda: len(host.owned_now) > 0, 10.0)
        world.machines["node-2"].disk.failing_syncs = 1
        world.call("node-1", world.node("node-1").submit(steps, 1, workflow_id=placed("work", FEW)))  # each keeps a copy
        assert world.run_until(lambda: not world.machines["node-2"].running, 10.0)
        assert host.owned_now == {}
        assert any("ended: StoreError" in line for line in world.trace)
        names = ("node-1", "node-3")
        assert world.run_until(lambda: all(len(world.node(name).ring.nodes) == 2 for name in names), 20.0)
        world.start("node-2")
        assert world.run_until(lambda: len(world.node("node-2")._host.owned_now) > 0, 20.0)


def test_a_cluster_started_anew_finds_itself_though_all_its_seeds_have_left() -> None:
    """Each node remembers where the others were; without that, each would be alone, or in one of two halves, for ever."""
    first, later = ("node-1", "node-2", "node-3"), ("node-4", "node-5", "node-6")
    with SimWorld(5, make_node=make_runner) as world:

        def owned(*names: str) -> int:
            hosts = [world.node(name)._host for name in names]
            return sum(len(host.owned_now) for host in hosts if host is not None)

        world.start_converged(3)
        for name in later:
            world.start(name)
        assert world.run_until(lambda: owned(*first, *later) == FEW and all(owned(name) for name in later), 120.0)
        for name in first:
            world.leave(name)
        assert world.run_until(lambda: not any(world.machines[name].running for name in first), 120.0)
        assert world.run_until(lambda: owned(*later) == FEW, 60.0)
        for name in later:
            world.crash(name, power=True)
        for name in later:
            world.start(name)
        assert world.run_until(lambda: owned(*later) == FEW, 60.0)
        assert all(set(world.node(name).ring.nodes) == set(later) for name in later)


def test_a_node_whose_seeds_are_gone_and_whose_disk_was_lost_is_let_in_by_those_who_knew_it() -> None:
    """It remembers nobody, and nobody whom it asks is there: the others find it. To its own `join` that must count."""
    with SimWorld(5, make_node=make_runner) as world:
        world.start_converged(5)
        for name in ("node-1", "node-2"):
            world.leave(name)
        assert world.run_until(lambda: not any(world.machines[name].running for name in ("node-1", "node-2")), 120.0)
        world.crash("node-3", power=True)
        world.wipe("node-3")
        world.start("node-3", seeds=("node-1", "node-2"))
        assert world.run_until(lambda: sum("node-3 has joined" in line for line in world.trace) == 2, 120.0)
        assert world.run_until(lambda: len(world.node("node-3")._host.owned_now) > 0, 120.0)


def test_a_node_whose_only_seed_does_not_exist_has_not_joined_though_another_has_joined_by_it() -> None:
    """A mistyped seed is not to look as if all were well."""
    with SimWorld(5, make_node=make_runner) as world:
        world.machine("ghost")
        world.start("node-1", seeds=("ghost",))
        world.start("node-2", seeds=("node-1",))
        world.run(100.0)
        assert [line.split()[1] for line in world.trace if "has joined" in line] == ["node-2"]
        assert "no seed has let it in yet" in world.node("node-1").waits_for()


def test_who_has_left_says_goodbye_on_its_connections() -> None:
    with SimWorld(6) as world:
        world.start_converged(3)
        link = world.call("node-1", world.machines["node-1"].process.transport.connect(world.machines["node-3"].address))
        world.leave("node-3")
        assert world.run_until(lambda: link.closed, 10.0)


def test_a_node_whose_disk_fails_while_it_is_opened_has_not_started_and_can_be_started_again() -> None:
    with SimWorld(6, make_node=make_runner) as world:
        world.machine("node-1").disk.failing_syncs = 1
        assert not world.start("node-1").running
        assert any("did not start: StoreError" in str(note) for note in world.trace)
        assert world.start("node-1").running
        assert world.errors == []
