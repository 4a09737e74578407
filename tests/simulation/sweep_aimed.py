"""Aimed storms by the hundred.

    python tests/simulation/sweep_aimed.py "two logs" --first 1000 --seeds 500
    python tests/simulation/sweep_aimed.py mixed --seeds 200                 # among all other faults
    python tests/simulation/sweep_aimed.py overlap --first 7 --seeds 1 --trace
    python tests/simulation/sweep_aimed.py overlap --planted "a zombie is followed"
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from aimedstorms import MIXED, PLOTS, play_aimed  # noqa: E402
from plantedbugs import PLANTED  # noqa: E402

from durable.trials.runs import play  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("plot", choices=[*PLOTS, "mixed"])
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--planted", choices=list(PLANTED))
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    if options.planted:
        PLANTED[options.planted](pytest.MonkeyPatch())
    broken, cpu_s, faults = 0, 0.0, Counter[str]()
    for seed in range(options.first, options.first + options.seeds):
        played = play(seed, MIXED) if options.plot == "mixed" else play_aimed(seed, options.plot)
        if options.trace:
            print(*played.trace, sep="\n")
        if played.broken is not None:
            broken += 1
            print(f"seed {seed}: {played.broken}", flush=True)
        cpu_s += played.cpu_s
        faults += played.faults
    print(f"{options.plot}: {options.seeds} seeds, {broken} broke a law, {cpu_s:.0f} s of CPU, {dict(faults)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
