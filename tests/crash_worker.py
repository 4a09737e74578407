"""One process of the crash tests: ``begin`` runs shapes until they crash, ``finish`` goes on with what their stores held.

    python tests/crash_worker.py begin OUT SHAPE...      lives up to their crash, for every moment; stores written to OUT
    python tests/crash_worker.py finish IN OUT           the lives after it, from IN; what became of them written to OUT
    python tests/crash_worker.py journals FOLDER         the shapes' journals, exported: how tests/journals was made

The two run in different processes, with different hash seeds, and perhaps on different Pythons.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from shapes import SHAPES, Shape

from durable.runtime.admin import export
from durable.storage.memory import InMemoryStore
from durable.storage.node import NodeStorage
from durable.testing.lives import Death, Ending, Plan, Witness, live

WORKFLOW_ID = "under-test"


class Crashed(msgspec.Struct):
    """A store as its process left it. ``elapsed_s`` is when, ``endings`` is how it all ends undisturbed."""

    shape: str
    death: str
    elapsed_s: float
    rows: list[tuple[bytes, bytes]]
    endings: dict[str, Ending]


class Finished(msgspec.Struct):
    shape: str
    death: str
    expected: dict[str, Ending]
    got: dict[str, Ending]
    faults: list[str]
    left: list[str]


def plan_of(shape: Shape) -> Plan:
    given = () if shape.input is None else (shape.input,)
    return Plan(shape.workflow, given, WORKFLOW_ID, shape.sends, shape.cancel_after)


def begin(name: str) -> list[Crashed]:
    shape = SHAPES[name]
    plan = plan_of(shape)
    witness = Witness()
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
            life = live(plan, store, Witness(), death)
            found.append(Crashed(name, str(death), life.elapsed_s, list(store.scan(b"")), undisturbed.endings))
    return found


def finish(crashed: Crashed) -> Finished:
    store, witness = InMemoryStore.open(), Witness()
    store.write(crashed.rows)
    witness.kept(crashed.rows)
    life = live(plan_of(SHAPES[crashed.shape]), store, witness, None, crashed.elapsed_s, writes_max=500)
    left = [key[2:].decode(errors="replace") for key, _ in store.scan(b"") if key[2:3] in b"aotm" and key[:1] != b"\xff"]
    return Finished(crashed.shape, crashed.death, crashed.endings, life.endings or {}, witness.faults, left)


def journals(folder: Path) -> None:
    for shape in SHAPES.values():
        store = InMemoryStore.open()
        live(plan_of(shape), store, Witness())
        text = export(NodeStorage(store), WORKFLOW_ID).replace(str(Path(__file__).parent.parent), "")  # in tracebacks
        (folder / f"{shape.name}.jsonl").write_text(text, encoding="utf-8")


def main(command: str, *arguments: str) -> None:
    if command == "begin":
        out, *names = arguments
        Path(out).write_bytes(msgspec.msgpack.encode([crashed for name in names for crashed in begin(name)]))
    elif command == "finish":
        source, out = arguments
        stores = msgspec.msgpack.decode(Path(source).read_bytes(), type=list[Crashed])
        Path(out).write_bytes(msgspec.msgpack.encode([finish(crashed) for crashed in stores]))
    else:
        journals(Path(*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
