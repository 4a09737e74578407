"""Warnings about code that does not repeat itself: found, and placed where the author can see them."""

from __future__ import annotations

import os
import random
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from durable import workflow
from durable.workflows.lint import DeterminismWarning


def test_a_warning_points_at_the_line_of_the_author() -> None:
    with pytest.warns(DeterminismWarning, match=r"time\.time") as caught:

        @workflow
        async def bare(ctx: Any) -> float:
            return time.time()

        @workflow("core-named")
        async def named(ctx: Any) -> float:
            return time.time()

    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name] * 2


def test_a_secret_is_drawn_in_a_function_and_a_choice_from_the_context() -> None:
    """What `ctx.random` gives can be computed from an idempotency key, which others are told."""
    with pytest.warns(DeterminismWarning) as caught:

        @workflow
        async def draws(ctx: Any) -> list[Any]:
            return [secrets.token_hex(), os.urandom(8), random.random()]

    said = sorted(str(warning.message) for warning in caught)
    assert ["ctx.random" in one for one in said] == ["random.random" in one for one in said]
    assert sum("ctx.call" in one for one in said) == 2
