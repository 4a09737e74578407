"""The code that a node runs: modules by name, or definitions that travel from a notebook to its own children.

**How it works.** Importing a module that defines workflows registers them; `import_app` does that for names, as
``durable node --app`` gives them. What a notebook defines is in no module that a child could import: `pack_app` pickles the
definitions by value (cloudpickle), with the declared types, and `unpack_app` registers them in the child.

**Limits.** Pickled code goes to processes that this one started, through a pipe, and nowhere else. Between the nodes of a
cluster code never travels: each has it, or leaves the execution to others until it does.

Read next: `durable.cluster.local`.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Sequence
from importlib import import_module
from typing import Any, TypeAlias

from durable.workflows.definition import Function, Workflow

Definition: TypeAlias = Workflow[Any, Any] | Function[..., Any]
App: TypeAlias = str | Sequence[str | Definition]
"""A module's name, or several; or definitions."""


def import_app(names: str) -> None:
    """Import the modules, named with commas between them. Raises `ValueError` with the reason."""
    for name in (part.strip() for part in names.split(",")):
        try:
            import_module(name)
        except Exception as error:
            where = ". Name a module as Python imports it, orders for orders.py" if isinstance(error, ImportError) else ""
            raise ValueError(f"the app {name!r} cannot be imported: {type(error).__name__}: {error}{where}") from error


def pack_app(app: App | None) -> dict[str, str]:
    """What to tell a child, as JSON takes it. Raises `TypeError` for what is no definition."""
    items = [app] if isinstance(app, str) else list(app or ())
    names = [item for item in items if isinstance(item, str)]
    definitions = [item for item in items if not isinstance(item, str)]
    for item in definitions:
        if not isinstance(item, Workflow | Function):
            raise TypeError(f"{item!r} is no workflow and no function: decorate it, or name the module that defines it")
    packed = {"modules": ",".join(names)} if names else {}
    if definitions:
        import cloudpickle

        packed["pickled"] = base64.b85encode(cloudpickle.dumps(definitions)).decode()
    return packed


def unpack_app(packed: dict[str, str]) -> None:
    """Register what `pack_app` packed. Raises `ValueError`."""
    if modules := packed.get("modules"):
        import_app(modules)
    if pickled := packed.get("pickled"):
        pickle.loads(base64.b85decode(pickled))  # from the parent's pipe only
