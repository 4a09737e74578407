"""Somebody else's book, built as its author would: what comes out, and everything that must stop the build.

Every failing build is repeated: a generator that forgets a fault once the pages are saved passes the second time.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bookmaker import Book, code, markdown

pytestmark = pytest.mark.slow


def marker(number: object) -> str:
    return f'<!-- @demo:num="{number}" -->\n'


def must_fail(book: Book, *expected: str) -> None:
    """Twice, each time with every expected piece of text."""
    for attempt in ("first", "second"):
        built = book.build()
        assert built.status != 0, f"the {attempt} build passed"
        for text in expected:
            assert text in built.text, f"{attempt} build: no {text!r} in\n{built.text[-3000:]}"


def test_a_page_with_thirteen_demos(book: Book) -> None:
    for n in range(1, 14):
        cells = [markdown(f"# Question {n}\n\nA story.\n\n## A part"), code(f"print('answer', {n} * 1000)")]
        book.notebook(f"{n:02}-question", *cells)
    sections = "".join(f"## Section {n}\n\n{marker(n)}\n" for n in range(1, 14))
    book.page("index", f"# All demos\n\nFirst [the third](#demo-3), then [a section](#section-5).\n\n{sections}")
    built = book.build("-W", "-n", "--keep-going", "--all")
    assert built.status == 0, built.text
    assert built.executed == 13
    html = book.html()
    for n in range(1, 14):
        assert f'id="demo-{n}"' in html
        assert f"answer {n * 1000}" in html
        assert re.search(rf'class="bookstitch-title">Question {n}<', html)
        assert re.search(rf'href="_downloads/[0-9a-f]+/{n:02}-question.ipynb"', html)
    assert 'href="#demo-3"' in html
    toc = html[html.index("page-toc") :]
    assert "Section 13" in toc
    assert "A part" not in toc, "a notebook's headings are not the page's"

    again = book.build("-W", "-n", "--keep-going")
    assert (again.status, again.executed) == (0, 0)
    assert "0 added, 0 changed, 0 removed" in again.text


def test_only_what_changed_is_executed_again(book: Book) -> None:
    for n in (1, 2):
        book.notebook(f"0{n}-a", code(f"print('old {n}')"))
    book.page("index", f"# Page\n\n{marker(1)}\n{marker(2)}")
    assert book.build().executed == 2
    book.notebook("02-a", code("print('new 2')"))
    assert book.build().executed == 1
    assert "new 2" in book.html(), "the page shows the old result"
    assert "old 1" in book.html()
    (book.root / "demos" / "support.py").write_text("ANSWER = 42\n", "utf8")
    assert book.build().executed == 2, "a changed helper outdates every result"


def test_all_kinds_of_output_and_the_cell_tags(book: Book) -> None:
    show = "from IPython.display import HTML, SVG, Latex, Markdown, display\n"
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0h9" stroke="{}"/></svg>'
    book.notebook(
        "01-outputs",
        code(f"{show}display(HTML('<i class=\"mine\">html</i>'), Markdown('**bold**'), Latex('$x^2$'))"),
        code(f"display(SVG('{svg.format('currentColor')}'), SVG('{svg.format('red')}'))"),
        code("secret_input = 1; print('seen output')", "remove-input"),
        code("shy_input = 2; print('folded')", "hide-input"),
        code("print('never shown')", "remove-cell"),
        code("import sys; print('warn' + 'ing!', file=sys.stderr); print('result')", "remove-stderr"),
        code("import ipywidgets as w; w.IntSlider(value=3)"),
        code("raise_nothing = 'last'; raise_nothing"),
    )
    book.notebook("02-widget", code("import ipywidgets as w; w.Text('second widget')"))
    book.page("index", f"# Page\n\n:::{{note}}\n{marker(1)}:::\n\n{marker(2)}")
    built = book.build("-W", "--keep-going")
    assert built.status == 0, built.text
    html = book.html()
    for text in ('class="mine"', "<strong>bold</strong>", "x^2", "seen output", "shy_input", "folded", "result", "last"):
        assert text in html, text
    for text in ("secret_input", "never shown", "warning!"):
        assert text not in html, text
    assert 'stroke="currentColor"' in html, "such a figure must stand in the page, or it cannot take its colour"
    assert len(list((book.root / "_build" / "html" / "_images").glob("*.svg"))) == 1
    states = re.findall(r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', html, re.DOTALL)
    assert len(states) == 1, "one state for the page"
    models = {m["model_name"] for m in json.loads(states[0])["state"].values()}
    assert {"IntSliderModel", "TextModel"} <= models


def test_a_marker_in_code_is_no_marker(book: Book) -> None:
    book.page("index", f'# Page\n\n```html\n{marker(7)}```\n\nWrite `<!-- @demo:num="7" -->`.\n\n    {marker(7)}')
    built = book.build("-W", "--keep-going")
    assert built.status == 0, built.text


def test_parameters_reach_every_notebook(book: Book) -> None:
    book.configure(parameters={"nodes": 5})
    book.notebook("01-a", code("nodes = 3", "parameters"), code("print('nodes:', nodes)"))
    book.page("index", f"# Page\n\n{marker(1)}")
    assert book.build().status == 0
    assert "nodes: 5" in book.html()


def test_the_kernel_is_the_python_that_builds(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imposter = tmp_path / "jupyter" / "kernels" / "python3"
    imposter.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "imposter", "language": "python"}
    (imposter / "kernel.json").write_text(json.dumps(spec), "utf8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("EXPECTED_PYTHON", sys.executable)
    book.notebook("01-a", code("import os, sys; print('own python:', sys.executable == os.environ['EXPECTED_PYTHON'])"))
    book.page("index", f"# Page\n\n{marker(1)}")
    assert book.build().status == 0
    assert "own python: True" in book.html()


def test_the_library_that_is_hashed_is_the_one_that_runs(book: Book) -> None:
    book.configure(sources=["library"])
    (book.root / "library").mkdir()
    source = book.root / "library" / "__init__.py"
    book.notebook("01-a", code("import library, support; print(library.WORD, support.WORD)"))
    (book.root / "demos" / "support.py").write_text("WORD = 'helper'\n", "utf8")
    book.page("index", f"# Page\n\n{marker(1)}")
    source.write_text("WORD = 'first'\n", "utf8")
    assert book.build().executed == 1
    assert "first helper" in book.html()
    source.write_text("WORD = 'second'\n", "utf8")
    assert book.build().executed == 1
    assert "second helper" in book.html()


def test_the_command_line_executes_what_the_build_then_uses(book: Book) -> None:
    for n in (1, 2, 3):
        book.notebook(f"0{n}-a", code(f"print({n})"))
    book.page("index", f"# Page\n\n{marker(1)}\n{marker(2)}\n{marker(3)}")
    one = book.run("bookstitch.__main__", "execute", "2")
    assert (one.status, "1 of 1 notebooks executed" in one.text) == (0, True), one.text
    rest = book.run("bookstitch.__main__", "execute")
    assert "2 of 3 notebooks executed" in rest.text
    assert book.run("bookstitch.__main__", "execute", "9").status == 1
    assert book.build().executed == 0


def test_a_check_finds_what_the_build_would_find(book: Book) -> None:
    for n in (1, 2):
        book.notebook(f"0{n}-a", code("1"))
    book.page(
        "index",
        f"# Page\n\n{marker(1)}\n```\n{marker(8)}```\n\n:::{{note}}\n{marker(1)}:::\n\n<!-- @demo:num=4 -->\n\n{marker(9)}",
    )
    checked = book.run("bookstitch.__main__", "check")
    assert checked.status == 1
    for text in (
        "index.md:10: duplicate demo 1",
        "index.md:13: malformed",
        "index.md:15: unknown demo number 9",
        "02-a.ipynb: no page",
    ):
        assert text in checked.text, checked.text
    assert len(checked.text.splitlines()) == 4
    book.page("index", f"# Page\n\n{marker(1)}\n{marker(2)}")
    assert book.run("bookstitch.__main__", "check").status == 0


FAULTS: dict[str, tuple[Callable[[Book], object], list[str]]] = {
    "unknown number": (
        lambda b: b.page("index", f"# Page\n\n{marker(1)}\n{marker(4)}"),
        ["index.md:5: unknown demo number 4; there are: 1"],
    ),
    "duplicate": (
        lambda b: (b.page("index", f"# Page\n\n{marker(1)}"), b.page("other", f"# Other\n\n{marker(1)}"), b.toc("other")),
        ["other.md:3: duplicate demo 1; it is already at index.md:3"],
    ),
    "malformed": (
        lambda b: b.page("index", f"# Page\n\n{marker(1)}\n<!-- @demo:num=1 -->\n"),
        ["index.md:5: malformed demo marker"],
    ),
    "look-alike in a div": (
        lambda b: b.page("index", f"# Page\n\n{marker(1)}\n<div>\n{marker(1)}</div>\n"),
        ["index.md:5: malformed demo marker"],
    ),
    "inside a paragraph": (
        lambda b: b.page("index", f"# Page\n\n{marker(1)}\nSee {marker(1)} here.\n"),
        ["index.md:5: the demo marker stands inside a paragraph"],
    ),
    "visible text": (
        lambda b: b.page("index", f'# Page\n\n{marker(1)}\n<!- @demo:num="1" -->\n'),
        ["index.md:5: this text looks like a demo marker"],
    ),
    "notebook that no page shows": (
        lambda b: b.notebook("02-extra", code("2")),
        ["demos/02-extra.ipynb: no page shows demo 2"],
    ),
    "misspelt option": (
        lambda b: b.configure(timout=3),
        ["_config.yml: bookstitch_timout: there is no such option; did you mean bookstitch_timeout?"],
    ),
    "two notebooks with one number": (
        lambda b: b.notebook("1-b", code("2")),
        ["demos/1-b.ipynb: demo number 1 is already taken"],
    ),
    "failing cell": (
        lambda b: b.notebook("01-a", code("x = 1"), markdown("Now."), code("1 / 0"), code("print('later')")),
        ["demos/01-a.ipynb: cell 3: ZeroDivisionError: division by zero"],
    ),
    "failing cell after injected parameters": (
        lambda b: (
            b.configure(parameters={"n": 1}),
            b.notebook("01-a", code("n = 0", "parameters"), code("raise OSError(n)")),
        ),
        ["demos/01-a.ipynb: cell 2: OSError: 1"],
    ),
    "timeout": (
        lambda b: (
            b.configure(timeout=3),
            b.notebook("01-a", code("1"), code("import threading; threading.Event().wait()")),
        ),
        ["demos/01-a.ipynb: cell 2: timeout: the notebook was not done after 3 s"],
    ),
    "busy after the last cell": (
        lambda b: (
            b.configure(timeout=2),
            b.notebook("01-a", code("import asyncio, threading; asyncio.get_running_loop().call_soon(threading.Event().wait)")),
        ),
        ["demos/01-a.ipynb: cell 1: timeout: the kernel was still busy 2 s after the last cell"],
    ),
    "exit": (
        lambda b: b.notebook("01-a", code("1"), code("import sys; sys.exit(0)"), code("print('later')")),
        ["demos/01-a.ipynb: cell 2: SystemExit: the cell ended the notebook"],
    ),
    "dead kernel": (
        lambda b: b.notebook("01-a", code("1"), code("import os; os._exit(1)")),
        ["demos/01-a.ipynb: cell 2: the kernel died"],
    ),
    "leaked address": (
        lambda b: b.notebook("01-a", code("1"), code("object()")),
        ["demos/01-a.ipynb: cell 2: output shows a memory address: 'at 0x"],
    ),
    "leaked path": (
        lambda b: b.notebook("01-a", code("import tempfile; print(tempfile.mkstemp(prefix='leak')[1])")),
        ["demos/01-a.ipynb: cell 1: output shows a path of this machine"],
    ),
    "leaked process id": (
        lambda b: b.notebook("01-a", code("import os; print('pid', os.getpid())")),
        ["demos/01-a.ipynb: cell 1: output shows a process id"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_the_build_each_time(book: Book, fault: str) -> None:
    spoil, expected = FAULTS[fault]
    book.notebook("01-a", code("print('fine')"))
    book.page("index", f"# Page\n\n{marker(1)}")
    spoil(book)
    must_fail(book, *expected)


def test_a_failed_notebook_is_kept_with_its_traceback_until_it_runs(book: Book) -> None:
    book.notebook("01-a", code("def fails():\n    return 1 / 0"), code("fails()"))
    book.page("index", f"# Page\n\n{marker(1)}")
    kept = book.root / "_build/.bookstitch/failed/01-a.ipynb"
    failed = book.run("bookstitch.__main__", "execute")
    assert f"ZeroDivisionError: division by zero (as far as it came: {kept.relative_to(book.root)})" in failed.text
    assert "return" in "".join(json.loads(kept.read_text("utf8"))["cells"][-1]["outputs"][0]["traceback"])
    book.notebook("01-a", code("1"))
    assert book.run("bookstitch.__main__", "execute").status == 0
    assert not kept.exists()


def test_a_fault_that_comes_later_is_found_and_goes_when_it_is_repaired(book: Book) -> None:
    path = book.notebook("01-a", code("print('fine')"))
    book.page("index", f"# Page\n\n{marker(1)}")
    assert book.build().status == 0
    kept = path.read_text("utf8")
    path.unlink()
    must_fail(book, "index.md:3: unknown demo number 1; there are: none")
    path.write_text(kept, "utf8")
    assert book.build().status == 0


def test_a_notebook_may_say_that_no_page_needs_it(book: Book) -> None:
    book.notebook("01-a", code("1"), bookstitch={"unused": True, "alone": True})
    book.page("index", "# Page\n")
    assert book.build("-W").status == 0


def test_a_failing_notebook_leaves_no_process(book: Book, tmp_path: Path) -> None:
    child = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    book.notebook(
        "01-a",
        code(f"CHILD = {child!r}"),
        code("import subprocess as s, sys; p = s.Popen([sys.executable, '-c', CHILD], stdout=s.PIPE, text=True)"),
        code(f"open({str(tmp_path / 'port')!r}, 'w').write(p.stdout.readline()); import os; os._exit(1)"),
    )
    book.page("index", f"# Page\n\n{marker(1)}")
    assert book.build().status != 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int((tmp_path / "port").read_text())), timeout=5)


def test_the_edition_names_the_build(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    book.page("index", "# Page\n\n```{edition}\n:packages: papermill no-such-package\n```\n")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert book.build("-W").status == 0
    html = book.html()
    for text in ("not built from a git checkout", "1970-01-02", "papermill", "not installed"):
        assert text in html
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "172800")
    assert book.build("-W").status == 0
    assert "1970-01-03" in book.html(), "the day changed and the page did not"
    package = book.root.parent / "installed" / "no_such_package-7.1.dist-info" / "METADATA"
    package.parent.mkdir(parents=True)
    package.write_text("Metadata-Version: 2.1\nName: no-such-package\nVersion: 7.1\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parents[1]), prepend=os.pathsep)
    assert book.build("-W").status == 0
    assert "7.1" in book.html(), "a version changed and the page did not"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1.5")  # for "yesterday" Sphinx itself cannot be imported
    assert "SOURCE_DATE_EPOCH=1.5: is no number of seconds" in book.build("-W").text
