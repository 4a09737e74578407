"""Members under storms: real processes that are started at once, killed, stopped and parted, again and again.

``python tests/chaos/members.py --starts 50 --storms 20 --apart 180 --seed 1``

Three parts, each of which may be left out with 0; a failure names the part, the round and the seed:

1. *starts*: five empty ``durable node`` processes, one list of seeds, all started in one moment. Every one must come to see
   all five alive.
2. *storms*: a dozen random faults in a cluster of five: kill, restart, stop, go on, part, heal. When they end, everybody must
   be held alive by everybody, in the life that runs.
3. *apart*: two halves that are parted for so many seconds, at the defaults: long enough to bury and to forget each other.
   They must find each other by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from durable.cluster import LocalCluster, MemberStatus, NodeAddress, ask_node  # noqa: E402
from durable.errors import ProtocolError, Unreachable  # noqa: E402

NODES = 5
PATIENCE_S = 60.0
FAULTS = 12


class Broken(AssertionError):
    """A promise was not kept."""


async def starts(rounds: int, say: bool = True) -> int:
    """So many starts of five empty nodes at once; how many came together."""
    for number in range(rounds):
        addresses = _free_addresses()
        processes = [await _start(f"node-{place}", address, addresses) for place, address in enumerate(addresses, 1)]
        try:
            async with asyncio.timeout(PATIENCE_S):
                for address in addresses:
                    await _sees_all(address)
        except TimeoutError:
            raise Broken(f"start {number}: not all of {', '.join(map(str, addresses))} saw each other") from None
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(*(process.wait() for process in processes))
        if say:
            print(f"start {number + 1} of {rounds}: all five see each other", flush=True)
    return rounds


async def _start(name: str, address: NodeAddress, seeds: list[NodeAddress]) -> asyncio.subprocess.Process:
    options = ["--id", name, "--bind", str(address), "--seeds", ",".join(map(str, seeds)), "--preset", "lan"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    nowhere = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "durable", "node", *options, env=environment, stdout=nowhere, stderr=nowhere
    )


async def _sees_all(address: NodeAddress) -> None:
    """Ask until it sees five alive. Nothing tells a stranger, so this looks."""
    while True:
        with contextlib.suppress(Unreachable, ProtocolError):
            view = await ask_node(address)
            if [one.status for one in view.members] == [MemberStatus.ALIVE] * NODES:
                return
        await asyncio.sleep(0.05)


def _free_addresses() -> list[NodeAddress]:
    held = [socket.socket() for _ in range(NODES)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [NodeAddress(*one.getsockname()) for one in held]
    finally:
        for one in held:
            one.close()


async def storms(rounds: int, seed: int, say: bool = True) -> int:
    """So many storms over one cluster; how many faults there were."""
    chance, faults = random.Random(seed), 0
    async with LocalCluster(NODES) as cluster:
        for number in range(rounds):
            done = []
            for _ in range(FAULTS):
                done.append(await _fault(cluster, chance))
                await asyncio.sleep(chance.random())
            await _calm(cluster)
            try:
                await cluster.wait_converged(PATIENCE_S)
            except TimeoutError as error:
                raise Broken(f"seed {seed}, storm {number} ({', '.join(done)}): {error}") from None
            faults += len(done)
            if say:
                print(f"storm {number + 1} of {rounds}: {', '.join(done)}; all see each other", flush=True)
    return faults


async def _fault(cluster: LocalCluster, chance: random.Random) -> str:
    node = chance.choice(cluster.nodes)
    match chance.randrange(5):
        case 0 if len(cluster.running) > 2 and node in cluster.running:
            await cluster.kill(node)
            return f"kill {node}"
        case 1 if node in cluster.running:
            await cluster.restart(node)
            return f"restart {node}"
        case 2 if len(cluster.running) > 2 and node in cluster.running:
            await cluster.pause(node)
            return f"stop {node}"
        case 3:
            await cluster.resume(node)
            return f"go on {node}"
        case 4:
            some = chance.sample(cluster.running, chance.randrange(len(cluster.running) + 1))
            await cluster.partition([some])
            return f"part {' '.join(some) or 'nobody'}"
    return "nothing"


async def _calm(cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        await cluster.resume(node)
    await cluster.heal()
    for node in [node for node in cluster.nodes if node not in cluster.running]:
        await cluster.restart(node)


async def apart(seconds: float, say: bool = True) -> float:
    """Two halves, parted for so long; how long they took to see each other again."""
    clock = asyncio.get_running_loop().time
    async with LocalCluster(NODES, preset="default") as cluster:
        await cluster.partition([cluster.nodes[:3], cluster.nodes[3:]])
        await asyncio.sleep(seconds)
        views = [await cluster.view(node) for node in cluster.nodes]
        sizes = [len(view.members) for view in views]
        await cluster.heal()
        began = clock()
        try:
            await cluster.wait_converged(3 * PATIENCE_S)
        except TimeoutError as error:
            raise Broken(f"apart for {seconds:g} s: {error}") from None
        took_s = clock() - began
    if say:
        print(f"apart for {seconds:g} s, lists of {sizes}: all see each other {took_s:.1f} s after the heal", flush=True)
    return took_s


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--storms", type=int, default=20)
    parser.add_argument("--apart", type=float, default=180.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.starts:
        asyncio.run(starts(options.starts))
    if options.storms:
        asyncio.run(storms(options.storms, options.seed))
    if options.apart:
        asyncio.run(apart(options.apart))
    return 0


if __name__ == "__main__":
    sys.exit(main())
