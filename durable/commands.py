"""``durable node``, ``durable members`` and all that asks a cluster: what the command line does with nodes.

**How it works.** The environment of `ClusterConfig.from_env` holds for both; what is given on the command line wins. The key
comes from CLUSTER_SECRET_KEY only: a command line is read by everybody on the machine.

A node runs until SIGTERM or SIGINT, and then leaves: the others know at once. A second one ends it there and then.

Read next: `durable.sim`, where the same nodes run in virtual time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from durable.cluster.ask import Copies, NodeView, ask_node, seal_of
from durable.cluster.client import ClusterClient, gathered
from durable.cluster.config import PORT, PRESETS, ClusterConfig, parse_seeds
from durable.cluster.node import ClusterNode
from durable.errors import Unreachable
from durable.membership.member import NodeAddress, NodeId
from durable.storage import open_store
from durable.storage.node import NodeStorage
from durable.workflows.definition import REGISTRY

EXPLAIN_PERIODS = 10
"""A node that cannot take part says why every so many gossip intervals: every 10 s by default."""

T = TypeVar("T")


def config_of(options: Namespace) -> ClusterConfig:
    """What the environment and the command line say together. Raises `ValueError`."""
    changes: dict[str, Any] = dict(PRESETS[options.preset])
    if options.id:
        changes["node_id"] = options.id
    if options.bind:
        changes["bind_address"] = NodeAddress.parse(options.bind)
    if options.advertise:
        changes["advertise_address"] = NodeAddress.parse(options.advertise)
    if options.seeds:
        changes["seed_nodes"] = parse_seeds(options.seeds)
    if options.cluster:
        changes["cluster_name"] = options.cluster
    for flag in ("insecure", "witness"):
        if getattr(options, flag):
            changes[flag] = True
    return ClusterConfig.from_env(**changes)


async def run_node(config: ClusterConfig, data: str | None = None, *, bootstrap: bool = False) -> None:
    """Be a member until told to stop. Says what it sees, a line a change.

    Args:
        config: what it is told.
        data: its store, as `durable.open` takes it; None: it keeps nothing, and runs no workflows.
        bootstrap: found a cluster of this node alone, whatever the seeds, if its store is of none.
    """
    with _storage(data) as storage:
        await _run(make_node(config, storage), bootstrap, storage is not None)


def make_node(config: ClusterConfig, storage: NodeStorage | None) -> ClusterNode:
    """The node. It runs every workflow that is registered in this process."""
    return ClusterNode(config, storage)


@contextmanager
def _storage(data: str | None) -> Iterator[NodeStorage | None]:
    if data is None:
        yield None
        return
    store = open_store(data)
    try:
        yield NodeStorage.make(store)
    finally:
        store.close()


async def _run(node: ClusterNode, bootstrap: bool, runs: bool) -> None:
    config = node.config
    address = await node.start()
    _say(f"{config.node_id} listens on {address}")
    if runs and not config.witness and not REGISTRY.workflows:
        _say(f"{config.node_id} knows no workflow, and leaves undone what falls to it: name modules by --app, or be a --witness")
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, told)
    reporting, joining = loop.create_task(_report(node)), loop.create_task(_join(node, told, bootstrap))
    explaining = loop.create_task(_explain(node))
    try:
        await told.wait()
        if joining.done():
            joining.result()  # raises why it could not join, or had to stop
        _say(f"{config.node_id} leaves")
        await node.leave()
    finally:
        explaining.cancel()
        joining.cancel()
        await node.close()
        await asyncio.gather(joining, reporting, explaining, return_exceptions=True)


async def look(seeds: str, cluster: str | None) -> tuple[NodeView, dict[NodeId, Copies]]:
    """What the first of the ``seeds`` that answers sees; and what copies those have whom it takes for alive, of all who say so.

    Raises `ValueError`, `Unreachable`, `ProtocolError`.
    """
    view = await _first_view(seeds, cluster)
    others = [one.address for one in view.members if one.status.is_live and one.node_id != view.node_id]
    views = [view, *await gathered([ask_node(address, **credentials_of(cluster)) for address in others])]
    return view, {one.node_id: one.copies for one in views if one.copies is not None}


async def _first_view(seeds: str, cluster: str | None) -> NodeView:
    named = [part.strip() for part in seeds.split(",") if part.strip()]
    if not named:
        raise ValueError("which cluster? Name some of its nodes: --seeds HOST:PORT,... (or CLUSTER_SEED_NODES)")
    addresses = [NodeAddress.parse(part if ":" in part else f"{part}:{PORT}") for part in named]
    for address in addresses[:-1]:
        with suppress(Unreachable):
            return await ask_node(address, **credentials_of(cluster))
    return await ask_node(addresses[-1], **credentials_of(cluster))


async def ask_cluster(
    seeds: Sequence[NodeAddress], credentials: dict[str, Any], ask: Callable[[ClusterClient], Awaitable[T]]
) -> T:
    """What ``ask`` gets out of a client of the cluster."""
    async with ClusterClient(seeds, **credentials) as client:
        return await ask(client)


def credentials_of(cluster: str | None) -> dict[str, Any]:
    """The key and the name of the cluster. Raises `ValueError` for a key that cannot be one."""
    name = cluster or os.environ.get("CLUSTER_NAME") or "durable"
    secrets = [part.strip() for part in os.environ.get("CLUSTER_SECRET_KEY", "").split(",") if part.strip()]
    try:
        seal_of(secrets, name)
    except ValueError as error:
        raise ValueError(f"CLUSTER_SECRET_KEY: {error}") from None
    return {"secret_key": secrets, "cluster_name": name}


async def _join(node: ClusterNode, over: asyncio.Event, bootstrap: bool) -> None:
    try:
        if bootstrap:
            await node.bootstrap()
        await node.join()
        if not over.is_set():  # else it left before it was let in
            _say(f"{node.config.node_id} has joined; {len(node.ring.nodes)} on the ring")
        await node.closed()
    finally:
        over.set()


async def _explain(node: ClusterNode) -> None:
    while True:
        await asyncio.sleep(EXPLAIN_PERIODS * node.config.gossip_interval)
        if why := node.waits_for():
            _say(f"{node.config.node_id} waits: {why}")


async def _report(node: ClusterNode) -> None:
    async for change in node.events():
        _say(f"{change.member.node_id} at {change.member.address} is {change.member.status.name}")


def _stop(told: asyncio.Event) -> None:
    if told.is_set():
        os._exit(130)
    told.set()


def _say(line: str) -> None:
    with suppress(OSError):  # nobody reads it, or there is no room for it: a node goes on, and leaves only when it is told to
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
