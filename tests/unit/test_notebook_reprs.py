"""What a notebook shows: well-formed, the same for the same journal, and safe for whatever a user writes into it."""

import asyncio
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

import durable
from durable import Context, EntryType, JournalEntry, NodeConfig, RetryPolicy
from durable.journal.entries import Attempt, Failure
from durable.journal.journal import Journal
from durable.journal.replay import DECISIONS
from durable.notebook import (
    fan_out,
    journal_table,
    journal_timeline,
    progress,
    replay_table,
    retry_delays,
    state_diagram,
    status_diagram,
    table,
)
from durable.notebook.figure import Figure, esc
from durable.notebook.timeline import Piece, pieces
from durable.notebook.words import duration, label
from durable.runtime.transitions import TRANSITIONS

NASTY = '<script>alert("x")</script> & \x00 \ud800 \'"'
T0 = 1_700_000_000_000


def entry(number: int = 0, kind: EntryType = EntryType.CALL, name: str = "charge", **given: Any) -> JournalEntry:
    values = {
        "input_json": '["order-1",40]',
        "output_json": '"paid"',
        "timestamp": T0,
        "completed": True,
        "completed_at": T0 + 120,
        **given,
    }
    return JournalEntry(sequence_number=number, entry_type=kind, name=name, **values)


def failed(message: str) -> Failure:
    return Failure("builtins", "ConnectionError", message, traceback="File /tmp/ipykernel_1234/5.py at 0x7f00aa00")


def every_kind(name: str = "charge", message: str = "no") -> Journal:
    attempt = Attempt(1, 1, T0 + 120, T0 + 400, failed(message), T0 + 150)
    journal = Journal(
        [
            entry(0, name=name),
            entry(1, name=name, attempts=(attempt,), timestamp=T0 + 120, completed_at=T0 + 450),
            entry(2, EntryType.SLEEP, "delay_ms", input_json="3000", output_json="null", completed_at=T0 + 3_000),
            entry(3, EntryType.SLEEP, "until_ms", input_json=str(T0 + 86_400_000), completed=False, completed_at=None),
            entry(4, EntryType.STATE, name, input_json='"x"', output_json="null", completed_at=T0),
            entry(5, EntryType.STATE, name, input_json="", output_json="null", completed_at=T0),
            entry(6, EntryType.SEND, name, input_json='["bob",{"a":1}]', output_json="null"),
            entry(7, EntryType.RECEIVE, name, input_json="[]"),
            entry(8, EntryType.CHILD, name, input_json='["child-1",7,true]'),
            entry(9, EntryType.FIRST, name, input_json='["a","b"]', output_json="null", completed_at=T0),
            entry(10, EntryType.PATCH, name, input_json="true", output_json="null", completed_at=T0),
            entry(11, EntryType.CHECKPOINT, "", input_json='{"done":3}', output_json="null", completed_at=T0),
            entry(12, EntryType.SIDE_EFFECT, name, input_json="[]", output_json=None, error=failed(message)),
            entry(13, EntryType.CALL, name, input_json='{"a":1,"b":2}', output_json=None, completed=False, completed_at=None),
            entry(14, EntryType.CANCEL, "cancel requested", input_json="null", output_json="null"),
        ]
    )
    journal.started_at = T0 - 10
    return journal


def parsed(figure: Figure) -> ET.Element:
    return ET.fromstring(figure.html)


def figures(name: str, message: str) -> list[Figure]:
    journal = every_kind(name, message)
    states = {(name, "go"): message, (message, "back"): name, (message, message): message}
    return [
        journal_table(journal),
        journal_timeline(journal, dead=[(T0 + 130, T0 + 300)]),
        fan_out(journal),
        retry_delays(RetryPolicy(max_attempts=4), seeds=["one", 2], recorded=journal),
        state_diagram(states, current=name, path=[name, message]),
        table([{name: message}]),
        table([(1, 2.5)], "a", "b"),
        replay_table(),
        status_diagram(),
    ]


@pytest.mark.parametrize("index", range(9))
def test_every_figure_is_well_formed_also_with_hostile_names(index: int) -> None:
    figure = figures(NASTY, NASTY)[index]
    parsed(figure)
    assert "<script" not in figure.html


@pytest.mark.parametrize("index", range(9))
def test_a_figure_is_the_same_twice_and_shows_no_address_path_or_date(index: int) -> None:
    one, two = (figures("charge", "no answer")[index] for _ in range(2))
    assert (one.html, str(one)) == (two.html, str(two))
    for leak in ("0x", "/tmp", "ipykernel", str(T0), "17000"):
        assert leak not in one.html.replace("#0072b2", "").replace("#009e73", "")
        assert leak not in str(one)


def test_times_do_not_depend_on_when_it_ran() -> None:
    later = Journal(
        entry(0, timestamp=T0 + 777, completed_at=T0 + 897) if index == 0 else item for index, item in enumerate([entry()])
    )
    assert journal_timeline([entry()]).html == journal_timeline(later).html


def test_empty_journals_have_a_figure() -> None:
    for made in (journal_table([]), journal_timeline([]), fan_out([])):
        parsed(made)


def test_what_xml_cannot_hold_becomes_a_question_mark() -> None:
    assert esc("a\x00b\ud800<\U0001f600>") == "a?b?&lt;\U0001f600&gt;"


def test_durations_are_rounded_as_far_as_a_reader_cares() -> None:
    given = [0, 9.9, 12, 94, 96, 949, 951, 59_900, 60_000, 3_600_000, 2_592_000_000]
    assert [duration(ms) for ms in given] == [
        "<10 ms", "<10 ms", "10 ms", "90 ms", "0.10 s", "0.95 s", "1.0 s", "59.9 s", "1 min", "1 h", "30 d",
    ]  # fmt: skip


def test_operations_read_as_an_author_would_say_them() -> None:
    assert [label(item) for item in every_kind()[:15]] == [
        'charge("order-1", 40)',
        'charge("order-1", 40)',
        "sleep 3 s",
        "sleep 1 d",
        'charge = "x"',
        "charge = deleted",
        'send charge {"a": 1} to bob',
        "receive charge",
        "charge(7 (detached))",
        "first charge of a, b",
        "patch charge",
        'checkpoint {"done": 3}',
        "charge()",
        "charge(a=1, b=2)",
        "cancel requested",
    ]


def test_a_call_that_died_with_its_process_is_cut_and_a_sleep_is_not() -> None:
    dead = [(T0 + 30.0, T0 + 80.0)]
    assert pieces(entry(), T0 + 200, dead) == [
        Piece(T0, T0 + 30, "lost"),
        Piece(T0 + 80, T0 + 120, "run"),
    ]
    sleep = entry(0, EntryType.SLEEP, "delay_ms", input_json="120")
    assert pieces(sleep, T0 + 200, dead) == [Piece(T0, T0 + 120, "wait")]


def test_an_attempt_runs_fails_and_waits() -> None:
    attempt = Attempt(0, 1, T0, T0 + 80, failed("no"), T0 + 20)
    assert pieces(entry(attempts=(attempt,)), T0 + 200) == [
        Piece(T0, T0 + 20, "lost"),
        Piece(T0 + 20, T0 + 80, "wait"),
        Piece(T0 + 80, T0 + 120, "run"),
    ]


def test_the_fan_out_counts_how_many_were_under_way_at_once() -> None:
    calls = [entry(i, timestamp=T0 + 100 * (i // 2), completed_at=T0 + 100 * (i // 2) + 100) for i in range(6)]
    assert str(fan_out(calls)).startswith("6 calls, at most 2 at once: 0.60 s of work in 0.30 s")


def test_the_replay_table_has_every_decision_of_the_code() -> None:
    text = str(replay_table())
    assert all(decision.value in text for decision in DECISIONS.values())


def test_the_status_diagram_has_every_transition_of_the_code() -> None:
    lines = str(status_diagram()).splitlines()
    assert lines == [f"{state.name} --{event.name}--> {to.name}" for (state, event), to in TRANSITIONS.items()]


def test_importing_durable_brings_no_notebook_in() -> None:
    code = "import sys, durable; print(sorted(n for n in sys.modules if 'notebook' in n or n in ('matplotlib', 'IPython')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# --- the objects' own reprs


@durable.function
async def greet(name: str) -> str:
    if name == "nobody":
        raise LookupError("<nobody>")
    return f"hello {name}"


@durable.workflow("notebook-greeting")
async def greeting(ctx: Context, name: str) -> str:
    return await ctx.call(greet, name)


def test_every_object_has_html_and_plain_text() -> None:
    async def main() -> None:
        runtime = await durable.open("memory:", NodeConfig(node_id="node-<7>"))
        handles = [await runtime.submit(greeting, name, workflow_id=f"to-{name}") for name in ("<ada>", "nobody")]
        outcomes = await progress(handles, return_exceptions=True)
        assert outcomes[0] == "hello <ada>"
        assert isinstance(outcomes[1], durable.WorkflowFailed)
        shown: list[Any] = [runtime, handles[0], await handles[0].metadata(), await handles[1].journal()]
        shown += [shown[3][0], await runtime.list(), RetryPolicy(), runtime.handle("unknown")]
        await_closed = [runtime, handles[0]]
        for item in shown:
            check(item)
        assert "LookupError: <nobody>" in str(shown[3])
        await runtime.close()
        for item in await_closed:
            assert "closed" in check(item)

    def check(item: Any) -> str:
        made = item._repr_mimebundle_()
        assert sorted(made) == ["text/html", "text/plain"]
        ET.fromstring(made["text/html"])
        return str(made["text/plain"])

    asyncio.run(main())


def test_progress_raises_the_first_failure_when_all_have_ended() -> None:
    async def main() -> None:
        async with durable.open("memory:") as runtime:
            handles = [await runtime.submit(greeting, name) for name in ("nobody", "ada")]
            with pytest.raises(durable.WorkflowFailed):
                await progress(handles)
            assert await progress([]) == []

    asyncio.run(main())


def test_ipython_shows_a_journal_as_a_table_also_in_plain_text() -> None:
    formatters = pytest.importorskip("IPython.core.formatters", reason="IPython is not installed")
    shown, _ = formatters.DisplayFormatter().format(every_kind())
    assert shown["text/plain"].splitlines()[0].split() == ["#", "operation", "with", "gave", "began", "took"]


@durable.function(retry=RetryPolicy(initial_delay=0.01, max_attempts=2))
async def fails_slowly() -> None:
    await asyncio.sleep(0.03)
    raise ConnectionError


@durable.workflow("notebook-slow-failure")
async def slow_failure(ctx: Context) -> None:
    await ctx.call(fails_slowly)


def test_an_attempt_records_when_it_failed_apart_from_when_it_began_and_when_the_next_is_due() -> None:
    async def main() -> None:
        async with durable.open("memory:") as runtime:
            handle = await runtime.submit(slow_failure)
            with pytest.raises(durable.WorkflowFailed):
                await handle
            [call] = await handle.journal()
            [attempt] = call.attempts
            assert attempt.started_at_ms + 25 <= attempt.failed_at_ms < attempt.next_at_ms

    asyncio.run(main())


def test_the_player_has_a_step_for_every_operation_and_is_linked_without_a_kernel() -> None:
    widgets = pytest.importorskip("ipywidgets", reason="the extra `notebook` is not installed")
    from durable.notebook import replay_player

    entry = JournalEntry(
        sequence_number=0, entry_type=EntryType.CALL, name="charge", input_json="[1]", output_json='"paid"',
        timestamp=1_000, completed=True,
    )
    open_entry = JournalEntry(
        sequence_number=1, entry_type=EntryType.SLEEP, name="delay_ms", input_json="5", output_json=None,
        timestamp=1_001, completed=False,
    )
    player = replay_player([entry, open_entry])
    controls, stack = player.children
    assert isinstance(stack, widgets.Stack)
    assert [child.max for child in controls.children] == [2, 2]
    texts = [child.value for child in stack.children]
    assert "return it" in texts[0]
    assert "go on waiting" in texts[1]
    assert "by itself" in texts[2]
    assert "charge" in texts[1]
