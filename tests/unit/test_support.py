"""`demos/support.py`: kills are real, moments are exact, and nothing is left behind."""

import asyncio
import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import cloudpickle
import pytest

import durable
from durable import Context, RetryPolicy, current_call
from durable.cluster.ask import NodeView

DEMOS = Path(__file__).parents[2] / "demos"
sys.path.insert(0, str(DEMOS))
support = pytest.importorskip("support", reason="needs cloudpickle (durable[notebook])")


@pytest.fixture(autouse=True, scope="module")
def as_in_a_notebook():
    """What is defined in a notebook cannot be imported by another process; neither can what is defined here."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    yield
    cloudpickle.unregister_pickle_by_value(here)


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "store")


class Refused(Exception):
    pass


@durable.function
async def add_one(number: int) -> int:
    print("adding one to", number)
    return number + 1


@durable.workflow("support-count")
async def count(ctx: Context, limit: int) -> int:
    number = 0
    while number < limit:
        number = await ctx.call(add_one, number)
        ctx.checkpoint(number)
    return number


@durable.function(retry=RetryPolicy(initial_delay=0.01))
async def stumble() -> int:
    call = current_call()
    call.heartbeat({"attempt": call.attempt})
    if call.attempt < 4:
        raise RuntimeError("not yet")
    return call.attempt


@durable.workflow("support-stumble")
async def stumbling(ctx: Context) -> int:
    return await ctx.call(stumble)


@durable.workflow("support-nap")
async def nap(ctx: Context) -> str:
    await ctx.sleep(0.05)
    return await ctx.receive("word", str)


@durable.workflow("support-refuse")
async def refuse(ctx: Context) -> None:
    raise Refused("no")


@durable.workflow("support-die")
async def die(ctx: Context) -> None:
    await ctx.side_effect("die", lambda: os._exit(3))


def run(main):
    return asyncio.run(asyncio.wait_for(main, 60))


def gone(pid: int) -> bool:
    """Whether a process has ended. An orphan that has ended and that nobody has waited for (a zombie) has ended too."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z"
    return True


def test_a_kill_is_a_sigkill_at_exactly_the_moment_asked_for(store, capsys):
    async def main():
        first = await support.worker(store, count)
        await first.submit(count, 8, workflow_id="c")
        await first.run_until(finished="add_one", times=5)
        pid = first._process.pid
        assert not gone(pid)
        await first.kill()
        assert gone(pid)
        assert first._process.returncode == -9
        calls = [e for e in support.read_journal(store, "c") if e.name == "add_one"]
        assert [e.completed for e in calls] == [True] * 5 or [e.completed for e in calls] == [True] * 5 + [False]
        second = await support.worker(store, count)
        assert await second.result("c") == 8
        await second.stop()
        assert second._process.returncode == 0

    run(main())
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "adding" in line][:5] == [f"process 1 │ adding one to {n}" for n in range(5)]
    assert "process 1 │ (stopped here: 'add_one' is recorded as done 5 times)" in said
    assert "process 1 │ (killed: exit code -9)" in said


def test_the_moment_is_the_same_on_every_run(tmp_path):
    async def once(store: str) -> list[bool]:
        first = await support.worker(store, count)
        await first.submit(count, 8, workflow_id="c")
        await first.run_until(finished="checkpoint", times=3)
        await first.kill()
        return [entry.completed for entry in support.read_journal(store, "c")]

    async def main():
        return [await once(str(tmp_path / str(n))) for n in range(4)]

    seen = run(main())
    assert all(other == seen[0] for other in seen)


def test_a_kill_between_doing_and_recording(store, capsys):
    async def main():
        first = await support.worker(store, count)
        await first.submit(count, 4, workflow_id="c")
        await first.run_until(said="adding one to 2")
        await first.kill()
        calls = [e for e in support.read_journal(store, "c") if e.name == "add_one"]
        assert [e.completed for e in calls] == [True, True, False]
        second = await support.worker(store, count)
        await second.run_until(said="adding one to 2")
        await second.run_until(finished="add_one")
        assert await second.result("c") == 4
        await second.stop()

    run(main())
    assert capsys.readouterr().out.count("adding one to 2\n") == 2


def test_failed_attempts_and_heartbeats_are_moments_too(store):
    async def main():
        first = await support.worker(store, stumbling)
        await first.submit(stumbling, workflow_id="s")
        await first.run_until(heartbeat="stumble")
        await first.run_until(failed="stumble", times=2)
        await first.kill()
        [entry] = support.read_journal(store, "s")
        assert len(entry.attempts) == 2
        second = await support.worker(store, stumbling)
        assert await second.result("s") == 4
        await second.stop()

    run(main())


def test_a_second_process_is_stopped_by_what_the_first_had_begun(store):
    async def main():
        first = await support.worker(store, nap)
        await first.submit(nap, workflow_id="n")
        await first.run_until(started="sleep")
        await first.kill()
        second = await support.worker(store, nap)
        await second.run_until(finished="sleep")
        await second.send("n", "word", "good morning")
        assert await second.result("n") == "good morning"
        await second.stop()

    run(main())


def test_what_goes_wrong_in_a_worker_is_raised_here(store):
    async def main():
        one = await support.worker(store, refuse, die)
        await one.submit(refuse, workflow_id="r")
        with pytest.raises(durable.WorkflowFailed, match="Refused: no"):
            await one.result("r")
        with pytest.raises(support.ProcessGone, match="process 1 ended before it answered"):
            await one.submit(die, workflow_id="d")
            await one.result("d")
        assert not one.alive or await one._process.wait() == 3

    run(main())


def test_a_new_worker_takes_the_place_of_one_that_still_holds_the_folder(store):
    async def main():
        first = await support.worker(store, count)
        await first.submit(count, 2, workflow_id="c")
        second = await support.worker(store, count)
        assert not first.alive
        assert await second.result("c") == 2
        await second.kill()

    run(main())


def test_a_service_answers_until_it_is_killed():
    seen = []

    def answer(path, body):
        seen.append(body)
        return (200, {"path": path, "asked": len(seen)}) if body else (409, "nothing asked")

    def post(url: str, data: bytes) -> bytes:
        return urllib.request.urlopen(urllib.request.Request(url, data), timeout=10).read()

    async def main():
        shop = await support.service("shop", answer)
        assert b'"asked": 1' in await asyncio.to_thread(post, f"{shop.url}/stock", b"[1]")
        assert b'"asked": 2' in await asyncio.to_thread(post, f"{shop.url}/stock", b"[1]")
        with pytest.raises(urllib.error.HTTPError, match="409"):
            await asyncio.to_thread(post, f"{shop.url}/stock", b"null")
        await shop.kill()
        with pytest.raises(urllib.error.URLError, match="refused"):
            await asyncio.to_thread(post, f"{shop.url}/stock", b"[1]")

    run(main())


NOTEBOOK = """
import asyncio, os, support

async def main():
    place = support.folder("store")
    worker = await support.worker(place)
    service = await support.service("shop", lambda path, body: (200, None))
    print(os.path.dirname(place), worker._process.pid, service._process.pid, flush=True)
    END

asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["return", "raise SystemExit(1)", "os.kill(os.getpid(), 9)"])
def test_nothing_is_left_behind_however_the_notebook_ends(end, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(DEMOS), "TMPDIR": str(tmp_path)}
    program = [sys.executable, "-c", NOTEBOOK.replace("END", end)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    _, *pids = done.stdout.split()
    assert len(pids) == 2, done.stderr

    async def all_gone():
        while not all(gone(int(pid)) for pid in pids):
            await asyncio.sleep(0.01)

    run(all_gone())
    assert "kill" in end or list(tmp_path.iterdir()) == []


def test_a_folder_does_not_show_where_it_is():
    place = support.folder("x.db")
    assert repr(place) == "<folder x.db>"
    assert Path(place).parent.is_dir()


def test_the_time_without_a_process_is_known(store):
    async def main():
        first = await support.worker(store, nap)
        await first.submit(nap, workflow_id="n")
        await first.run_until(started="sleep")
        await first.kill()
        second = await support.worker(store, nap)
        await second.run_until(started="receive")
        await second.kill()
        [(killed, back), (again, now)] = support.gaps(store, support.read_journal(store, "n"))
        assert killed < back < again <= now

    run(main())


def test_a_gate_is_one_for_all_processes_and_says_who_came_and_who_went():
    gate = support.gate()

    def program(node: str) -> subprocess.Popen[bytes]:
        code = f"import pickle, support; pickle.loads({cloudpickle.dumps(gate)!r}).wait()"
        environment = {**os.environ, "PYTHONPATH": str(DEMOS), "CLUSTER_NODE_ID": node}
        return subprocess.Popen([sys.executable, "-c", code], env=environment)

    async def main():
        first, second = program("node-1"), program("node-2")
        assert sorted(await gate.came(2)) == ["node-1", "node-2"]
        assert await gate.came(1, node="node-2") == ["node-2"]
        assert await gate.went(0) == [] and first.poll() is None
        gate.open()
        assert await gate.went(1, node="node-2") == ["node-2"]
        await gate.went(2)
        assert [first.wait(30), second.wait(30)] == [0, 0]
        gate.close()
        assert await gate.came(0) == await gate.went(0) == [] and repr(gate) == "<gate, closed>"

    run(main())


class Counting:
    """In place of a cluster: node-1 has refused one at the fifth question, and node-2 one more at each."""

    running = ("node-1", "node-2")

    def __init__(self):
        self.asked = dict.fromkeys(self.running, 0)

    async def view(self, node):
        self.asked[node] += 1
        count = self.asked[node] if node == "node-2" else self.asked[node] // 5
        return NodeView(node, (), {"forged": 7, **({support.REFUSED: count} if count else {})}, 0)


def test_refusals_are_waited_for_and_counted_by_node(monkeypatch):
    async def body():
        cluster = Counting()
        before = await support.refused(cluster)
        assert before == {"node-1": 0, "node-2": 1}
        assert await support.refused(cluster, 1, than=before) == {"node-1": 0, "node-2": 2}
        assert await support.refused(cluster, 2, than=before) == {"node-1": 1, "node-2": 5}
        monkeypatch.setattr(support, "PATIENCE_S", 0.05)
        with pytest.raises(TimeoutError):
            await support.refused(cluster, 3, than=before)

    asyncio.run(body())


def test_where_a_function_runs_is_said_by_its_process(monkeypatch):
    assert support.here() == "the notebook"
    monkeypatch.setenv("CLUSTER_NODE_ID", "node-7")
    assert support.here() == "node-7"
