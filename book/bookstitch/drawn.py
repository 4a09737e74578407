"""Figures and tables that the code has of itself, put into a page while the book is built.

    ```{drawn} shop.figures.transitions
    The statuses of an order, from the table that decides.
    ```

imports the module, calls the function without arguments and shows what it returns as a notebook would show it:
`_repr_html_`, in other builders the plain text. The content is the caption. So the figure of a table cannot differ from
the table. With `:folder: ../examples` the module is a file of that folder, which the page may quote as well: what draws
the figure stands beside it. Such a module may import its neighbours.

    ```{doctable} shop.orders
    ```

is the first table in that module's docstring (reStructuredText), as a table of the page.

An import or a function that fails, or a docstring without a table, stops the build. The page is read again when the library's
source has changed.

Read next: `extension`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from bookstitch.leaks import find_leak
from bookstitch.render import Page
from bookstitch.terminal import files


class FromCode(SphinxDirective):
    """What both directives do: note the source, and report what fails by file and line."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any] | None] = {"class": directives.class_option}

    def run(self) -> list[nodes.Node]:
        for source in self.env.app.bookstitch_settings.sources:  # type: ignore[attr-defined]
            for path in files(source):
                self.env.note_dependency(str(path))
        try:
            return self.made()
        except (Exception, SystemExit) as error:
            ended = isinstance(error, SystemExit)
            said = f"it ended with sys.exit({error})" if ended else f"{type(error).__name__}: {error}"
            page: Page = self.env.bookstitch.setdefault(self.env.docname, Page())  # type: ignore[attr-defined]
            where = Path(os.path.relpath(self.get_source_info()[0], self.env.srcdir)).as_posix()
            page.problems.append(f"{where}:{self.lineno}: {self.arguments[0]}: {said}")
            return []

    def made(self) -> list[nodes.Node]:
        raise NotImplementedError


class Drawn(FromCode):
    """The `drawn` directive."""

    has_content = True
    option_spec: ClassVar[dict[str, Any] | None] = {"class": directives.class_option, "folder": directives.unchanged_required}

    def made(self) -> list[nodes.Node]:
        folder = None
        if given := self.options.get("folder"):
            folder = Path(self.get_source_info()[0]).parent / given
            for path in files(folder):
                self.env.note_dependency(str(path))
        html, text = shown(self.arguments[0], folder)
        if leak := find_leak(html, self.env.app.bookstitch_settings.root):  # type: ignore[attr-defined]
            raise ValueError(f"it shows {leak}")
        figure = nodes.container(classes=["book-figure", "drawn", *self.options.get("class", [])])
        figure += nodes.raw("", html, format="html")
        figure += nodes.raw("", text, format="text")
        if self.content:
            caption = nodes.container(classes=["book-caption"])
            self.state.nested_parse(self.content, self.content_offset, caption)
            figure += caption
        return [figure]


def shown(dotted: str, folder: Path | None = None) -> tuple[str, str]:
    """What the function of that name returns, as HTML and as text: of an installed module, or of a file of ``folder``."""
    module, _, name = dotted.rpartition(".")
    with installed(module) if folder is None else beside(module, folder.resolve()) as found:
        made = getattr(found, name)()
        return str(made._repr_html_()), str(made)


@contextmanager
def installed(name: str) -> Iterator[ModuleType]:
    """A module of the library, which stays imported."""
    yield importlib.import_module(name)


@contextmanager
def beside(name: str, folder: Path) -> Iterator[ModuleType]:
    """A file of the folder as a module, read anew; it may import its neighbours, and none of them stays imported."""
    path = folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be imported")
    neighbours = {each.stem for each in folder.glob("*.py")} | {each.parent.name for each in folder.glob("*/__init__.py")}
    hidden = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] in neighbours}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        made = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        yield made
    finally:
        sys.path.remove(str(folder))
        for key in [key for key in sys.modules if key.partition(".")[0] in neighbours]:
            del sys.modules[key]
        sys.modules.update(hidden)


class DocTable(FromCode):
    """The `doctable` directive."""

    def made(self) -> list[nodes.Node]:
        text = inspect.getdoc(importlib.import_module(self.arguments[0])) or ""
        table = next(iter(publish_doctree(text, settings_overrides={"report_level": 5}).findall(nodes.table)), None)
        if table is None:
            raise ValueError("its docstring has no table")
        for name in list(table.findall(nodes.title_reference)):  # `name`, which in this library's docstrings is code
            name.replace_self(nodes.literal("", name.astext()))
        table["classes"] += ["colwidths-auto", *self.options.get("class", [])]
        return [table]
