"""A figure: HTML for a notebook, the same in plain text for a terminal; and the few shapes that figures are made of.

Why not images: an image cannot take the page's text colour, does not shrink to a phone, and needs a plotting library. Inline
SVG does all three. A figure is well-formed XML, so a test can parse it, and every text that came from a user is escaped
by `esc`, on its way in.

Horizontal positions of time figures are percentages, so that they fill whatever width they get while text keeps its size.

Read next: `durable.notebook.words`.
"""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape

STYLE = """
.durable-fig{margin:.4em 0 1em;font-size:.9rem;line-height:1.4;color:inherit;overflow-x:auto;text-align:left;
 font-family:var(--book-sans,var(--jp-ui-font-family,system-ui,sans-serif))}
.durable-fig .durable-head{display:flex;flex-wrap:wrap;gap:.2em .8em;align-items:baseline;margin-bottom:.35em}
.durable-fig .durable-title{font-weight:650}
.durable-fig .durable-muted{opacity:.68}
@@ code.durable-code{white-space:normal;
 font-size:.88em;background:none;color:inherit;border:0;padding:0;overflow-wrap:break-word}
@@ table.durable-table{border-collapse:collapse;border:0;margin:0;width:auto;max-width:100%;
 font-size:inherit;table-layout:auto;color:inherit;background:none;box-shadow:none;display:table}
@@ .durable-table tr{background:none;border:0}
@@ .durable-table th,@@ .durable-table td{padding:.28em .9em .28em 0;border:0;
 border-bottom:1px solid #8885;text-align:left;vertical-align:baseline;background:none;color:inherit;max-width:26em;
 min-width:0;white-space:normal;font-weight:inherit}
@@ .durable-table th{font-weight:600;font-size:.85em;opacity:.68;border-bottom:1.5px solid #888a}
@@ .durable-table .durable-num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.durable-fig .durable-chip{display:inline-block;padding:0 .5em;border-radius:.35em;font-size:.8em;font-weight:600;
 letter-spacing:.02em;white-space:nowrap;border-left:.3em solid #888;background:#8882}
.durable-fig .durable-chip.durable-run{border-color:#0072b2;background:#0072b22b}
.durable-fig .durable-chip.durable-wait{border-color:#e69f00;background:#e69f002b}
.durable-fig .durable-chip.durable-talk{border-color:#cc79a7;background:#cc79a72b}
.durable-fig .durable-chip.durable-good{border-color:#009e73;background:#009e732b}
.durable-fig .durable-chip.durable-bad{border-color:#d55e00;background:#d55e002b}
.durable-fig .durable-mark{font-weight:700}
.durable-fig svg.durable-svg{display:block;max-width:none;overflow:visible;font-family:inherit}
.durable-svg text{fill:currentColor;font-size:12px}
.durable-svg .durable-small{font-size:11px;opacity:.75}
.durable-svg .durable-strong{font-weight:650}
.durable-svg .durable-axis{stroke:currentColor;stroke-opacity:.28}
.durable-svg .durable-grid{stroke:currentColor;stroke-opacity:.11}
.durable-svg .durable-line{stroke:currentColor;stroke-opacity:.6;fill:none;stroke-width:1.4}
.durable-svg .durable-run{fill:#0072b2;stroke:#0072b2;stroke-width:2}
.durable-svg .durable-wait{fill:#e69f00;fill-opacity:.22;stroke:#e69f00;stroke-width:1.5;stroke-dasharray:5 3}
.durable-svg .durable-talk{fill:#cc79a7;fill-opacity:.3;stroke:#cc79a7;stroke-width:1.5}
.durable-svg .durable-note{fill:currentColor;fill-opacity:.8;stroke:none}
.durable-svg .durable-soft{fill-opacity:.3}
.durable-svg .durable-cross{stroke:#d55e00;stroke-width:2.6;fill:none}
.durable-svg .durable-dead{fill:currentColor;fill-opacity:.09;stroke:none}
.durable-svg .durable-deadline{stroke:#d55e00;stroke-width:1.6;stroke-dasharray:2 3}
.durable-svg .durable-tick{stroke:#009e73;stroke-width:2.6;fill:none}
.durable-svg .durable-state{fill:#8882;stroke:currentColor;stroke-opacity:.55;stroke-width:1.3}
.durable-svg .durable-state.durable-now{fill:#0072b240;stroke:#0072b2;stroke-opacity:1;stroke-width:2.5}
.durable-svg .durable-state.durable-end{fill:#009e731f;stroke-width:2.6}
.durable-svg .durable-head{fill:currentColor;fill-opacity:.75;stroke:none}
.durable-svg .durable-dim{opacity:.4}
.durable-legend{display:flex;flex-wrap:wrap;gap:.1em 1.1em;font-size:.8em;opacity:.85;margin-top:.2em}
.durable-fig .durable-legend svg.durable-svg{vertical-align:-1px;margin-right:.4em;display:inline-block}
@@ .durable-what,@@ .durable-what code.durable-code{white-space:nowrap}
.durable-side{display:flex;flex-wrap:wrap;gap:1em 2em;align-items:flex-start}
.durable-side .durable-grow{flex:1 1 17em;min-width:15em;max-width:27em}
.durable-bar{display:inline-block;width:12em;max-width:40%;height:.7em;border-radius:.35em;background:#8884;overflow:hidden}
.durable-bar i{display:block;height:100%;background:#0072b2}
""".replace("\n", "").replace("@@", ".durable-fig" * 3)
"""Colours are Okabe and Ito's: blue 0072b2, orange e69f00, green 009e73, vermilion d55e00, purple cc79a7.

``@@`` is a class named three times: the pages that show a figure style every table, and must not win."""


_NOT_XML = re.compile("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Figure:
    """What the functions of this package return; the last expression of a cell shows it.

    ``html`` is a well-formed fragment, ``str()`` the same in words.
    """

    def __init__(self, body: str, text: str) -> None:
        self.html = f'<div class="durable-fig"><style>{STYLE}</style>{body}</div>'
        self._text = text

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self._text}


def esc(value: object) -> str:
    """Text made safe for HTML and SVG, also inside quotes; what XML cannot hold becomes a question mark."""
    return escape(_NOT_XML.sub("?", str(value)), {'"': "&quot;"})


def tag(name: str, inner: str = "", **attributes: object) -> str:
    """One element. ``class_`` is ``class``, and an underscore in a name is a hyphen; ``inner`` is markup already.

    >>> tag("line", x1=0, stroke_width=2)
    '<line x1="0" stroke-width="2"/>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{esc(value)}"' for key, value in attributes.items() if value is not None
    )
    return f"<{name}{given}>{inner}</{name}>" if inner else f"<{name}{given}/>"


def text(x: object, y: object, words: object, **attributes: object) -> str:
    return tag("text", esc(words) or " ", x=x, y=y, **attributes)


def svg(inner: str, label: str, height: float, width: object = "100%", **attributes: object) -> str:
    return tag(
        "svg",
        inner,
        class_="durable-svg",
        role="img",
        aria_label=label,
        width=width,
        height=round(height),
        **attributes,
    )


def chip(words: object, kind: str = "") -> str:
    return tag("span", esc(words), class_=f"durable-chip {kind}".strip())


def code(words: object, full: object = None) -> str:
    """A value, as code; ``full`` is shown when the pointer rests on it."""
    return tag("code", esc(words), class_="durable-code", title=full) if str(words) else ""


def html_table(head: list[str], rows: list[list[str]], numbers: frozenset[int] = frozenset()) -> str:
    """A table from cells that are markup already. ``numbers`` are the columns that align right."""

    def line(kind: str, cells: list[str]) -> str:
        made = (tag(kind, cell or " ", class_="durable-num" if index in numbers else None) for index, cell in enumerate(cells))
        return f"<tr>{''.join(made)}</tr>"

    header = f"<thead>{line('th', head)}</thead>" if head else ""
    return f'<table class="durable-table">{header}<tbody>{"".join(line("td", row) for row in rows)}</tbody></table>'


def text_table(head: list[str], rows: list[list[str]], numbers: frozenset[int] = frozenset()) -> str:
    """The same in plain text, columns aligned."""
    lines = [*([head] if head else []), *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))] if lines else []
    made = (
        "  ".join(
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    return "\n".join(made)
