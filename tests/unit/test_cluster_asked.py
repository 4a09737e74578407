"""The command line, asking a cluster: the same commands as for a folder, and those that need somebody to act."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from nodes import reached
from towns import Town, in_town

from durable import Context, workflow
from durable.cli import main
from durable.journal.entries import Status

THREE = ("node-1", "node-2", "node-3")


@workflow
async def squares(ctx: Context, number: int) -> int:
    return number * number


@workflow
async def waits(ctx: Context) -> str:
    return await ctx.receive("go", str)


async def run(town: Town, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """A command that asks the town, in a thread with a loop of its own."""
    seeds = ",".join(str(town[name].station.address) for name in THREE)
    capsys.readouterr()
    code = await asyncio.to_thread(main, [*arguments, "--seeds", seeds])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_workflow_is_submitted_looked_at_and_stopped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    @in_town(*THREE)
    async def body(town: Town) -> None:
        assert await run(town, capsys, "submit", "squares", "--input", "7", "--id", "order-7", "--wait") == (0, "49\n", "")
        assert await run(town, capsys, "submit", "squares", "--input", "7", "--id", "order-7") == (0, "order-7\n", "")
        code, out, err = await run(town, capsys, "submit", "squares", "--input", "8", "--id", "order-7")
        assert (code, out) == (1, "") and "another input" in err
        code, out, _ = await run(town, capsys, "submit", "waits", "--json")
        waiting = json.loads(out)["workflow_id"]
        assert code == 0 and waiting.startswith("waits-")
        await reached(town["node-1"].face.handle(waiting), Status.WAITING)

        code, out, _ = await run(town, capsys, "list", "--json")
        assert {one["workflow_id"]: one["status"] for one in json.loads(out)} == {"order-7": "COMPLETED", waiting: "WAITING"}
        code, out, _ = await run(town, capsys, "list", "--status", "waiting")
        assert waiting in out and "order-7" not in out
        code, out, _ = await run(town, capsys, "show", "order-7", "--json")
        assert (json.loads(out)["output_json"], json.loads(out)["owner"]) == ("49", town.owner_of("order-7").name)
        code, out, _ = await run(town, capsys, "journal", waiting)
        assert code == 0 and "RECEIVE" in out and f"{waiting}: waits, WAITING" in out

        assert await run(town, capsys, "cancel", waiting) == (0, "", "")
        await reached(town["node-1"].face.handle(waiting), Status.CANCELLED)
        code, out, err = await run(town, capsys, "show", "nobody")
        assert (code, out) == (1, "") and "no execution" in err

    body()


def test_who_waits_for_what_has_no_id_of_his_own_is_told_it_before(capsys: pytest.CaptureFixture[str]) -> None:
    @in_town(*THREE)
    async def body(town: Town) -> None:
        waiting = asyncio.create_task(run(town, capsys, "submit", "waits", "--wait"))
        while not (said := capsys.readouterr()).err:
            assert not waiting.done()
            await asyncio.sleep(0.01)
        [one] = await town["node-1"].face.list()
        assert said.out == "" and said.err.count(one.workflow_id) == 2 and f"--id {one.workflow_id}" in said.err
        await town["node-1"].face.handle(one.workflow_id).send("go", "x")
        assert await waiting == (0, '"x"\n', "")

    body()


def test_journals_are_exported_and_replayed_by_id(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squares_app.py").write_text(
        "from durable import Context, workflow\n\n\n"
        '@workflow("squares")\nasync def squares(ctx: Context, number: int) -> int:\n    return number * number\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    @in_town(*THREE)
    async def body(town: Town) -> None:
        await run(town, capsys, "submit", "squares", "--input", "7", "--id", "order-7", "--wait")
        code, out, _ = await run(town, capsys, "export", "order-7")
        assert code == 0 and json.loads(out.splitlines()[0])["workflow_id"] == "order-7"
        code, out, _ = await run(town, capsys, "replay", "squares_app:squares", "order-7", "--json")
        assert (code, json.loads(out)[0]["result"]) == (0, "ok")
        code, out, _ = await run(town, capsys, "replay", "squares_app:squares", "order-8", "--json")
        assert (code, json.loads(out)[0]["result"]) == (1, "ERROR")

    body()


def test_the_environment_names_the_cluster_for_every_command_unless_a_store_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squares_too_app.py").write_text(
        "from durable import Context, workflow\n\n\n"
        '@workflow("squares")\nasync def squares(ctx: Context, number: int) -> int:\n    return number * number\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    @in_town(*THREE)
    async def body(town: Town) -> None:
        monkeypatch.setenv("CLUSTER_SEED_NODES", ",".join(str(town[name].station.address) for name in THREE))

        async def told(*arguments: str) -> tuple[int, str]:
            capsys.readouterr()
            code = await asyncio.to_thread(main, list(arguments))
            return code, capsys.readouterr().out

        assert await told("submit", "squares", "--input", "7", "--id", "order-7", "--wait") == (0, "49\n")
        assert '"order-7"' in (await told("list", "--json"))[1]
        for command in ("show", "journal", "export"):
            code, out = await told(command, "order-7", *(["--json"] if command != "export" else []))
            assert (code, out != "") == (0, True), command
        (tmp_path / "order-7.jsonl").write_text((await told("export", "order-7"))[1])
        code, out = await told("replay", "squares_too_app:squares", "order-7", "order-7.jsonl", "--json")
        assert (code, [one["result"] for one in json.loads(out)]) == (0, ["ok", "ok"])
        assert await told("cancel", "order-7") == (0, "")
        code, out = await told("list", "--store", str(tmp_path / "nothing"))
        assert (code, out) == (1, ""), "the store that is named is looked for, and not the cluster"

    body()


@pytest.mark.parametrize("command", [["list"], ["show", "x"], ["journal", "x"], ["export", "x"], ["submit", "x"], ["cancel", "x"]])
def test_an_environment_that_makes_no_sense_is_said_so(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTER_SEED_NODES", "nowhere")
    assert main(command) == 2
    assert "CLUSTER_SEED_NODES" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["submit", "squares"], 2, "which cluster"),
        (["cancel", "order-7"], 2, "which cluster"),
        (["submit", "squares", "--seeds", "127.0.0.1:1"], 1, "none of 127.0.0.1:1 answers"),
        (["list", "--seeds", "127.0.0.1:1"], 1, "none of 127.0.0.1:1 answers"),
        (["node", "--id", "a", "--app", "json"], 2, "without --data"),
        (["node", "--id", "a", "--witness"], 2, "without --data"),
        (["node", "--id", "a", "--app", "no_such_module", "--data", "x"], 2, "cannot be imported"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], code: int, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("CLUSTER_")]:
        monkeypatch.delenv(name)
    assert main(arguments) == code
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["submit", "squares", "--input", "{", "--seeds", "a:1"], "is no JSON"),
        (["list", "--seeds", "nowhere"], "write it as host:port"),
    ],
)
def test_an_argument_that_makes_no_sense_is_said_so(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and why in capsys.readouterr().err


def test_the_environment_may_name_the_cluster(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @in_town(*THREE)
    async def body(town: Town) -> None:
        monkeypatch.setenv("CLUSTER_SEED_NODES", str(town["node-2"].station.address))
        assert await asyncio.to_thread(main, ["submit", "squares", "--input", "3", "--wait"]) == 0
        assert capsys.readouterr().out == "9\n"

    body()
