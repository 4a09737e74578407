"""The benchmark's pure parts: what decides whether a comparison is fair, without running one."""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import __main__ as command
from bench import cluster_figures, cluster_page, drive, page, peer, probe, processes, ring_bench, run, stats, studies, traces
from bench.__main__ import main
from bench.loopback import LoopbackClient
from bench.workloads import CURVES, PEERS, WORKLOADS, Size, Workload

THREE = ("durable", "dbos", "restate")


def record(workload: str = "W1", name: str = "durable", number: int = 0, **metrics: float) -> dict[str, Any]:
    disk = {"rate_per_s": 2_500.0, "p50_ms": 0.4, "p99_ms": 1.0}
    return {
        "workload": workload,
        "peer": name,
        "round": number,
        "load": 0.5,
        "probe": disk,
        "metrics": metrics,
    }


def document(*runs: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        "created": "2025-01-01T00:00:00Z",
        "machine": {},
        "peers": {},
        "runs": list(runs),
        "points": [],
    }


@pytest.mark.parametrize(("q", "expected"), [(0.0, 1), (0.5, 2), (0.75, 3), (0.99, 4), (1.0, 4)])
def test_a_quantile_is_the_smallest_value_that_covers_its_share(q: float, expected: int) -> None:
    assert stats.quantile([4, 2, 3, 1], q) == expected


def test_a_quantile_of_nothing_is_zero() -> None:
    assert stats.quantile([], 0.99) == 0.0


def test_a_spread_names_the_median_and_both_ends() -> None:
    assert stats.spread([3.0, 1.0, 10.0]) == {"median": 3.0, "low": 1.0, "high": 10.0, "runs": 3}


def test_six_turns_of_three_peers_are_all_their_orders() -> None:
    orders = {tuple(stats.turn(THREE, number)) for number in range(6)}
    assert len(orders) == 6
    assert all(sorted(order) == sorted(THREE) for order in orders)
    assert stats.turn([], 3) == []


def test_a_plan_is_interleaved_round_by_round_and_turns_with_each_workload() -> None:
    order = stats.plan([WORKLOADS["W1"], WORKLOADS["W2"]], THREE, rounds=2)
    assert [(number, workload.name, name) for number, workload, name in order] == [
        (0, "W1", "durable"), (0, "W1", "dbos"), (0, "W1", "restate"),
        (0, "W2", "durable"), (0, "W2", "restate"), (0, "W2", "dbos"),
        (1, "W1", "durable"), (1, "W1", "restate"), (1, "W1", "dbos"),
        (1, "W2", "restate"), (1, "W2", "durable"), (1, "W2", "dbos"),
    ]  # fmt: skip
    assert stats.plan([WORKLOADS["W1"]], ["unknown"], rounds=3) == []


def test_a_workload_of_durable_alone_is_not_planned_for_others() -> None:
    assert {name for _, _, name in stats.plan([WORKLOADS["W7"]], PEERS, rounds=2)} == {"durable"}


def test_what_takes_minutes_is_measured_in_fewer_rounds() -> None:
    assert [number for number, _, _ in stats.plan([WORKLOADS["W5L"]], THREE, rounds=5)] == [0]
    assert [number for number, _, _ in stats.plan([WORKLOADS["W7"]], THREE, rounds=3)] == [0, 1, 2]


def test_the_points_of_a_curve_are_interleaved_smallest_first_and_the_largest_measured_once() -> None:
    memory = stats.points(CURVES["memory"], THREE, repeat=2, largest=10**9)
    assert [(workload.size.workflows, number, name) for number, workload, name in memory] == [
        (1_000, 0, "durable"), (1_000, 0, "dbos"), (1_000, 0, "restate"),
        (1_000, 1, "durable"), (1_000, 1, "restate"), (1_000, 1, "dbos"),
        (10_000, 0, "durable"), (10_000, 0, "restate"), (10_000, 1, "restate"), (10_000, 1, "durable"),
        (100_000, 0, "durable"), (100_000, 1, "durable"), (1_000_000, 0, "durable"),
    ]  # fmt: skip
    assert {(workload.name, workload.driver) for _, workload, _ in memory} == {("W5", "waiting")}
    assert {workload.limit_s for _, workload, _ in memory} == {CURVES["memory"].limit_s}
    recovery = stats.points(CURVES["recovery"], ["durable"], repeat=1, largest=1_000)
    assert [workload.size.steps for _, workload, _ in recovery] == [100, 1_000]


def test_a_summary_leaves_out_runs_that_failed() -> None:
    failed = {**record(number=1), "error": "not done within 120 s"}
    summary = stats.summarise([record(steps_per_s=100.0), failed, record(number=2, steps_per_s=300.0)])
    assert summary["W1"]["durable"]["steps_per_s"] == {
        "median": 200.0,
        "low": 100.0,
        "high": 300.0,
        "runs": 2,
    }
    assert summary["W1"]["durable"]["probe_rate_per_s"]["runs"] == 2


def test_the_table_compares_by_what_is_better() -> None:
    text = stats.table(
        [
            record("W1", "durable", steps_per_s=2_000.0),
            record("W1", "dbos", steps_per_s=400.0),
            record("W3", "durable", p50_ms=1.0),
            record("W3", "dbos", p50_ms=8.0),
            {**record("W3", "restate"), "error": "the log\nsays why"},
        ]
    )
    assert "durable 5x" in text
    assert "durable 8x" in text
    assert "no figure: says why" in text
    assert "fdatasync/s" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (7.309, "7.31"), (585.4, "585"), (36_123, "36,100"), (999.9, "1,000")],
)
def test_numbers_are_shown_with_three_figures(value: float, text: str) -> None:
    assert stats.human(value) == text


def test_a_well_formed_result_has_no_faults() -> None:
    good = document(record(steps_per_s=1.0), {**record(), "error": "not done within 120 s"})
    assert stats.faults(json.loads(json.dumps(good))) == []


def test_faults_of_a_result_are_named() -> None:
    assert stats.faults({"schema": 1}) == [
        f"missing: {key}" for key in ("created", "machine", "peers", "runs", "points")
    ]
    bad = document(record(), {**record(steps_per_s=1.0), "probe": None})
    bad["schema"] = 0
    assert stats.faults(bad) == [
        "schema 0, expected 1",
        "run 0: neither metrics nor an error",
        "run 1: probe is None",
    ]


def test_every_workload_and_curve_has_its_driver_its_metric_and_a_bound() -> None:
    known = drive.drivers()
    for workload in WORKLOADS.values():
        assert workload.driver in known
        assert workload.second_driver is None or workload.second_driver in known
        assert set(workload.peers) <= set(PEERS)
        assert 0 < workload.limit_s <= 900
    for curve in CURVES.values():
        assert curve.workload in WORKLOADS
        assert set(curve.until) <= set(PEERS)
        assert curve.limit_s is None or WORKLOADS[curve.workload].limit_s < curve.limit_s <= 900


def test_gaps_and_latencies_are_those_between_bodies() -> None:
    assert drive.gaps([3.0, 1.0, 2.0]) == [1.0, 1.0]
    assert drive.latencies([0.001, 0.002, 0.003]) == {"p50_ms": 2.0, "p99_ms": 3.0, "max_ms": 3.0}


def test_the_probe_measures_this_disk_and_leaves_nothing(tmp_path: Path) -> None:
    measured = probe.probe(tmp_path, seconds=0.02)
    assert measured["rate_per_s"] > 0
    assert 0 < measured["p50_ms"] <= measured["p99_ms"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_or_hangs_is_a_record_with_its_reason(tmp_path: Path) -> None:
    broken = Workload(
        "W1", "", "", Size(1, 1), "no-such-driver", "steps_per_s", "steps/s", True, limit_s=20.0
    )
    failed = run.run_once(broken, "durable", 0, tmp_path)
    assert failed["metrics"] == {}
    assert "no-such-driver ended with 1" in failed["error"]
    assert "KeyError" in failed["error"] or "Error" in failed["error"]
    hanging = Workload("W1", "", "", Size(1, 1), "until_killed", "steps_per_s", "steps/s", True, limit_s=0.05)
    assert "not done within 0.05 s" in run.run_once(hanging, "durable", 0, tmp_path)["error"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_cost_is_counted_from_the_bodies_and_the_store() -> None:
    before, after = ["a 0", "a 1", "b 0"], ["a 1", "b 0", "b 1"]
    assert run.counted(before, after, None, steps=5) == {"bodies_twice": 2, "bodies_missing": 1}
    assert run.counted(before, after, ["a 0", "b 0"], steps=4) == {
        "bodies_twice": 2,
        "bodies_missing": 0,
        "recorded_at_kill": 2,
        "recorded_ran_again": 1,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_a_killed_group_is_gone_with_the_children_of_its_leader(tmp_path: Path) -> None:
    processes.adopt_orphans()
    script = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    log = tmp_path / "log"
    leader = processes.spawn([sys.executable, "-c", script], log, leader=True)
    while not log.read_text().endswith("\n"):
        time.sleep(0.01)
    grandchild = int(log.read_text().split()[0])
    processes.kill_group(leader)
    assert leader.returncode == -9
    assert not Path(f"/proc/{grandchild}").exists()


def test_an_absent_peer_is_left_out_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peer.adapter("dbos"), "absent", lambda: "the package `dbos` is not installed")
    out = tmp_path / "bench.json"
    command = [
        "--workloads",
        "W1",
        "--rounds",
        "1",
        "--peers",
        "dbos",
        "--out",
        str(out),
        "--folder",
        str(tmp_path / "data"),
    ]
    assert main(command) == 0
    assert "dbos is left out: the package `dbos` is not installed" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert stats.faults(result) == []
    assert result["peers"] == {"dbos": {"absent": "the package `dbos` is not installed"}}


def test_the_client_reads_both_kinds_of_answer_and_keeps_its_connection() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        plain = b"content-length: 2\r\n\r\n42"
        chunked = b"transfer-encoding: chunked\r\n\r\n1\r\n4\r\n1\r\n2\r\n0\r\n\r\n"
        for answer in (plain, chunked):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n" + answer)
        await reader.read()
        writer.close()

    async def ask() -> list[tuple[int, bytes]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = LoopbackClient(server.sockets[0].getsockname()[1])
        answers = [await client.request("GET", "/"), await client.request("GET", "/")]
        client.close()
        server.close()
        return answers

    assert asyncio.run(ask()) == [(200, b"42"), (200, b"42")]
    assert connections == 1


def test_figures_are_drawn_from_a_result_and_refuse_a_broken_one(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench.figures import draw

    result = document(
        record(steps_per_s=900.0), record(name="dbos", steps_per_s=300.0), record(number=1, steps_per_s=950.0)
    )
    result["points"] = [
        {**record("W2", steps_per_s=900.0 * n), "curve": "concurrency", "workflows": n, "steps": 10}
        for n in (1, 10, 100)
    ]
    paths = draw(result, tmp_path)
    assert [path.name for path in paths] == ["w1.svg", "curve-concurrency.svg"]
    assert all("<svg" in path.read_text() for path in paths)
    with pytest.raises(ValueError, match="missing: machine"):
        draw({"schema": 1, "created": "", "peers": {}, "runs": [], "points": []}, tmp_path)


def test_the_page_of_measures_is_what_the_result_file_says() -> None:
    from bench.page import PAGE, page
    from bench.studies import read_studies

    root = Path(__file__).resolve().parents[2]
    measures = root / "book" / "measures"
    document = json.loads((measures / "bench.json").read_text())
    assert (root / PAGE).read_text() == page(document, read_studies(measures))


def test_a_study_is_named_like_a_workload_and_writes_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(rounds: int, say: Any) -> dict[str, Any]:
        say("measuring")
        return {"rounds given": rounds}

    drawn: list[Any] = []

    def draw_studies(found: dict[str, Any], folder: Path) -> list[Path]:
        drawn.append((list(found), folder))
        return []

    monkeypatch.setattr(command, "draw_studies", draw_studies)
    monkeypatch.setitem(studies.STUDIES, "W11", studies.Study("W11", "", measure, of_this_machine=False))
    out = tmp_path / "bench.json"
    assert main(["--workloads", "W11", "--rounds", "3", "--out", str(out), "--folder", str(tmp_path / "data")]) == 0
    assert "measuring" in capsys.readouterr().out
    assert not out.exists(), "no engine ran: what is known of engines stays"
    assert drawn == [(["W11"], tmp_path)]
    document = studies.read_studies(tmp_path)["W11"]
    assert (document["study"], document["values"]) == ("W11", {"rounds given": 3})
    assert "machine" not in document, "it comes out the same on any"
    with pytest.raises(SystemExit):
        main(["--workloads", "W99"])
    assert "W11P" in capsys.readouterr().err


def named(*arguments: str) -> tuple[list[str], list[str], list[str], list[str]]:
    options = command._options(arguments)
    return options.workloads, options.curves, options.studies, options.traces


def test_with_nothing_named_all_is_measured_that_the_page_shows() -> None:
    workloads, curves, of_studies, of_traces = named()
    assert workloads == [name for name in WORKLOADS if name != "OPEN"], "which is a curve's alone"
    assert curves == list(CURVES)
    text = (Path(__file__).resolve().parents[2] / page.PAGE).read_text()
    assert {f"(measured-{name.lower()})=" for name in workloads} == {line for line in text.split("\n") if "(measured-" in line[:10]}
    assert of_studies == ["W10", "W11", "W11P"] and of_traces == ["PROFILE", "COMMIT"]


def test_what_is_named_is_measured_and_nothing_else() -> None:
    assert named("--workloads", "W1,w11,commit") == (["W1"], [], ["W11"], ["COMMIT"])
    assert named("--curves", "memory") == ([], ["memory"], [], [])
    assert named("--workloads", "none", "--curves", "all") == ([], list(CURVES), [], [])


def canned(workload: Workload, name: str, number: int, folder: Path) -> dict[str, Any]:
    sizes = {"workflows": workload.size.workflows, "steps": workload.size.steps}
    return {**record(workload.name, name, number, **{workload.headline: 9.0, "open_s": 9.0}), **sizes}


def test_the_figures_are_drawn_beside_the_result_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(command, "run_once", canned)
    out = tmp_path / "here" / "bench.json"
    where = ["--peers", "durable", "--out", str(out), "--folder", str(tmp_path / "data")]
    assert main(["--workloads", "W7", "--curves", "open", "--rounds", "1", "--repeat", "2", *where]) == 0
    assert {path.name for path in out.parent.iterdir()} == {"bench.json", "w7.svg", "curve-open.svg"}
    document = json.loads(out.read_text())
    assert len(document["runs"]) == 1 and len(document["points"]) == 2 * 4 + 1
    assert stats.faults(document) == []


def test_a_result_is_kept_where_nothing_draws_and_where_a_trace_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(document: dict[str, Any], folder: Path) -> None:
        raise ValueError("no commit can be told")

    monkeypatch.setattr(command, "run_once", canned)
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setitem(traces.TRACES, "PROFILE", lambda document, folder: document.update(profile=[["asyncio", 1.0]]))
    monkeypatch.setitem(traces.TRACES, "COMMIT", fails)
    out = tmp_path / "bench.json"
    where = ["--peers", "durable", "--out", str(out), "--folder", str(tmp_path / "data"), "--rounds", "1"]
    assert main(["--workloads", "COMMIT,PROFILE,W7", *where]) == 0
    said = capsys.readouterr().out
    assert "COMMIT: nothing came of it: no commit can be told" in said and "no figures: matplotlib is not installed" in said
    document = json.loads(out.read_text())
    assert document["profile"] == [["asyncio", 1.0]] and len(document["runs"]) == 1
    assert [path.name for path in tmp_path.glob("*.*")] == ["bench.json"]


def test_the_rings_take_turns_and_keys_move_to_the_newcomer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def ring(name: str) -> ring_bench.Timed:
        return {work: lambda: ran.append(name) for work in ("lookup", "three", "change")}

    seen = ring_bench.compare({"a": ring("a"), "b": ring("b")}, 2, lambda said: None)
    assert ran == ["a"] * 3 + ["b"] * 6 + ["a"] * 3
    assert {name: len(times["change"]) for name, times in seen.items()} == {"a": 2, "b": 2}
    monkeypatch.setattr(ring_bench, "JOINS", 3)
    moved = ring_bench._moved(10, lambda said: None)
    assert moved["between_others"] == 0
    assert all(abs(share - 1 / 11) < 3 * ring_bench.deviation(10) for share in moved["shares"])


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, Any]]:
    return studies.read_studies(Path(__file__).resolve().parents[2] / "book" / "measures")


def test_the_published_figures_of_membership_hold_what_is_claimed(published: dict[str, dict[str, Any]]) -> None:
    """SWIM, sections 3.1, 4.1 and 4.2, and Lifeguard's evaluation, by the numbers that the book shows."""
    values = published["W11"]["values"]
    for point in values["detection"]:
        mean, runs = statistics.mean(point["periods"]), len(point["periods"])
        expected = cluster_figures.expected_periods(point["members"], point["crashes"])
        assert abs(mean - expected) < 3 * statistics.stdev(point["periods"]) / runs**0.5
        assert mean < cluster_figures.DETECTION or point["members"] >= 30
    assert all(abs(point["datagrams"] - 2.0) < 0.05 for point in values["load"] if point["members"] <= 100)
    news = {point["members"]: statistics.mean(point["seconds"]) for point in values["spread"] if not point["loss"]}
    base, slope = cluster_figures.log_fit(list(news), list(news.values()))
    assert slope > 0 and all(abs(base + slope * math.log(n) - seconds) < 0.15 for n, seconds in news.items())
    agreed = {point["preset"]: point["seconds"] for point in values["agreement"] if point["members"] == 5}
    assert stats.quantile(agreed["default"], 0.5) <= 7.5 and stats.quantile(agreed["default"], 0.99) <= 10.5
    assert all(max(point["seconds"]) <= 3.0 for point in values["join"])
    assert sum(hour["false_deaths"] for hour in values["hours"]) == 0
    assert [point["false_deaths"] for point in values["five"] if point["lifeguard"]] == [0]
    two = [point for point in values["pauses"] if point["pause_s"] == 2.0 and point["lifeguard"]]
    assert max(two[0]["false_deaths"]) <= 2
    assert sum(sum(point["of_healthy"]) for point in values["slow"] if point["lifeguard"]) == 0


def test_the_published_figures_of_the_ring_hold_what_is_claimed(published: dict[str, dict[str, Any]]) -> None:
    """Counts only: how fast it is next to uhashring is on the page, and no assertion."""
    values = published["W10"]["values"]
    for point in values["moved"]:
        error = ring_bench.deviation(point["nodes"]) / len(point["shares"]) ** 0.5
        assert abs(statistics.mean(point["shares"]) - 1 / (point["nodes"] + 1)) < 3 * error
        assert point["between_others"] == 0
    assert values["spread"]["keys"]["node_1_to_10"] <= 1.25
    assert values["spread"]["partitions"]["node_1_to_10"] <= 1.5


def test_every_published_study_is_drawn(published: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = cluster_figures.draw_studies(published, tmp_path)
    assert {path.name for path in paths} >= {"w10.svg", "w11-detection.svg", "w11-false-deaths.svg"}
    assert all("<svg" in path.read_text() for path in paths)
    assert cluster_page.cluster_part({}) == ""
