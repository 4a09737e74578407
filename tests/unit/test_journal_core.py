"""The pure cores of the journal: the table of replay, retry, timers, keys, entries, failures."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import errors
from durable.errors import FunctionFailed, JournalCorrupted, NonDeterminismError, ReplayError, WorkflowError
from durable.journal import failures, keys
from durable.journal.codec import pack
from durable.journal.entries import CANCEL, Attempt, Command, Completion, EntryType, Failure, Start
from durable.journal.journal import decode_rows, entries
from durable.journal.replay import Decision, ReplayCursor, decide
from durable.journal.retry import RetryPolicy
from durable.journal.timers import TimerQueue

CALL = Command(EntryType.CALL, "charge", b"[7]", 1_000, "shop.py:10")
START = Start("w", 1, b"null", 0, "3.11", b"12345678")


@pytest.mark.parametrize(
    ("recorded", "attempted", "completed", "decision"),
    [
        (None, CALL, False, Decision.RECORD),
        (CALL, CALL, True, Decision.RETURN),
        (CALL, CALL, False, Decision.RESUME),
        (CALL, Command(EntryType.CALL, "charge", b"[8]", 0), True, Decision.DIVERGE),
        (CALL, Command(EntryType.CALL, "refund", b"[7]", 0), False, Decision.DIVERGE),
        (CALL, Command(EntryType.SIDE_EFFECT, "charge", b"[7]", 0), False, Decision.DIVERGE),
    ],
)
def test_the_table_of_replay(recorded: Command, attempted: Command, completed: bool, decision: Decision) -> None:
    assert decide(recorded, attempted, completed) is decision


def test_a_mismatch_names_both_lines_and_a_removed_step_its_own() -> None:
    cursor = ReplayCursor([CALL, CALL], "order-1")
    assert cursor.match(EntryType.CALL, "charge", b"[7]", "shop.py:10")
    with pytest.raises(NonDeterminismError, match=r"(?s)entry 1.*shop\.py:10.*shop\.py:99"):
        cursor.match(EntryType.CALL, "charge", b"[9]", lambda: "shop.py:99")
    with pytest.raises(NonDeterminismError, match="nothing, before the workflow returned"):
        cursor.expect_made(2, "the workflow returned")
    assert cursor.replaying
    assert cursor.peek() is CALL


def test_entries_put_rows_together() -> None:
    rows = [
        START,
        CALL,
        Command(EntryType.STATE, "n", b"1", 1_001),
        Command(EntryType.CALL, "ship", b"[]", 1_002),
        Completion(CANCEL, b"null", 1_003),
        Completion(2, b'"late"', 1_004),
        Completion(0, None, 1_005, Failure("builtins", "ValueError", "no")),
    ]
    tried = Attempt(2, 1, 1_000, 1_001, Failure("builtins", "OSError", "away"))
    charge, state, ship, cancel = entries(rows, [tried])
    assert (charge.completed, charge.output_json, charge.error and charge.error.message) == (True, None, "no")
    assert (state.completed, state.completion_order) == (True, None)
    assert (ship.output_json, ship.completion_order, ship.attempts) == ('"late"', 1, (tried,))
    assert cancel.entry_type is EntryType.CANCEL


def test_a_row_that_cannot_be_read_is_named_by_workflow_and_index() -> None:
    raw = [pack(START), pack(CALL), pack(CALL)]
    with pytest.raises(JournalCorrupted, match=r"row 2 of the journal of 'order-1' \(behind entry 0\)"):
        decode_rows("order-1", [*raw[:2], raw[2][:-1] + b"\xff"])
    with pytest.raises(JournalCorrupted, match="no start"):
        decode_rows("order-1", raw[1:])
    with pytest.raises(JournalCorrupted, match="no start"):
        decode_rows("order-1", [])


@given(st.integers(1, 60), st.floats(0.001, 10), st.floats(1, 5), st.floats(0, 1), st.integers())
def test_delays_grow_to_their_bound_and_stay_within_the_jitter(
    n: int, first: float, factor: float, jitter: float, seed: int
) -> None:
    policy = RetryPolicy(initial_delay=first, factor=factor, max_delay=60.0, jitter=jitter)
    bare = RetryPolicy(initial_delay=first, factor=factor, max_delay=60.0, jitter=0).delays(n)
    assert all(a <= b for a, b in pairwise(bare))
    assert max(bare) <= 60.0
    assert policy.delays(n, seed) == policy.delays(n, seed)
    for delay, base in zip(policy.delays(n, seed), bare, strict=True):
        assert base * (1 - jitter) * 0.999 <= delay <= base * (1 + jitter) * 1.001


def test_a_policy_gives_up_by_attempts_by_deadline_and_by_type() -> None:
    policy = RetryPolicy(max_attempts=3, deadline=1.0, jitter=0, no_retry=(KeyError,))
    assert policy.next_delay_s(1, 0.0, OSError(), "s") == pytest.approx(0.1)
    assert policy.next_delay_s(3, 0.0, OSError(), "s") is None
    assert policy.next_delay_s(1, 0.95, OSError(), "s") is None
    assert policy.next_delay_s(1, 0.0, KeyError(), "s") is None
    told = FunctionFailed("json.decoder.JSONDecodeError", "Expecting value")
    assert RetryPolicy(no_retry=(ValueError,)).next_delay_s(1, 0.0, told, "s") is not None
    told.error_types = ("json.decoder.JSONDecodeError", "builtins.ValueError")  # type: ignore[attr-defined]
    assert RetryPolicy(no_retry=(ValueError,)).next_delay_s(1, 0.0, told, "s") is None
    assert RetryPolicy(no_retry=(KeyError,)).next_delay_s(1, 0.0, told, "s") is not None
    for wrong in ({"initial_delay": 0}, {"factor": 0.5}, {"max_delay": 0.01}, {"max_attempts": 0}, {"jitter": 2}, {"deadline": 0}):
        with pytest.raises(ValueError, match="RetryPolicy"):
            RetryPolicy(**wrong)
    for kinds in (ValueError, [ValueError], ("ValueError",)):
        with pytest.raises(TypeError, match="a tuple of exception types"):
            RetryPolicy(no_retry=kinds)  # type: ignore[arg-type]


def test_the_durations_of_a_policy_may_be_timedeltas_and_are_read_as_seconds() -> None:
    minute = timedelta(minutes=1)
    policy = RetryPolicy(initial_delay=minute / 2, max_delay=minute, deadline=timedelta(hours=1))
    assert policy == RetryPolicy(initial_delay=30.0, max_delay=60.0, deadline=3_600.0)
    assert repr((policy.initial_delay, policy.max_delay, policy.deadline)) == "(30.0, 60.0, 3600.0)"
    assert RetryPolicy(initial_delay=minute, max_delay=90, jitter=0).delays(2) == [60.0, 90]
    for wrong in ({"initial_delay": timedelta(0)}, {"max_delay": timedelta(milliseconds=1)}, {"deadline": -minute}):
        with pytest.raises(ValueError, match="RetryPolicy"):
            RetryPolicy(**wrong)


@given(st.lists(st.integers(0, 30_000), max_size=40), st.integers(1, 20))
def test_timers_come_due_in_order_and_none_is_missed(moments: list[int], step: int) -> None:
    queue = TimerQueue(window_ms=10_000)
    rows = sorted((at, f"w{index}", 0, 0) for index, at in enumerate(moments))
    came: list[tuple[int, str, int, int]] = []
    for now in range(0, 40_000, step * 500):
        if queue.needs_extension(now):
            begin, end = queue.window_end_ms, now + queue.window_ms
            queue.extend(now, [row for row in rows if begin <= row[0] < end])
        due = queue.due(now)
        assert all(timer[0] <= now for timer in due)
        came += due
    assert came == rows
    assert len(queue) == 0


IDS = st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text)


@given(IDS, st.integers(0, 2**60), st.integers(0, 9), st.integers(0, 9))
def test_keys_of_one_partition_are_one_range_and_parse_back(workflow_id: str, at: int, run: int, number: int) -> None:
    try:
        workflow_id.encode()
    except UnicodeEncodeError:
        return
    partition = keys.partition_of(workflow_id)
    timer = keys.timer(partition, at, workflow_id, run, number)
    assert keys.parse_timer(timer) == (at, workflow_id, run, number)
    for table in keys.OF_ONE_EXECUTION:
        key = keys.of(partition, table, workflow_id)
        assert keys.parse_id(key) == workflow_id
        assert keys.number(partition, 2) <= key < keys.number(partition + 1, 2)


@pytest.mark.parametrize("bad", ["", "a\0b", "x" * 513, "\ud800"])
def test_an_id_that_cannot_be_one_is_refused(bad: str) -> None:
    with pytest.raises((WorkflowError, UnicodeEncodeError)):
        keys.id_bytes(bad)


class Declined(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Reworded(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")


def test_an_exception_comes_back_as_its_class_or_as_text() -> None:
    again = failures.rebuild(failures.record(Declined(7, "no funds")))
    assert isinstance(again, Declined)
    assert (again.code, again.reason) == (7, "no funds")
    text = failures.rebuild(failures.record(Reworded(7)))
    assert isinstance(text, FunctionFailed)
    assert text.message == "code 7"
    twice = failures.rebuild(failures.record(text))
    assert isinstance(twice, FunctionFailed)
    assert (twice.error_type, twice.message) == (text.error_type, text.message)
    try:
        raise Declined(1, "outer") from ValueError("inner")
    except Declined as error:
        chained = failures.rebuild(failures.record(error))
    assert isinstance(chained.__cause__, ValueError)


class RateLimited(Exception):
    def __init__(self, message: str, retry_after: int = 60) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Undecided:
    """Equal to nothing and to everything: its comparison has no truth."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Holding(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.held = Undecided()


def test_an_exception_that_would_come_back_with_another_attribute_comes_back_as_text() -> None:
    """A workflow that decides by an attribute must not read another value than the one that was raised."""
    assert isinstance(failures.rebuild(failures.record(RateLimited("slow down"))), RateLimited)
    text = failures.rebuild(failures.record(RateLimited("slow down", retry_after=5)))
    assert isinstance(text, FunctionFailed)
    assert text.message == "slow down"
    assert isinstance(failures.rebuild(failures.record(Holding("x"))), FunctionFailed)


class Refused(Exception):
    def __init__(self, message: str, response: object = None) -> None:
        super().__init__(message)
        self.response = response


def test_an_attribute_that_is_missing_or_none_when_it_comes_back_does_not_make_it_text() -> None:
    """Many libraries hang what they have on their exceptions; who catches one wants its class."""
    assert isinstance(failures.rebuild(failures.record(Refused("no", response=object()))), Refused)
    later = ValueError("no funds")
    later.code = 7  # type: ignore[attr-defined]
    assert isinstance(failures.rebuild(failures.record(later)), ValueError)


def test_what_was_noted_on_an_exception_does_not_make_it_text() -> None:
    noted = RateLimited("slow down")
    noted.add_note("(seen by somebody)")
    assert isinstance(failures.rebuild(failures.record(noted)), RateLimited)


@pytest.mark.parametrize(
    "error",
    [
        errors.NoQuorum(7, 1, 2, asked=True),
        errors.NotOwner(7, "node-2", 3),
        errors.OutcomeUnknown("it may have happened", "r-1"),
        errors.OutcomeUnknown("it may have happened"),
        errors.SagaRollbackFailed("1 of 2", (("refund", ValueError("no")),)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_librarys_own_exceptions_come_back_as_their_class(error: Exception) -> None:
    again = failures.rebuild(failures.record(error))
    assert (type(again), str(again)) == (type(error), str(error))


MARKS: list[object] = []


def mark(*args: object) -> Exception:
    MARKS.append(args)
    return ValueError(*args)


class Mark:
    def __init__(self, *args: object) -> None:
        MARKS.append(args)


class Stops(BaseException):
    def __init__(self, *args: object) -> None:
        MARKS.append(args)


def test_a_class_that_is_gone_is_an_operators_matter() -> None:
    gone = Failure("no.such.module", "Gone", "text", b"[]", rebuildable=True)
    with pytest.raises(ReplayError, match="deploy code that has the class"):
        failures.rebuild(gone)


@pytest.mark.parametrize("name", ["mark", "Mark", "MARKS.append", "Stops"])
def test_a_journal_that_names_no_exception_calls_nothing(name: str) -> None:
    """A journal may come from elsewhere, to be replayed. What it names is built only if it is the class of an exception."""
    foreign = Failure(__name__, name, "text", b'["called"]', rebuildable=True)
    with pytest.raises(ReplayError, match="is not the class of an exception"):
        failures.rebuild(foreign)
    assert MARKS == []


@pytest.mark.parametrize("attempted_json", [b"[7]", b"[8]"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("completed", [True, False])
def test_the_cursor_answers_as_the_table_does(attempted_json: bytes, there: bool, completed: bool) -> None:
    recorded = Command(EntryType.CALL, "charge", b"[7]", 0)
    attempted = Command(EntryType.CALL, "charge", attempted_json, 0)
    decision = decide(recorded if there else None, attempted, completed)
    cursor = ReplayCursor([recorded] if there else [])
    try:
        matched = cursor.match(attempted.entry_type, attempted.name, attempted.input_json, "here.py:1")
    except NonDeterminismError:
        answer = {Decision.DIVERGE}
    else:
        answer = {Decision.RETURN, Decision.RESUME} if matched else {Decision.RECORD}
    assert decision in answer
