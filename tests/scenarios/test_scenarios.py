"""Each transcript, played again, says the same. ``python tests/scenarios/regenerate.py`` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.figures.transcript import play

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_a_transcript_plays_as_written(path: Path) -> None:
    assert play(path.read_text()) == path.read_text()


def test_an_unknown_command_says_which() -> None:
    with pytest.raises(ValueError, match="cannot play: walk away"):
        play("> nodes 2 seed 1\n> walk away\n")
    with pytest.raises(ValueError, match="cannot play: run 1"):
        play("> run 1\n")
