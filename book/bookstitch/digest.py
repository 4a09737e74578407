"""When is a result stale? The key under which an execution is kept.

A result may be reused while everything that could change it is the same: the notebook's cells and tags, the library's
source, the helper modules beside the notebooks, the parameters, this generator, and the versions of every installed
package. The key is a hash of all of it, and the key is in the file name of the result: no index, no dates, nothing to invalidate.

Limits: what a notebook reads from elsewhere is not seen; list it in `bookstitch_sources`. An upgraded package that no
demo imports still runs them all again: an afternoon of wrong output costs more than a minute of kernels.
Read next: `execute`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bookstitch.demos import Demo
from bookstitch.settings import Settings

DIGEST_CHARS = 24  # 96 bits


def common_digest(settings: Settings) -> str:
    """The part of the key that all notebooks of a book share."""
    state = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):  # the generator itself, wherever it is installed
        state.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for path in shared_files(settings):
        state.update(settings.name(path).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    state.update(json.dumps(dict(settings.parameters), sort_keys=True, default=str).encode())
    state.update("\n".join(versions()).encode())
    return state.hexdigest()


def demo_digest(demo: Demo, common: str) -> str:
    """The key of one notebook: its cells without outputs and counts, and the common part."""
    cells = [
        [cell["cell_type"], cell["source"], cell.get("metadata", {}), cell.get("attachments", {})]
        for cell in demo.content["cells"]
    ]
    text = json.dumps([common, cells], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]


def shared_files(settings: Settings) -> Iterator[Path]:
    """Library source and helper modules, in a fixed order."""
    for source in settings.sources:
        if source.is_file():
            yield source
        else:
            yield from sorted(p for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    yield from sorted(settings.notebooks.rglob("*.py"))


@cache
def versions() -> tuple[str, ...]:
    """This Python and every package that it can import, as `name==version`, in order."""
    found = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    return (f"python=={sys.version}", *sorted(found))
