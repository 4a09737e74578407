"""Tables of settings, made from the classes that hold them: for the book's appendix, and for `durable.notebook` at a prompt.

**Why it exists.** A list of settings that somebody keeps beside the code is wrong after the next change. Here the names, types and
defaults are those of the dataclass, and the words are the ones that stand below each field in its source.

**How it works.** Python drops a string below an assignment; its place in the source is kept. `words_of` reads it from there.

**Limits.** The source must be there: not from a zip, not from an interactive prompt.

Read next: `durable.cluster.config`.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from durable.cluster.config import PRESETS, ClusterConfig
from durable.membership.tuning import Tuning
from durable.notebook.figure import Figure, code, esc, html_table, tag, text_table
from durable.runtime.config import NodeConfig

_CODE = re.compile(r"``(.+?)``|`(.+?)`")


def cluster_settings() -> Figure:
    """The fields of `ClusterConfig`, with what each preset says otherwise."""
    return settings_table(ClusterConfig, {name: changed for name, changed in PRESETS.items() if changed})


def node_settings() -> Figure:
    """The fields of `NodeConfig`."""
    return settings_table(NodeConfig)


def membership_numbers() -> Figure:
    """What the presets make of the numbers that membership runs by: fields and derived times of `Tuning`."""
    words = words_of(Tuning)
    tunings = {name: ClusterConfig(node_id="node-1", **changed).tuning() for name, changed in PRESETS.items()}  # type: ignore[arg-type]
    rows = []
    for name in words:
        values = [getattr(tuning, name) for tuning in tunings.values()]
        if all(isinstance(value, int | float) for value in values):
            rows.append((name, *map(_shown, values), words[name]))
    return _table(["number", *tunings, "what it is"], rows)


def settings_table(kind: type[Any], presets: Mapping[str, Mapping[str, Any]] | None = None) -> Figure:
    """Name, default and meaning of each field of a dataclass, and a column for each preset."""
    words, columns = words_of(kind), presets or {}
    rows = []
    for field in fields(kind):
        changed = [_shown(preset[field.name]) if field.name in preset else "" for preset in columns.values()]
        rows.append((field.name, _default(field), *changed, words.get(field.name, "")))
    return _table(["field", "default", *columns, "what it is"], rows)


def words_of(kind: type[Any]) -> dict[str, str]:
    """What the source of a class says of its fields and properties, by name, each in one line.

    >>> words_of(NodeConfig)["max_threads"]
    'Threads for functions that are not async.'
    """
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            below = tree.body[place + 1] if place + 1 < len(tree.body) else None
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
                found[node.target.id] = " ".join(below.value.value.split())
            else:
                found[node.target.id] = ""
        elif isinstance(node, ast.FunctionDef) and any(ast.unparse(one) == "property" for one in node.decorator_list):
            found[node.name] = " ".join((ast.get_docstring(node) or "").split())
    return found


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return _shown(field.default)
    return "required" if field.default_factory is MISSING else _shown(field.default_factory())


def _shown(value: Any) -> str:
    """As one would say it: 16 MiB, 100,000, nobody, none.

    >>> [_shown(value) for value in (16 * 2**20, 100_000, 0.1, 5.0, None, (), False, "durable")]
    ['16 MiB', '100,000', '0.1', '5', 'none', 'none', 'no', 'durable']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value >> 20} MiB" if value and value % 2**20 == 0 else f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, ()) else str(value)


def _table(head: list[str], rows: list[tuple[str, ...]]) -> Figure:
    """In HTML the values stand below the name, so that the words keep enough room on a phone."""
    marked = [[f"{code(row[0])}{tag('br')}{_values(head[1:-1], row[1:-1])}", _marked(row[-1])] for row in rows]
    return Figure(html_table([esc(head[0]), esc(head[-1])], marked), text_table(head, [list(row) for row in rows]))


def _values(names: list[str], values: tuple[str, ...]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True) if value)
    return tag("span", esc(said.removeprefix("default required") or "required"), class_="durable-muted")


def _marked(words: str) -> str:
    """The words with what is between backquotes as code."""
    parts, end = [], 0
    for found in _CODE.finditer(words):
        parts += [esc(words[end : found.start()]), code(found[1] or found[2])]
        end = found.end()
    return "".join([*parts, esc(words[end:])])
