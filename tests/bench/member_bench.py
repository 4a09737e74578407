"""W11P: five real processes: how soon a SIGKILL is agreed on, and a newcomer seen: ``python -m bench --workloads W11P``.

Each round, at the defaults and with the LAN preset: one of five is killed at a random moment of its period, and the time runs
until the last survivor holds it dead; then it is started again, and the time runs from the start of its process (and so of
its interpreter) until everybody has it alive and it has everybody. The figures depend on the machine and on what else it
does: a round at the defaults takes about ten seconds, one with the LAN preset about one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from durable.cluster import LocalCluster, MemberStatus

NODES = 5
PATIENCE_S = 120.0


def measure(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds, one value a round, by preset."""
    return {"nodes": NODES, "presets": {preset: asyncio.run(_rounds(preset, rounds, say)) for preset in ("lan", "default")}}


async def _rounds(preset: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    chance = random.Random(preset)
    seen: dict[str, list[float]] = {"agreement_s": [], "join_s": []}
    false_deaths = 0
    async with LocalCluster(NODES, preset=preset) as cluster:
        for number in range(rounds):
            victim = chance.choice(cluster.nodes)
            # Not at the same moment of everybody's period each time: they all began when the last round ended.
            await asyncio.sleep(chance.random() * (1.0 if preset == "default" else 0.1))
            seen["agreement_s"].append(round(await _kill(cluster, victim), 4))
            seen["join_s"].append(round(await _start_again(cluster, victim), 4))
            dead = [one.member.node_id for one in cluster.history if one.member.status is MemberStatus.DEAD]
            false_deaths += sum(name != victim for name in dead)
            cluster.history.clear()
            say(f"{preset}, round {number + 1} of {rounds}: dead {seen['agreement_s'][-1]:.2f} s, back {seen['join_s'][-1]:.2f} s")
    return {**seen, "false_deaths": false_deaths}


async def _kill(cluster: LocalCluster, victim: str) -> float:
    """From the signal until every survivor holds it dead, by the clock of the one who reads their reports."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await cluster.kill(victim)
    await cluster.wait_until(lambda: set(cluster.beliefs_about(victim).values()) == {MemberStatus.DEAD}, PATIENCE_S)
    return clock() - began


async def _start_again(cluster: LocalCluster, victim: str) -> float:
    """From the start of its process until all have it and it has all."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await cluster.restart(victim)
    await cluster.wait_converged(PATIENCE_S)
    return clock() - began
