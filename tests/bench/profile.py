"""Where the time of a step goes: ``python -m bench.profile RESULT.json`` profiles W2 and adds the shares to a result file.

The profiler makes small functions look dearer than they are, so only shares are kept, by part of the program: each module of
``durable``, asyncio, the store (RocksDB's own time, the fsync included), JSON and msgpack, and the rest.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import pstats
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import durable
from bench.durable_workflows import steps

WORKFLOWS, STEPS = 200, 10


async def load(folder: str) -> None:
    async with durable.open(folder) as runtime:
        for turn in range(5):
            ids = [f"p{turn}-{number}" for number in range(WORKFLOWS)]
            handles = await asyncio.gather(*(runtime.submit(steps, STEPS, workflow_id=name) for name in ids))
            await asyncio.gather(*(handle.result() for handle in handles))


def part(file: str, name: str) -> str:
    """The part of the program that a profiled function belongs to."""
    if "/durable/" in file and "bench" not in file:
        inside = file.rpartition("/durable/")[2].removesuffix(".py")
        return f"durable/{inside.partition('/')[0]}"
    if "/asyncio/" in file or "_asyncio" in name or "_contextvars" in name:
        return "asyncio"
    if "Rdict" in name or "WriteBatch" in name:
        return "RocksDB, with the fsync"
    if "msgspec" in name or "crc32" in name:
        return "JSON, msgpack, checksums"
    return "everything else"


def shares() -> list[tuple[str, float]]:
    """Each part's share of the time, largest first."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        profiler = cProfile.Profile()
        profiler.enable()
        asyncio.run(load(f"{folder}/store"))
        profiler.disable()
    spent: dict[str, float] = {}
    for (file, _, name), (_, _, own_s, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        if "epoll" not in name:
            key = part(file, name)
            spent[key] = spent.get(key, 0.0) + own_s
    total = sum(spent.values())
    return sorted(((key, value / total) for key, value in spent.items()), key=lambda item: -item[1])


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m bench.profile RESULT.json")
        return 2
    path = Path(arguments[0])
    document = json.loads(path.read_text())
    document["profile"] = shares()
    path.write_text(json.dumps(document, indent=1) + "\n")
    for name, share in document["profile"]:
        print(f"{share:6.1%}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
