"""The marker's rules: one form is valid, whatever resembles it is a fault, everything else is a comment."""

from __future__ import annotations

import pytest
from bookstitch.marker import MalformedMarker, check_text, excerpt, parse_comment
from hypothesis import given
from hypothesis import strategies as st

VALID = '<!-- @demo:num="{}" -->'


@given(st.integers(min_value=1))
def test_every_positive_number_is_read(number: int) -> None:
    assert parse_comment(VALID.format(number)) == number
    assert parse_comment(VALID.format(number) + "  \n") == number
    assert parse_comment("   " + VALID.format(number)) == number  # Markdown allows as many in front of any block


@pytest.mark.parametrize(
    "text",
    [
        '<!--@demo:num="3"-->',
        '<!-- @demo:num="3"-->',
        '<!--  @demo:num="3" -->',
        "<!-- @demo:num='3' -->",
        "<!-- @demo:num=3 -->",
        '<!-- @demo:num="03" -->',
        '<!-- @demo:num="0" -->',
        '<!-- @demo:num="-3" -->',
        '<!-- @demo:num="three" -->',
        '<!-- @demo:num="" -->',
        '<!-- @demo:num="٣" -->',
        '<!-- @demo:num="3" --> and more',
        '<!-- @demo:num="3" @demo:num="4" -->',
        '<!-- @demo num="3" -->',
        "<!-- @demo -->",
        '<!-- @Demo:num="3" -->',
        '<!-- @DEMO:NUM="3" -->',
        '<!-- @demos:num="3" -->',
        '<!-- demo:num="3" -->',
        '<!-- @dmeo:num="3" -->',
        '<!-- @demo\uff1anum="3" -->',
        '<!--\u00a0@demo:num="3" -->',
        "<!-- @demo:num=\u201c3\u201d -->",
        '<!--- @demo:num="3" --->',
        '<div>\n<!-- @demo:num="3" -->\n</div>',
        '<!-- @demo:num="3"\n-->',
        '<!-- @demo:num="3" ->',
        '    <!-- @demo:num="3" -->',
        '<div>\n<!-- @dmeo:num="3" -->\n</div>',
    ],
)
def test_what_resembles_a_marker_is_a_fault(text: str) -> None:
    with pytest.raises(MalformedMarker, match=r'write <!-- @demo:num="N" --> alone'):
        parse_comment(text)


@st.composite
def damaged_markers(draw: st.DrawFn) -> str:
    """A valid marker with one character inserted, doubled or changed in case, its word `@demo` or `num=` still whole."""
    marker = VALID.format(draw(st.integers(1, 20)))
    place = draw(st.sampled_from([i for i in range(len(marker)) if not 5 <= i <= 9]))
    what = draw(st.sampled_from(["insert blank", "double", "upper", "drop"]))
    if what == "insert blank":
        return marker[:place] + draw(st.sampled_from(" \t\u00a0\u3000\n")) + marker[place:]
    if what == "double":
        return marker[:place] + marker[place] + marker[place:]
    if what == "drop":
        return marker[:place] + marker[place + 1 :]
    return marker[:place] + marker[place].upper() + marker[place + 1 :]


@given(damaged_markers())
def test_a_damaged_marker_is_never_taken_for_a_comment(text: str) -> None:
    try:
        number = parse_comment(text)
    except MalformedMarker:
        return
    assert number is not None, "a demo would vanish without a word"
    assert parse_comment(VALID.format(number)) == number  # a doubled or dropped digit is another valid number


@pytest.mark.parametrize(
    "text",
    [
        "<!-- -->",
        "<!-- todo: show the demo here -->",
        "<b>bold</b>",
        "<!-- a demonstration, number 3 -->",
        "<!-- numbers: 3 -->",
        '<tr data-rownum="3">',
        "<script>let num = 3</script>",
    ],
)
def test_ordinary_comments_are_left_alone(text: str) -> None:
    assert parse_comment(text) is None


@pytest.mark.parametrize("text", ['<!- @demo:num="3" -->', '@demo:num="3"', "{@demo:num=3}", '@demo num="3"'])
def test_visible_text_in_the_marker_s_shape_is_a_fault(text: str) -> None:
    with pytest.raises(MalformedMarker):
        check_text(text)


@pytest.mark.parametrize("text", ["The demo in chapter 7.", "num = 3", "write to me@demo.example"])
def test_prose_about_demos_is_no_fault(text: str) -> None:
    check_text(text)


def test_a_message_quotes_the_line_that_matters() -> None:
    assert excerpt('<div>\n  <!-- @demo:num="x" -->\n</div>') == repr('<!-- @demo:num="x" -->')
    assert len(excerpt("num " * 100)) <= 62
