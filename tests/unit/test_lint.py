"""Warnings about code that does not repeat itself: found, and placed where the author can see them."""

from __future__ import annotations

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
