"""An answer of the world to an operation, before it is recorded."""

from __future__ import annotations

from collections.abc import Callable

from durable.journal.entries import Failure


class Answer:
    """An answer on its way to an execution. ``recorded`` is called when its completion is durable, or was not wanted."""

    __slots__ = ("error", "output_json", "recorded", "sequence_number")

    def __init__(
        self,
        sequence_number: int,
        output_json: bytes | None = None,
        error: Failure | None = None,
        recorded: Callable[[], None] | None = None,
    ) -> None:
        self.sequence_number = sequence_number
        self.output_json = output_json
        self.error = error
        self.recorded = recorded
