"""From marker to page: an executed notebook, rendered by MyST-NB in the marker's place.

MyST keeps an HTML comment as a raw node with its file and line. `StitchDemos` is a transform of the reading phase: it
sees the page after real parsing, so a marker in a code fence is no marker, one inside an admonition is. Each is
replaced by a box: a head (number, title, link to the notebook's source), then the whole notebook. MyST-NB's own
renderer does the cells, so every mime type, cell tag and widget behaves as on a page of its own.

The notebook's first heading becomes the title of the box; deeper ones become rubrics, which look like headings and do
not enter the page's table of contents. The widgets of all demos on a page share one state.

A transform cannot stop a build in good order, so problems are noted in the environment; `extension` raises them
together, before anything is saved.
Limits: footnotes inside a notebook; messages about a notebook's Markdown name the marker's line.
Read next: `extension`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from docutils import nodes
from markdown_it.token import Token
from myst_nb.core.execute.base import NotebookClientBase
from myst_nb.core.loggers import SphinxDocLogger
from myst_nb.core.nb_to_tokens import notebook_to_tokens
from myst_nb.core.render import WIDGET_STATE_MIMETYPE, load_renderer
from myst_nb.sphinx_ import NbMetadataCollector, SphinxNbRenderer
from myst_parser.parsers.mdit import create_md_parser
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

from bookstitch.demos import unknown_demo
from bookstitch.marker import FORM, MalformedMarker, check_text, parse_comment

if TYPE_CHECKING:
    from bookstitch.running import Result
    from bookstitch.settings import Settings

SVG = "image/svg+xml"
TITLE = re.compile(r"\s*# +(.+?)\s*(?:\n|$)")


@dataclass
class Page:
    """What the environment remembers of one page: its markers, what is wrong with them, and what else may become stale."""

    markers: list[tuple[int, str, str]] = field(default_factory=list)  # number, file:line, name of the result's file
    problems: list[str] = field(default_factory=list)
    editions: list[tuple[tuple[str, ...], str]] = field(default_factory=list)  # packages, and what was said of them


class StitchDemos(SphinxTransform):
    """Replace every marker of a page; note every fault."""

    default_priority = 90  # before the transforms that resolve references and collect images: they see the demos too

    def apply(self, **_: Any) -> None:
        pages: dict[str, Page] = self.env.bookstitch  # type: ignore[attr-defined]
        self.page = pages.setdefault(self.env.docname, Page())
        widgets: dict[str, Any] = {}
        for raw in list(self.document.findall(nodes.raw)):
            self.stitch(raw, widgets)
        for node in list(self.document.findall(is_visible_text)) + list(self.document.findall(nodes.comment)):
            try:
                check_text(node.astext())
            except MalformedMarker as error:
                self.page.problems.append(f"{self.where(node.parent)}: {error}")
        if widgets:
            self.share_widgets(widgets)
        self.document.attributes.pop("nb_renderer", None)

    def stitch(self, node: nodes.raw, widgets: dict[str, Any]) -> None:
        """Replace one raw node if it is a marker."""
        where = self.where(node)
        results: dict[int, Result] = self.app.bookstitch_results  # type: ignore[attr-defined]
        try:
            number = parse_comment(node.astext())
        except MalformedMarker as error:
            self.page.problems.append(f"{where}: {error}")
            return
        if number is None:
            return
        if isinstance(node.parent, nodes.TextElement):
            self.page.problems.append(f"{where}: the demo marker stands inside a paragraph; write {FORM} alone on its line")
            return
        if number not in results:
            self.page.problems.append(f"{where}: {unknown_demo(self.app.bookstitch_settings, number, results)}")  # type: ignore[attr-defined]
            return
        result = results[number]
        self.page.markers.append((number, where, result.path.name))
        self.env.note_dependency(str(result.path))
        node.replace_self(render_demo(self, result, node, widgets))

    def where(self, node: nodes.Element | None) -> str:
        """`file:line` of a node or of the nearest ancestor that knows its line."""
        line = None
        source = self.document["source"]
        while node is not None and line is None:
            line, source = node.line, node.source or source
            node = node.parent
        path = Path(os.path.relpath(source, self.env.srcdir)).as_posix()
        return f"{path}:{line or 1}"

    def share_widgets(self, widgets: dict[str, Any]) -> None:
        """One widget state for the page, with the page's own widgets if it is a notebook itself."""
        own = NbMetadataCollector.get_js_files(self.env, self.env.docname).get("ipywidgets_state")
        if own and "body" in own[1]:
            widgets = {**json.loads(own[1]["body"])["state"], **widgets}
        state = {"state": widgets, "version_major": 2, "version_minor": 0}
        self.document["nb_renderer"].render_nb_finalise({"widgets": {WIDGET_STATE_MIMETYPE: state}})
        for key, (uri, options) in self.document.attributes.pop("nb_js_files", {}).items():
            NbMetadataCollector.add_js_file(self.env, self.env.docname, key, uri, options)


def is_visible_text(node: nodes.Node) -> bool:
    """Prose, and not code: `findall` asks this of every node."""
    if not isinstance(node, nodes.Text):
        return False
    parent = node.parent
    while parent is not None:
        if isinstance(parent, (nodes.literal, nodes.literal_block, nodes.raw, nodes.math, nodes.math_block, nodes.comment)):
            return False
        if "cell_output" in parent.get("classes", ()):
            return False
        parent = parent.parent
    return True


def render_demo(transform: StitchDemos, result: Result, marker: nodes.raw, widgets: dict[str, Any]) -> nodes.container:
    """The box that takes the marker's place; adds the notebook's widgets to `widgets`."""
    env, document = transform.env, transform.document
    notebook: nbformat.NotebookNode = nbformat.read(str(result.path), as_version=4)  # type: ignore[no-untyped-call]
    title = take_title(notebook)
    show_svg_inline(notebook)
    number = result.demo.number
    name = f"demo-{number}"
    box = nodes.container(classes=["bookstitch"], ids=[name])
    box += head(transform.app.bookstitch_settings, result, title)  # type: ignore[attr-defined]
    env.get_domain("std").note_hyperlink_target(  # type: ignore[attr-defined]
        name, env.docname, name, f"Demo {number}: {title}" if title else f"Demo {number}"
    )

    parser = create_md_parser(env.myst_config, SphinxNbRenderer)  # type: ignore[attr-defined]
    config = env.mystnb_config.copy(execution_mode="off")  # type: ignore[attr-defined]
    logger = SphinxDocLogger(document)
    renderer: Any = parser.renderer
    parser.options.update({"document": document, "nb_config": config})
    document["nb_renderer"] = load_renderer(config.render_plugin)(renderer, logger)
    renderer.setup_render(parser.options, {})
    renderer._heading_offset = depth(marker) - 1  # the notebook's `##` stands one below the section that shows it
    with NotebookClientBase(notebook, result.path, config, logger) as client:
        parser.options["nb_client"] = client
        tokens = [t for t in notebook_to_tokens(notebook, parser, {}, logger) if t.type not in WHOLE_PAGE_TOKENS]
        place(tokens, marker.line or 1)
        with renderer.current_node_context(box):
            renderer._render_tokens(tokens)
    adopt_images(transform, box, result)
    widgets.update(notebook.metadata.get("widgets", {}).get(WIDGET_STATE_MIMETYPE, {}).get("state", {}))
    return box


WHOLE_PAGE_TOKENS = ("nb_initialise", "nb_finalise")  # they set the metadata of a page that is a notebook itself


def take_title(notebook: nbformat.NotebookNode) -> str:
    """Remove the heading that opens the notebook and return it; empty when there is none."""
    first = next((cell for cell in notebook.cells if cell.source.strip()), None)
    match = TITLE.match(first.source) if first is not None and first.cell_type == "markdown" else None
    if first is None or match is None:
        return ""
    first.source = first.source[match.end() :]
    return match[1].strip("# ")


def show_svg_inline(notebook: nbformat.NotebookNode) -> None:
    """Let a figure that is drawn in `currentColor` inherit the page's colour: an <img> would stay black at night.

    The SVG is also offered as HTML, which an HTML page prefers; other formats still find the image.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" not in data and "currentColor" in data.get(SVG, ""):
                svg = re.sub(r"^.*?(?=<svg)", "", data[SVG], flags=re.DOTALL)
                data["text/html"] = f'<div class="bookstitch-figure">{svg}</div>'


def head(settings: Settings, result: Result, title: str) -> nodes.container:
    """`Demo 3  What survives a kill?  03-kill.ipynb`, the last a link to the source that was executed."""
    path = result.demo.path
    label = nodes.inline("", f"Demo {result.demo.number}", classes=["bookstitch-number"])
    line = nodes.paragraph("", "", label, nodes.Text(" "), nodes.inline("", title, classes=["bookstitch-title"]))
    link = addnodes.download_reference("", "", reftarget="/" + settings.name(path), refdoc="", classes=["bookstitch-source"])
    link += nodes.literal("", path.name)
    line += [nodes.Text(" "), link]
    return nodes.container("", line, classes=["bookstitch-head"])


def depth(node: nodes.Element | None) -> int:
    """How many sections a node is in; at least one."""
    count = 0
    while node is not None:
        count += isinstance(node, nodes.section)
        node = node.parent
    return max(1, min(count, 4))


def place(tokens: list[Token], line: int) -> None:
    """Give every token the marker's line, so that a warning leads to a line that exists."""
    for token in tokens:
        if token.map:
            token.map = [line - 1, line - 1]  # the renderer counts from zero and adds one


def adopt_images(transform: StitchDemos, box: nodes.container, result: Result) -> None:
    """An image in a notebook's Markdown is named relative to the notebook; the page looks elsewhere."""
    for image in box.findall(nodes.image):
        uri = image["uri"]
        if not uri.startswith("/") and not re.match(r"[a-z][a-z0-9+.-]*:", uri):
            image["uri"] = "/" + Path(os.path.relpath(result.demo.path.parent / uri, transform.env.srcdir)).as_posix()
