"""Warnings about workflow code that would not repeat itself: read from its syntax tree when it is registered.

Replay runs the code again and expects the same operations. ``time.time()`` or ``random.random()`` in a workflow give another
value each time. The context has replayable ones; this finds the others and says which line. It only looks, and only warns:
what it cannot see (a helper that reads the clock) is found by replay itself, as a divergence.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

INSTEAD: dict[str, str] = {
    "time.time": "ctx.now()",
    "time.time_ns": "ctx.now()",
    "time.monotonic": "ctx.now()",
    "time.perf_counter": "ctx.now()",
    "time.sleep": "await ctx.sleep(…)",
    "datetime.now": "ctx.now()",
    "datetime.utcnow": "ctx.now()",
    "datetime.today": "ctx.now()",
    "date.today": "ctx.now()",
    "uuid.uuid1": "ctx.uuid4()",
    "uuid.uuid4": "ctx.uuid4()",
    "uuid4": "ctx.uuid4()",
    "os.urandom": "a function, called through ctx.call",
    "open": "a function, called through ctx.call",
    "input": "ctx.receive(…)",
    "asyncio.to_thread": "a function, called through ctx.call",
    "threading.Thread": "a function, called through ctx.call",
    "subprocess.run": "a function, called through ctx.call",
}
MODULES: dict[str, str] = {
    "random": "ctx.random",
    "secrets": "a function, called through ctx.call",
    "requests": "a function, called through ctx.call",
    "httpx": "a function, called through ctx.call",
    "socket": "a function, called through ctx.call",
}


class DeterminismWarning(UserWarning):
    """A workflow calls something that gives another answer on every run."""


def check(body: Callable[..., Any]) -> list[str]:
    """One sentence for each suspicious call, with its line. Empty when the source cannot be had."""
    try:
        lines, first = inspect.getsourcelines(body)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except Exception:  # it only looks: CPython 3.11 may even raise SystemError when the garbage collector comes in between
        return []
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            instead = _instead(name)
            if instead:
                found.append(f"line {first + node.lineno - 1}: {name}() differs on every replay; use {instead}")
    return found


def _instead(name: str) -> str | None:
    if name in INSTEAD:
        return INSTEAD[name]
    parts = name.split(".")
    if ".".join(parts[-2:]) in INSTEAD and len(parts) > 1:
        return INSTEAD[".".join(parts[-2:])]
    return MODULES.get(parts[0]) if len(parts) > 1 else None
