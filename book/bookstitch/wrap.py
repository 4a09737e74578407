"""Long lines of source and transcripts, wrapped under themselves.

A page is narrower than a source file, and text that is scrolled away is not read. So each line of a block of source, of a
terminal or of plain text becomes an element of its own that wraps, the rest of a long line standing four columns further in than
its beginning. What a reader copies is unchanged: every line keeps its own line's end.

Pygments closes its elements at the end of each line, some of them (a line that is emphasised) just behind it; cutting there,
behind what closes, leaves every element whole. The style is in `static/bookstitch.css`.

Limit: what a notebook's cell has printed is not touched; it scrolls.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

LANGUAGES = "python|ipython3|default|console|text"
BLOCK = re.compile(
    rf'(<div class="(?:[^"]*\s)?highlight-(?:{LANGUAGES})\b[^"]*"><div class="highlight"><pre>)(.*?)(</pre>)', re.DOTALL
)
LINE = re.compile(r"[^\n]*\n(?:</\w+>)*|[^\n]+")
MARKUP = re.compile(r"<[^>]*>")


def on_page(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Wrap the blocks of a page that is about to be written."""
    if "body" in context:
        context["body"] = BLOCK.sub(lambda found: found[1] + wrapped(found[2]) + found[3], context["body"])


def wrapped(html: str) -> str:
    """The lines of a highlighted block as elements.

    >>> wrapped("a\\n  <b>b</b>\\n")
    '<span class="bookstitch-line" style="--in:0ch">a\\n</span><span class="bookstitch-line" style="--in:2ch">  <b>b</b>\\n</span>'
    """
    lines = LINE.findall(html)
    return "".join(f'<span class="bookstitch-line" style="--in:{indent(line)}ch">{line}</span>' for line in lines)


def indent(line: str) -> int:
    """The columns before the first visible character."""
    text = MARKUP.sub("", line)
    return len(text) - len(text.lstrip(" ")) if text.strip() else 0
