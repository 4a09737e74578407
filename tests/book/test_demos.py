"""Discovery, cache keys and leaks: what can be said of notebooks without executing one."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bookstitch import digest, execute, running
from bookstitch.__main__ import main
from bookstitch.demos import discover
from bookstitch.digest import common_digest, demo_digest
from bookstitch.leaks import WIDGET_STATE, find_leak, notebook_leaks
from bookstitch.problems import BookError
from bookstitch.running import Deadline, Result, TimeIsUp, reason
from bookstitch.settings import Settings


def write(root: Path, name: str, *sources: str, tags: tuple[str, ...] = (), **metadata: Any) -> Path:
    path = root / "demos" / name
    path.parent.mkdir(exist_ok=True)
    cells = [
        {"cell_type": "code", "source": s, "metadata": {"tags": list(tags)}, "outputs": [], "execution_count": None}
        for s in sources
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}), "utf8")
    return path


def settings(root: Path, **options: Any) -> Settings:
    return Settings.make(root, root / "_build", options)


def test_notebooks_are_found_by_the_number_in_front(tmp_path: Path) -> None:
    for name in ("10-last.ipynb", "02-second.ipynb", "1_first.ipynb"):
        write(tmp_path, name, "1")
    assert [(n, d.path.name) for n, d in discover(settings(tmp_path)).items()] == [
        (1, "1_first.ipynb"),
        (2, "02-second.ipynb"),
        (10, "10-last.ipynb"),
    ]


def test_every_unusable_notebook_is_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "01-a.ipynb", "1")
    write(tmp_path, "1-b.ipynb", "1")
    write(tmp_path, "draft.ipynb", "1")
    (tmp_path / "demos" / "02-torn.ipynb").write_text("{", "utf8")
    (tmp_path / "demos" / "03-old.ipynb").write_text('{"nbformat": 3, "cells": []}', "utf8")
    with pytest.raises(BookError) as caught:
        discover(settings(tmp_path))
    assert [p.split(":")[0] for p in caught.value.problems] == [
        "demos/02-torn.ipynb",
        "demos/03-old.ipynb",
        "demos/1-b.ipynb",
        "demos/draft.ipynb",
    ]
    assert "already taken by 01-a.ipynb" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"cells": [1]},
        {"cells": [{"source": "1", "metadata": {}}]},
        {"cells": [{"cell_type": "code", "source": 1}]},
        {"cells": [{"cell_type": "code", "source": ["1", 2]}]},
        {"cells": [{"cell_type": "code", "source": "1", "metadata": []}]},
        {"cells": [{"cell_type": "code", "source": "1", "metadata": {"tags": "remove-cell"}}]},
        {"cells": [], "metadata": []},
        {"cells": [], "metadata": {"bookstitch": True}},
    ],
)
def test_what_is_json_and_no_notebook_is_named(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path, "01-a.ipynb")
    path.write_text(json.dumps({"nbformat": 4, **content} if isinstance(content, dict) else content), "utf8")
    with pytest.raises(BookError, match=r"demos/01-a\.ipynb: not a notebook"):
        discover(settings(tmp_path))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("notebooks", 3),
        ("notebooks", ""),
        ("timeout", 0),
        ("timeout", "60"),
        ("timeout", float("nan")),
        ("workers", -1),
        ("workers", 1.5),
        ("workers", True),
        ("parameters", ["n"]),
        ("parameters", {1: 2}),
        ("parameters", {"n": {1: 2, "a": 3}}),
        ("sources", [1]),
        ("sources", {"a": 1}),
        ("allow_unused", "no"),
        ("web", ["web"]),
    ],
)
def test_an_option_of_another_kind_is_named(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(BookError, match=rf"_config\.yml: bookstitch_{option}: .* is not"):
        settings(tmp_path, **{option: value})


def test_a_misspelt_option_is_named_with_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(BookError, match=r"bookstitch_timout: there is no such option; did you mean bookstitch_timeout\?"):
        settings(tmp_path, timout=3)


def test_one_source_may_stand_without_its_list(tmp_path: Path) -> None:
    (tmp_path / "shop.py").touch()
    assert settings(tmp_path, sources="shop.py").sources == ((tmp_path / "shop.py").resolve(),)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("_config.yml", b"a: [", "_config.yml: cannot be read"),
        ("_config.yml", b"\xff", "_config.yml: cannot be read"),
        ("_config.yml", b"- a", "_config.yml: is no mapping"),
        ("_config.yml", b"sphinx: {config: [a]}", "_config.yml: config: is no mapping"),
        ("_toc.yml", None, "_toc.yml: cannot be read"),
        ("_toc.yml", b"a: [", "_toc.yml: cannot be read"),
        ("_toc.yml", b"format: jb-book\nrot: index", "_toc.yml: "),
        ("index.md", b"\xff", "index.md: is not UTF-8"),
        ("index.md", b'<!-- @demo:num="1" -->', "index.md:1: unknown demo number 1; there is no folder demos"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_without_a_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, said: str
) -> None:
    pytest.importorskip("jupyter_book", reason="the extra `book` is not installed")
    files: dict[str, bytes | None] = {"_config.yml": b"sphinx:", "_toc.yml": b"format: jb-book\nroot: index", "index.md": b"# A"}
    for each, data in {**files, name: content}.items():
        if data is not None:
            (tmp_path / each).write_bytes(data)
    assert main(["--root", str(tmp_path), "check"]) == 1
    assert capsys.readouterr().err.startswith(said)


def test_a_notebook_says_how_it_wants_to_be_treated(tmp_path: Path) -> None:
    write(tmp_path, "01-a.ipynb", "1", bookstitch={"alone": True})
    write(tmp_path, "02-b.ipynb", "1", bookstitch={"unused": True})
    demos = discover(settings(tmp_path))
    assert (demos[1].alone, demos[1].unused, demos[2].alone, demos[2].unused) == (True, False, False, True)


def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="there is no library"):
        settings(tmp_path, sources=["library"])


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("library", "."),
        ("library/inner", "."),
        ("library/inner/module.py", "."),
        ("single.py", "."),
        ("project", "project/src"),
        ("project/src", "project/src"),
        ("data", None),
        ("data/rows.json", None),
    ],
)
def test_a_source_is_imported_from_the_folder_above_it(tmp_path: Path, source: str, folder: str | None) -> None:
    for name in (
        "library/__init__.py", "library/inner/__init__.py", "library/inner/module.py", "single.py", "data/rows.json",
        "project/src/shop/__init__.py",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = () if folder is None else ((tmp_path / folder).resolve(),)
    assert settings(tmp_path, sources=[source, source]).python_path == expected


def key(root: Path, **options: Any) -> str:
    chosen = settings(root, **options)
    return demo_digest(discover(chosen)[1], common_digest(chosen))


def test_the_key_ignores_outputs_and_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "01-a.ipynb", "print(1)")
    before = key(tmp_path)
    content = json.loads(path.read_text("utf8"))
    content["cells"][0].update(execution_count=7, outputs=[{"output_type": "stream", "name": "stdout", "text": "1\n"}])
    path.write_text(json.dumps(content, indent=3), "utf8")
    assert key(tmp_path) == before


def test_the_key_changes_with_everything_that_can_change_the_output(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "__init__.py").write_text("x = 1", "utf8")
    write(tmp_path, "01-a.ipynb", "print(1)")

    def now(**options: Any) -> str:
        return key(tmp_path, sources=["library"], **options)

    keys = [now(), now(parameters={"nodes": 3})]
    generator = tmp_path / "generator"
    generator.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "__file__", str(generator / "digest.py"))
        for text in ("one", "other"):
            (generator / "execute.py").write_text(text, "utf8")
            keys.append(now())
    (library / "__init__.py").write_text("x = 2", "utf8")
    keys.append(now())
    (library / "other.py").write_text("", "utf8")
    keys.append(now())
    (tmp_path / "demos" / "support.py").write_text("", "utf8")
    keys.append(now())
    write(tmp_path, "01-a.ipynb", "print(1)", tags=("hide-input",))
    keys.append(now())
    write(tmp_path, "01-a.ipynb", "print(2)")
    keys.append(now())
    assert len(set(keys)) == len(keys)


def test_who_wants_to_be_alone_runs_alone_and_the_others_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (1, 2, 3, 4):
        write(tmp_path, f"{n}-a.ipynb", "1", bookstitch={"alone": n > 2})
    chosen = settings(tmp_path, workers=2)
    together = threading.Barrier(2)
    active: list[int] = []
    ran: list[int] = []

    def run(_settings: Settings, result: Result) -> list[str]:
        active.append(result.demo.number)
        if result.demo.alone:
            assert active == [result.demo.number]
        else:
            together.wait(timeout=30)
        active.remove(result.demo.number)
        ran.append(result.demo.number)
        return []

    monkeypatch.setattr(execute, "run", run)
    assert execute.execute(chosen, execute.results(chosen, discover(chosen)).values()) == 4
    assert ran[2:] == [3, 4]


def test_a_second_build_waits_for_the_first_and_clears_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "1-a.ipynb", "1")
    chosen = settings(tmp_path)
    (wanted,) = execute.results(chosen, discover(chosen)).values()
    left = chosen.cache / "running" / "tmp1" / "notebook.ipynb"
    left.parent.mkdir(parents=True)
    left.touch()
    ran: list[bool] = []
    waits = threading.Event()
    monkeypatch.setattr(execute, "run", lambda *_: ran.append(True) or [])
    monkeypatch.setattr(execute.sys, "stderr", Told(waits.set))
    second = threading.Thread(target=execute.execute, args=(chosen, [wanted]))
    with execute.lock(chosen):
        second.start()
        assert waits.wait(30), "it does not say that it waits"
        assert left.exists() and not ran
        wanted.path.touch()  # what the first build makes, the second need not
    second.join(30)
    assert not left.exists() and not ran


class Told(io.StringIO):
    """A stream that tells when it is written to."""

    def __init__(self, tell: Callable[[], object]) -> None:
        super().__init__()
        self.tell_ = tell

    def write(self, text: str) -> int:
        self.tell_()
        return super().write(text)


def test_a_notebook_s_time_begins_with_its_first_cell_and_ends_before_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    deadline = Deadline(3.0)
    now[0] = 140.0
    assert deadline.left() == 3
    now[0] = 141.5
    assert deadline.left() == 2
    now[0] = 143.0
    with pytest.raises(TimeIsUp) as caught:
        deadline.left()
    assert "not done after 3 s" in reason(caught.value, 3.0)


def test_output_that_is_late_is_not_called_the_notebook_s_timeout() -> None:
    exceptions = pytest.importorskip("nbclient.exceptions", reason="the extra `book` is not installed")
    late = exceptions.CellTimeoutError.error_from_timeout_and_cell("Timeout waiting for IOPub output", 60, None)
    assert "bookstitch_timeout" not in reason(late, 3.0) and "output" in reason(late, 3.0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<Ring at 0x7f3a5c0b2d90>", "address"),
        ("<object object at 0xdeadbeef>", "address"),
        ("id 0x00007f3a5c0b2d90", "address"),
        ("wrote /tmp/tmpab12/data", "path"),
        ("wrote '/var/folders/x/y/T/z'", "path"),
        (f"in {Path.home()}/project", "path"),
        ("killed pid 4711", "process id"),
        ("PID=4711", "process id"),
        ("process id 4711", "process id"),
        ("process (4711) died", "process id"),
        ("Worker(process=4711)", "process id"),
        (f"{sys.prefix}/lib", "path"),
    ],
)
def test_what_differs_from_run_to_run_is_a_leak(text: str, what: str) -> None:
    assert what in (find_leak(text) or "")


@pytest.mark.parametrize(
    "text",
    [
        "workflow-123 is at position 0x853457d5a5d2d1c3",
        "<Figure size 640x480 with 1 Axes>",
        "0x10 0xff 0xcafe",
        "the process of 12 steps, process 2",
        "Will process 1000 orders",
        "the interpreter is /usr/bin/python",
        "see docs/tmp/readme",
        "rapid 4711",
    ],
)
def test_what_only_resembles_a_leak_is_none(text: str) -> None:
    assert find_leak(text) is None


def test_the_book_s_own_folder_is_a_leak_for_the_book_only() -> None:
    root = Path("/srv/books/ours")
    for text in ("in /srv/books/ours/demos", "in '/srv/books/ours'"):
        assert find_leak(text) is None
        assert "path" in (find_leak(text, root) or "")
    for text in ("in /srv/books/ourselves", "https://example.org/srv/books/ours", "/srv/books"):
        assert find_leak(text, root) is None
    assert find_leak("in /usr/share and /a", Path("/")) is None


def test_leaks_are_found_in_data_and_across_the_pieces_of_a_stream() -> None:
    def leaks(*outputs: dict[str, Any], **state: Any) -> list[int | None]:
        cell = {"cell_type": "code", "metadata": {}, "source": "", "outputs": list(outputs)}
        metadata = {"widgets": {WIDGET_STATE: {"state": {"m": {"state": state}}}}}
        return [index for index, _ in notebook_leaks({"cells": [cell], "metadata": metadata})]

    def shown(mime: str, data: Any) -> dict[str, Any]:
        return {"output_type": "display_data", "data": {mime: data}}

    def printed(text: str, name: str = "stdout") -> dict[str, Any]:
        return {"output_type": "stream", "name": name, "text": text}

    assert leaks(shown("application/json", [1, 2]), shown("application/json", {"a": [None, "b"]}), children=["IPY_MODEL_1"]) == []
    assert leaks(shown("application/json", {"pid": 4711})) == [0]
    assert leaks(shown("application/json", [1, {"rows": ["first\n/tmp/abc"]}])) == [0]
    assert leaks(shown("application/vnd.plotly.v1+json", {"title": "at 0x7f3a5c0b2d90"})) == [0]
    assert leaks(options=["one", "pid 4711"]) == [None]
    assert leaks(printed("<Ring at 0x7f"), printed("!", "stderr"), printed("3a5c0b2d90>")) == [0]
    assert leaks(printed("pid"), printed(" 4711", "stderr")) == []


def test_leaks_are_looked_for_where_a_page_could_show_them() -> None:
    def cell(text: str, name: str = "stdout", *tags: str) -> dict[str, Any]:
        output = {"output_type": "stream", "name": name, "text": [text]}
        return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": "", "outputs": [output]}

    leak = "pid 4711"
    html = {"output_type": "display_data", "data": {"text/html": ["<b>", "pid 4711</b>"], "image/png": "pid 4711"}}
    content = {
        "cells": [
            cell("fine"),
            cell(leak, "stdout", "remove-output"),
            cell(leak, "stderr", "remove-stderr"),
            cell(leak, "stdout", "remove-stderr"),
            {"cell_type": "code", "metadata": {}, "source": "", "outputs": [html]},
            {"cell_type": "markdown", "metadata": {}, "source": leak},
        ],
        "metadata": {"widgets": {WIDGET_STATE: {"state": {"m": {"state": {"value": leak, "max": 3}}}}}},
    }
    assert [index for index, _ in notebook_leaks(content)] == [3, 4, None]
