"""Kill a node at random, again and again, and hold what is left against what was promised.

``python tests/chaos/kill.py --rounds 200 --store rocksdb --seed 1``

A *round* is one SIGKILL of a real process at a random instant of its life. Several rounds share a store, until a process
lives long enough to finish all its workflows; then the store is checked and the next one begins. The promises:

1. every workflow that was accepted completes;
2. a result that was told once is told again the same, by every later process;
3. a completion that was durable before a kill (read from the store after it) is never changed;
4. a function whose completion was durable does not run again, and none runs more often than crashes plus attempts allow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from chaos.shapes import SHAPES  # noqa: E402
from durable.journal import keys  # noqa: E402
from durable.journal.entries import Command, Completion, EntryType, Status  # noqa: E402
from durable.storage import open_store  # noqa: E402
from durable.storage.node import NodeStorage  # noqa: E402

LIFE_S_MAX = 60.0


@dataclass
class Tally:
    kills: int = 0
    stores: int = 0
    workflows: int = 0
    completions_checked: int = 0
    bodies: int = 0
    bodies_again: int = 0
    during: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        phases = ", ".join(f"{count} {phase}" for phase, count in sorted(self.during.items()))
        return (
            f"{self.kills} kills ({phases}) over {self.stores} stores: {self.workflows} workflows, all completed; "
            f"{self.completions_checked} durable completions looked at again, none changed; {self.bodies} bodies ended, "
            f"{self.bodies_again} of them a second time, none whose completion was durable"
        )


class Broken(AssertionError):
    """A promise was not kept."""


class Chaos:
    """One store and the processes that live and die on it."""

    def __init__(self, folder: Path, store: str, draw: random.Random, tally: Tally) -> None:
        self.url = f"{store}:{folder / 'store'}"
        self.effects = folder / "effects"
        self.effects.touch()
        self.draw = draw
        self.tally = tally
        self.count = 2 * len(SHAPES) + draw.randrange(2 * len(SHAPES))
        self.accepted: set[str] = set()
        self.results: dict[str, str] = {}
        self.durable: dict[str, tuple[bytes | None, int]] = {}

    def live(self, mortal: bool) -> bool:
        """One process: True when it came to the end, False when it was killed.

        It is killed at a random instant after its birth, or (more often) after its first word, when it is at work.
        """
        from_birth = self.draw.random() < 0.25
        kill_after_s = self.draw.uniform(0.0, 0.5) if mortal else LIFE_S_MAX
        park_after = self.draw.choice([0.0, 0.0, 0.01, 1.0])
        command = [sys.executable, "-m", "chaos.node", self.url, str(self.effects), str(self.count), str(park_after)]
        environment = dict(os.environ, PYTHONPATH=str(TESTS), PYTHONHASHSEED=str(self.draw.randrange(2**32)))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=TESTS.parent
        )
        deadline = time.monotonic() + (kill_after_s if from_birth or not mortal else LIFE_S_MAX)
        assert process.stdout is not None
        told = b""
        killed = False
        phase = "starting"
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                killed = True
                process.kill()
                break
            readable, _, _ = select.select([process.stdout], [], [], left)
            if readable:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                if not told and mortal and not from_birth:
                    deadline = time.monotonic() + kill_after_s
                told += chunk
        rest, errors = process.communicate()
        told += rest
        done = False
        for line in told.split(b"\n")[:-1]:  # the last one may be torn
            phase, done = self.hear(json.loads(line), done, phase)
        if killed and not mortal:
            raise Broken(f"not finished after {LIFE_S_MAX} s: {sorted(self.missing())}\n{errors.decode()[-3000:]}")
        if not killed and not done:
            raise Broken(f"a process ended by itself with {process.returncode}:\n{errors.decode()[-3000:]}")
        if killed:
            self.tally.kills += 1
            self.tally.during[phase] = self.tally.during.get(phase, 0) + 1
        return done

    def hear(self, line: list[object], done: bool, phase: str) -> tuple[str, bool]:
        match line:
            case ["accepted", str(workflow_id)]:
                self.accepted.add(workflow_id)
                return "submitting", done
            case ["ready"]:
                return "running", done
            case ["result", str(workflow_id), value]:
                said = json.dumps(value)
                if self.results.setdefault(workflow_id, said) != said:
                    raise Broken(f"{workflow_id}: told {self.results[workflow_id]}, and later {said}")
            case ["done"]:
                return phase, True
        return phase, done

    def missing(self) -> set[str]:
        return {f"w{number}" for number in range(self.count)} - set(self.results)

    def look(self) -> None:
        """Read the store that a kill left: nothing that was durable before may be changed, or have run again."""
        store = open_store(self.url)
        try:
            now = self.completions(NodeStorage(store))
        finally:
            store.close()
        ends: dict[str, int] = {}
        for line in self.effects.read_text().splitlines():
            key = line.split(" ")[0]
            ends[key] = ends.get(key, 0) + 1
        for key, (output, seen) in self.durable.items():
            if key in now and now[key] != output:
                raise Broken(f"the result of {key} was {output!r} and is {now[key]!r}")
            if ends.get(key, 0) > seen:
                raise Broken(f"{key} ran again after its completion was durable")
            self.tally.completions_checked += 1
        for key, output in now.items():
            if key not in self.durable:
                self.durable[key] = (output, ends.get(key, 0))

    def completions(self, storage: NodeStorage) -> dict[str, bytes | None]:
        """Idempotency key -> recorded result, of every call whose completion is in the store."""
        found: dict[str, bytes | None] = {}
        for workflow_id, status in storage.statuses():
            rows = storage.rows(workflow_id, status.incarnation, status.run)
            calls = [row for row in rows if isinstance(row, Command)]
            for row in rows:
                if isinstance(row, Completion) and calls[row.sequence_number].entry_type is EntryType.CALL:
                    key = f"{workflow_id}:{status.incarnation.hex()}:{status.run}:{row.sequence_number}"
                    if row.error is None:
                        found[key] = row.output_json
        return found

    def check_end(self) -> None:
        store = open_store(self.url)
        try:
            storage = NodeStorage(store)
            statuses = dict(storage.statuses())
            for workflow_id, row in statuses.items():
                if row.status is not Status.COMPLETED:
                    raise Broken(f"{workflow_id} is {row.status.value} at the end: {row.error}")
            leftovers = [key for partition in range(keys.PARTITIONS) for key, _ in storage.outbox(partition)]
            leftovers += [t for partition in range(keys.PARTITIONS) for t in storage.timers(partition, 0, 2**62)]
            if leftovers:
                raise Broken(f"left over in the store: {leftovers[:5]}")
        finally:
            store.close()
        lost = self.accepted - set(statuses)
        if lost or self.missing():
            raise Broken(f"accepted and gone: {lost}; without a result: {self.missing()}")
        lines = self.effects.read_text().splitlines()
        again = len(lines) - len({line.split(" ")[0] for line in lines})
        self.tally.bodies += len(lines)
        self.tally.bodies_again += again
        self.tally.workflows += len(statuses)
        self.tally.stores += 1


def run(rounds: int, store: str, seed: int, say: bool = True) -> Tally:
    """Kill ``rounds`` processes. Raises `Broken`."""
    draw = random.Random(f"{store}/{seed}")
    tally = Tally()
    while tally.kills < rounds:
        with tempfile.TemporaryDirectory() as name:
            chaos = Chaos(Path(name), store, draw, tally)
            for _ in range(draw.randrange(2, 7)):
                if tally.kills >= rounds or chaos.live(mortal=True):
                    break
                chaos.look()
            chaos.live(mortal=False)
            chaos.look()
            chaos.check_end()
        if say:
            print(f"{store}, seed {seed}: {tally}", flush=True)
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--store", choices=["rocksdb", "leveldb"], default="rocksdb")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    try:
        run(chosen.rounds, chosen.store, chosen.seed)
    except Broken as broken:
        print(f"BROKEN with --store {chosen.store} --seed {chosen.seed}: {broken}")
        raise SystemExit(1) from None
