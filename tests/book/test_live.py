"""What a page runs, draws and quotes while it is built: terminal sessions, figures and tables of the code, wrapped source."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("jupyter_book", reason="the extra `book` is not installed")

import pygments
from bookmaker import Book
from bookstitch import drawn, terminal
from bookstitch.terminal import Command, TerminalError, parse, session
from bookstitch.wrap import on_page, wrapped
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer


def run(folder: Path | None, *lines: str) -> str:
    return session(parse(list(lines)), folder)


# A program whose child holds its output for ever; the words behind it say how it goes on, and whether the child is of its session.
STARTS = """
import os, signal, subprocess, sys
own = "session" in sys.argv
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=own)
print("started", child.pid)
if "wait" in sys.argv:
    signal.pause()
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "steps.py").write_text(
        "import time\nfor n in range(3):\n    print('step', n)\n    open('seen.txt', 'a').write(f'{n}\\n')\n    time.sleep(0.4)\n"
    )
    (folder / "fails.py").write_text("import sys\nprint('no')\nsys.exit(3)\n")
    (folder / "leaks.py").write_text("import tempfile\nprint(tempfile.gettempdir() + '/abc')\n")
    (folder / "where.py").write_text("print(__file__)\n")
    (folder / "many.py").write_text("for n in range(100):\n    print('line', n)\nopen(1, 'wb').write(b'\\xff')\n1 / 0\n")
    (folder / "starts.py").write_text(STARTS)
    return folder


def test_commands_run_one_after_another_in_a_copy(programs: Path) -> None:
    text = run(programs, "python steps.py", "cat seen.txt")
    assert text == "$ python steps.py\nstep 0\nstep 1\nstep 2\n$ cat seen.txt\n0\n1\n2\n"
    assert not (programs / "seen.txt").exists()


def test_a_command_is_killed_at_the_line_that_is_named(programs: Path) -> None:
    text = run(programs, "python steps.py", "@kill step 1", "cat seen.txt")
    assert "step 1\nKilled\n" in text
    assert "step 2" not in text


def test_a_kill_can_come_a_while_after_the_line(programs: Path) -> None:
    assert "step 1\nKilled\n" in run(programs, "python steps.py", "@kill step 0 +0.6")


def test_the_folder_s_own_path_is_left_out(programs: Path) -> None:
    assert run(programs, "python where.py") == "$ python where.py\nwhere.py\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["python fails.py"], "ended with status 3"),
        (["python steps.py", "@fails"], "ended with status 0"),
        (["python steps.py", "@kill step 9"], "never printed 'step 9'"),
        (["no-such-program"], "cannot be run: No such file"),
        (["python -c 'print(1)"], "cannot be run: No closing quotation"),
        (["python leaks.py"], "a path of this machine"),
    ],
)
def test_a_session_that_goes_otherwise_is_an_error(programs: Path, lines: list[str], expected: str) -> None:
    with pytest.raises(TerminalError, match=expected):
        run(programs, *lines)


def test_a_failure_can_be_expected(programs: Path) -> None:
    assert run(programs, "python fails.py", "@fails") == "$ python fails.py\nno\n"


def test_what_a_command_has_started_ends_with_it(programs: Path) -> None:
    assert "started" in run(programs, "python starts.py")
    assert run(programs, "python starts.py wait", "@kill started").endswith("\nKilled\n")


def test_a_command_that_takes_too_long_ends_with_all_that_it_started(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "TIMEOUT_S", 2.0)
    with pytest.raises(TerminalError, match="took more than 2 s; it printed:\nstarted"):
        run(programs, "python starts.py wait")
    with pytest.raises(TerminalError, match="took more than 2 s"):
        run(programs, "python starts.py wait", "@kill never said")
    assert not [thread for thread in threading.enumerate() if isinstance(thread, terminal.Reader)], "somebody holds the output"


def test_a_process_that_hides_from_the_end_of_its_command_is_an_error(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "DRAIN_S", 0.5)
    with pytest.raises(TerminalError, match="left a process behind") as caught:
        run(programs, "python starts.py session")
    os.kill(int(str(caught.value).split()[-1]), signal.SIGKILL)


def test_output_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "OUTPUT_CHARS_MAX", 5000)
    for program in ("while True: print(\\'word\\')", "while True: print(\\'word\\', end=\\'\\')"):
        with pytest.raises(TerminalError, match="printed more than 5000 characters") as caught:
            run(None, f"python -c '{program}'".replace("\\'", '"'))
        assert len(str(caught.value)) < 1000


def test_a_message_quotes_the_end_of_the_output(programs: Path) -> None:
    with pytest.raises(TerminalError) as caught:
        run(programs, "python many.py")
    assert "line 99" in str(caught.value) and "line 50" not in str(caught.value)
    assert "\n\ufffd" in run(programs, "python many.py", "@fails"), "bytes that are no text are replaced"


def test_a_session_notices_every_file_that_it_may_read(programs: Path) -> None:
    names = {path.name for path in programs.iterdir()}
    for name in ("node.env", "sub/rows.json", "__pycache__/a.pyc", ".git/index", "_build/index.html"):
        (programs / name).parent.mkdir(exist_ok=True)
        (programs / name).touch()
    assert {path.name for path in terminal.files(programs)} == names | {"node.env", "rows.json"}


@pytest.mark.parametrize("lines", [["@kill x"], ["python a.py", "@stop"], ["python a.py", "@kill"], ["a", "@fails soon"]])
def test_an_order_that_means_nothing_is_an_error(lines: list[str]) -> None:
    with pytest.raises(TerminalError):
        parse(lines)


def test_a_kill_knows_its_text_and_its_delay() -> None:
    assert parse(["a", "@kill half done +0.5"]) == [Command("a", "half done", 0.5)]


def test_wrapping_changes_no_character_that_is_copied() -> None:
    html = "<span></span><b>def</b> f():\n\n    return 1\n"
    assert wrapped(html).replace("</span>", "").count("\n") == 3
    assert '--in:4ch">    return 1\n</span>' in wrapped(html)


def test_every_wrapped_line_is_whole_also_an_emphasised_one() -> None:
    source = "a = 1\n\n\'\'\'x\ny\'\'\'\nlast = 2\n"
    for options in ({"hl_lines": [1, 2, 4, 5]}, {"hl_lines": [2, 3], "linenos": "inline"}):
        html = pygments.highlight(source, PythonLexer(), HtmlFormatter(nowrap=True, **options))
        lines = re.split(r'(?=<span class="bookstitch-line")', wrapped(html))[1:]
        assert len(lines) == 5
        assert all(line.count("<span") == line.count("</span>") for line in lines), lines
        assert re.sub("<[^>]*>", "", "".join(lines)) == re.sub("<[^>]*>", "", html)


@pytest.mark.parametrize(("language", "wraps"), [("default", True), ("ipython3", True), ("text", True), ("myst-ansi", False)])
def test_source_and_transcripts_are_wrapped_and_what_a_cell_printed_is_not(language: str, wraps: bool) -> None:
    page = {"body": f'<div class="highlight-{language} notranslate"><div class="highlight"><pre>long\n</pre></div></div>'}
    on_page(None, "", "", page, None)  # type: ignore[arg-type]
    assert ("bookstitch-line" in page["body"]) is wraps


def test_what_draws_may_import_its_neighbours_and_leaves_nothing_imported(tmp_path: Path) -> None:
    (tmp_path / "colours.py").write_text("INK = 'black'\n")
    (tmp_path / "json.py").write_text("raise ImportError('the neighbour of that name')\n")
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport colours\n\n"
        "@dataclass\nclass Figure:\n    ink: str\n\n"
        "    def _repr_html_(self):\n        import colours\n        return colours.INK\n\n"
        "def figure():\n    return Figure(colours.INK)\n"
    )
    before, path = dict(sys.modules), list(sys.path)
    assert drawn.shown("own.figure", tmp_path) == ("black", "Figure(ink='black')")
    (tmp_path / "colours.py").write_text("INK = 'dark blue'\n")
    assert drawn.shown("own.figure", tmp_path)[0] == "dark blue"
    assert (sys.modules.get("json"), "colours" in sys.modules, "own" in sys.modules) == (before.get("json"), False, False)
    assert sys.path == path


@pytest.mark.slow
def test_a_page_shows_a_session_a_figure_and_a_table_of_the_code(book: Book) -> None:
    (book.root / "p.py").write_text("print('said so')\n")
    book.page(
        "index",
        "# Page\n\n```{terminal}\npython -c print(6*7)\n```\n\n```{drawn} durable.notebook.replay_table\nFrom the code.\n```\n\n"
        "```{doctable} durable.journal.keys\n```\n\n```{drawn} own.figure\n:folder: drawings\nFrom a file beside it.\n```\n",
    )
    (book.root / "drawings").mkdir()
    own = "from durable.notebook import table\n\n\ndef figure():\n    return table([(6 * 7,)], 'a file of its own')\n"
    (book.root / "drawings" / "own.py").write_text(own)
    built = book.build("-W", "-n", "--keep-going", "--all")
    assert built.status == 0, built.text
    html = book.html()
    assert "42" in html and "$ " in html
    assert "RESUME" in html and "From the code." in html
    assert "a file of its own" in html and "From a file beside it." in html
    assert "StatusRow" in html


@pytest.mark.slow
def test_directives_import_the_library_that_notebooks_import(book: Book) -> None:
    library = book.root / "src" / "shop"
    library.mkdir(parents=True)
    table = "=====  ====\nword   is\n=====  ====\nowned  here\n=====  ====\n"
    (library / "__init__.py").write_text(f'"""The shop.\n\n{table}"""\nWORD = "ours"\n')
    book.configure(sources=["src"])
    session = '```{terminal}\npython -c "import shop; print(shop.WORD)"\n```'
    book.page("index", f"# Page\n\n{session}\n\n```{{doctable}} shop\n```\n")
    built = book.build("-W", "-n", "--keep-going")
    assert built.status == 0, built.text
    assert "ours" in book.html() and "owned" in book.html()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```{terminal}\npython -c 1/0\n```", "index.md:3: 'python -c 1/0' ended with status 1"),
        ("```{terminal}\n:folder: nowhere\npython\n```", "index.md:3: there is no folder nowhere"),
        ("```{drawn} durable.notebook.no_such_figure\n```", "no_such_figure"),
        ("```{drawn} nowhere.figure\n:folder: .\n```", "index.md:3: nowhere.figure: FileNotFoundError"),
        ("```{drawn} ends.figure\n:folder: .\n```", "index.md:3: ends.figure: it ended with sys.exit(3)"),
        ("```{doctable} durable.world\n```", "its docstring has no table"),
    ],
)
def test_what_cannot_be_made_stops_the_build_each_time(book: Book, text: str, expected: str) -> None:
    book.page("index", f"# Page\n\n{text}\n")
    (book.root / "ends.py").write_text("raise SystemExit(3)\n")
    for _ in range(2):
        built = book.build()
        assert built.status != 0
        assert expected in built.text, built.text[-2000:]
