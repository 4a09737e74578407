"""What is registered is looked at when it is registered: a mistake is an error at its own line, not at the first call."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable import Context, WorkflowError, function, workflow
from durable.errors import EncodingError
from durable.workflows.definition import REGISTRY


async def body() -> None: ...


def test_an_argument_that_was_recorded_comes_back_by_name_however_large() -> None:
    @function
    def takes(text: str) -> None: ...

    data = takes.encode_arguments((), {"text": "x" * 20_000_000}, 64 << 20)
    _, kwargs = takes.decode_arguments(data)
    assert len(kwargs["text"]) == 20_000_000


def test_a_timeout_is_seconds_or_a_timedelta() -> None:
    for given in (90, 90.0, timedelta(minutes=1.5)):
        assert function("definition-timeout", timeout=given)(body).timeout == 90
    assert function("definition-timeout")(body).timeout is None


@pytest.mark.parametrize("wrong", [0, -1.0, timedelta(0), timedelta(seconds=-1)])
def test_a_timeout_is_above_zero(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"definition-timeout.*above 0"):
        function("definition-timeout", timeout=wrong)(body)


@pytest.mark.parametrize("wrong", ["a minute", float("nan")])
def test_what_is_no_duration_is_no_timeout(wrong: Any) -> None:
    with pytest.raises(WorkflowError, match="no duration: give seconds or a timedelta"):
        function("definition-timeout", timeout=wrong)(body)


@pytest.mark.parametrize("wrong", ["banana", "Process", 7])
def test_an_executor_that_there_is_not_is_refused_with_those_that_there_are(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"'definition-place': executor is {wrong!r}; .*\"loop\", \"thread\" or \"process\""):
        function("definition-place", executor=wrong)(body)
    assert "definition-place" not in REGISTRY.functions


@pytest.mark.parametrize("decorator", [function, workflow])
def test_a_name_is_text_that_a_journal_can_hold(decorator: Callable[..., Any]) -> None:
    class Names(str, enum.Enum):  # noqa: UP042 (a StrEnum is one too)
        BODY = "definition-name"

    async def runs(ctx: Context) -> None: ...

    assert type(decorator(Names.BODY)(runs).name) is str
    with pytest.raises(EncodingError, match=r"name is '\\udcff', which is no UTF-8"):
        decorator("\udcff")(runs)
    assert "\udcff" not in {**REGISTRY.functions, **REGISTRY.workflows}
