"""The book that a test fills and builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookmaker import Book


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """An empty book, configured to use the generator; skipped, visibly, when the tools are not installed."""
    pytest.importorskip("jupyter_book", reason="the extra `book` is not installed")
    made = Book(tmp_path / "somebody's book")
    made.root.mkdir()
    made.configure()
    made.toc()
    return made
