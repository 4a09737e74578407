"""The options of a book, read from Sphinx or straight from `_config.yml`.

One frozen value that every other module takes, so that the build and the command line cannot differ. Paths are
resolved against the folder that holds `_config.yml`.
Read next: `demos`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bookstitch.options import DEFAULTS, mistyped, unknown
from bookstitch.problems import BookError

WORKERS_MAX = 4  # a kernel takes 100 MB and most of a core while it starts


@dataclass(frozen=True)
class Settings:
    """Where the notebooks are, how they run, and where results are kept."""

    root: Path
    cache: Path
    notebooks: Path
    timeout_s: float = 60.0
    workers: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()
    allow_unused: bool = False
    web: Path | None = None

    @classmethod
    def make(cls, root: Path, build: Path, options: Mapping[str, Any]) -> Settings:
        """From `bookstitch_*` options without their prefix; `build` is the folder that holds `html/`."""
        if wrong := [*unknown(options), *mistyped(options)]:
            raise BookError(f"_config.yml: bookstitch_{problem}" for problem in wrong)
        given = {**DEFAULTS, **options}
        sources = [given["sources"]] if isinstance(given["sources"], str) else given["sources"]
        missing = [s for s in sources if not (root / s).exists()]
        if missing:
            raise BookError(f"_config.yml: bookstitch_sources: there is no {s}" for s in missing)
        return cls(
            root=root,
            cache=build / ".bookstitch",
            notebooks=(root / given["notebooks"]).resolve(),
            timeout_s=float(given["timeout"]),
            workers=int(given["workers"]) or min(WORKERS_MAX, os.cpu_count() or 1),
            parameters=dict(given["parameters"]),
            sources=tuple((root / s).resolve() for s in sources),
            allow_unused=bool(given["allow_unused"]),
            web=(root / given["web"]).resolve() if given["web"] else None,
        )

    @classmethod
    def from_yaml(cls, root: Path) -> Settings:
        """For the command line: the same options, read without Sphinx; results go where the build keeps them."""
        path = root / "_config.yml"
        if not path.exists():
            raise BookError([f"{path}: not found; run this in the folder of a Jupyter Book, or pass --root"])
        config = read_yaml(path)
        for key in ("sphinx", "config"):
            config = config.get(key) or {}
            if not isinstance(config, dict):
                raise BookError([f"{path.name}: {key}: is no mapping"])
        prefix = "bookstitch_"
        options = {key[len(prefix) :]: value for key, value in config.items() if str(key).startswith(prefix)}
        return cls.make(root.resolve(), root.resolve() / "_build", options)

    @property
    def python_path(self) -> tuple[Path, ...]:
        """From which folders the sources are imported, by notebooks, commands and directives alike."""
        found = [importable_from(source) for source in self.sources]
        return tuple(dict.fromkeys(folder for folder in found if folder is not None))

    def name(self, path: Path) -> str:
        """A path as messages show it: relative to the book, with forward slashes, on every machine the same."""
        return Path(os.path.relpath(path, self.root)).as_posix()


def read_yaml(path: Path) -> dict[str, Any]:
    """A file that holds a mapping; empty for an empty one. Raises BookError with the file's name."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BookError([f"{path.name}: cannot be read: {' '.join(str(error).split())}"]) from error
    if not isinstance(content or {}, dict):
        raise BookError([f"{path.name}: is no mapping"])
    return content or {}


def importable_from(source: Path) -> Path | None:
    """The folder above a package or module; a folder that holds packages (`src`) is its own; None for anything else."""
    if source.is_file() and source.suffix != ".py":
        return None
    folder = source.parent if source.is_file() else source
    if not (folder / "__init__.py").exists():
        if (folder / "src").is_dir():
            folder /= "src"
        return folder if any(folder.glob("*.py")) or any(folder.glob("*/*.py")) else None
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


def pythonpath(folders: Iterable[Path]) -> dict[str, str]:
    """The variable PYTHONPATH for another process: the folders in front of what it has already; empty for none."""
    entries = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(entries)} if entries else {}
