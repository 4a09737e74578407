"""W11: SWIM in simulation, up to a thousand members, beside the papers' formulas, as JSON.

python tests/bench/swim_bench.py            # up to 100 members, a few minutes
python tests/bench/swim_bench.py --full     # up to 1,000 members, and longer runs
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
from collections.abc import Callable

from durable.membership.tuning import Tuning
from durable.sim.measures import (
    agreement_s,
    first_detection_rounds,
    join_s,
    message_load,
    pauses,
    spread_s,
)
from durable.sim.network import Faults
from durable.sim.swarm import Swarm

LAN = Tuning(interval_s=0.1, suspect_timeout_s=0.5)


def figures(measure: Callable[[int], float], runs: int) -> dict[str, float]:
    values = sorted(measure(seed) for seed in range(runs))
    return {
        "runs": runs,
        "mean": round(statistics.mean(values), 4),
        "p50": round(values[runs // 2], 4),
        "p99": round(values[min(runs - 1, math.ceil(runs * 0.99) - 1)], 4),
        "max": round(values[-1], 4),
    }


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def hour(members: int, loss: float, seconds: float, seed: int) -> dict[str, float]:
    swarm = Swarm(seed, faults=Faults(loss=loss))
    swarm.start_converged(members)
    swarm.run(seconds)
    return {
        "seconds": seconds,
        "false_deaths": len(swarm.false_deaths),
        "changes_of_belief": len(swarm.beliefs),
        "datagrams_per_member_and_second": round(sum(swarm.datagrams.values()) / members / seconds, 3),
    }


def pause_table(full: bool) -> dict[str, dict[str, float]]:
    table = {}
    cases = (
        ("n=5, 6 s pauses", 5, 6.0, (5.0, 20.0)),
        ("n=50, 2 s pauses", 50, 2.0, (0.05, 0.2)),
        ("n=50, 5 s pauses, hardly awake", 50, 5.0, (0.001, 0.01)),
    )
    for label, members, pause_s, awake_s in cases:
        for lifeguard in (True, False):
            say(f"pauses: {label}, lifeguard {lifeguard}")
            seen = [
                pauses(members, seed, pause_s=pause_s, awake_s=awake_s, run_s=600.0, lifeguard=lifeguard)
                for seed in range(5 if full else 2)
            ]
            table[f"{label}, {'lifeguard' if lifeguard else 'plain'}"] = {
                "runs_of_600_s": len(seen),
                "false_deaths_mean": statistics.mean(one.false_deaths for one in seen),
                "of_healthy_mean": statistics.mean(one.of_healthy for one in seen),
            }
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="up to 1,000 members; tens of minutes")
    full = parser.parse_args().full
    sizes = (3, 5, 10, 30, 100, 300, 1000) if full else (3, 5, 10, 30, 100)
    few = {3: 200, 5: 200, 10: 200, 30: 100, 100: 30, 300: 10, 1000: 4}
    by_size: dict[str, dict[str, object]] = {}
    for n in sizes:
        say(f"n = {n}")
        runs = few[n] * (2 if full and n <= 100 else 1)
        by_size[str(n)] = {
            "first_detection_periods": figures(lambda seed, n=n: first_detection_rounds(n, seed), runs),
            "datagrams_per_member_and_period": message_load(n, 1, periods=30 if n > 100 else 100),
            "spread_s": figures(lambda seed, n=n: spread_s(n, seed), max(2, runs // 10)),
            "spread_s_at_5_percent_loss": figures(
                lambda seed, n=n: spread_s(n, seed, 0.05), max(2, runs // 10)
            ),
            "agreement_s": figures(lambda seed, n=n: agreement_s(n, seed), max(2, runs // 10)),
        }
    say("five nodes")
    report = {
        "python": platform.python_version(),
        "first_detection_periods_expected": math.e / (math.e - 1),
        "by_members": by_size,
        "five_nodes": {
            "agreement_s_default": figures(lambda seed: agreement_s(5, seed), 1000 if full else 400),
            "agreement_s_lan": figures(lambda seed: agreement_s(5, seed, LAN), 400 if full else 100),
            "join_s": figures(lambda seed: join_s(4, seed), 200),
            "join_s_at_5_percent_loss": figures(lambda seed: join_s(4, seed, 0.05), 200),
            "an_hour_at_5_percent_loss": [hour(5, 0.05, 3600.0, seed) for seed in range(10 if full else 3)],
        },
        "pauses": pause_table(full),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
