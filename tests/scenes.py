"""The workflows of the demonstrations, as shapes for the crash tests: taken out of the notebooks, and given the world they ask for.

What a notebook registers, and whatever that needs, is copied word for word into a module (`take_out`); what else a notebook
does (opening stores, killing processes, drawing) stays behind. `SCENES` says what the workflows are given, from the notebook
or a smaller one like it, and how they must end. `WORLDS` has the rest: what stands outside of the workflows, outlives a crash,
and is new in each run.

A scene of several workflows is played by one more (`everybody`) that starts them under their ids, as the notebook does.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import io
import json
import pickle
import re
import subprocess
import symtable
import sys
import tokenize
import urllib.error
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from shapes import Shape

import durable
from durable import Context
from durable.testing import Send
from durable.workflows.definition import REGISTRY, Function, Workflow

DEMOS = Path(__file__).resolve().parents[1] / "demos"
NOTEBOOKS = sorted(DEMOS.glob("*.ipynb"))


# --- out of the notebook --------------------------------------------------------------------------------------------


def cells(notebook: Path) -> list[str]:
    content = json.loads(notebook.read_text("utf8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def definitions(notebook: Path) -> str:
    """The source of a module: what the notebook decorates, and all that this uses, in the notebook's order.

    What a notebook has to wait for (servers, say) is no definition, and is left to `WORLDS`.
    """
    parts = [part for cell in cells(notebook) for part in _parts(cell)]
    wanted = {part for part in parts if part.decorated}
    names = set(world_of(notebook).uses)
    while True:
        names |= {name for part in wanted for name in part.reads}
        more = {part for part in parts if part.binds & names} - wanted
        if not more:
            return "\n\n".join(part.source for part in parts if part in wanted) + "\n"
        wanted |= more


@dataclass(frozen=True)
class _Part:
    """A statement of a notebook: what it binds, and which names that are not its own it reads."""

    source: str
    binds: frozenset[str]
    reads: frozenset[str]
    decorated: bool


def _parts(cell: str) -> Iterator[_Part]:
    for node in ast.parse(cell).body:
        match node:
            case ast.Import() | ast.ImportFrom():
                binds = [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                binds = [node.name]
            case ast.Assign() | ast.AnnAssign() if not any(isinstance(one, ast.Await) for one in ast.walk(node)):
                binds = [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
            case _:
                continue
        decorators = getattr(node, "decorator_list", [])
        begin = min(one.lineno for one in (node, *decorators))
        source = "\n".join(cell.splitlines()[begin - 1 : node.end_lineno])
        reads = _read(symtable.symtable(source, "a cell", "exec"))
        yield _Part(source, frozenset(binds), frozenset(reads), bool(decorators))


def _read(table: symtable.SymbolTable) -> set[str]:
    names = {one.get_name() for one in table.get_symbols() if one.is_global() or table.get_type() == "module"}
    return names.union(*map(_read, table.get_children()))


def take_out(folder: Path, notebooks: Iterable[Path] = NOTEBOOKS) -> None:
    """A module for each notebook that has workflows, into a folder."""
    folder.mkdir(exist_ok=True)
    for notebook in notebooks:
        if written_workflows(notebook):
            (folder / f"{notebook.stem}.py").write_text(definitions(notebook), "utf8")


def load(source: Path) -> ModuleType:
    if str(DEMOS) not in sys.path:
        sys.path.insert(0, str(DEMOS))  # for `support`
    spec = importlib.util.spec_from_file_location("demo_" + re.sub(r"\W", "_", source.stem), source)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    world_of(source).prepare(module)
    return module


# --- whether all are there ------------------------------------------------------------------------------------------


def written_workflows(notebook: Path) -> int:
    """How often the code of a notebook says ``workflow``, wherever, by whichever name of the package."""
    tokens = [token for cell in cells(notebook) for token in tokenize.generate_tokens(io.StringIO(cell).readline)]
    return sum(token.type == tokenize.NAME and token.string == "workflow" for token in tokens)


def uncovered(notebook: Path, folder: Path) -> list[str]:
    """What a notebook's workflows want of `SCENES`: those without a scene, and those that could not be taken out."""
    take_out(folder, [notebook])
    source = folder / f"{notebook.stem}.py"
    items = vars(load(source)).values() if source.exists() else ()
    found = [item.name for item in items if isinstance(item, Workflow)]
    played = {name for scene in SCENES.values() if scene.demo == notebook.stem for name in scene.workflows}
    wants = [f"{name!r} has no scene" for name in found if name not in played]
    if (written := written_workflows(notebook)) != len(found):
        wants.append(f"`workflow` is written {written} times, and {len(found)} were found: decorate each, at the top of a cell")
    return wants


# --- the worlds outside ---------------------------------------------------------------------------------------------


def _as_it_is(module: ModuleType) -> None:
    """Nothing is missing."""


@dataclass(frozen=True)
class World:
    """What a notebook has around its workflows.

    ``uses`` names definitions that only the world calls, ``outlives`` the variables that stand for something outside: a crash
    does not change them. ``prepare`` puts in place what the notebook starts and a test has not.
    """

    uses: tuple[str, ...] = ()
    outlives: tuple[str, ...] = ()
    prepare: Callable[[ModuleType], None] = _as_it_is


def shop(demo: Any) -> None:
    """The demonstration's two servers without sockets; and its program, really run, but not by the loop in virtual time."""
    answering = {"store-room": demo.store_room, "bank": demo.bank}
    demo.servers = {name.replace("-", " "): SimpleNamespace(url=f"http://{name}") for name in answering}

    def urlopen(url: str, data: bytes, timeout: float) -> io.BytesIO:
        server, what = url.removeprefix("http://").split("/")
        answer = answering[server](what, json.loads(data))
        if answer is None:
            raise ConnectionResetError("closed without a word")
        status, reply = answer
        body = io.BytesIO(json.dumps(reply).encode())
        if status != 200:
            raise urllib.error.HTTPError(url, status, "refused", None, body)  # type: ignore[arg-type]
        return body

    async def run(*argv: str, stdout: int, stderr: int) -> SimpleNamespace:
        done = await asyncio.to_thread(subprocess.run, argv, stdout=stdout, stderr=stderr, check=False)

        async def communicate() -> tuple[bytes, bytes]:
            return done.stdout, done.stderr

        return SimpleNamespace(returncode=done.returncode, communicate=communicate)

    demo.urllib = SimpleNamespace(request=SimpleNamespace(urlopen=urlopen), error=urllib.error)
    demo.asyncio = SimpleNamespace(subprocess=asyncio.subprocess, create_subprocess_exec=run)


def opened(demo: ModuleType) -> None:
    demo.gate.open()


WORLDS = {
    "03-remote-commands": World(uses=("store_room", "bank"), outlives=("busy", "accounts"), prepare=shop),
    "05-saga": World(outlives=("booked",)),
    "13-node-failure": World(prepare=opened),
}


def world_of(demo: Path) -> World:
    """Of a notebook, or of the module with its code."""
    return WORLDS.get(demo.stem, World())


# --- the scenes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A notebook's workflow with its input; or several, each by its id as a list of the two; and how they end."""

    demo: str
    workflow: str | dict[str, list[Any]]
    input: Any = None
    result: Any = None
    status: str = "COMPLETED"
    sends: tuple[Send, ...] = ()
    same: Callable[[Any, Any], bool] | None = None

    @property
    def workflows(self) -> list[str]:
        return [self.workflow] if isinstance(self.workflow, str) else [name for name, *_ in self.workflow.values()]


def said(*lines: str) -> tuple[Send, ...]:
    """What is typed into the room, as soon as everybody is there."""
    parts = [line.split(": ") for line in lines]
    return tuple(Send("line", {"who": who, "text": text}, after=1.0, workflow_id="room") for who, text in parts)


def events(*names: str) -> tuple[Send, ...]:
    return tuple(Send("events", name) for name in names)


def but_for_the_copied(expected: Any, got: Any) -> bool:
    """How many pictures were left when the last process began: that is another number when one has died, by design."""
    texts = [re.sub(r"\b(?:0|100|200|300)\b", "so many", str(value), count=1) for value in (expected, got)]
    return texts[0] == texts[1]


CHAT = ["room: what to cook", "ada: joins", "cem: joins", "room: closes"]
REFUSED, AWAY = "FAILED", {"card": "good", "outage": 99}
SCENES = {
    "01 a game": Scene(
        "01-ping-pong",
        {"bob": ["pong"], "ann": ["ping", 2]},
        result={"bob": 2, "ann": ["pong 1", "pong 2"]},
    ),
    "02 a chat": Scene(
        "02-chat-session",
        {"room": ["room", "what to cook"], "ada": ["screen"], "cem": ["screen"]},
        result={"room": len(CHAT), "ada": CHAT, "cem": CHAT},
        sends=said(*CHAT[1:]),
    ),
    "03 sold": Scene("03-remote-commands", "sell", {"item": "teapot", "city": "Lyon"}, "receipt 1, shelf 7, TO: Lyon"),
    "03 sold out": Scene("03-remote-commands", "sell", {"item": "lamp", "city": "Lyon"}, "not sold: the lamp is sold out"),
    "03 not sent": Scene(
        "03-remote-commands",
        "sell",
        {"item": "vase", "city": "Atlantis"},
        "receipt 1, but not sent: exit code 1, no such place",
    ),
    "04 a counter": Scene("04-durable-counter", "count", 4, 4),
    "05 no flight": Scene("05-saga", "trip", "flight", "stays at home (flight: sold out)"),
    "05 no hotel": Scene("05-saga", "trip", "hotel", "stays at home (hotel: sold out)"),
    "05 no payment": Scene("05-saga", "trip", "payment", "stays at home (payment: sold out)"),
    "05 no problem": Scene("05-saga", "trip", "problem", "travels"),
    "06 a reminder": Scene("06-durable-timer", "reminder", 3.0, "asked for 3 s, on time"),
    "07 delivered": Scene(
        "07-state-machine",
        "order",
        result=["placed", "paid", "packed", "shipped", "delivered"],
        sends=events("pay", "pack", "ship", "deliver"),
    ),
    "07 refunded": Scene(
        "07-state-machine",
        "order",
        result=["placed", "paid", "refunded"],
        sends=events("ship", "pay", "pay", "cancel", "pack"),
    ),
    "08 an album": Scene("08-parallel-fan-out", "album", 7, [f"small-{picture}.png" for picture in range(7)]),
    "09 at once": Scene("09-automatic-retry", "pay", {"card": "good"}, "paid at attempt 1"),
    "09 a short outage": Scene("09-automatic-retry", "pay", {"card": "good", "outage": 3}, "paid at attempt 4"),
    "09 a long outage": Scene("09-automatic-retry", "pay", AWAY, status=REFUSED),
    "09 a stolen card": Scene("09-automatic-retry", "pay", {"card": "stolen"}, status=REFUSED),
    "10 a film": Scene(
        "10-checkpoint-recovery",
        "archive",
        300,
        "done; the last process copied 300 of 300 pictures",
        same=but_for_the_copied,
    ),
    "10 a mailing": Scene("10-checkpoint-recovery", "mailing", 5, 250),
    "12 an order": Scene("12-distributed-execution", "order", "a teapot", "the notebook"),
    "12 an errand": Scene(
        "12-distributed-execution",
        {"store-room": ["store_room"], "errand": ["errand", "store-room"]},
        result={"store-room": "served errand", "errand": "a teapot, packed on the notebook"},
    ),
    "13 a parcel": Scene("13-node-failure", "ship", "a teapot", ["the notebook"] * 3),
}


@durable.workflow("everybody-of-a-scene")
async def everybody(ctx: Context, cast: dict[str, list[Any]]) -> dict[str, Any]:
    """Started in the given order, under the ids by which they know one another."""
    started = {
        name: ctx.start(workflow, *given, workflow_id=name)  # type: ignore[misc]
        for name, (workflow, *given) in cast.items()
    }
    return {name: await one for name, one in started.items()}


@dataclass(frozen=True, kw_only=True)
class Staged(Shape):
    """A scene with the code that it plays."""

    scene: str
    module: ModuleType
    outlives: tuple[str, ...]
    new_world: bytes

    @property
    def name(self) -> str:
        return self.scene

    def enter(self, world: bytes | None = None) -> None:
        for item in vars(self.module).values():
            if isinstance(item, Workflow | Function):  # again: another notebook has an ``order``, too
                REGISTRY.add(item)
        vars(self.module).update(pickle.loads(self.new_world if world is None else world))

    def world(self) -> bytes:
        return _world(self.module, self.outlives)


def staged(folder: Path) -> Mapping[str, Staged]:
    """The scenes of the notebooks whose code is in the folder (`take_out`)."""
    modules = {source.stem: load(source) for source in sorted(folder.glob("*.py"))}
    return {name: _staged(name, scene, modules[scene.demo]) for name, scene in SCENES.items() if scene.demo in modules}


def _staged(name: str, scene: Scene, module: ModuleType) -> Staged:
    if isinstance(scene.workflow, str):
        [workflow] = [one for one in vars(module).values() if isinstance(one, Workflow) and one.name == scene.workflow]
        given = scene.input
    else:
        workflow, given = everybody, scene.workflow
    outlives = world_of(Path(scene.demo)).outlives
    return Staged(
        workflow,
        given,
        scene.result,
        scene.status,
        scene.sends,
        same=scene.same,
        scene=name,
        module=module,
        outlives=outlives,
        new_world=_world(module, outlives),
    )


def _world(module: ModuleType, names: tuple[str, ...]) -> bytes:
    return pickle.dumps({name: vars(module)[name] for name in names})
