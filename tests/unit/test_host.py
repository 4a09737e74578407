"""A node that owns: what it does with a partition that comes and goes, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import Context, NodeConfig
from durable.cli import main
from durable.cluster import ClusterClient, ClusterConfig, ClusterNode
from durable.copies.messages import Append, SnapshotPiece, encode
from durable.errors import (
    ClusterError,
    DurableError,
    JoinRejected,
    NoQuorum,
    OutcomeUnknown,
    StoreCorrupted,
    StoreError,
    Unreachable,
)
from durable.journal.keys import PARTITIONS, partition_of
from durable.membership.member import NodeId
from durable.replication.transfer import Transfer
from durable.rpc.requests import Outcome
from durable.storage import RocksDBStore
from durable.storage.folder import DISTRUSTED, distrusted
from durable.storage.memory import InMemoryStore
from durable.storage.node import NodeStorage
from durable.transports.links import LINK_BYTES_MAX

EVERY = set(range(PARTITIONS))


@durable.function("host-double")
async def double(number: int) -> int:
    return 2 * number


@durable.workflow("host-doubling")
async def doubling(ctx: Context, number: int) -> int:
    return await ctx.call(double, number)


@durable.workflow("host-relay")
async def relay(ctx: Context, to: str) -> str:
    await ctx.send(to, "news", ctx.workflow_id)
    return await ctx.receive("answer", str)


@durable.workflow("host-answering")
async def answering(ctx: Context) -> str:
    sender = await ctx.receive("news", str)
    await ctx.send(sender, "answer", f"heard by {ctx.workflow_id}")
    return sender


def node_of(name: str, storage: NodeStorage | None = None, **changes: Any) -> ClusterNode:
    config = ClusterConfig.lan(name, bind_address="127.0.0.1:0", **changes)
    return ClusterNode(config, storage or NodeStorage.make(InMemoryStore.open()))


def with_nodes(count: int, body: Callable[[list[ClusterNode]], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(120):
            nodes = [node_of(f"host-{number}", **changes) for number in range(1, count + 1)]
            seeds = [await node.start() for node in nodes]
            await asyncio.gather(*(node.join(seeds=seeds) for node in nodes))
            await owned_by_all(nodes)
            await body(nodes)
            await asyncio.gather(*(node.close() for node in nodes))

    asyncio.run(run())


async def owned_by_all(nodes: list[ClusterNode], wanted: set[int] = EVERY) -> None:
    """Until every partition, or these and no others, have an owner among them; looked at whenever one says what it owns."""
    owned: dict[int, dict[int, int]] = {}
    done = asyncio.Event()

    async def watch(number: int, node: ClusterNode) -> None:
        async for partitions in node.ownership():
            owned[number] = partitions
            if {partition for each in owned.values() for partition in each} == wanted:
                done.set()

    tasks = [asyncio.ensure_future(watch(number, node)) for number, node in enumerate(nodes)]
    await done.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_what_is_submitted_anywhere_runs_where_the_owner_is_and_is_told_everywhere() -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        for number in range(12):
            name = f"spread-{number}"
            handle = await nodes[number % 3].submit(doubling, number, workflow_id=name)
            assert await handle.result(timeout=10) == 2 * number
            owner = nodes[0].owner(name)
            for node in nodes:
                metadata = await node.handle(name).metadata()
                assert (metadata.owner, metadata.epoch > 0) == (owner, True)
                assert node.ring.get_node(name) == nodes[0].ring.get_node(name)
        assert [one.workflow_id for one in await nodes[1].list(workflow="host-doubling")] == sorted(
            (f"spread-{number}" for number in range(12)), key=lambda name: (partition_of(name), name)
        )

    with_nodes(3, body)


def test_a_result_is_told_by_a_copy_that_cannot_have_missed_a_purge_and_else_by_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        handle = await nodes[0].submit(doubling, 4, workflow_id="told")
        assert await handle.result(timeout=10) == 8
        asked: list[ClusterNode] = []
        for node in nodes:
            call = node._host.calls.call
            monkeypatch.setattr(node._host.calls, "call", lambda *args, node=node, call=call: asked.append(node) or call(*args))
        others = [node for node in nodes if node.owner("told") != node.config.node_id]
        while not all((row := node._host.desk._copy("told")) and row.status.finished for node in others):
            await asyncio.sleep(0)
        asked.clear()
        for node in nodes:
            assert await node.handle("told").result(timeout=10) == 8
        assert asked == []
        for node in nodes:
            now_ms = node._clock.now_ms
            monkeypatch.setattr(node._clock, "now_ms", lambda now_ms=now_ms: now_ms() + 3_600_000)
        for node in nodes:
            assert await node.handle("told").result(timeout=10) == 8
        assert set(asked) == set(others)

    with_nodes(3, body)


def test_nodes_that_advertise_names_found_a_cluster() -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        assert {member.address.host for member in nodes[0].members()} == {"localhost"}
        for number, node in enumerate(nodes):
            handle = await node.submit(doubling, number, workflow_id=f"named-{number}")
            assert await handle.result(timeout=10) == 2 * number

    with_nodes(2, body, advertise_address="localhost:0")


def test_executions_on_two_nodes_write_to_each_other() -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        names = (f"answering-{number}" for number in range(1_000))
        far = next(name for name in names if nodes[0].owner(name) != nodes[0].owner("relay"))
        answerer = await nodes[0].submit(answering, workflow_id=far)
        sender = await nodes[1].submit(relay, far, workflow_id="relay")
        assert await sender.result(timeout=10) == f"heard by {far}"
        assert await answerer.result(timeout=10) == "relay"

    with_nodes(3, body)


def test_a_member_without_a_storage_says_that_it_runs_nothing() -> None:
    async def run() -> None:
        async with ClusterNode(ClusterConfig.lan("bare", bind_address="127.0.0.1:0")) as node:
            with pytest.raises(ClusterError, match="has no storage"):
                await node.submit(doubling, 1)
        fresh = node_of("fresh")
        with pytest.raises(ClusterError, match="has not been started"):
            await fresh.submit(doubling, 1)

    asyncio.run(run())


def test_a_node_alone_keeps_what_was_accepted_over_a_restart() -> None:
    async def run() -> None:
        store = InMemoryStore.open()
        async with asyncio.timeout(30):
            for life in range(2):
                node = node_of("alone", NodeStorage.make(store))
                await node.join()
                await owned_by_all([node])
                if life == 0:
                    await node.submit(answering, workflow_id="waits")
                else:
                    await node.handle("waits").send("news", "nobody")
                    assert (await node.handle("waits").metadata()).epoch == 2, "R6: no epoch is continued"
                await node.close()

    asyncio.run(run())


def test_without_the_others_a_node_takes_nothing_in_and_closes_all_the_same() -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        first, second = nodes
        mine = next(f"mine-{number}" for number in range(1_000) if first.owner(f"mine-{number}") == "host-1")
        await second.close()
        with pytest.raises((NoQuorum, OutcomeUnknown)):
            await first.submit(doubling, 1, workflow_id=mine)
        with pytest.raises(NoQuorum) as refused:
            await first.submit(doubling, 1, workflow_id=f"{mine}-again")
        assert refused.value.need == 2

    with_nodes(2, body, rpc_timeout=2.0)


def test_a_frame_of_one_byte_is_counted_and_nothing_more() -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        host: Any = nodes[0]._host
        before = host._dropped["unreadable"]
        for data in (b"r", b"r\x05ab", b"r\x01\xff"):
            host.frame(None, data)
        assert host._dropped["unreadable"] == before + 3

    with_nodes(1, body)


def test_a_view_counts_what_the_replicas_refused_of_an_owner_of_the_past() -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        host: Any = nodes[1]._host
        late = Append(0, host.core.replicas[0].generation, (0, NodeId("host-1")), 0, [], 0)
        assert "append of an older epoch" not in nodes[1].view().dropped
        for times in (1, 2):
            host.log.receive(NodeId("host-1"), encode([nodes[0]._host.core.hello, late]))
            assert nodes[1].view().dropped["append of an older epoch"] == times

    with_nodes(2, body)


def test_a_store_is_made_for_256_partitions() -> None:
    with pytest.raises(ValueError, match="partitions is 8"):
        node_of("few", partitions=8)


def test_a_list_and_a_purge_give_what_there_is_and_name_the_partitions_that_nobody_has(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of five are gone at once: of some partitions two of the three copies."""

    async def body(nodes: list[ClusterNode]) -> None:
        first = nodes[0]
        ids = [f"part-{number}" for number in range(60)]
        handles = await asyncio.gather(*(first.submit(doubling, 1, workflow_id=name) for name in ids))
        await asyncio.gather(*(handle.result(timeout=20) for handle in handles))
        core: Any = first._host.core  # type: ignore[union-attr]
        gone = {node.config.node_id for node in nodes[3:]}
        await asyncio.gather(*(node.close() for node in nodes[3:]))
        lost = {each for each in range(PARTITIONS) if len(gone & set(core.replica_set(each))) == 2}
        assert lost
        await owned_by_all(nodes[:3], EVERY - lost)

        def others(missing: Collection[int]) -> list[str]:
            assert lost <= set(missing) < EVERY
            return sorted(name for name in ids if partition_of(name) not in missing)

        found = await nodes[1].list()
        assert sorted(one.workflow_id for one in found) == others(found.missing) != []
        assert all(isinstance(why, DurableError) for why in found.missing.values())
        code = await asyncio.to_thread(main, ["list", "--json", "--seeds", str(first.members()[0].address)])
        shown = capsys.readouterr()
        assert code == 3 and "incomplete: nobody answered for" in shown.err and json.loads(shown.out) != []

        purged = await nodes[2].purge(request_id="clean")
        assert sorted(purged) == others(purged.missing) != [] and purged.request_id == "clean"
        again = await first.purge(request_id="clean")
        assert set(others({*purged.missing, *again.missing})) <= set(again), "who did not get the answer asks again"

    monkeypatch.setattr("durable.commands.credentials_of", lambda cluster: {"rpc_timeout": 4.0})
    with_nodes(5, body, rpc_timeout=4.0)


def test_a_partition_that_no_link_could_hold_at_once_arrives_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over real sockets: more than `LINK_BYTES_MAX`, past which a link drops what it is told to send."""
    pieces: list[int] = []
    take = Transfer.on_snapshot

    def counted(self: Transfer, piece: SnapshotPiece) -> None:
        pieces.append(sum(len(key) + len(value) for key, value in piece.rows))
        take(self, piece)

    monkeypatch.setattr(Transfer, "on_snapshot", counted)
    rows, row_bytes = 1_100, 64 << 10

    async def body(nodes: list[ClusterNode]) -> None:
        large = partition_of("large")
        owner: Any = next(node for node in nodes if large in node._host.owned_now)._host  # type: ignore[union-attr]
        keys = [large.to_bytes(2, "big") + b"~%06d" % number for number in range(rows)]
        for begin in range(0, rows, 16):
            await owner.log.append(large, [(key, key * (row_bytes // len(key))) for key in keys[begin : begin + 16]])
        newcomer = node_of("newcomer")
        await newcomer.join(seeds=[node.members()[0].address for node in nodes])
        host: Any = newcomer._host
        assert await host.log.until(lambda: host.core.voter, 60)
        store: Any = newcomer._storage.store  # type: ignore[union-attr]
        here = dict(store.scan(large.to_bytes(2, "big") + b"~"))
        assert list(here) == keys and all(value == key * (row_bytes // len(key)) for key, value in here.items())
        assert sum(map(len, here.values())) > LINK_BYTES_MAX
        assert max(pieces) < 1 << 20 and len(pieces) > 200
        assert host.core.dropped["transfer put off"] == host.core.dropped["transfer too large"] == 0
        await newcomer.close()

    with_nodes(2, body)


def test_who_looks_sees_who_votes_who_only_witnesses_and_who_waits_for_the_roster(capsys: pytest.CaptureFixture[str]) -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        first = nodes[0]
        seeds = [node.members()[0].address for node in nodes]
        address = str(seeds[0])
        witness, bare = node_of("witness", witness=True), ClusterNode(ClusterConfig.lan("bare", bind_address="127.0.0.1:0"))
        for node in (witness, bare):
            await node.join(seeds=seeds)
        host: Any = witness._host
        core = host.core
        assert await host.log.until(lambda: "no voter yet" in (witness.waits_for() or ""), 60)
        assert await host.log.until(lambda: core.voter, 60)
        assert witness.waits_for() is None
        assert str(witness.view().copies).startswith("0 owned") and not str(first.view().copies).startswith("0 owned")
        await asyncio.gather(nodes[2].close(), witness.close())  # two of four voters: nobody is let in any more
        empty = node_of("host-3")
        await empty.join(seeds=seeds)
        other: Any = empty._host
        assert await other.log.until(lambda: "its disk is not the one" in (empty.waits_for() or ""), 60)
        roles = {"host-1": "voter", "host-2": "voter", "host-3": "new disk", "witness": "witness", "bare": "member"}
        assert empty.view().roles == roles

        async with ClusterClient([address]) as client:
            views = await client.views()
        assert set(views) == set(roles) - {"witness"} and views["bare"].copies is None
        copies = views["host-3"].copies
        wanted = sum("host-3" in core.replica_set(each) for each in range(PARTITIONS))
        assert copies is not None and (copies.owned, copies.lacking) == (0, wanted)
        code = await asyncio.to_thread(main, ["members", "--seed", address])
        shown = capsys.readouterr().out
        assert code == 0 and "new disk" in shown and f"{copies.lacking} to come" in shown
        await asyncio.gather(*(node.close() for node in (bare, empty)))

    with_nodes(3, body)


# R7, over a restart


def failing(store: RocksDBStore, error: OSError) -> None:
    def sync() -> None:
        raise error

    store._sync = sync  # type: ignore[method-assign]


def test_a_folder_whose_fsync_failed_comes_back_as_another_disk_and_votes_when_it_was_filled(tmp_path: Path) -> None:
    folder = tmp_path / "rocks"

    async def body(nodes: list[ClusterNode]) -> None:
        seeds = [node.members()[0].address for node in nodes]
        store = RocksDBStore.open(folder)
        node = node_of("host-disk", NodeStorage.make(store))
        await node.join(seeds=seeds)
        host: Any = node._host
        assert await host.log.until(lambda: host.core.voter, 60)
        handle = await nodes[0].submit(doubling, 4, workflow_id="before")
        await handle.result(timeout=10)
        old = host.core.home.store_id
        failing(store, OSError(5, "Input/output error"))
        with pytest.raises(StoreError, match="Input/output error"):
            await node.closed()
        await node.close()
        store.abandon()

        again = node_of("host-disk", NodeStorage.make(RocksDBStore.open(folder)))
        await again.start()
        host = again._host
        assert host.core.home.store_id == distrusted(folder) != old
        assert not host.core.voter and not any(replica.may_vote() for replica in host.core.replicas.values())
        await again.join(seeds=seeds)
        assert await host.log.until(lambda: host.core.voter, 60), "a roster change lets it back"
        assert await again.handle("before").result(timeout=10) == 8
        await again.close()

    with_nodes(3, body)


@pytest.mark.parametrize(("error", "voters"), [(OSError(28, "No space left on device"), 2), (OSError(5, "Input/output error"), 1)])
def test_a_full_disk_and_the_only_voter_are_trusted_again(error: OSError, voters: int, tmp_path: Path) -> None:
    """Three disks that are full at once must not cost a cluster its majority; and nobody could fill the only one."""

    async def body(nodes: list[ClusterNode]) -> None:
        await nodes[-1].leave()
        store = RocksDBStore.open(tmp_path)
        node = node_of("host-disk", NodeStorage.make(store))
        await node.join(seeds=[node.members()[0].address for node in nodes[:-1]])
        host: Any = node._host
        if voters == 2:
            assert await host.log.until(lambda: host.core.voter, 60)
        else:
            assert await host.log.until(lambda: list(host.core.roster.voters) == ["host-disk"], 60)
        failing(store, error)
        with pytest.raises(StoreError):
            store.sync()
        assert distrusted(tmp_path) is None
        await node.close()
        store.abandon()

    with_nodes(voters, body)


def test_a_disk_that_refuses_the_mark_is_said_to_be_of_no_more_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        store = RocksDBStore.open(tmp_path)
        node = node_of("host-disk", NodeStorage.make(store))
        await node.join(seeds=[nodes[0].members()[0].address])
        host: Any = node._host
        assert await host.log.until(lambda: host.core.voter, 60)
        (tmp_path / f"{DISTRUSTED}.new").mkdir()
        failing(store, OSError(5, "Input/output error"))
        with caplog.at_level(logging.CRITICAL, "durable"), pytest.raises(StoreError):
            await node.closed()
        assert "Do not start a node on it again" in caplog.text
        await node.close()
        store.abandon()

    with_nodes(2, body)


def test_a_mark_that_cannot_be_read_is_no_mark_of_trust(tmp_path: Path) -> None:
    for text in ("half a ma", "", "\n"):
        (tmp_path / DISTRUSTED).write_text(text)
        with pytest.raises(StoreCorrupted, match="empty folder"):
            distrusted(tmp_path)


def test_the_last_node_beside_a_witness_leaves_at_once() -> None:
    """A witness runs nothing, and what the node holds stays in its folder: there is nobody to wait for."""

    async def run() -> None:
        nodes = [node_of("host-1", rpc_timeout=60.0), node_of("host-2", rpc_timeout=60.0, witness=True)]
        seeds = [await node.start() for node in nodes]
        await asyncio.gather(*(node.join(seeds=seeds) for node in nodes))
        await owned_by_all(nodes)
        async with asyncio.timeout(20):
            await nodes[0].leave()
        await nodes[1].close()

    asyncio.run(run())


def test_a_folder_is_not_opened_with_other_settings_than_its_cluster_was_born_with(tmp_path: Path) -> None:
    async def run() -> None:
        store = RocksDBStore.open(tmp_path)
        async with node_of("host-1", NodeStorage.make(store)) as node:
            await owned_by_all([node])
        store.close()
        store = RocksDBStore.open(tmp_path)
        with pytest.raises(JoinRejected, match="replicas is 2 here and 3 there"):
            async with node_of("host-1", NodeStorage.make(store), replicas=2):
                pytest.fail("it was opened")
        store.close()

    asyncio.run(run())


@durable.function("host-size")
async def size(text: str) -> int:
    return len(text)


@durable.workflow("host-wide")
async def wide(ctx: Context, count: int) -> int:
    return sum([await each for each in [ctx.call(size, "x" * 4_000_000) for _ in range(count)]])


def test_a_step_that_records_more_than_an_entry_takes_is_recorded_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.replication.owner.ENTRY_BYTES_MAX", 10 << 20)

    async def body(nodes: list[ClusterNode]) -> None:
        raised: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        handle = await nodes[0].submit(wide, 3, workflow_id="wide-1")
        assert await handle.result(timeout=15) == 12_000_000
        assert await (await nodes[0].submit(doubling, 4)).result(timeout=30) == 8
        assert not raised

    with_nodes(3, body)


def test_a_value_that_no_frame_could_carry_is_not_allowed_to_a_node_of_a_cluster() -> None:
    async def run() -> None:
        config = ClusterConfig.lan("host-large", bind_address="127.0.0.1:0")
        node = ClusterNode(
            config, NodeStorage.make(InMemoryStore.open()), node_config=NodeConfig(node_id="host-large", value_bytes_max=1 << 25)
        )
        with pytest.raises(ValueError, match="value_bytes_max"):
            await node.start()

    asyncio.run(run())


def test_a_port_that_another_cluster_has_now_answers_for_nobody() -> None:
    """Without a key: a client, or a node, that remembers an address must not take whoever listens there now for whom it knew."""

    async def run() -> None:
        def at(address: str, cluster: str, storage: NodeStorage) -> ClusterNode:
            config = ClusterConfig.lan("host-1", bind_address=address, cluster_name=cluster)
            return ClusterNode(config, storage)

        kept = NodeStorage.make(InMemoryStore.open())
        async with asyncio.timeout(60):
            first = at("127.0.0.1:0", "prod", kept)
            await first.bootstrap()
            await owned_by_all([first])
            address = str(first.members()[0].address)
            async with ClusterClient([address], cluster_name="prod", rpc_timeout=1.0) as client:
                handle = await client.submit(doubling, 4, workflow_id="host-prod")
                assert await handle.result() == 8
                await first.close()
                stranger = at(address, "staging", NodeStorage.make(InMemoryStore.open()))
                await stranger.bootstrap()
                await owned_by_all([stranger])
                for ask in (handle.status, lambda: client.submit(doubling, 5, workflow_id="host-lost")):
                    with pytest.raises((NoQuorum, OutcomeUnknown)):
                        await ask()
                assert await stranger.list() == [] and stranger.dropped()["another cluster"] > 0
                await stranger.close()
                second = at(address, "prod", kept)
                await second.join()
                await owned_by_all([second])
                assert await handle.result() == 8
                await second.close()

    asyncio.run(run())


def test_a_node_that_keeps_nothing_says_no_to_a_request() -> None:
    """Its silence would cost seconds, and would count as "perhaps"."""

    async def body(nodes: list[ClusterNode]) -> None:
        bare = ClusterNode(ClusterConfig.lan("bare", bind_address="127.0.0.1:0"))
        there, seed = await bare.start(), nodes[0].members()[0].address
        await bare.join(seeds=[seed])
        async with ClusterClient([seed]) as client:
            with pytest.raises(Unreachable, match="bare keeps no journals") as caught:
                await client._calls.call(there, Outcome("order-7", 0.0), 5.0)
            assert type(caught.value) is Unreachable
        await bare.close()

    with_nodes(3, body)


def test_who_waits_at_a_node_for_another_is_told_when_it_is_closed_and_it_dials_no_more() -> None:
    async def body(nodes: list[ClusterNode]) -> None:
        here = nodes[0]
        numbers = (f"elsewhere-{number}" for number in range(1_000))
        ids = [name for name in numbers if here.owner(name) not in (None, here.config.node_id)][:8]
        handles = [await here.submit(answering, workflow_id=name) for name in ids]
        waiting = [asyncio.create_task(handle.result()) for handle in handles]
        while sum(len(node._host.server) for node in nodes[1:]) < len(ids):
            await asyncio.sleep(0)
        await here.leave()
        for ended in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5.0):
            assert isinstance(ended, DurableError), ended
        assert len(here._transport._streams.links) == 0

    with_nodes(3, body)
