"""Real processes own workflows, lose them, and take them over from each other; nothing is lost, and nothing committed twice.

Each cluster is small, and each wait is for what nodes or bodies report. `tests/chaos` does the same for half an hour.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import failover_app
import pytest

from durable import errors
from durable.cluster import ClusterNode, LocalCluster
from durable.journal.entries import Status
from durable.journal.keys import partition_of

pytestmark = pytest.mark.skipif(
    not hasattr(ClusterNode, "submit"), reason="nodes of this build are members only: they run no workflows yet"
)
GATE = "gate"
PATIENCE_S = 30.0
RESTARTS = 3
SEED = "CHAOS_SEED"
"""Set it to choose the seed of what is drawn."""


class Line(NamedTuple):
    word: str
    workflow: str
    step: int
    process: int
    epoch: str
    value: int


class Bench:
    """One cluster, the file that its bodies write, and the gate that they wait at."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder

    def open_gate(self) -> None:
        (self._folder / GATE).touch()

    def lines(self, workflow_id: str, step: int | None = None) -> list[Line]:
        file = self._folder / "lines"
        words = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        found = [Line(word, name, int(n), int(process), epoch, int(value)) for word, name, n, process, epoch, value in words]
        return [line for line in found if line.workflow == workflow_id and step in (None, line.step)]

    async def at_the_gate(self, workflow_id: str, runs: int = 1) -> str:
        """Wait until the gate of this workflow has been reached so often; which node runs it now."""
        async with asyncio.timeout(PATIENCE_S):
            while len(began := [line for line in self.lines(workflow_id, 1) if line.word == "began"]) < runs:
                await asyncio.sleep(0.01)
        (node,) = [node for node in self.cluster.nodes if self.cluster.process_id(node) == began[-1].process]
        return str(node)

    def owner(self, workflow_id: str) -> tuple[str, Any]:
        """The node that owns it, and its epoch. Raises KeyError while it has none."""
        owner, epoch = self.cluster.owners()[partition_of(workflow_id)]
        return str(owner), epoch

    async def taken_from(self, node: str, workflow_id: str) -> None:
        """Wait until another node owns it."""
        await self.cluster.wait_until(lambda: self.cluster.owner(workflow_id) not in (None, node))

    async def let_back(self, node: str) -> None:
        """Wait until it is a voter with its new disk in every partition. One that it owns shows that the roster has let it in;
        the partitions follow one by one, and one that has not followed yet still counts the vote of the lost disk.
        """
        await self.cluster.wait_until(lambda: node in {str(owner) for owner, _ in self.cluster.owners().values()})
        async with asyncio.timeout(PATIENCE_S):
            while (copies := (await self.cluster.view(node)).copies) is None or copies.lacking:
                await asyncio.sleep(0.05)


def on_cluster(n: int, body: Callable[[Bench, Any], Awaitable[None]], tmp_path: Path, **changes: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(120), LocalCluster(n, app="failover_app", data=tmp_path / "data", **changes) as cluster:
            client = await cluster.client()
            try:
                await body(Bench(cluster, tmp_path), client)
            finally:
                await client.close()

    before = os.environ.get(failover_app.FOLDER)
    os.environ[failover_app.FOLDER] = str(tmp_path)
    try:
        asyncio.run(run())
    finally:
        os.environ.pop(failover_app.FOLDER) if before is None else os.environ.update({failover_app.FOLDER: before})


async def refused(client: Any, workflow_id: str) -> errors.NoQuorum:
    """Submit until the answer is NoQuorum: the first answers may be that nothing is known yet."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await client.submit("failover-quick", 7, workflow_id=workflow_id)
            except errors.NoQuorum as error:
                return error
            except (errors.OutcomeUnknown, errors.ClusterError):
                continue
            raise AssertionError("a minority accepted a workflow")


async def accepted(client: Any, workflow: str, given: Any, workflow_id: str) -> Any:
    """Submit under one id until it is accepted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await client.submit(workflow, given, workflow_id=workflow_id)
            except (errors.OutcomeUnknown, errors.ClusterError):
                await asyncio.sleep(0.05)


async def result_of(client: Any, workflow_id: str) -> Any:
    """Its result, asked for until it is there."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await client.handle(workflow_id).result(timeout=5.0)
            except (errors.ClusterError, TimeoutError):
                await asyncio.sleep(0.05)


def test_a_workflow_whose_owner_is_killed_goes_on_elsewhere_in_a_higher_epoch(tmp_path: Path) -> None:
    async def body(bench: Bench, client: Any) -> None:
        await client.submit("failover-gated", GATE, workflow_id="w")
        owner = await bench.at_the_gate("w")
        assert bench.owner("w")[0] == owner
        (first,) = {line.value for line in bench.lines("w", 0)}
        before = await client.handle("w").metadata()
        await bench.cluster.kill(owner)
        heir = await bench.at_the_gate("w", runs=2)
        bench.open_gate()
        result = await result_of(client, "w")
        after = await client.handle("w").metadata()
        assert heir != owner and (str(before.owner), str(after.owner)) == (owner, heir)
        assert after.epoch > before.epoch and after.incarnation == before.incarnation
        assert result[0] == first and len(bench.lines("w", 0)) == 2, "what was recorded is not done again"
        lost, kept = [line for line in bench.lines("w", 1) if line.word == "began"]
        assert result[1] == kept.value != lost.value and lost.epoch != kept.epoch
        journal = await client.handle("w").journal()
        assert [entry.sequence_number for entry in journal] == [0, 1, 2] and all(entry.completed for entry in journal)

    on_cluster(3, body, tmp_path)


def test_an_owner_that_stood_still_and_goes_on_commits_nothing(tmp_path: Path) -> None:
    async def body(bench: Bench, client: Any) -> None:
        await client.submit("failover-gated", GATE, workflow_id="w")
        zombie = await bench.at_the_gate("w")
        _, first_epoch = bench.owner("w")
        await bench.cluster.pause(zombie)
        await bench.taken_from(zombie, "w")
        await bench.at_the_gate("w", runs=2)
        bench.open_gate()
        result = await result_of(client, "w")
        await bench.cluster.resume(zombie)
        process = bench.cluster.process_id(zombie)
        async with asyncio.timeout(PATIENCE_S):  # its body comes to an end, and it would like to record what came out
            while not (late := [one for one in bench.lines("w", 1) if one.word == "ended" and one.process == process]):
                await asyncio.sleep(0.01)
        await bench.cluster.wait_converged()
        assert late[0].value != result[1], "what the zombie drew is not the result"
        one_door = await bench.cluster.client(zombie)
        try:
            assert await result_of(one_door, "w") == result, "it tells what the others tell"
            assert (await one_door.handle("w").metadata()).epoch > first_epoch, "whoever has it now was promised it anew"
            (third,) = [entry for entry in await one_door.handle("w").journal() if entry.sequence_number == 1]
            assert third.output_json == str(result[1])
        finally:
            await one_door.close()
        assert len([one for one in bench.lines("w", 2) if one.word == "began"]) == 1

    on_cluster(3, body, tmp_path)


def test_of_two_nodes_one_alone_accepts_nothing_loses_nothing_and_goes_on_with_the_other(tmp_path: Path) -> None:
    async def body(bench: Bench, client: Any) -> None:
        done = await accepted(client, "failover-quick", 3, "done")
        assert await done.result(timeout=PATIENCE_S) == 9
        await client.submit("failover-gated", GATE, workflow_id="w")
        owner = await bench.at_the_gate("w")
        (other,) = [node for node in bench.cluster.nodes if node != owner]
        await bench.cluster.kill(other)
        error = await refused(client, "new")
        assert (error.have, error.need) == (1, 2)
        bench.open_gate()
        await bench.cluster.restart(other)
        assert len(await result_of(client, "w")) == 3
        assert await result_of(client, "done") == 9
        await accepted(client, "failover-quick", 7, "new")
        assert await result_of(client, "new") == 49

    on_cluster(2, body, tmp_path, rpc_timeout=3.0)


@pytest.mark.slow
def test_all_five_killed_at_once_and_started_in_any_order_have_everything_that_was_accepted(tmp_path: Path) -> None:
    seed = int(os.environ.get(SEED) or datetime.now(UTC).toordinal())
    draw = random.Random(seed)
    orders: list[str] = []

    async def body(bench: Bench, client: Any) -> None:
        numbers: dict[str, int] = {}
        waiting: list[str] = []
        told: dict[str, Any] = {}
        for number in range(RESTARTS):
            for n in range(7):
                numbers[f"q{number}-{n}"] = n
                await accepted(client, "failover-quick", n, f"q{number}-{n}")
                waiting.append(f"g{number}-{n}")
                await accepted(client, "failover-gated", f"{GATE}-{number}", waiting[-1])
            told |= {name: await result_of(client, name) for name in list(numbers)[-5:]}
            await asyncio.gather(*(bench.cluster.kill(node) for node in bench.cluster.nodes))
            (tmp_path / f"{GATE}-{number}").touch()
            await start_in_any_order(bench.cluster, draw, orders)
            assert {name: await result_of(client, name) for name in numbers} == {name: n * n for name, n in numbers.items()}
            told |= {name: result for name in waiting if len(result := await result_of(client, name)) == 3}
            assert told == {name: await result_of(client, name) for name in told} and told.keys() >= set(waiting)

    try:
        on_cluster(5, body, tmp_path)
    except BaseException:
        print(f"Again: {SEED}={seed}. Started in these orders: {'; '.join(orders)}")
        raise


async def start_in_any_order(cluster: LocalCluster, draw: random.Random, orders: list[str]) -> None:
    """Start nodes that are all gone, each right away, or when the one before listens: a drawn order, which is put down in
    ``orders``. Returns when all have been let in, for which they may need each other.
    """
    nodes = draw.sample(cluster.nodes, len(cluster.nodes))
    waits = [draw.random() < 0.5 for _ in nodes]
    orders.append(", ".join(f"{node}{' listens' if waited else ''}" for node, waited in zip(nodes, waits, strict=True)))
    async with asyncio.TaskGroup() as group:
        for node, waited in zip(nodes, waits, strict=True):
            group.create_task(cluster.restart(node))
            if waited:
                await cluster.wait_until(lambda node=node: node in cluster.running)  # type: ignore[misc]


@pytest.mark.slow
def test_a_node_with_an_empty_disk_does_not_vote_until_it_is_let_back(tmp_path: Path) -> None:
    async def body(bench: Bench, client: Any) -> None:
        await accepted(client, "failover-quick", 4, "old")
        assert await result_of(client, "old") == 16
        await bench.cluster.kill("node-2")
        await bench.cluster.wipe("node-3")
        await bench.cluster.restart("node-3")
        # Two of three run, and a plain majority of them would do. But one has forgotten what it had promised.
        for number in range(5):
            await refused(client, f"new{number}")
        await bench.cluster.restart("node-2")
        await accepted(client, "failover-quick", 7, "new0")
        assert await result_of(client, "new0") == 49 and await result_of(client, "old") == 16
        # Now it is let back, gets its copies, and holds a majority together with one other.
        await bench.let_back("node-3")
        await bench.cluster.kill("node-1")
        await accepted(client, "failover-quick", 8, "newer")
        assert [await result_of(client, name) for name in ("old", "new0", "newer")] == [16, 49, 64]

    on_cluster(3, body, tmp_path, rpc_timeout=3.0)


def test_every_node_takes_what_belongs_to_another_and_answers_for_it(tmp_path: Path) -> None:
    async def body(bench: Bench, client: Any) -> None:
        doors = {node: await bench.cluster.client(node) for node in bench.cluster.nodes}
        try:
            for number, (node, door) in enumerate(doors.items()):
                for each in range(6):
                    await accepted(door, "failover-quick", number, f"{node}-{each}")
            for node, door in doors.items():
                other = doors[next(name for name in doors if name != node)]
                number = list(doors).index(node)
                for each in range(6):
                    assert await result_of(other, f"{node}-{each}") == number * number
                    assert await door.handle(f"{node}-{each}").status() is Status.COMPLETED
            with pytest.raises(errors.WorkflowNotFound):
                await doors["node-1"].handle("nobody").status()
            with pytest.raises(errors.WorkflowAlreadyExists):
                await doors["node-2"].submit("failover-quick", 99, workflow_id="node-1-0")
            same = await doors["node-2"].submit("failover-quick", 0, workflow_id="node-1-0")
            assert await same.result(timeout=PATIENCE_S) == 0
        finally:
            await asyncio.gather(*(door.close() for door in doors.values()))
        ran = {line.process for line in (line for each in range(6) for line in bench.lines(f"node-1-{each}"))}
        assert len(ran) > 1, "what one node was given, several ran"

    on_cluster(3, body, tmp_path)


def test_a_node_that_leaves_hands_over_what_it_owns(tmp_path: Path) -> None:
    async def body(bench: Bench, client: Any) -> None:
        await client.submit("failover-gated", GATE, workflow_id="w")
        owner = await bench.at_the_gate("w")
        leaving = asyncio.create_task(bench.cluster.leave(owner))
        await bench.taken_from(owner, "w")
        bench.open_gate()
        await leaving
        assert len(await result_of(client, "w")) == 3
        assert str((await client.handle("w").metadata()).owner) != owner
        await bench.cluster.wait_until(lambda: owner not in {str(name) for name, _ in bench.cluster.owners().values()})
        for number in range(10):
            await accepted(client, "failover-quick", number, f"q{number}")
            assert await result_of(client, f"q{number}") == number * number

    on_cluster(4, body, tmp_path)
