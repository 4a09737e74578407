"""``durable node`` and ``durable members``: a member, and a look at one, from the command line.

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
from typing import Any

from durable.cluster.ask import NodeView, ask_node
from durable.cluster.config import PORT, PRESETS, ClusterConfig, parse_seeds
from durable.cluster.node import ClusterNode
from durable.membership.member import NodeAddress


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
    if options.insecure:
        changes["insecure"] = True
    return ClusterConfig.from_env(**changes)


async def run_node(config: ClusterConfig) -> None:
    """Be a member until told to stop. Says what it sees, a line a change."""
    node = ClusterNode(config)
    address = await node.start()
    _say(f"{config.node_id} listens on {address}")
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, told)
    reporting, joining = loop.create_task(_report(node)), loop.create_task(_join(node, told))
    try:
        await told.wait()
        if joining.done():
            joining.result()  # raises why it could not join, or had to stop
        _say(f"{config.node_id} leaves")
        await node.leave()
    finally:
        joining.cancel()
        await node.close()
        await asyncio.gather(joining, reporting, return_exceptions=True)


async def look(seed: str, cluster: str | None) -> NodeView:
    """What the node at ``seed`` sees. Raises `ValueError`, `Unreachable`, `ProtocolError`."""
    address = NodeAddress.parse(seed if ":" in seed else f"{seed}:{PORT}")
    name = cluster or os.environ.get("CLUSTER_NAME") or "durable"
    return await ask_node(address, secret_key=os.environ.get("CLUSTER_SECRET_KEY") or None, cluster_name=name)


async def _join(node: ClusterNode, over: asyncio.Event) -> None:
    try:
        await node.join()
        _say(f"{node.config.node_id} has joined; {len(node.ring.nodes)} on the ring")
        await node.closed()
    finally:
        over.set()


async def _report(node: ClusterNode) -> None:
    async for change in node.events():
        _say(f"{change.member.node_id} at {change.member.address} is {change.member.status.name}")


def _stop(told: asyncio.Event) -> None:
    if told.is_set():
        os._exit(130)
    told.set()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
