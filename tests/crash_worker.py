"""One process of the crash tests: ``begin`` runs shapes until they crash, ``finish`` goes on with what their stores held.

    python tests/crash_worker.py begin CORPUS OUT SHAPE...  lives up to their crash, for every moment; stores written to OUT
    python tests/crash_worker.py finish CORPUS IN OUT       the lives after it, from IN; what became of them written to OUT
    python tests/crash_worker.py journals FOLDER            the shapes' journals, exported: how tests/journals was made

The first two run in different processes, with different hash seeds, and perhaps on different Pythons. CORPUS is "shapes", or
the folder in which `scenes.take_out` has put the code of the demonstrations.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from scenes import staged
from shapes import SHAPES, Shape

from durable.runtime.admin import export
from durable.storage.memory import InMemoryStore
from durable.storage.node import NodeStorage
from durable.testing.crashes import _same_ending
from durable.testing.lives import Death, Ending, Plan, Witness, live

WORKFLOW_ID = "under-test"


class Crashed(msgspec.Struct):
    """A store as its process left it, and the world. ``elapsed_s`` is when, ``endings`` is how it all ends undisturbed."""

    shape: str
    death: str
    elapsed_s: float
    rows: list[tuple[bytes, bytes]]
    world: bytes
    endings: dict[str, Ending]


class Finished(msgspec.Struct):
    shape: str
    death: str
    expected: dict[str, Ending]
    got: dict[str, Ending]
    alike: bool
    faults: list[str]
    left: list[str]


def plan_of(shape: Shape) -> Plan:
    given = () if shape.input is None else (shape.input,)
    return Plan(shape.workflow, given, WORKFLOW_ID, shape.sends, shape.cancel_after)


def begin(shape: Shape) -> list[Crashed]:
    name, plan = shape.name, plan_of(shape)
    witness = Witness()
    shape.enter()
    undisturbed = live(plan, InMemoryStore.open(), witness)
    assert undisturbed.endings is not None
    ending = undisturbed.endings[WORKFLOW_ID]
    assert ending.status.value == shape.status, (name, ending)
    if shape.result is not None:
        assert msgspec.json.decode(ending.output_json or b"null") == shape.result, (name, ending)
    found = []
    for write in range(1, undisturbed.writes + 1):
        for after in (False, True):
            store = InMemoryStore.open()
            death = Death(write, after)
            shape.enter()
            life = live(plan, store, Witness(), death)
            rows = list(store.scan(b""))
            found.append(Crashed(name, str(death), life.elapsed_s, rows, shape.world(), undisturbed.endings))
    return found


def finish(shape: Shape, crashed: Crashed) -> Finished:
    store, witness = InMemoryStore.open(), Witness()
    store.write(crashed.rows)
    witness.kept(crashed.rows)
    shape.enter(crashed.world)
    life = live(plan_of(shape), store, witness, None, crashed.elapsed_s, writes_max=500)
    expected, got = crashed.endings, life.endings or {}
    alike = expected.keys() == got.keys() and all(_same_ending(expected[one], got[one], shape.same) for one in expected)
    left = [key[2:].decode(errors="replace") for key, _ in store.scan(b"") if key[2:3] in b"aotm" and key[:1] != b"\xff"]
    return Finished(crashed.shape, crashed.death, expected, got, alike, witness.faults, left)


def journals(folder: Path) -> None:
    for shape in SHAPES.values():
        store = InMemoryStore.open()
        live(plan_of(shape), store, Witness())
        text = export(NodeStorage(store), WORKFLOW_ID).replace(str(Path(__file__).parent.parent), "")  # in tracebacks
        (folder / f"{shape.name}.jsonl").write_text(text, encoding="utf-8")


def corpus(name: str) -> Mapping[str, Shape]:
    return SHAPES if name == "shapes" else staged(Path(name))


def main(command: str, *arguments: str) -> None:
    if command == "begin":
        source, out, *names = arguments
        shapes = corpus(source)
        Path(out).write_bytes(msgspec.msgpack.encode([crashed for name in names for crashed in begin(shapes[name])]))
    elif command == "finish":
        source, begun, out = arguments
        shapes = corpus(source)
        stores = msgspec.msgpack.decode(Path(begun).read_bytes(), type=list[Crashed])
        Path(out).write_bytes(msgspec.msgpack.encode([finish(shapes[crashed.shape], crashed) for crashed in stores]))
    else:
        journals(Path(*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
