"""The build's events, in order: where everything meets Sphinx.

1. `config-inited`: read the options; fetch the browser's files, if the book asks for them (`web`).
2. `builder-inited`: find the notebooks, execute what is out of date. A failure here ends the build.
3. `env-get-outdated`: a page whose demo has a new result must be read again, though its text did not change.
4. reading: `render.StitchDemos` replaces markers and notes problems, page by page.
5. `env-updated`: duplicates, unknown numbers, unused notebooks. It runs after all pages are read and before Sphinx
   saves what it read: raised here, a fault is found again by the next build. Raised later, the next build would find
   unchanged pages, read nothing, and succeed.

Read next: `check`, the same rules without a build.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset_file

from bookstitch.demos import Demo, discover
from bookstitch.drawn import DocTable, Drawn
from bookstitch.edition import Edition, day, edition_text
from bookstitch.execute import execute, results
from bookstitch.options import DEFAULTS
from bookstitch.problems import BookError
from bookstitch.render import Page, StitchDemos
from bookstitch.settings import Settings
from bookstitch.terminal import Terminal
from bookstitch.web import fetch
from bookstitch.wrap import on_page

log = logging.getLogger(__name__)
STYLE = Path(__file__).parent / "static" / "bookstitch.css"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register options, transform, directive and events."""
    try:
        day()  # a SOURCE_DATE_EPOCH that is no whole number: a moment later Sphinx fails of it, with a traceback
    except BookError as error:
        raise failure("environment", error) from error
    for name, default in DEFAULTS.items():
        types = [int, float] if isinstance(default, float) else [list, tuple] if isinstance(default, list) else []
        app.add_config_value(f"bookstitch_{name}", default, "", types)
    app.setup_extension("myst_nb")
    app.add_transform(StitchDemos)
    app.add_directive("edition", Edition)
    app.add_directive("terminal", Terminal)
    app.add_directive("drawn", Drawn)
    app.add_directive("doctable", DocTable)
    app.add_css_file(STYLE.name)
    app.connect("config-inited", on_config)
    app.connect("builder-inited", on_builder)
    app.connect("env-get-outdated", on_outdated)
    app.connect("env-purge-doc", on_purge)
    app.connect("env-merge-info", on_merge)
    app.connect("env-updated", on_updated)
    app.connect("html-page-context", on_page)
    app.connect("build-finished", on_finished)
    return {"version": "1", "env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}


def on_config(app: Sphinx, config: Config) -> None:
    """Options, and the files that the theme and the widgets need in the browser."""
    try:
        options = {**written(config), **{name: config[f"bookstitch_{name}"] for name in DEFAULTS}}
        settings = Settings.make(Path(app.srcdir), Path(app.outdir).parent, options)
        if settings.web:
            config.html_static_path = [*config.html_static_path, str(fetch(settings.web))]
    except BookError as error:
        raise failure("bookstitch", error) from error
    if settings.notebooks.is_relative_to(app.srcdir):
        # the notebooks are parts of pages, not pages
        config.exclude_patterns.append(settings.name(settings.notebooks) + "/**")
    own = [str(folder) for folder in settings.python_path]  # for directives: what notebooks import, they import
    sys.path[:] = [*own, *(entry for entry in sys.path if entry not in own)]
    app.bookstitch_settings = settings  # type: ignore[attr-defined]


def written(config: Config) -> dict[str, Any]:
    """The options that stand in a configuration, those included that Sphinx does not know."""
    prefix, everything = "bookstitch_", {**config._raw_config, **config.overrides}
    return {name[len(prefix) :]: value for name, value in everything.items() if name.startswith(prefix)}


def on_builder(app: Sphinx) -> None:
    """Execute before anything is read, so that reading finds results."""
    env: Any = app.env
    env.bookstitch = getattr(env, "bookstitch", {})
    settings: Settings = app.bookstitch_settings  # type: ignore[attr-defined]
    try:
        found = results(settings, discover(settings))
        ran = execute(settings, found.values(), forget_others=True)
    except BookError as error:
        raise failure("demos", error) from error
    log.info("bookstitch: %d of %d notebooks executed, the others are up to date", ran, len(found))
    app.bookstitch_results = found  # type: ignore[attr-defined]


def on_outdated(app: Sphinx, env: Any, _added: set[str], _changed: set[str], _removed: set[str]) -> list[str]:
    """Pages that show a result or an edition which is no longer the present one."""
    present = {number: result.path.name for number, result in app.bookstitch_results.items()}  # type: ignore[attr-defined]
    root = Path(app.srcdir)
    return [
        docname
        for docname, page in env.bookstitch.items()
        if any(present.get(number) != name for number, _, name in page.markers)
        or any(edition_text(root, packages) != text for packages, text in page.editions)
    ]


def on_purge(_app: Sphinx, env: Any, docname: str) -> None:
    """A page is about to be read again, or has gone."""
    env.bookstitch.pop(docname, None)


def on_merge(_app: Sphinx, env: Any, docnames: set[str], other: Any) -> None:
    """Pages that another process read."""
    env.bookstitch.update({name: other.bookstitch[name] for name in docnames if name in other.bookstitch})


def on_updated(app: Sphinx, env: Any) -> None:
    """All pages are read and nothing is saved yet: the last moment to refuse (see the module's docstring)."""
    problems = book_problems(env.bookstitch, app.bookstitch_results, app.bookstitch_settings)  # type: ignore[attr-defined]
    if problems:
        raise failure("demo markers", BookError(problems))


def book_problems(pages: dict[str, Page], found: dict[int, Any], settings: Settings) -> list[str]:
    """What is wrong with the book as a whole, after what is wrong with its pages."""
    problems = [problem for _, page in sorted(pages.items()) for problem in page.problems]
    first: dict[int, str] = {}
    for _, page in sorted(pages.items()):
        for number, where, _ in page.markers:
            if number in first:
                problems.append(f"{where}: duplicate demo {number}; it is already at {first[number]}")
            first.setdefault(number, where)
    if not settings.allow_unused:
        demos: dict[int, Demo] = {number: result.demo for number, result in found.items()}
        problems += [
            f'{settings.name(demo.path)}: no page shows demo {number}; write <!-- @demo:num="{number}" -->, '
            'or "bookstitch": {"unused": true} in its metadata'
            for number, demo in demos.items()
            if number not in first and not demo.unused
        ]
    return problems


def on_finished(app: Sphinx, exception: Exception | None) -> None:
    """The few lines of CSS that a box needs in any theme."""
    if exception is None and app.builder.format == "html":
        copy_asset_file(STYLE, Path(app.outdir) / "_static")


def failure(what: str, error: BookError) -> ExtensionError:
    """Sphinx prints this and returns a non-zero status, with or without -W."""
    lines = "\n".join(f"  {problem}" for problem in error.problems)
    return ExtensionError(f"{what}: {len(error.problems)} problem(s)\n{lines}")
