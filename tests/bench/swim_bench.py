"""W11: SWIM in simulation, up to a thousand members, beside what the papers say: ``python -m bench --workloads W11``.

Everything here is decided by seeds and runs in virtual time: it comes out the same on any machine, however loaded. Raw
values are kept, one list a point; `cluster_figures` draws them and `cluster_page` puts them into words.

Limits: hundreds of runs a point in small clusters, a few dozen crashes in large ones; about ten minutes in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from durable.figures.measures import (
    agreement_s,
    first_detection_rounds,
    join_s,
    message_load,
    pauses,
    spread_s,
)
from durable.figures.swarm import Swarm
from durable.membership import gossip
from durable.membership.tuning import Tuning
from durable.sim.network import Faults

SIZES = (3, 5, 10, 30, 100, 300, 1_000)
LAN = Tuning(interval_s=0.1, suspect_timeout_s=0.5)
PAUSES_S = (1.0, 2.0, 4.0, 6.0, 8.0)
AWAKE_S = (0.05, 0.2)
PAUSED_AMONG, PAUSED_FOR_S = 50, 600.0
SHARE_OF_RUNS = ((10, 1), (30, 4), (100, 20), (300, 40))
SLOW_AT_ONCE = (1, 2, 4, 8, 16)
SLOW_PAUSE_S, SLOW_AWAKE_S, SLOW_FOR_S = 5.0, (0.001, 0.01), 200.0
SCARCE_RIDES_FACTOR = 1
LOSS = 0.05

Point = dict[str, Any]


def measure(largest: int, runs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """All of W11, in clusters of up to ``largest`` members; ``runs`` is the number of runs of a small one."""
    sizes = [size for size in SIZES if size <= largest]
    return {
        "tuning": {"interval_s": Tuning().interval_s, "suspect_timeout_s": Tuning().suspect_timeout_s},
        "detection": [_detection(size, runs, say) for size in sizes],
        "load": [_load(size, say) for size in sizes],
        "spread": [_spread(size, loss, runs, say) for loss in (0.0, LOSS) for size in sizes],
        "agreement": [
            *(_agreement(size, "default", runs, say) for size in sizes if size <= 100),
            _agreement(5, "lan", runs, say),
        ],
        "join": [_join(loss, runs, say) for loss in (0.0, LOSS)],
        "hours": [_hour(seed, say) for seed in range(max(1, runs // 40))],
        "pauses": [
            _pauses(pause_s, lifeguard, max(1, runs // 160), say) for lifeguard in (True, False) for pause_s in PAUSES_S
        ],
        "slow": [_slow(many, lifeguard, max(1, runs // 160), say) for lifeguard in (True, False) for many in SLOW_AT_ONCE],
        "scarce": [_scarce(lifeguard, max(1, runs // 80), say) for lifeguard in (True, False)],
        "five": [_five(lifeguard, max(1, runs // 40), say) for lifeguard in (True, False)],
    }


def _runs(size: int, runs: int) -> int:
    """Fewer runs of larger clusters: each costs more, and says more."""
    share = next((share for most, share in SHARE_OF_RUNS if size <= most), 100)
    return max(2, runs // share)


def _detection(size: int, runs: int, say: Callable[[str], None]) -> Point:
    say(f"first detection, {size} members")
    crashes = min(25, max(1, size // 20))  # at one moment: a large cluster is dear to start
    seen = [found for seed in range(_runs(size, runs)) for found in first_detection_rounds(size, seed, crashes)]
    return {"members": size, "crashes": crashes, "periods": seen}


def _load(size: int, say: Callable[[str], None]) -> Point:
    say(f"load, {size} members")
    return {"members": size, "datagrams": round(message_load(size, 1, periods=100 if size <= 100 else 30), 4)}


def _spread(size: int, loss: float, runs: int, say: Callable[[str], None]) -> Point:
    say(f"spread of news, {size} members, loss {loss:.0%}")
    seen = [round(spread_s(size, seed, loss), 4) for seed in range(max(2, _runs(size, runs) // 2))]
    return {"members": size, "loss": loss, "seconds": seen}


def _agreement(size: int, preset: str, runs: int, say: Callable[[str], None]) -> Point:
    say(f"agreement, {size} members, {preset}")
    tuning = LAN if preset == "lan" else None
    return {
        "members": size,
        "preset": preset,
        "seconds": [round(agreement_s(size, seed, tuning), 4) for seed in range(_runs(size, runs))],
    }


def _join(loss: float, runs: int, say: Callable[[str], None]) -> Point:
    say(f"join, loss {loss:.0%}")
    return {"members": 5, "loss": loss, "seconds": [round(join_s(4, seed, loss), 4) for seed in range(runs)]}


def _hour(seed: int, say: Callable[[str], None]) -> Point:
    say(f"an hour at {LOSS:.0%} loss, seed {seed}")
    swarm = Swarm(seed, faults=Faults(loss=LOSS))
    swarm.start_converged(5)
    swarm.run(3_600.0)
    return {"members": 5, "loss": LOSS, "false_deaths": len(swarm.false_deaths), "changes": len(swarm.beliefs)}


def _pauses(pause_s: float, lifeguard: bool, runs: int, say: Callable[[str], None]) -> Point:
    say(f"one of {PAUSED_AMONG} pauses {pause_s:g} s at a time, {'with' if lifeguard else 'without'} Lifeguard")
    seen = [
        pauses(PAUSED_AMONG, seed, pause_s=pause_s, awake_s=AWAKE_S, run_s=PAUSED_FOR_S, lifeguard=lifeguard)
        for seed in range(runs)
    ]
    return {
        "members": PAUSED_AMONG,
        "pause_s": pause_s,
        "lifeguard": lifeguard,
        "false_deaths": [one.false_deaths for one in seen],
        "of_healthy": [one.of_healthy for one in seen],
    }


def _slow(many: int, lifeguard: bool, runs: int, say: Callable[[str], None]) -> Point:
    say(f"{many} of {PAUSED_AMONG} hardly ever run, {'with' if lifeguard else 'without'} Lifeguard")
    seen = [
        pauses(
            PAUSED_AMONG, seed, pause_s=SLOW_PAUSE_S, awake_s=SLOW_AWAKE_S, run_s=SLOW_FOR_S, lifeguard=lifeguard, at_once=many
        )
        for seed in range(runs)
    ]
    return {
        "members": PAUSED_AMONG,
        "slow": many,
        "lifeguard": lifeguard,
        "of_healthy": [one.of_healthy for one in seen],
        "false_deaths": [one.false_deaths for one in seen],
    }


def _scarce(lifeguard: bool, runs: int, say: Callable[[str], None]) -> Point:
    say(f"pauses of 2 s, a third of the rumours, {'with' if lifeguard else 'without'} Lifeguard")
    with patch.object(gossip, "RIDES_FACTOR", SCARCE_RIDES_FACTOR):
        seen = [
            pauses(PAUSED_AMONG, seed, pause_s=2.0, awake_s=AWAKE_S, run_s=150.0, lifeguard=lifeguard, one=False)
            for seed in range(runs)
        ]
    return {"lifeguard": lifeguard, "false_deaths": [one.false_deaths for one in seen]}


def _five(lifeguard: bool, runs: int, say: Callable[[str], None]) -> Point:
    say(f"pauses of 6 s among five, {'with' if lifeguard else 'without'} Lifeguard")
    seen = [
        pauses(5, seed, pause_s=6.0, awake_s=(5.0, 20.0), run_s=PAUSED_FOR_S, lifeguard=lifeguard, one=seed % 2 == 0)
        for seed in range(runs)
    ]
    return {
        "lifeguard": lifeguard,
        "pauses": sum(one.pauses for one in seen),
        "false_deaths": sum(one.false_deaths for one in seen),
    }
