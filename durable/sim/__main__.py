"""`python -m durable.sim`: play seeds on every core for as long as told, and say how to see a failure again.

::

    python -m durable.sim --seeds 500                  # 500 seeds from one drawn anew
    python -m durable.sim --minutes 10                 # as many as ten minutes take
    python -m durable.sim --first 42 --seeds 1 --trace # one seed, line by line

**How it works.** Each worker process plays one seed at a time (`durable.trials.runs.play`). A few seeds are handed out ahead; when
the time is over no more are, and those under way are played to their end.

Ends with 1 if a law was broken, and names the seed, the law and the command that replays it.

Read next: `durable.linearizable`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial

from durable.trials.runs import SCENES, Played, begin_worker, play
from durable.world import SystemEntropy, monotonic_s, process_id

AHEAD = 2
SEED_BITS = 31


def main(arguments: Sequence[str] | None = None) -> int:
    """Play; print; 0 if every law held."""
    told = _parse(arguments)
    first = told.first if told.first is not None else int.from_bytes(SystemEntropy().random_bytes(4), "big") >> 32 - SEED_BITS
    one = partial(play, scene=told.scene, nodes=told.nodes, seconds=told.seconds, faults=told.faults)
    if told.trace:
        return _show(one(first))
    began, total = monotonic_s(), _Total(told)
    _print(f"the scene {told.scene}, seeds from {first} on")
    until = None if told.minutes is None else began + 60 * told.minutes
    count = told.seeds if told.seeds is not None else None if until is not None else 100
    for played in _play_all(one, first, count, until, told.processes):
        total.add(played)
    total.say(first, monotonic_s() - began)
    return 1 if total.broken else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m durable.sim", description="Play seeds of a simulated cluster.")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many (100, or as many as --minutes take)")
    parser.add_argument("--first", type=int, metavar="K", help="the first of them (drawn anew)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="simulated seconds of storm a seed (60)")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no seed after so many minutes")
    parser.add_argument("--faults", type=int, default=12, help="how many faults begin in a storm (12)")
    parser.add_argument("--nodes", type=int, default=5, help="how many nodes a world begins with (5)")
    parser.add_argument("--scene", choices=sorted(SCENES), default="workflows", help="what is played (workflows)")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count(), help="how many at once (one a core)")
    parser.add_argument("--trace", action="store_true", help="play the first seed only, here, and print every line of it")
    return parser.parse_args(arguments)


def _play_all(one: partial[Played], first: int, count: int | None, until: float | None, processes: int) -> Iterator[Played]:
    """What came of each seed, as it is done."""
    context = multiprocessing.get_context("spawn")
    following = first
    with ProcessPoolExecutor(processes, context, begin_worker, (process_id(),)) as pool:
        under_way: dict[Future[Played], None] = {}
        while True:
            while (
                len(under_way) < processes * AHEAD
                and (count is None or following < first + count)
                and (until is None or monotonic_s() < until)
            ):
                under_way[pool.submit(one, following)] = None
                following += 1
            if not under_way:
                return
            wait(under_way, return_when=FIRST_COMPLETED)
            for future in [future for future in under_way if future.done()]:
                del under_way[future]
                yield future.result()


class _Total:
    """What is said of all seeds together."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.seeds = 0
        self.broken: list[int] = []
        self._told = told
        self._simulated_s = self._cpu_s = 0.0
        self._fewest = 0
        self._faults: Counter[str] = Counter()

    def add(self, played: Played) -> None:
        self.seeds += 1
        happened = played.faults.total()
        self._fewest = min(self._fewest, happened) if self.seeds > 1 else happened
        self._simulated_s += played.simulated_s
        self._cpu_s += played.cpu_s
        self._faults += played.faults
        if played.broken is not None:
            self.broken.append(played.seed)
            _print(f"seed {played.seed}: {played.broken}", f"  again: {self._again(played.seed)}")
        elif self.seeds % 100 == 0:
            _print(f"{self.seeds} seeds, {self._simulated_s / 3600:.1f} simulated hours, {len(self.broken)} broken")

    def _again(self, seed: int) -> str:
        told = self._told
        size = f"--seconds {told.seconds:g} --faults {told.faults} --nodes {told.nodes}"
        return f"python -m durable.sim --scene {told.scene} {size} --first {seed} --trace"

    def say(self, first: int, took_s: float) -> None:
        pace = self._simulated_s / self._cpu_s if self._cpu_s else 0.0
        faults = ", ".join(f"{kind} {count}" for kind, count in self._faults.most_common())
        _print(
            f"{self.seeds} seeds from {first}: {len(self.broken)} broke a law",
            f"{self._simulated_s / 3600:.2f} simulated hours in {took_s:.1f} s, {pace:.0f} simulated hours a CPU-hour",
            f"{self._faults.total()} faults, {self._fewest} or more in a seed: {faults}",
        )


def _show(played: Played) -> int:
    _print(*played.trace, f"seed {played.seed}, {played.simulated_s:.3f} s, digest {played.digest}")
    _print(played.broken or "every law held")
    return 0 if played.broken is None else 1


def _print(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
