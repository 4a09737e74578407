"""The chapters, without building them: what they quote, name and run is there, and does what the page says."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "book" / "chapters").glob("*.md"))
EXAMPLES = sorted((ROOT / "book" / "examples").glob("*.py"))
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
DIRECTIVE = re.compile(r"^```\{(\w+)\}[ \t]*([^\n]*)\n((?::[^\n]*\n)*)(.*?)^```", re.MULTILINE | re.DOTALL)


def directives(chapter: Path, name: str) -> list[tuple[str, dict[str, str], list[str]]]:
    """Argument, options and content lines of every such directive of a chapter."""
    found = []
    for kind, argument, options, content in DIRECTIVE.findall(chapter.read_text("utf8")):
        if kind == name:
            given = dict(re.findall(r"^:([\w-]+):[ \t]*(.*)$", options, re.MULTILINE))
            found.append((argument.strip(), given, content.splitlines()))
    return found


def defined(source: str, dotted: str) -> bool:
    """Whether the source defines this class, function or method."""
    node: ast.AST | None = ast.parse(source)
    for name in dotted.split("."):
        assert node is not None
        node = next((inner for inner in ast.iter_child_nodes(node) if getattr(inner, "name", None) == name), None)
        if node is None:
            return False
    return True


@each_chapter
def test_what_is_quoted_is_there(chapter: Path) -> None:
    for path, options, _ in directives(chapter, "literalinclude"):
        source = (chapter.parent / path).read_text("utf8")
        if wanted := options.get("pyobject"):
            assert defined(source, wanted), f"{path} has no {wanted}"
        for edge in ("start-at", "end-at", "start-after", "end-before"):
            if text := options.get(edge):
                assert text in source, f"{path} has no line with {text!r}"


@each_chapter
def test_what_is_drawn_and_tabulated_is_there(chapter: Path) -> None:
    for name, options, _ in directives(chapter, "drawn"):
        drawn = pytest.importorskip("bookstitch.drawn", reason="the extra `book` is not installed")
        folder = chapter.parent / options["folder"] if "folder" in options else None
        assert drawn.shown(name, folder)[0]
    for name, _, _ in directives(chapter, "doctable"):
        assert "\n====" in (inspect.getdoc(importlib.import_module(name)) or "")
    for _, options, _ in directives(chapter, "raw"):
        assert (chapter.parent / options["file"]).exists()


@each_chapter
def test_the_tests_that_it_names_exist(chapter: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", chapter.read_text("utf8")))
    text = "".join(path.read_text("utf8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named <= set(re.findall(r"def (test_\w+)", text))


def test_every_term_that_is_used_is_defined_and_every_defined_one_is_used() -> None:
    glossary = (ROOT / "book/chapters/glossary.md").read_text("utf8")
    terms = re.findall(r"^(\w[\w -]*)\n  \S", glossary, re.MULTILINE)
    assert terms == sorted(terms, key=str.lower)
    roles = re.findall(r"\{term\}`([^`]+)`", "".join(chapter.read_text("utf8") for chapter in CHAPTERS))
    used = {" ".join(re.sub(r".*<(.+)>", r"\1", role, flags=re.DOTALL).split()).lower() for role in roles}
    assert used == {term.lower() for term in terms}


def test_every_reference_is_cited_and_every_citation_has_its_reference() -> None:
    there = set(re.findall(r"^\((ref-[\w-]+)\)=", (ROOT / "book/chapters/references.md").read_text("utf8"), re.MULTILINE))
    cited = {name for chapter in CHAPTERS for name in re.findall(r"\(#(ref-[\w-]+)\)", chapter.read_text("utf8"))}
    assert cited == there


MARKER = re.compile(r'^<!-- @demo:num="(\d+)" -->$', re.MULTILINE)


def test_each_demonstration_stands_in_one_chapter_in_order_and_chapter_seven_leads_to_all() -> None:
    texts = {chapter.stem: chapter.read_text("utf8") for chapter in CHAPTERS}
    numbers = [int(path.name[:2]) for path in sorted((ROOT / "demos").glob("[0-9][0-9]-*.ipynb"))]
    shown = {stem: [int(number) for number in MARKER.findall(text)] for stem, text in texts.items()}
    assert sorted(number for found in shown.values() for number in found) == numbers
    assert all(found == sorted(found) for found in shown.values())
    for text in texts.values():
        for anchor in re.findall(r'^\((demo-[\w-]+)\)=$', text, re.MULTILINE):
            assert f"(#{anchor})" in texts["07-demonstrations"], f"chapter 7 does not lead to {anchor}"


def sessions() -> list[object]:
    return [
        pytest.param(chapter, options, lines, id=f"{chapter.stem}-{number}")
        for chapter in CHAPTERS
        for number, (_, options, lines) in enumerate(directives(chapter, "terminal"), 1)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "options", "lines"), sessions())
def test_a_session_goes_as_its_page_says(chapter: Path, options: dict[str, str], lines: list[str]) -> None:
    terminal = pytest.importorskip("bookstitch.terminal", reason="the extra `book` is not installed")
    assert terminal.session(terminal.parse(lines), chapter.parent / options["folder"])


def test_the_order_that_survives_is_charged_once_and_the_column_twice() -> None:
    terminal = pytest.importorskip("bookstitch.terminal", reason="the extra `book` is not installed")
    introduction = ROOT / "book/chapters/01-introduction.md"
    column, workflow = (
        terminal.session(terminal.parse(lines), introduction.parent / options["folder"])
        for _, options, lines in directives(introduction, "terminal")
    )
    assert column.partition("$ cat ledger.txt\n")[2].count("42.00") == 2
    assert workflow.partition("$ cat ledger.txt\n")[2].count("42.00") == 1


@pytest.mark.slow
@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_every_program_of_the_book_runs(program: Path, tmp_path: Path) -> None:
    if program.stem == "look":
        subprocess.run([sys.executable, program.with_name("orders.py")], cwd=tmp_path, check=True, timeout=60)
    subprocess.run([sys.executable, program], cwd=tmp_path, check=True, timeout=60)


@each_chapter
def test_a_program_in_the_text_compiles(chapter: Path) -> None:
    for source in re.findall(r"^```python\n(.*?)^```", chapter.read_text("utf8"), re.MULTILINE | re.DOTALL):
        compile(source, chapter.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
