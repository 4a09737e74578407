"""A journal that one process wrote replays in another, whatever its hash seed; so do the bytes of values."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trees import WITH_MANY, WITH_ONE, World, tree

from durable.journal.codec import pack, unpack_row
from durable.workflows.replaying import replay

TESTS = Path(__file__).resolve().parent.parent
LEAVES = ["call", "fails", "sleep", "asyncio-sleep", "receive", "receive-timeout", "send", "child", "detached", "state", "random"]
WORLDS = 120


def grown(draw: random.Random, depth: int = 0) -> Any:
    if depth == 4 or draw.random() < 0.25:
        return [draw.choice(LEAVES), draw.randrange(4)]
    if draw.random() < 0.3:
        return [draw.choice(WITH_ONE), grown(draw, depth + 1)]
    return [draw.choice(WITH_MANY), [grown(draw, depth + 1) for _ in range(draw.randrange(1, 4))]]


def journals() -> list[dict[str, Any]]:
    found = []
    for seed in range(WORLDS):
        draw = random.Random(seed)
        world = World(grown(draw), seed, draw.choice([None, None, 2, 5])).run()
        rows = [base64.b64encode(pack(row)).decode() for row in world.rows]
        found.append({"seed": seed, "rows": rows, "end": end_of(world.machine)})
    return found


def end_of(machine: Any) -> str:
    outcome = machine.outcome
    return repr((outcome and (outcome.status.value, outcome.output_json), sorted(machine.pending), machine.cursor.made))


def replay_all(found: list[dict[str, Any]]) -> list[str]:
    """The worlds whose replay is not what was written. Runs in the other process."""
    wrong = []
    for journal in found:
        rows = [unpack_row(base64.b64decode(row)) for row in journal["rows"]]
        try:
            machine = replay(tree, rows[0], rows, "tree-1")
        except Exception as error:
            wrong.append(f"world {journal['seed']}: {error}")
            continue
        if end_of(machine) != journal["end"]:
            wrong.append(f"world {journal['seed']}: {end_of(machine)} is not {journal['end']}")
    return wrong


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_a_journal_replays_in_a_process_with_another_hash_seed(hash_seed: str, tmp_path: Path) -> None:
    file = tmp_path / "journals.json"
    file.write_text(json.dumps(journals()))
    program = (
        "import sys, json; sys.path[:0] = [sys.argv[1], sys.argv[1] + '/laws']\n"
        "from test_other_process import replay_all\n"
        "print(json.dumps(replay_all(json.load(open(sys.argv[2])))))"
    )
    environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
    ran = subprocess.run(
        [sys.executable, "-c", program, str(TESTS), str(file)], capture_output=True, text=True, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == []


SETS = """
import dataclasses, sys
from collections import defaultdict
from typing import Any, NamedTuple, Optional
import msgspec
from durable.journal.codec import encode_value
try:
    import attrs, pydantic
except ImportError:
    attrs = pydantic = None

words = [f"word{n}" for n in range(12)]
Tags = set[str]

@dataclasses.dataclass
class Inner:
    tags: Tags

@dataclasses.dataclass
class Outer:
    inner: Inner
    maybe: Optional[Inner] = None

class Holder(msgspec.Struct):
    outer: Outer

class Pair(NamedTuple):
    left: Inner
    right: frozenset

class Box(dict):
    pass

by_key = defaultdict(set)
by_key["k"].update(words)
values = [set(words), {"a": [frozenset(words)]}, Inner(set(words)), Outer(Inner(set(words))), Holder(Outer(Inner(set(words)))),
          Pair(Inner(set(words)), frozenset(words)), by_key, Box(k=set(words)), [Outer(Inner(set(words)))],
          {frozenset(["a"]): 1} if False else {"x": {1, 2, 3}}, {(1, "b"), (0, "a"), (2, "c")}, {Pair(1, 2), Pair(0, 3)}]
if pydantic:
    class Model(pydantic.BaseModel):
        tags: set[str]
        nested: dict[str, frozenset[str]]
    class Around(pydantic.BaseModel):
        model: Model
        many: list[Model]
    model = Model(tags=set(words), nested={"n": frozenset(words)})
    values += [model, Around(model=model, many=[model])]
if attrs:
    @attrs.define
    class Attr:
        inner: Inner
        any: Any
    values += [Attr(Inner(set(words)), set(words))]
for value in values:
    print(encode_value(value).decode())
"""


def test_sets_have_the_same_bytes_in_every_process_however_deep_they_are() -> None:
    outputs = []
    for hash_seed in ("0", "1", "2", "3"):
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
        ran = subprocess.run([sys.executable, "-c", SETS], capture_output=True, text=True, env=environment, check=False)
        assert ran.returncode == 0, ran.stderr
        outputs.append(ran.stdout.splitlines())
    for lines in zip(*outputs, strict=True):
        assert len(set(lines)) == 1, lines
