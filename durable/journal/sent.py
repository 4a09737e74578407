"""Which messages of a run went where: so that each can name the one before it, and a receiver sees a gap.

A message that was refused never arrived, so the next one must not name it; neither must it name what a fork's origin sent.
Behind a refused message, those that were under way already are refused as well: none overtakes another.

A pure core: numbers in, the number before out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping

from durable.journal.entries import Completion, Row


class Sent:
    """The SENDs of one run, by sequence number.

    >>> sent = Sent()
    >>> sent.add("box", 0), sent.add("box", 1), sent.add("other", 2)      # the one before: None is the first
    (None, 0, None)
    >>> sent.answered(1, accepted=False)
    >>> sent.add("box", 3)
    >>> sent.add("box", 4)
    3
    """

    __slots__ = ("_by_receiver", "_under_way")

    def __init__(self) -> None:
        self._by_receiver: dict[str, list[int]] = {}
        self._under_way: dict[int, str] = {}

    def add(self, receiver: str, number: int) -> int | None:
        """A message is sent. The sequence number of the one before it to this receiver, None for the first."""
        numbers = self._by_receiver.setdefault(receiver, [])
        if number not in self._under_way:
            insort(numbers, number)
            self._under_way[number] = receiver
        place = bisect_left(numbers, number)
        return numbers[place - 1] if place else None

    def is_under_way(self, number: int) -> bool:
        """Whether its answer is still to come. It is recorded also when the code waits for it no more."""
        return number in self._under_way

    def answered(self, number: int, accepted: bool) -> None:
        """The receiver has it, or has refused it."""
        receiver = self._under_way.pop(number, None)
        if receiver is not None:
            numbers = self._by_receiver[receiver]
            self._by_receiver[receiver] = [other for other in numbers if other > number or (accepted and other == number)]

    def restore(self, sends: Mapping[int, str], rows: Iterable[Row], forked_at: int) -> None:
        """Take up the SENDs of a journal. What stands before ``forked_at`` and has its answer, the origin sent."""
        answers = {row.sequence_number: row for row in rows if type(row) is Completion and row.sequence_number in sends}
        self._by_receiver.clear()
        self._under_way.clear()
        for number, receiver in sends.items():
            if number >= forked_at or number not in answers:
                self.add(receiver, number)
        for number, answer in answers.items():
            self.answered(number, answer.error is None)
