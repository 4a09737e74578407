"""The rules of the book without a build: notebooks, numbers, markers.

A build executes; this takes a second and suits a commit hook. Pages are those of `_toc.yml`, parsed with MyST's own
Markdown parser, so that a marker in a code fence is none here either; the content of directives is parsed in turn.
Limit: extensions that change how a page is parsed are not loaded; in doubt the build is right.
Read next: `__main__`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml

from bookstitch.demos import discover, unknown_demo
from bookstitch.marker import FORM, MalformedMarker, check_text, parse_comment
from bookstitch.problems import BookError
from bookstitch.settings import Settings, read_yaml

# Directives whose content is not Markdown.
VERBATIM = re.compile(r"\{(code|raw|math|literalinclude|parsed-literal|mermaid|eval-rst|sourcecode|highlight|graphviz)")
EXTENSIONS = {"colon_fence", "dollarmath", "deflist"}


def check(settings: Settings) -> list[str]:
    """Every problem of the book's pages and notebooks, as the build would name them."""
    demos = discover(settings)
    problems: list[str] = []
    first: dict[int, str] = {}
    for page in pages(settings.root):
        try:
            text = page.read_text("utf8")
        except UnicodeDecodeError:
            problems.append(f"{settings.name(page)}: is not UTF-8")
            continue
        for line, found in markers(text):
            where = f"{settings.name(page)}:{line}"
            if isinstance(found, str):
                problems.append(f"{where}: {found}")
            elif found not in demos:
                problems.append(f"{where}: {unknown_demo(settings, found, demos)}")
            elif found in first:
                problems.append(f"{where}: duplicate demo {found}; it is already at {first[found]}")
            else:
                first[found] = where
    if not settings.allow_unused:
        problems += [
            f"{settings.name(demo.path)}: no page shows demo {number}"
            for number, demo in demos.items()
            if number not in first and not demo.unused
        ]
    return problems


def pages(root: Path) -> Iterator[Path]:
    """The Markdown files that the table of contents names."""
    read_yaml(root / "_toc.yml")  # says what cannot be read
    try:
        names = list(parse_toc_yaml(root / "_toc.yml"))
    except MalformedError as error:
        raise BookError([f"_toc.yml: {error}"]) from error
    for docname in names:
        path = root / docname if docname.endswith(".md") else root / f"{docname}.md"
        if path.exists():
            yield path


def markers(text: str, offset: int = 0) -> Iterator[tuple[int, int | str]]:
    """Yield (line, number) for a marker and (line, complaint) for what merely looks like one."""
    parser = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)
    for token in parser.parse(text):
        line = offset + (token.map[0] if token.map else 0) + 1
        try:
            if token.type == "html_block":
                number = parse_comment(token.content)
                if number is not None:
                    yield line, number
            elif token.type == "inline":
                for child in token.children or []:
                    if child.type == "html_inline" and parse_comment(child.content) is not None:
                        raise MalformedMarker(f"the demo marker stands inside a paragraph; write {FORM} alone on its line")
                    if child.type == "text":
                        check_text(child.content)
            elif token.type in ("fence", "colon_fence") and token.info.startswith("{") and not VERBATIM.match(token.info):
                yield from markers(token.content, line)
        except MalformedMarker as error:
            yield line, str(error)
