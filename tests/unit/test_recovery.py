"""What is left of a cluster becomes a store of its own; and whose a folder is: a node's alone, or a cluster's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from replicaworld import KINDS, P, ReplicaWorld, put

import durable
from durable import Context, NodeStorage
from durable.cli import main
from durable.cluster import ClusterClient, ClusterConfig, ClusterNode
from durable.copies.messages import ZERO, Epoch, Found
from durable.copies.rows import (
    FOUND_KEY,
    PREFIX,
    Loaded,
    Seal,
    State,
    applied_row,
    decode_entry,
    encode_entry,
    encode_row,
    is_seal,
    log_key,
    state_key,
)
from durable.errors import ClusterError, JoinRejected, StoreError, StoreLocked
from durable.journal.entries import Status
from durable.journal.keys import PARTITIONS
from durable.membership.member import NodeAddress, NodeId
from durable.storage import InMemoryStore, open_store
from durable.storage.recovery import Copy, copies_in, furthest, is_sure, recover, writes_of

NAMES = ("left-1", "left-2", "left-3")
PATIENCE_S = 60.0


@durable.function("left-double")
async def double(number: int) -> int:
    return 2 * number


@durable.workflow("left-doubling")
async def doubling(ctx: Context, number: int) -> int:
    return await ctx.call(double, number)


@durable.workflow("left-waiting")
async def waiting(ctx: Context) -> str:
    first = await ctx.call(double, 21)
    return f"{first} and {await ctx.receive('word', str)}"


class Nodes:
    """Nodes of one cluster in this process, each on a folder."""

    def __init__(self, folder: Path, scheme: str = "rocksdb") -> None:
        self._folder = folder
        self._scheme = scheme
        self._stack = AsyncExitStack()
        self.by_name: dict[str, ClusterNode] = {}

    def path(self, name: str) -> Path:
        return self._folder / name

    def make(self, name: str, *, witness: bool = False) -> ClusterNode:
        store = open_store(f"{self._scheme}:{self.path(name)}")
        self._stack.callback(store.close)
        config = ClusterConfig.lan(name, bind_address="127.0.0.1:0", witness=witness)
        node = self.by_name[name] = ClusterNode(config, NodeStorage.make(store))
        self._stack.push_async_callback(node.close)
        return node

    async def found(self, *names: str, witnesses: tuple[str, ...] = ()) -> list[ClusterNode]:
        nodes = [self.make(name, witness=name in witnesses) for name in names]
        seeds = [await node.start() for node in nodes]
        await asyncio.gather(*(node.join(seeds=seeds) for node in nodes))
        await owned(nodes)
        return nodes

    async def close(self) -> None:
        await self._stack.aclose()


async def owned(nodes: list[ClusterNode]) -> None:
    """Until every partition is somebody's."""
    held: dict[str, dict[int, int]] = {}
    done = asyncio.Event()

    async def watch(node: ClusterNode) -> None:
        async for now in node.ownership():
            held[node.config.node_id] = now
            if len({partition for each in held.values() for partition in each}) == PARTITIONS:
                done.set()

    async with asyncio.timeout(PATIENCE_S):
        tasks = [asyncio.ensure_future(watch(node)) for node in nodes]
        await done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run(body: Callable[[], object]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(2 * PATIENCE_S):
            await body()  # type: ignore[misc]

    asyncio.run(bounded())


async def fill(node: ClusterNode, first: int, count: int) -> None:
    for number in range(first, first + count):
        assert await (await node.submit(doubling, number, workflow_id=f"left-{number}")).result(timeout=20) == 2 * number


async def left_behind(folder: Path) -> None:
    """The folder of a cluster of one, which has stopped."""
    nodes = Nodes(folder)
    await nodes.found("left-1")
    await nodes.close()


# --- from what is left


@pytest.mark.parametrize("scheme", ["rocksdb", "leveldb"])
def test_what_one_disk_of_three_holds_goes_on_by_itself_and_what_may_be_missing_is_said(tmp_path: Path, scheme: str) -> None:
    if scheme == "leveldb":
        pytest.importorskip("plyvel", reason="no LevelDB here")

    async def body() -> None:
        nodes = Nodes(tmp_path, scheme)
        first, *_ = await nodes.found(*NAMES)
        await fill(first, 0, 20)
        await first.submit(waiting, workflow_id="left-waits")
        while await first.handle("left-waits").status() is not Status.WAITING:
            await asyncio.sleep(0.01)
        with pytest.raises(StoreLocked, match="close it first"):
            recover([nodes.path("left-1")], tmp_path / "none")
        await nodes.close()

        alone = await asyncio.to_thread(recover, [nodes.path("left-2")], tmp_path / "alone")
        assert (alone.executions, len(alone.unsure), alone.missing) == (21, PARTITIONS, ())
        both = await asyncio.to_thread(recover, [nodes.path("left-2"), nodes.path("left-3")], tmp_path / "both")
        assert (both.executions, both.unsure, both.missing) == (21, (), ())
        for store in ("alone", "both"):
            async with durable.open(f"{scheme}:{tmp_path / store}") as runtime:
                assert [await runtime.handle(f"left-{number}").result() for number in range(20)] == list(range(0, 40, 2))
                handle = runtime.handle("left-waits")
                await handle.send("word", "more")
                assert await handle.result(timeout=20) == "42 and more"
                again = await runtime.submit(doubling, 3, workflow_id="left-3")
                assert await again.result() == 6, "and an id that is asked for again is the one that was"

    run(body)


def test_of_several_folders_the_furthest_copy_counts_in_whatever_order_they_are_named(tmp_path: Path) -> None:
    async def body() -> None:
        nodes = Nodes(tmp_path)
        first, *_, third = await nodes.found(*NAMES)
        await fill(first, 0, 5)
        await third.close()
        await owned([nodes.by_name[name] for name in NAMES[:2]])
        await fill(first, 5, 15)
        await nodes.close()
        for order in (NAMES[::-2], NAMES[::2]):
            done = await asyncio.to_thread(recover, [nodes.path(name) for name in order], tmp_path / order[0].removeprefix("left"))
            assert (done.executions, done.unsure) == (20, ())

    run(body)


def test_what_is_recovered_founds_a_new_cluster_that_others_join(tmp_path: Path) -> None:
    async def body() -> None:
        old = Nodes(tmp_path)
        await fill((await old.found(*NAMES))[0], 0, 8)
        await old.close()
        await asyncio.to_thread(recover, [old.path("left-3")], tmp_path / "new-1")
        await grow(Nodes(tmp_path), 8)

    run(body)


async def grow(nodes: Nodes, executions: int) -> None:
    """A cluster founded on the folder "new-1" alone; two join it; the first one goes with its folder; all is still there."""
    first = nodes.make("new-1")
    await first.bootstrap()
    await owned([first])
    address = first.members()[0].address
    others = [nodes.make(name) for name in ("new-2", "new-3")]
    for node in others:
        await node.join(seeds=[address])
    for node in others:
        host: Any = node._host
        filled = partial(lambda one, core: core.voter and not one.view().copies.lacking, node, host.core)
        assert await host.log.until(filled, PATIENCE_S)
    await first.close()
    await owned(others)
    for number in range(executions):
        assert await others[number % 2].handle(f"left-{number}").result(timeout=20) == 2 * number
    await nodes.close()


def test_a_recovery_says_what_it_cannot_use_and_touches_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        for cluster in "ab":
            await left_behind(tmp_path / cluster)
        async with durable.open(tmp_path / "single") as runtime:
            await (await runtime.submit(doubling, 1)).result()

    run(body)
    here, there = tmp_path / "a" / "left-1", tmp_path / "b" / "left-1"
    with pytest.raises(StoreError, match="of two clusters"):
        recover([here, there], tmp_path / "new")
    with pytest.raises(StoreError, match="is of no cluster's node"):
        recover([tmp_path / "single"], tmp_path / "new")
    with pytest.raises(StoreError, match="there is something at"):
        recover([here], tmp_path / "single")
    with pytest.raises(StoreError, match="holds no store"):
        recover([tmp_path / "nowhere"], tmp_path / "new")
    (tmp_path / ".new.recovering").mkdir()
    with pytest.raises(StoreError, match="broken off"):
        recover([here], tmp_path / "new")
    (tmp_path / ".new.recovering").rmdir()
    assert not (tmp_path / "new").exists()
    assert recover([here], tmp_path / "new").unsure == ()


def test_the_command_says_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def body() -> None:
        nodes = Nodes(tmp_path)
        await fill((await nodes.found(*NAMES))[0], 0, 3)
        await nodes.close()

    run(body)
    left = [str(tmp_path / name) for name in NAMES]
    assert main(["recover", *left[1:], "--to", str(tmp_path / "whole")]) == 0
    assert capsys.readouterr().out.startswith(f"3 executions in {tmp_path / 'whole'}.")
    assert main(["recover", f"rocksdb:{left[2]}", "--to", str(tmp_path / "half"), "--json"]) == 3
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (said["executions"], said["missing"], len(said["unsure"])) == (3, [], PARTITIONS)
    assert "of 256 partitions (0-255) most of the newest copies are lost" in err
    assert main(["recover", left[0], "--to", str(tmp_path / "half")]) == 1
    assert "there is something at" in capsys.readouterr().err
    assert main(["list", "--json", "--store", str(tmp_path / "half")]) == 0
    assert [one["status"] for one in json.loads(capsys.readouterr().out)] == ["COMPLETED"] * 3


def test_a_folder_that_a_process_of_another_container_holds_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not name its process to this one; the lock is there all the same."""

    run(partial(left_behind, tmp_path))
    folder = str(tmp_path / "left-1")
    code = f"from durable.storage import open_store; s = open_store({folder!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        monkeypatch.setattr("durable.storage.folder.holder", lambda folder: None)
        with pytest.raises(StoreLocked, match="does not say which"):
            recover([tmp_path / "left-1"], tmp_path / "new")
        process.communicate("\n")
    assert recover([tmp_path / "left-1"], tmp_path / "new").unsure == ()


def test_what_is_recovered_is_found_under_the_url_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        nodes = Nodes(tmp_path)
        await fill((await nodes.found("left-1"))[0], 0, 2)
        await nodes.close()
        done = await asyncio.to_thread(recover, ["rocksdb:left-1"], "rocksdb:orders.db")
        assert done.folder == Path("orders.db")
        async with durable.open("rocksdb:orders.db") as runtime:
            assert await runtime.handle("left-1").result() == 2

    monkeypatch.chdir(tmp_path)
    run(body)
    with pytest.raises(ValueError, match="name a folder"):
        recover(["left-1"], "memory:")
    assert main(["recover", "left-1", "--to", "memory:"]) == 2


def test_the_name_of_what_is_recovered_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(partial(left_behind, tmp_path))
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr("durable.storage.recovery.sync_names", lambda path: synced.append((path, (tmp_path / "new").exists())))
    recover([tmp_path / "left-1"], tmp_path / "new")
    assert synced == [(tmp_path, True)]


def test_a_recovery_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(partial(left_behind, tmp_path))

    def full(*_: object) -> None:
        raise StoreError("no space left")

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="no space"):
        patch.setattr("durable.storage.recovery.writes_of", full)
        recover([tmp_path / "left-1"], tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left-1"]


# --- the law: who says that nothing is missing is right


def made_of(copy: Copy) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    for batch in writes_of(P, copy):
        put(rows, (), batch)
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_when_nothing_can_be_missing_everything_that_was_committed_is_there(kind: str) -> None:
    sure = 0
    for seed in range(40):
        world = ReplicaWorld(seed, **KINDS[kind])
        world.run()
        random = Random(seed)
        stores: dict[NodeId, dict[bytes, bytes]] = {}
        for node in world.nodes:
            node.disk.crash(random)
            stores[node.name] = node.disk.safe
        for _ in range(6):
            names = random.sample(world.names, random.randint(1, len(world.names)))
            found = [copy for name in names for copy in [copy_in(stores[name], world.by_name[name].disk.store_id)] if copy]
            if not found or not is_sure(found):
                continue
            sure += 1
            best = furthest(found)
            entries = dict(best.entries)
            assert best.last >= world.laws.last, f"seed {seed}, disks {names}"
            committed: dict[bytes, bytes] = {}
            for index in range(1, world.laws.last + 1):
                entry = world.laws.committed[index][0]
                assert entries.get(index, entry) == entry, f"seed {seed}, disks {names}: another entry {index}"
                if not is_seal(entry):
                    put(committed, (), decode_entry(entry))
            if best.last == world.laws.last:
                assert made_of(best) == committed, f"seed {seed}, disks {names}"
    assert sure > 20, "and it says so often enough"


def copy_in(rows: Mapping[bytes, bytes], store_id: bytes) -> Copy | None:
    store = InMemoryStore.open()
    store.write(sorted(rows.items()))
    return copies_in(store, store_id, Loaded(store.scan(PREFIX))).get(P)


# --- the table, row by row


def copy(
    name: str, generation: int = 1, log_epoch: Epoch = ZERO, last: int = 5, seal: int = 0, members: str = "abc", leads: int = 0
) -> Copy:
    entries = [(index, encode_entry([])) for index in range(1, last + 1)]
    if seal:
        entries.append((last + 1, encode_row(Seal(seal, {}))))
    state = State(
        generation=generation, members={NodeId(one): one.encode() for one in members}, log_epoch=log_epoch, ready=True,
        next_generation=leads,
    )  # fmt: skip
    return Copy(name.encode(), InMemoryStore.open(), state, 0, entries)


@pytest.mark.parametrize(
    ("copies", "sure"),
    [
        ([copy("a")], False),
        ([copy("a"), copy("b")], True),
        ([copy("a"), copy("a")], False),  # one disk, twice
        ([copy("a"), copy("x")], False),  # no member: a learner, or a disk that is marked
        ([copy("a"), copy("b"), copy("c", generation=2)], False),  # one of the next generation's three
        ([copy("a"), copy("b"), copy("c", generation=2), copy("b", generation=2)], True),
        ([copy("a"), copy("b", seal=2)], False),  # it may have moved on
        ([copy("a"), copy("b", leads=2)], False),
        ([copy("a", members="a")], True),
    ],
)
def test_nothing_can_be_missing_if_a_majority_of_the_newest_generation_is_here(copies: list[Copy], sure: bool) -> None:
    assert is_sure(copies) is sure


def test_the_furthest_is_of_the_newest_generation_then_of_the_highest_epoch_then_the_longest() -> None:
    older, long = copy("a", 1, (9, NodeId("z")), last=99), copy("b", 2, (3, NodeId("a")), last=50)
    ahead, short = copy("c", 2, (4, NodeId("a")), last=9), copy("a", 2, (4, NodeId("a")), last=7)
    for order in ([older, long, short, ahead], [ahead, short, long, older]):
        assert furthest(order) is ahead


def test_a_copy_that_was_never_filled_or_has_a_hole_is_none() -> None:
    def rows(*indexes: int, ready: bool = True, applied: int = 2) -> dict[bytes, bytes]:
        held = {log_key(P, index): encode_entry([]) for index in indexes}
        state = State(generation=1, base=2, ready=ready)
        return dict([*held.items(), (state_key(P), encode_row(state)), applied_row(P, applied)])

    assert copy_in(rows(3, 4), b"a") is not None
    assert copy_in(rows(3, 5), b"a") is None
    assert copy_in(rows(3, 4, ready=False), b"a") is None
    assert copy_in(rows(3, 4, applied=5), b"a") is None


# --- whose folder it is


def test_a_store_that_ran_without_a_cluster_founds_one_alone_and_those_who_join_get_all_of_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with durable.open(tmp_path / "new-1") as runtime:
            for number in range(6):
                await (await runtime.submit(doubling, number, workflow_id=f"left-{number}")).result()
        await grow(Nodes(tmp_path), 6)

    run(body)


async def beside_another(folder: Path) -> tuple[Nodes, ClusterNode, ClusterNode, list[NodeAddress]]:
    """A node on a folder in which something ran alone, one on an empty folder, and where they listen."""
    async with durable.open(folder / "left-1") as runtime:
        await (await runtime.submit(doubling, 4, workflow_id="left-4")).result()
    nodes = Nodes(folder)
    mine, other = nodes.make("left-1"), nodes.make("left-2")
    return nodes, mine, other, [await node.start() for node in (mine, other)]


def test_a_store_that_ran_without_a_cluster_is_not_taken_where_others_take_part(tmp_path: Path) -> None:
    async def body() -> None:
        nodes, mine, other, seeds = await beside_another(tmp_path)
        with pytest.raises(JoinRejected, match=r"ran without a cluster.*--bootstrap"):
            await mine.join(seeds=seeds)
        await other.bootstrap()
        await owned([other])
        await other.join(seeds=seeds[:1])  # from now on it tells its roster to all whom it knows
        host: Any = mine._host
        while not host._dropped["it ran alone"]:
            await asyncio.sleep(0.01)
        for _ in range(2):
            with pytest.raises(JoinRejected, match="ran without a cluster"):
                await mine.join(seeds=seeds[1:])
        await nodes.close()
        async with durable.open(tmp_path / "left-1") as runtime:
            assert await runtime.handle("left-4").result() == 8, "nothing was touched"

    run(body)


def test_a_store_in_which_nothing_ran_yet_founds_a_cluster_as_an_empty_one_does(tmp_path: Path) -> None:
    async def body() -> None:
        async with durable.open(tmp_path / "left-1"):
            pass
        nodes = Nodes(tmp_path)
        await nodes.found("left-1", "left-2")
        await nodes.close()

    run(body)


def test_a_founder_whose_cluster_never_began_is_no_node_of_one(tmp_path: Path) -> None:
    """It has agreed to a first roster that nobody decided: nothing of it is anybody else's."""
    store = open_store(tmp_path / "left-1")
    NodeStorage.make(store).store.write([(FOUND_KEY, encode_row(Found(("127.0.0.1:1",), (NodeId("a"),), {})))])
    store.close()
    with pytest.raises(StoreError, match="is of no cluster's node"):
        recover([tmp_path / "left-1"], tmp_path / "new")

    async def body() -> None:
        nodes, mine, _, seeds = await beside_another(tmp_path)
        with pytest.raises(JoinRejected, match="ran without a cluster"):
            await mine.join(seeds=seeds)
        await nodes.close()

    run(body)


def test_a_witness_founds_nothing_alone(tmp_path: Path) -> None:
    async def body() -> None:
        nodes = Nodes(tmp_path)
        witness = nodes.make("left-w", witness=True)
        with pytest.raises(ClusterError, match="owns nothing"):
            await witness.bootstrap()
        with pytest.raises(JoinRejected, match="owns nothing"):
            await witness.join()
        await nodes.close()

    run(body)


def test_the_folder_of_a_clusters_node_is_not_opened_alone(tmp_path: Path) -> None:
    async def body() -> None:
        nodes = Nodes(tmp_path)
        await fill((await nodes.found("left-1"))[0], 1, 1)
        await nodes.close()
        with pytest.raises(StoreError, match=r"node of a cluster.*durable recover"):
            await durable.open(tmp_path / "left-1")
        again = nodes.make("left-1")
        await again.join()
        assert await again.handle("left-1").result(timeout=20) == 2
        await nodes.close()

    run(body)


# --- the ring names who may own


def test_the_ring_names_the_owner_also_where_a_witness_votes(tmp_path: Path) -> None:
    async def body() -> None:
        nodes = Nodes(tmp_path)
        first, *_ = await nodes.found("left-1", "left-2", "left-w", witnesses=("left-w",))
        ids = [f"left-{number}" for number in range(200)]
        assert {first.ring.get_node(each) for each in ids} == {"left-1", "left-2"}
        for node in nodes.by_name.values():
            host: Any = node._host
            agree = partial(lambda one: all(one.ring.get_node(each) == one.owner(each) for each in ids), node)
            assert await host.log.until(agree, PATIENCE_S)
        async with ClusterClient([first.members()[0].address]) as client:
            await client.members()
            assert client._router.ring.nodes == ("left-1", "left-2")
            assert await client.owner(ids[0]) == first.ring.get_node(ids[0])
        await nodes.close()

    run(body)
