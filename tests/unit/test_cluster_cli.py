"""``durable node`` is a member until it is told to stop; ``durable members`` shows who is there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from durable.cli import main

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret-of-the-tests-1"


@contextmanager
def node(*options: str, out: IO[str] | None = None, **environment: str) -> Iterator[subprocess.Popen[str]]:
    given = {**os.environ, "CLUSTER_SECRET_KEY": SECRET, **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "durable", "node", "--bind", "127.0.0.1:0", "--preset", "lan", *options],
        stdout=out or subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=given, cwd=ROOT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def line(process: subprocess.Popen[str], holding: str) -> str:
    assert process.stdout is not None
    said = []
    for text in process.stdout:
        said.append(text)
        if holding in text:
            return text.strip()
    raise AssertionError(f"it never said {holding!r}, but {said}")


def test_two_nodes_meet_are_looked_at_and_part(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CLUSTER_SECRET_KEY", SECRET)
    with node("--id", "a") as first:
        address = line(first, "listens on").rpartition(" ")[2]
        with node(CLUSTER_NODE_ID="b", CLUSTER_SEED_NODES=address) as second:
            assert line(second, "has joined") == "b has joined; 2 on the ring"
            assert line(first, "b at").endswith("is ALIVE")

            assert main(["members", "--seed", address, "--json"]) == 0
            shown = json.loads(capsys.readouterr().out)
            assert (shown["node_id"], [one["node_id"] for one in shown["members"]]) == ("a", ["a", "b"])
            assert main(["members", "--seeds", f"127.0.0.1:1,{address}"]) == 0
            shown = capsys.readouterr().out
            assert "as a sees it" in shown and shown.count("ALIVE") == 2

            second.send_signal(signal.SIGTERM)
            assert line(second, "leaves") == "b leaves"
            assert second.wait(20) == 0
            assert line(first, "is LEFT")

        monkeypatch.setenv("CLUSTER_SECRET_KEY", "another-secret-of-tests")
        assert main(["members", "--seed", address]) == 1
        assert "another key or cluster" in capsys.readouterr().err


def test_a_node_to_which_nobody_listens_goes_on_until_it_is_told_to_leave() -> None:
    with node("--id", "a") as first:
        address = line(first, "listens on").rpartition(" ")[2]
        with node("--id", "b", "--seeds", address) as second:
            assert line(second, "has joined")
            assert second.stdout is not None
            second.stdout.close()
            with node("--id", "c", "--seeds", address) as third:  # b has something to say of it, twice
                assert line(third, "b at").endswith("is ALIVE")
                third.send_signal(signal.SIGTERM)
                assert third.wait(20) == 0
            assert line(first, "c at").endswith("is ALIVE")
            assert line(first, "c at").endswith("is LEFT")
            second.send_signal(signal.SIGTERM)
            assert second.wait(20) == 0
            assert line(first, "b at").endswith("is LEFT")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_node_whose_words_find_no_room_goes_on_until_it_is_told_to_leave() -> None:
    with node("--id", "a") as first:
        address = line(first, "listens on").rpartition(" ")[2]
        with Path("/dev/full").open("w") as full, node("--id", "b", "--seeds", address, out=full) as second:
            assert line(first, "b at").endswith("is ALIVE")
            second.send_signal(signal.SIGTERM)
            assert second.wait(20) == 0
            assert line(first, "b at").endswith("is LEFT")


def test_a_node_runs_the_workflows_of_its_app(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "cubes_app.py").write_text(
        "from durable import Context, workflow\n\n\n"
        "@workflow\nasync def cubes(ctx: Context, number: int) -> int:\n    return number**3\n"
    )
    monkeypatch.setenv("CLUSTER_SECRET_KEY", SECRET)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for start in ("first", "second"):
        options = ("--id", "a", "--data", str(tmp_path / "a.db"), "--app", "cubes_app")
        founds = ("--bootstrap", "--seeds", "127.0.0.1:1") if start == "first" else ()
        with node(*options, *founds, PYTHONPATH=paths) as process:
            address = line(process, "listens on").rpartition(" ")[2]
            assert main(["submit", "cubes", "--input", "3", "--id", "cube-3", "--wait", "--seeds", address]) == 0, start
            assert capsys.readouterr().out == "27\n"
            assert main(["list", "--json", "--seeds", address]) == 0
            assert [one["workflow_id"] for one in json.loads(capsys.readouterr().out)] == ["cube-3"], "kept, and not run twice"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_node_that_would_be_open_to_all_does_not_start() -> None:
    with node("--id", "a", "--bind", "0.0.0.0:0", "--advertise", "127.0.0.1:0", CLUSTER_SECRET_KEY="") as process:
        assert "Set CLUSTER_SECRET_KEY" in line(process, "durable:")
        assert process.wait(20) == 1


def test_a_node_that_a_cluster_refuses_ends_and_says_why() -> None:
    with node("--id", "a") as first:
        address = line(first, "listens on").rpartition(" ")[2]
        code = (
            "import asyncio\n"
            "from durable.commands import run_node\n"
            "from durable.cluster import ClusterConfig\n"
            f"config = ClusterConfig.lan('b', bind_address='127.0.0.1:0', seed_nodes=['{address}'], partitions=8,"
            f" secret_key='{SECRET}')\n"
            "asyncio.run(run_node(config))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)
        assert done.returncode == 1 and "partitions is 256 here and 8 there" in done.stderr


def test_a_node_that_is_not_let_in_says_what_it_waits_for_and_may_be_stopped() -> None:
    with node("--id", "a", "--seeds", "127.0.0.1:1") as process:
        assert line(process, "waits").endswith("127.0.0.1:1: is one of them up, with the same key and cluster name?")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
        assert "a leaves" in said and "joined" not in said


def test_founders_say_which_seed_is_missing(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as here, closing(socket.create_server(("127.0.0.1", 0))) as there:
        first, second = (f"127.0.0.1:{one.getsockname()[1]}" for one in (here, there))
    seeds = ("--seeds", f"{first},{second},127.0.0.1:1")
    with node("--id", "a", "--bind", first, *seeds, "--data", str(tmp_path / "a.db")) as process:
        assert "knows no workflow" in line(process, "--app")
        with node("--id", "b", "--bind", second, *seeds, "--data", str(tmp_path / "b.db"), "--witness"):
            assert line(process, "accepts nothing until then").endswith("missing: 127.0.0.1:1")


def test_a_founder_that_is_not_in_its_list_is_told_so(tmp_path: Path) -> None:
    with node("--id", "a") as first:
        address = line(first, "listens on").rpartition(" ")[2]
        with node("--id", "b", "--seeds", address, "--data", str(tmp_path / "b.db"), "--witness") as process:
            assert "give all founders one list" in line(process, "waits: it is not in its own list of seeds")


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with node("--id", "a", "--bind", address) as process:
            assert f"cannot listen on {address}: Address already in use. Nothing was started" in line(process, "durable:")
            assert process.wait(20) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["node"], "CLUSTER_NODE_ID is not set"),
        (["node", "--id", "a", "--bind", "nowhere"], "write it as host:port"),
        (["node", "--id", "a", "--bind", "0.0.0.0:0"], "CLUSTER_ADVERTISE_HOST"),
        (["node", "--id", "a", "--app", "orders_nowhere.py"], "as Python imports it"),
        (["members", "--seed", "a:b"], "write it as host:port"),
        (["members"], "which cluster?"),
    ],
)
def test_a_wrong_command_line_is_said_so(
    arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("CLUSTER_")]:
        monkeypatch.delenv(name)
    assert main(arguments) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["submit", "hello"], ["show", "x"], ["export", "x"], ["cancel", "x"], ["members"]],
)
def test_a_key_that_is_too_short_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLUSTER_SECRET_KEY", "short")
    assert main([*arguments, "--seeds", "127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("durable: CLUSTER_SECRET_KEY: a secret of 5 characters is too short") and said.count("\n") == 1
    assert "secrets.token_hex(32)" in said
    assert main(["node", "--id", "a"]) == 2
    said = capsys.readouterr().err
    assert "secrets.token_hex(32)" in said and said.count("\n") == 1


def test_nobody_there_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["members", "--seed", "127.0.0.1:1"]) == 1
    assert "cannot connect to 127.0.0.1:1" in capsys.readouterr().err
