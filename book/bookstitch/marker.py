"""What counts as a marker, and what merely looks like one.

The one valid form is `<!-- @demo:num="3" -->`: one space on each side, a decimal number without leading zeros, double
quotes; Markdown's three blanks may stand in front. Anything near to it is a fault and not a comment, because a comment is
invisible: a demo would vanish from the page without a word. Text is normalised first (NFKC, lower case, no blanks), so that
a full-width colon or a non-breaking space does not hide a marker that was meant.

Pure functions on strings; finding the comments in a page is the work of `render` (Sphinx) and `check` (command line).
Limit: a marker misspelt beyond recognition stays a comment; the notebook that it named is then reported as unused.
Read next: `demos`.
"""

from __future__ import annotations

import re
import unicodedata

FORM = '<!-- @demo:num="N" -->'
MARKER = re.compile(r' {0,3}<!-- @demo:num="([1-9][0-9]*)" -->[ \t]*\n?')

# On normalised text. The second catches a lost @: `demo:num="3"`.
LOOKALIKES = (re.compile(r"@demo"), re.compile(r"demos?[:=]?num"))
# A misspelt word, `@dmeo:num=3`: only inside a comment, for attributes and scripts have numbers too.
LOOKALIKE_NUMBER = re.compile(r"num[=:]\W?[0-9]")
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# Visible text may speak of demos and of numbers, so only the marker's own shape counts there.
LOOKALIKE_TEXT = re.compile(r"@demos?[:=]?num")


class MalformedMarker(ValueError):
    """A comment or a line of text that somebody meant as a marker."""


def normalise(text: str) -> str:
    """Fold what the eye does not tell apart: compatibility forms, case, blanks."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def parse_comment(text: str) -> int | None:
    """The number that a raw HTML block asks for; None when it has nothing to do with demos.

    >>> parse_comment('<!-- @demo:num="3" -->')
    3
    >>> parse_comment("<!-- an ordinary comment -->") is None
    True

    Raises MalformedMarker for everything in between.
    """
    if match := MARKER.fullmatch(text):
        return int(match[1])
    comments = (normalise(comment) for comment in COMMENT.findall(text))
    if any(pattern.search(normalise(text)) for pattern in LOOKALIKES) or any(map(LOOKALIKE_NUMBER.search, comments)):
        raise MalformedMarker(f"malformed demo marker {excerpt(text)}; write {FORM} alone on its line")
    return None


def check_text(text: str) -> None:
    """Raise MalformedMarker when visible text was meant as a marker (`<!- @demo:num="3" -->` is no comment)."""
    if LOOKALIKE_TEXT.search(normalise(text)):
        raise MalformedMarker(f"this text looks like a demo marker, {excerpt(text)}; write {FORM} alone on its line")


def excerpt(text: str, width: int = 60) -> str:
    """The part of a text that is worth showing in a message: the line with the word, cut at `width`."""
    lines = [line.strip() for line in text.strip().splitlines()] or [""]
    chosen = next((line for line in lines if "demo" in normalise(line) or "num" in normalise(line)), lines[0])
    return repr(chosen if len(chosen) <= width else chosen[: width - 1] + "…")
