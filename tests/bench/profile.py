"""Where the time of a step goes: ``python -m bench.profile RESULT.json`` profiles W2, and the nodes of W8, and adds the shares to a
result file.

The profiler makes small functions look dearer than they are, so only shares are kept, by part of the program: each module of
``durable``, asyncio, the store (RocksDB's own time, the fsync included), JSON and msgpack, and the rest.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import durable
from bench.cluster_profiled import FOLDER
from bench.durable_cluster_adapter import NODES
from bench.durable_workflows import steps
from durable.cluster import LocalCluster

WORKFLOWS, STEPS, TURNS = 200, 10, 5
PATIENCE_S = 60.0
POLL_S = 0.05


async def load(asked: Any, turns: Iterable[int]) -> None:
    """The same work for a runtime and for a cluster."""
    for turn in turns:
        ids = [f"p{turn}-{number}" for number in range(WORKFLOWS)]
        handles = await asyncio.gather(*(asked.submit(steps, STEPS, workflow_id=name) for name in ids))
        await asyncio.gather(*(handle.result() for handle in handles))


async def one_node(folder: Path) -> pstats.Stats:
    profiler = cProfile.Profile()
    profiler.enable()
    async with durable.open(folder) as runtime:
        await load(runtime, range(TURNS))
    profiler.disable()
    return pstats.Stats(profiler)


async def three_nodes(folder: Path) -> pstats.Stats:
    """Of all three together."""
    os.environ[FOLDER] = str(folder)
    cluster = LocalCluster(NODES, app="bench.cluster_profiled", preset="lan", store="rocksdb", data=folder / "data")
    async with cluster, await cluster.client() as client:
        await load(client, range(1))
        nodes = [process.process_id for process in cluster._processes.values()]
        for node in nodes:
            os.kill(node, signal.SIGUSR1)
        await load(client, range(1, 1 + TURNS))
        for node in nodes:
            os.kill(node, signal.SIGUSR1)
        profiles = [folder / str(node) for node in nodes]
        await asyncio.wait_for(_until_all_there(profiles), PATIENCE_S)
    return pstats.Stats(*map(str, profiles))


async def _until_all_there(files: Sequence[Path]) -> None:
    while not all(file.exists() for file in files):
        await asyncio.sleep(POLL_S)


def part(file: str, name: str) -> str:
    """The part of the program that a profiled function belongs to."""
    if "/durable/" in file and "bench" not in file:
        inside = file.rpartition("/durable/")[2].removesuffix(".py")
        return f"durable/{inside.partition('/')[0]}"
    if "/asyncio/" in file or "_asyncio" in name or "_contextvars" in name:
        return "asyncio"
    if "Rdict" in name or "WriteBatch" in name:
        return "RocksDB, with the fsync"
    if "socket" in name:
        return "sockets"
    if "msgspec" in name or "crc32" in name:
        return "JSON, msgpack, checksums"
    return "everything else"


def shares(profiled: Callable[[Path], Coroutine[Any, Any, pstats.Stats]], folder: Path) -> list[tuple[str, float]]:
    """Each part's share of the time, largest first."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        stats = asyncio.run(profiled(Path(own).absolute()))
    spent: dict[str, float] = {}
    for (file, _, name), (_, _, own_s, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        if "epoll" not in name:
            key = part(file, name)
            spent[key] = spent.get(key, 0.0) + own_s
    total = sum(spent.values())
    return sorted(((key, value / total) for key, value in spent.items()), key=lambda item: -item[1])


def add(document: dict[str, Any], folder: Path) -> None:
    """Profile both, on the disk of this folder, and put it into the document."""
    document["profile"], document["profile_cluster"] = shares(one_node, folder), shares(three_nodes, folder)
    document["profile_created"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m bench.profile RESULT.json")
        return 2
    path = Path(arguments[0])
    document = json.loads(path.read_text())
    add(document, Path())
    path.write_text(json.dumps(document, indent=1) + "\n")
    for title, found in (("one node", document["profile"]), ("three nodes", document["profile_cluster"])):
        print(title, *(f"{share:6.1%}  {name}" for name, share in found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
