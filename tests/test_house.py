"""The house holds: imports run one way, the world is behind ports, rooms and files keep their size.

The rules are in the docstrings of `durable` and `durable.ports`; here they are checked, on the syntax trees of the source.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "durable"
MODULES = sorted(SOURCE.rglob("*.py"))
FILE_LINES_MAX = 500
ROOM_LINES_MAX = 3_400
FUNCTION_LINES_MAX = 60

# Who may import whom. A room may import what stands below it in this list, and nothing above.
LAYERS: list[set[str]] = [
    # Simulated runs that are measured, drawn or told: they cut short what a simulation keeps whole.
    {"figures"},
    # What a simulated cluster is asked for, and the laws that it is held to.
    {"trials"},
    {"cli", "__main__", "testing", "notebook", "sim"},
    # What is typed at the command line, made into values.
    {"options"},
    # How what comes out of it is shown.
    {"tables"},
    # The commands about a cluster: `cli` imports them when one is given, so that the others start without it.
    {"commands"},
    {"cluster"},
    {"runtime"},
    # Asking the desk of another process.
    {"rpc"},
    # What one asks of an execution and its typed face; running a function's body: neither knows the engine between them.
    {"desk", "bodies"},
    {"storage", "replication", "workflows"},
    {"routing", "transports", "copies"},
    {"journal"},
    {"membership", "world"},
    {"ports"},
    # Whether an order explains what clients were told: knows nothing of durable, and serves the simulator and the chaos tests.
    {"errors", "linearizable"},
]
# Within a layer: who may see whom.
SIDEWAYS = {("cli", "testing"), ("testing", "sim"), ("__main__", "cli"), ("journal", "routing"), ("workflows", "journal")}
# A repr asks the notebook room when a notebook asks for it, and not before: such imports stand inside functions.
LAZILY = {"notebook", "storage", "runtime", "cli"}


def room(module: Path) -> str:
    parts = module.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def is_entry(module: Path) -> bool:
    """What `python -m durable.sim` starts: it stands above all that it puts together."""
    return module.name == "__main__.py" and module.parent != SOURCE


def layer(name: str) -> int:
    for index, names in enumerate(LAYERS):
        if name in names:
            return index
    raise AssertionError(f"durable/{name} is in no layer: add it to LAYERS, and say where it stands")


def imports(tree: ast.AST, *, lazy: bool) -> Iterator[tuple[str, int]]:
    """Names of ``durable`` rooms that a module imports: at its top, or (lazy) inside functions."""
    inside = {id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
              for node in ast.walk(function)}
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only or (id(node) in inside) is not lazy:
            continue
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] if node.module != "durable" else [f"durable.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("durable."):
                yield name.split(".")[1], node.lineno


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(ROOT)))
def test_imports_run_one_way(module: Path) -> None:
    own = room(module)
    if own == "__init__" or is_entry(module):
        return
    for lazy in (False, True):
        for other, line in imports(ast.parse(module.read_text()), lazy=lazy):
            if not (SOURCE / other).is_dir() and not (SOURCE / f"{other}.py").exists():
                continue  # a public name of the package itself
            allowed = (
                other == own
                or layer(other) > layer(own)
                or (own, other) in SIDEWAYS
                or (lazy and other in LAZILY)
            )
            assert allowed, f"{module.relative_to(ROOT)}:{line} imports durable.{other}, which stands above it"


# Clocks, chance, files and sockets: what is asked of the machine. A `Random` with a seed asks nothing.
OF_THE_WORLD = re.compile(
    r"""
    time\. | datetime\.(datetime\.(now|utcnow|today) | date\.today)\b
    | random\.(?!Random\b) | random\.Random\(\) | secrets\. | uuid\.uuid[14]\b | os\.(urandom|getrandom)\b
    | open\b | io\.open\b | os\.open\b | tempfile\. | shutil\. | .*\.(read|write)_(text|bytes)\b
    | socket\.(socket|create_\w+|socketpair|fromfd)\b | asyncio\.(open|start)_\w+\b
    """,
    re.VERBOSE,
)
MAY_TOUCH_THE_WORLD = {
    "world.py": "the clock and the chance of the real world",
    "storage": "its files",
    "transports": "its sockets",
    "cli.py": "reads the journals that it is given",
    "cluster/local.py": "gives the nodes of a cluster that is tried out their folders",
}


def named(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What a module names, in full: after ``from time import time as now``, `now` is ``time.time``."""
    meant = {"open": "open"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                meant[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                meant[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node.lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.Call):
            first = re.match(r"\w*", text := ast.unparse(node))[0]
            yield meant.get(first, f"<{first}>") + text[len(first) :], node.lineno


def touches_of_the_world(source: str) -> list[str]:
    return [f"line {line}: {name}" for name, line in named(ast.parse(source)) if OF_THE_WORLD.match(name)]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(ROOT)))
def test_the_world_is_behind_the_ports(module: Path) -> None:
    place = module.relative_to(SOURCE)
    if place.parts[0] not in MAY_TOUCH_THE_WORLD and place.as_posix() not in MAY_TOUCH_THE_WORLD:
        assert touches_of_the_world(module.read_text()) == [], "that belongs behind a port"


@pytest.mark.parametrize(
    "touch",
    [
        "import time; time.process_time()",
        "import time as t; t.time()",
        "import time; clock = time.monotonic",
        "from time import perf_counter",
        "from time import *",
        "from datetime import datetime; datetime.now()",
        "import datetime; datetime.datetime.now(datetime.UTC)",
        "import random; random.choice([1])",
        "from random import random",
        "from random import Random; Random()",
        "from os import urandom as chance",
        "from uuid import uuid4",
        "with open('file'): pass",
        "from pathlib import Path; Path('file').read_text()",
        "from socket import socket",
    ],
)
def test_the_world_is_known_in_every_disguise(touch: str) -> None:
    assert touches_of_the_world(touch)


@pytest.mark.parametrize(
    "harmless",
    [
        "from random import Random; Random(7).random()",
        "from datetime import datetime; datetime.fromtimestamp(0)",
        "from uuid import UUID; from socket import AF_INET",
        "self.random.random(); store.open(); loop.time(); time = 3; time.real",
    ],
)
def test_what_asks_nothing_of_the_machine_is_let_be(harmless: str) -> None:
    assert touches_of_the_world(harmless) == []


@pytest.mark.parametrize("module", [*MODULES, *sorted((ROOT / "book" / "bookstitch").rglob("*.py"))], ids=lambda m: m.name)
def test_files_and_functions_hold_one_idea(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX, "past that it is two ideas"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} takes {lines} lines: past {FUNCTION_LINES_MAX} it is two ideas"


def test_rooms_keep_their_size() -> None:
    sizes: dict[str, int] = {}
    for module in MODULES:
        if module.parent != SOURCE:
            sizes[room(module)] = sizes.get(room(module), 0) + len(module.read_text().splitlines())
    assert {name: lines for name, lines in sizes.items() if lines > ROOM_LINES_MAX} == {}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(ROOT)))
def test_every_module_opens_with_its_idea(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text())), "a module says what it is, first"


def run_python(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ}
    )
    return done.stdout.strip()


def test_importing_durable_brings_nothing_that_a_browser_lacks() -> None:
    heavy = "{'rocksdict', 'plyvel', 'multiprocessing', 'cryptography', 'rich', 'matplotlib', 'networkx', 'IPython', 'ssl'}"
    before = set(run_python("import sys, asyncio; print(*sys.modules)").split())
    loaded = set(run_python("import sys, asyncio, durable; print(*sys.modules)").split())
    assert not (loaded - before) & set(ast.literal_eval(heavy))
    assert not {name for name in loaded if name.startswith(("durable.testing", "durable.notebook", "durable.sim"))}


def test_the_stores_are_names_of_durable_and_no_engine_is_imported_before_one_is_used() -> None:
    engines = "print([name for name in ('rocksdict', 'plyvel') if name in sys.modules])"
    assert run_python(f"import sys; from durable import *; {engines}") == "[]"
    assert run_python(f"import sys; from durable import InMemoryStore; InMemoryStore.open().close(); {engines}") == "[]"
    assert run_python(f"import sys; from durable import RocksDBStore; {engines}") == "['rocksdict']"
    if find_spec("plyvel"):
        assert run_python(f"import sys; from durable import LevelDBStore; {engines}") == "['plyvel']"


def test_a_name_that_durable_has_not_is_missed_by_its_name() -> None:
    with pytest.raises(ImportError, match="cannot import name 'MongoStore' from 'durable'"):
        from durable import MongoStore  # type: ignore[attr-defined]  # noqa: F401


def test_what_one_asks_of_a_cluster_is_where_its_node_is() -> None:
    from durable.cluster import HashRing, Local, Remote, Router
    from durable.routing import ring, router

    assert (HashRing, Router, Local, Remote) == (ring.HashRing, router.Router, router.Local, router.Remote)


def test_the_public_names_exist_and_are_listed() -> None:
    import durable

    assert sorted(durable.__all__) == durable.__all__ or set(durable.__all__)
    for name in durable.__all__:
        assert getattr(durable, name) is not None


def test_the_top_level_holds_what_it_should() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode:
        pytest.skip("not in a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    files = {"noxfile.py", "_config.yml", "_toc.yml", "pyproject.toml", "README.md", "LICENSE"}
    allowed = {"book", "durable", "demos", "tests"} | files
    assert {name for name in top if not name.startswith(".")} <= allowed
