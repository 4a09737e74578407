"""Random worlds of the replication core by the thousand.

    python tests/simulation/sweep_replication.py moving --first 1000 --seeds 5000
    python tests/simulation/sweep_replication.py crashing --mutation zombie
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from replicamutations import world_class  # noqa: E402
from replicaplots import PLOTS, plotted  # noqa: E402
from replicaworld import KINDS, Violation  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kind", choices=[*KINDS, *PLOTS])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--mutation", default="")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    began = time.process_time()
    for seed in range(options.first, options.first + options.seeds):
        broken_rule, kind = world_class(options.mutation), options.kind
        world_of_it = plotted(broken_rule, kind) if kind in PLOTS else broken_rule
        world = world_of_it(seed, mutation=options.mutation, **(PLOTS | KINDS)[kind])
        try:
            world.run()
        except Violation as violation:
            broken.append((seed, str(violation)))
        counts.update(world.counts)
        counts["rosters"] += max(world.laws.rosters) - 1
        counts["moves"] += len(world.laws.seals)
    took_s = time.process_time() - began
    found = f"{options.seeds} seeds, {len(broken)} broke a law"
    print(f"{options.kind} {options.mutation}: {found}, {dict(counts)}, {took_s:.0f} s of CPU")
    for seed, why in broken[:5]:
        print(f"  seed {seed}: {why}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
