"""Figures and tables that the code has of itself, put into a page while the book is built.

    ```{drawn} shop.figures.transitions
    The statuses of an order, from the table that decides.
    ```

imports the module, calls the function without arguments and shows what it returns as a notebook would show it:
`_repr_html_`, in other builders the plain text. The content is the caption. So the figure of a table cannot differ from
the table. With `:folder: ../examples` the module is a file of that folder, which the page may quote as well: what draws
the figure stands beside it.

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
from collections.abc import Callable
from pathlib import Path
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
        except Exception as error:
            page: Page = self.env.bookstitch.setdefault(self.env.docname, Page())  # type: ignore[attr-defined]
            where = Path(os.path.relpath(self.get_source_info()[0], self.env.srcdir)).as_posix()
            page.problems.append(f"{where}:{self.lineno}: {self.arguments[0]}: {type(error).__name__}: {error}")
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
        made = function(self.arguments[0], folder)()
        html, text = str(made._repr_html_()), str(made)
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


def function(dotted: str, folder: Path | None = None) -> Callable[[], Any]:
    """The function of that name: of an installed module, or of a file of ``folder``, which is read anew."""
    module, _, name = dotted.rpartition(".")
    if folder is None:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    path = folder / f"{module}.py"
    spec = importlib.util.spec_from_file_location(module, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} cannot be imported")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return getattr(made, name)  # type: ignore[no-any-return]


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
