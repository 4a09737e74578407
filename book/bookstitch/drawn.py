"""A figure that the code draws of itself: a function is called while the book is built.

    ```{drawn} shop.figures.transitions
    The statuses of an order, from the table that decides.
    ```

imports the module, calls the function without arguments and shows what it returns as a notebook would show it:
`_repr_html_`, in other builders the plain text. The content is the caption. So the figure of a table cannot differ from
the table.

An import, or a function, that fails stops the build. The page is read again when the library's source has changed.

Read next: `extension`.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from bookstitch.leaks import find_leak
from bookstitch.render import Page
from bookstitch.terminal import files


class Drawn(SphinxDirective):
    """The `drawn` directive."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any] | None] = {"class": directives.class_option}

    def run(self) -> list[nodes.Node]:
        for source in self.env.app.bookstitch_settings.sources:  # type: ignore[attr-defined]
            for path in files(source):
                self.env.note_dependency(str(path))
        module, _, name = self.arguments[0].rpartition(".")
        try:
            made = getattr(importlib.import_module(module), name)()
            html, text = str(made._repr_html_()), str(made)
            if leak := find_leak(html):
                raise ValueError(f"it shows {leak}")
        except Exception as error:
            page: Page = self.env.bookstitch.setdefault(self.env.docname, Page())  # type: ignore[attr-defined]
            where = Path(os.path.relpath(self.get_source_info()[0], self.env.srcdir)).as_posix()
            page.problems.append(f"{where}:{self.lineno}: {self.arguments[0]}: {type(error).__name__}: {error}")
            return []
        figure = nodes.container(classes=["book-figure", "drawn", *self.options.get("class", [])])
        figure += nodes.raw("", html, format="html")
        figure += nodes.raw("", text, format="text")
        if self.content:
            caption = nodes.container(classes=["book-caption"])
            self.state.nested_parse(self.content, self.content_offset, caption)
            figure += caption
        return [figure]
