"""The README's order workflow: it is as short as promised, it runs, and it survives a crash at every journal write."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import durable
from durable.testing import crash_everywhere, run

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 20


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf8"), re.DOTALL)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The workflow's block, as the module that the next block imports."""
    made = ModuleType("orders")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(compile(blocks()[0], "README.md", "exec"), made.__dict__)
    return made


async def ordered(order: Any, *answers: bool, failures: int = 0) -> tuple[str, durable.journal.journal.Journal]:
    bodies = 0

    async def charge(name: str) -> str:
        nonlocal bodies
        bodies += 1
        if bodies <= failures:
            raise ConnectionError("the bank does not answer")
        return f"payment-of-{name}"

    order.charge.body = charge
    async with durable.open("memory:") as runtime:
        handle = await runtime.submit(order.process_order, "order-7", workflow_id="order-7")
        for answer in answers:
            await handle.send("approval", answer)
        result = await handle.result()
        return result, await handle.journal()


def test_the_order_workflow_takes_at_most_twenty_lines() -> None:
    lines = [line for line in blocks()[0].splitlines() if line.strip()]
    assert len(lines) <= LINES_MAX


def test_an_approved_order_is_charged_shipped_and_asked_about_after_two_weeks(order: Any) -> None:
    result, journal = run(ordered(order, True))
    assert result == "payment-of-order-7, parcel-of-order-7"
    assert (journal[-1].name, journal[-1].completed) == ("ask", True)
    assert journal[-1].timestamp - journal[0].timestamp >= 14 * 86_400 * 1000


@pytest.mark.parametrize("answers", [(), (False,)], ids=["nobody answers", "refused"])
def test_an_order_that_is_not_approved_is_not_shipped(order: Any, answers: tuple[bool, ...]) -> None:
    result, journal = run(ordered(order, *answers))
    assert result == "payment-of-order-7, nothing"
    assert "ship" not in [entry.name for entry in journal]


def test_the_charge_is_tried_again(order: Any) -> None:
    result, journal = run(ordered(order, True, failures=4))
    assert result == "payment-of-order-7, parcel-of-order-7"
    assert len(journal[0].attempts) == 4


def test_it_ends_alike_whichever_journal_write_is_struck_by_a_crash(order: Any) -> None:
    report = crash_everywhere(order.process_order, "order-7", sends=[("approval", True)])
    assert not report.problems, str(report)


def test_the_program_runs_as_it_is_written_and_runs_again(
    order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program, last_line = blocks()[1].rstrip().rsplit("\n", 1)
    assert last_line == "asyncio.run(main())"
    exec(compile(program, "README.md", "exec"), order.__dict__)
    run(order.main())
    assert capsys.readouterr().out == "How was it, order-7?\npayment-of-order-7, parcel-of-order-7\n"
    assert (tmp_path / "orders.db").is_dir()


class Several:
    """The README's block of several nodes: a line with & behind it is a process, any other is run to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.ports = {f":780{n}": f":{one.getsockname()[1]}" for n, one in enumerate(listening, 1)}
        for one in listening:
            one.close()
        self.given = {name: value for name, value in os.environ.items() if not name.startswith("CLUSTER_")}
        self.given["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "orders.py").write_text(blocks()[0], "utf8")

    def here(self, text: str) -> str:
        """With ports that are free."""
        for printed, port in self.ports.items():
            text = text.replace(printed, port)
        return text

    def play(self, line: str) -> str:
        words = shlex.split(line.removesuffix("&"))
        assert words[0] == "durable"
        command = [sys.executable, "-m", *words]
        if line.endswith("&"):
            self.nodes[words[words.index("--id") + 1]] = subprocess.Popen(
                command, cwd=self.folder, env=self.given, stdout=subprocess.PIPE
            )
            return ""
        done = subprocess.run(command, cwd=self.folder, env=self.given, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


    def wait_until_joined(self) -> None:
        for name, node in self.nodes.items():
            assert node.stdout is not None
            assert any(f"{name} has joined".encode() in line for line in node.stdout), f"{name} ended before it had joined"


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    made = Several(tmp_path)
    yield made
    for node in made.nodes.values():
        node.kill()
        node.communicate()


def test_three_nodes_are_one_cluster_and_one_of_them_may_be_killed(
    several: Several, order: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf8"), re.DOTALL)
    starting, asking = (several.here(block) for block in found if "$seeds" in block)
    first, *starts = starting.splitlines()
    lines = [line.replace("$seeds", first.removeprefix("seeds=")) for line in (*starts, *asking.splitlines())]
    for line in lines[:3]:
        several.play(line)
    several.wait_until_joined()
    assert several.play(lines[3]) == "order-7\n"
    said = several.play(lines[4])
    assert "process_order" in said

    owner = next(node for node in several.nodes if node in said)
    several.nodes[owner].kill()
    shown = several.play(lines[4])  # waits until it has another owner
    assert "process_order" in shown and owner not in shown

    program, last_line = several.here(blocks()[2]).rstrip().rsplit("\n", 1)
    assert last_line == "asyncio.run(approve())"
    exec(compile(program, "README.md", "exec"), order.__dict__)
    asyncio.run(order.approve())
    assert capsys.readouterr().out.startswith("['charge'")


def test_the_promise_is_the_book_s_word_for_word() -> None:
    def words(path: str) -> str:
        return " ".join((ROOT / path).read_text("utf8").replace("\n> ", "\n").split())

    promise = (
        "A function's or side effect's body runs at least once. Its recorded result, timers, messages and keyed state take "
        "effect exactly once. A `once=True` function whose outcome is unknown fails with `OutcomeUnknown` instead of running "
        "again."
    )
    assert promise in words("README.md")
    assert promise in words("book/chapters/01-introduction.md")


def test_the_table_names_every_folder() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", (ROOT / "README.md").read_text("utf8"), re.MULTILINE)
    (tests,) = (words for folder, words in rows if folder == "`tests/`")
    rooms = {name.removeprefix("durable/") for folder, _ in rows for name in re.findall(r"`(.*?)`", folder)}
    listed = subprocess.run(["git", "ls-files", "durable", "tests"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode:
        pytest.skip("not in a git checkout")
    folders = {tuple(path.split("/")[:2]) for path in listed.stdout.splitlines() if path.count("/") > 1}
    assert {room for top, room in folders if top == "durable"} <= rooms
    assert [name for top, name in sorted(folders) if top == "tests" and name not in tests and name != "journals"] == []
