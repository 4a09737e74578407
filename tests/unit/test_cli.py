"""The command line reads a store beside the process that holds it, and complains in one line."""

from __future__ import annotations

import asyncio
import builtins
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import Context, RetryPolicy
from durable.cli import main

APP = '''
import durable

@durable.function
async def double(n: int) -> int:
    return 2 * n

@durable.workflow("cli-order")
async def order(ctx: durable.Context, n: int) -> int:
    doubled = await ctx.call(double, n)
    await ctx.sleep({seconds})
    return doubled

other = 7
'''


@durable.function("cli-flaky", retry=RetryPolicy(max_attempts=2, initial_delay=0.001, jitter=0.0))
async def flaky(n: int) -> int:
    if durable.current_call().attempt == 1:
        raise ConnectionError("not yet")
    return n


@durable.function("cli-refuse")
async def refuse() -> None:
    raise ValueError("no")


@durable.workflow("cli-good")
async def good(ctx: Context, n: int) -> int:
    return await ctx.call(flaky, n)


@durable.workflow("cli-bad")
async def bad(ctx: Context) -> None:
    await ctx.call(refuse)


@durable.workflow("cli-waiting")
async def waiting(ctx: Context) -> str:
    return str(await ctx.receive("go", str))


async def fill(runtime: durable.NodeRuntime) -> None:
    await (await runtime.submit(good, 7, workflow_id="good-1")).result()
    with pytest.raises(durable.WorkflowFailed):
        await (await runtime.submit(bad, workflow_id="bad-1")).result()
    await runtime.submit(waiting, workflow_id="waiting-1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("cli") / "store")

    async def make() -> None:
        async with durable.open(path, durable.NodeConfig(park_after=0.0)) as runtime:
            await fill(runtime)
            while await runtime.handle("waiting-1").status() is not durable.Status.WAITING:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)

    asyncio.run(make())
    return path


def out_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(out_of(capsys, *arguments, "--json"))


def complaint_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    assert main(arguments) == code
    return capsys.readouterr().err


# --- reading --------------------------------------------------------------------------------------------------------


def test_the_help_says_what_the_exit_codes_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 all is well; 1 what was asked for is not there, cannot be read, or has drifted; 2 the command" in said
    assert "3 it was done, and is incomplete" in said


def test_list_shows_every_execution(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = out_of(capsys, "list", "--store", store)
    assert "3 executions" in table
    for words in ("good-1", "cli-good", "COMPLETED", "bad-1", "FAILED", "waiting-1", "WAITING"):
        assert words in table


def test_list_filters_and_pages(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    def ids(*more: str) -> list[str]:
        return [one["workflow_id"] for one in json_of(capsys, "list", "--store", store, *more)]

    assert ids("--status", "failed") == ["bad-1"]
    assert ids("--workflow", "cli-good") == ["good-1"]
    first = ids("--limit", "1")
    assert sorted(first + ids("--after", first[0])) == ["bad-1", "good-1", "waiting-1"]


def test_show_tells_all_of_one(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = out_of(capsys, "show", "bad-1", "--store", store)
    assert "ValueError: no" in table
    assert json_of(capsys, "show", "good-1", "--store", store)["output_json"] == "7"


def test_journal_shows_the_operations_with_attempts_and_errors(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = out_of(capsys, "journal", "good-1", "--store", store)
    for words in ("CALL", "cli-flaky", "[7]", "after 1 failed", "test_cli.py:"):
        assert words in table
    assert "ValueError: no" in out_of(capsys, "journal", "bad-1", "--store", store)
    [entry] = json_of(capsys, "journal", "good-1", "--store", store)
    assert (entry["entry_type"], entry["output_json"], len(entry["attempts"])) == ("CALL", "7", 1)


def test_it_reads_beside_the_process_that_holds_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "held")

    async def hold_and_look() -> list[str]:
        async with durable.open(path) as runtime:
            await fill(runtime)
            return [one["workflow_id"] for one in json_of(capsys, "list", "--store", f"rocksdb:{path}")]

    assert sorted(asyncio.run(hold_and_look())) == ["bad-1", "good-1", "waiting-1"]


# --- replay -----------------------------------------------------------------------------------------------------------


def export_of(folder: Path, seconds: float) -> Path:
    """A journal that the app wrote when it slept so long; made in a process of its own."""
    (folder / "app.py").write_text(APP.format(seconds=seconds))
    script = (
        "import asyncio, durable, app\n"
        "async def main():\n"
        "    async with durable.open('store') as runtime:\n"
        "        await (await runtime.submit(app.order, 4, workflow_id='o-1')).result()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    journal = folder / "o-1.jsonl"
    command = [sys.executable, "-m", "durable", "export", "o-1", "--store", "store"]
    journal.write_bytes(subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout)
    return journal


def replayed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "durable", "replay", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_replay_exits_0_when_all_is_as_recorded_and_1_on_drift(tmp_path: Path) -> None:
    journal = export_of(tmp_path, 0.01)
    for target in ("app:order", "app"):
        same = replayed(tmp_path, target, journal.name)
        assert (same.returncode, same.stderr) == (0, "")
        assert "o-1: 2 operations, COMPLETED" in same.stdout
    (tmp_path / "app.py").write_text(APP.format(seconds=0.02))
    drifted = replayed(tmp_path, "app:order", journal.name)
    assert drifted.returncode == 1
    assert "DRIFT" in drifted.stdout
    assert "recorded:  SLEEP delay_ms 10 at app.py" in drifted.stderr
    assert "attempted: SLEEP delay_ms 20 at app.py" in drifted.stderr
    as_json = json.loads(replayed(tmp_path, "app:order", journal.name, "--json").stdout)
    assert [(one["file"], one["result"]) for one in as_json] == [("o-1.jsonl", "DRIFT")]


def test_replay_says_what_it_cannot_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.py").write_text(APP.format(seconds=1))
    no_module = replayed(tmp_path, "nowhere:order", "x.jsonl")
    assert (no_module.returncode, no_module.stderr.count("\n")) == (2, 1)
    not_a_workflow = replayed(tmp_path, "app:other", "x.jsonl")
    assert not_a_workflow.returncode == 2
    assert "'app' has no workflow 'other'; it has: order" in not_a_workflow.stderr
    assert replayed(tmp_path, "app:order", "missing.jsonl").returncode == 1


# --- errors -----------------------------------------------------------------------------------------------------------


def test_every_complaint_is_one_line(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = complaint_of(capsys, "show", "nobody", "--store", store, code=1)
    assert missing == "durable: there is no execution with the id 'nobody' in this store\n"
    nothing = complaint_of(capsys, "list", "--store", str(tmp_path / "nothing"), code=1)
    assert "holds no store" in nothing
    assert nothing.count("\n") == 1
    for id in ("", "x" * 600):
        assert "cannot be a workflow id" in complaint_of(capsys, "journal", id, "--store", store, code=1)


def test_a_store_of_another_program_is_not_taken_for_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from durable.storage import RocksDBStore

    foreign = RocksDBStore.open(tmp_path / "foreign")
    foreign.write([(b"key", b"value")])
    foreign.close()
    assert "not one of durable's" in complaint_of(capsys, "list", "--store", str(tmp_path / "foreign"), code=1)


def test_a_wrong_command_line_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ((), ("fly",), ("show",), ("list", "--status", "HAPPY")):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
    assert "there are PENDING, RUNNING" in capsys.readouterr().err


def test_a_limit_that_is_none_is_a_wrong_command_line(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("-1", "99999999999999999999999", "many", "9" * 5_000):
        for where in (("--store", store), ("--seeds", "127.0.0.1:1")):
            with pytest.raises(SystemExit) as caught:
                main(["list", "--limit", wrong, *where])
            assert caught.value.code == 2
            assert "no limit; give a number from 0 to 9,223,372,036,854,775,807" in capsys.readouterr().err
    assert len(json_of(capsys, "list", "--store", store, "--limit", str(2**63 - 1))) == 3


def test_without_rich_the_error_names_the_extra_and_json_still_works(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def no_rich(name: str, *more: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", no_rich)
    assert "pip install 'durable[cli]'" in complaint_of(capsys, "list", "--store", store, code=2)
    assert len(json_of(capsys, "list", "--store", store)) == 3


def test_a_reader_that_goes_away_is_no_error(store: str) -> None:
    command = f"{sys.executable} -m durable list --json --store {store} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
