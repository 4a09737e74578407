"""Replay: the same code, run again against its journal.

Whenever the code makes an operation, one question decides: *what does the journal have at this position?* The answer is
`decide`, and there are four of them:

========================= ============== =================== ======================================================
journal at this position  same command?  completion there?   answer
========================= ============== =================== ======================================================
the end                                                      RECORD: append the command, do the work
a command                 yes            yes                 RETURN the recorded result, do nothing
a command                 yes            no                  RESUME: do the work again, or go on waiting
a command                 no                                 DIVERGE: the code is not the code that wrote this
========================= ============== =================== ======================================================

A fifth case cannot be seen at a position, because it is an operation that the code did *not* make: before a completion is
applied, and when the workflow returns, every command recorded before it must have been made. Otherwise: DIVERGE.

"Same" compares the type, the name and the encoded arguments. Completions are applied one at a time in the order of the
journal, each followed by running the code until it waits again; so every interleaving that happened once, happens again.

`ReplayCursor` is this table with a position. It is pure, and holds no more than the recorded commands.

Read next: `durable.workflows.machine`, which makes the operations.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from durable.errors import NonDeterminismError
from durable.journal.entries import Command, EntryType


class Decision(enum.Enum):
    RECORD = "append the command, do the work"
    RETURN = "return the recorded result"
    RESUME = "do the work again, or go on waiting"
    DIVERGE = "stop: the code is not the code that wrote this journal"


DECISIONS: dict[tuple[bool, bool, bool], Decision] = {
    # (is there a command?, is it the same?, is its completion recorded?)
    (False, False, False): Decision.RECORD,
    (True, True, True): Decision.RETURN,
    (True, True, False): Decision.RESUME,
    (True, False, True): Decision.DIVERGE,
    (True, False, False): Decision.DIVERGE,
}


def decide(recorded: Command | None, attempted: Command, completed: bool) -> Decision:
    """The table, to be read and to be held against: `ReplayCursor.match` gives the same answers.

    ``completed`` says whether the journal holds the completion of ``recorded``.
    """
    same = recorded is not None and is_same(recorded, attempted.entry_type, attempted.name, attempted.input_json)
    return DECISIONS[recorded is not None, same, completed and recorded is not None]


def is_same(recorded: Command, entry_type: EntryType, name: str, input_json: bytes) -> bool:
    """Whether an operation is the recorded one: type, name, encoded arguments."""
    return recorded.input_json == input_json and recorded.name == name and recorded.entry_type is entry_type


class ReplayCursor:
    """The recorded commands of a run, and how many of them the code has made again.

    >>> cursor = ReplayCursor([Command(EntryType.CALL, "charge", b"[7]", 0, "shop.py:10")])
    >>> cursor.match(EntryType.CALL, "charge", b"[7]", lambda: "shop.py:10")
    True
    >>> cursor.match(EntryType.SLEEP, "", b"60000", lambda: "shop.py:11")     # past the end: a new command
    False
    """

    __slots__ = ("made", "recorded", "workflow_id")

    def __init__(self, recorded: Sequence[Command], workflow_id: str = "") -> None:
        self.recorded = recorded
        self.made = 0
        self.workflow_id = workflow_id

    @property
    def replaying(self) -> bool:
        """Whether recorded commands are left that the code has not made yet."""
        return self.made < len(self.recorded)

    def peek(self) -> Command | None:
        """The command recorded at the position that the code has reached, None at the end."""
        return self.recorded[self.made] if self.made < len(self.recorded) else None

    def match(self, entry_type: EntryType, name: str, input_json: bytes, where: object) -> bool:
        """True when the operation is the recorded one, False at the end of the journal; moves on.

        ``where`` is called for the source line of the attempt when it is needed. Raises `NonDeterminismError`.
        """
        position = self.made
        if position >= len(self.recorded):
            self.made = position + 1
            return False
        recorded = self.recorded[position]
        if not is_same(recorded, entry_type, name, input_json):
            line = where() if callable(where) else str(where)
            raise self.mismatch(position, Command(entry_type, name, input_json, 0, line))
        self.made = position + 1
        return True

    def expect_made(self, count: int, then: str) -> None:
        """Before ``then`` happens, the first ``count`` commands must have been made. Raises `NonDeterminismError`."""
        if self.made < count:
            raise self.missing(self.made, then)

    def mismatch(self, position: int, attempted: Command) -> NonDeterminismError:
        recorded = self.recorded[position]
        return self._error(
            position,
            f"recorded:  {describe(recorded)}\nattempted: {describe(attempted)}",
            _cause(recorded, attempted),
        )

    def missing(self, position: int, then: str) -> NonDeterminismError:
        return self._error(
            position,
            f"recorded:  {describe(self.recorded[position])}\nattempted: nothing, before {then}",
            "a step was removed from the code, or moved behind a wait",
        )

    def _error(self, position: int, lines: str, cause: str) -> NonDeterminismError:
        return NonDeterminismError(
            f"workflow {self.workflow_id!r} does not do what its journal says, at entry {position}:\n{lines}\n"
            f"Likely cause: {cause}. Nothing is lost and nothing was run: put the code back, or guard the change with "
            "ctx.patched(…), and the execution goes on."
        )


def describe(command: Command) -> str:
    """One line for an error: what it is, with what, and where the code makes it."""
    shown = command.input_json.decode(errors="replace")
    shown = shown if len(shown) <= 120 else shown[:117] + "…"
    return f"{command.entry_type.value} {command.name} {shown} at {command.where or 'an unknown line'}"


def _cause(recorded: Command, attempted: Command) -> str:
    if recorded.entry_type is not attempted.entry_type or recorded.name != attempted.name:
        return "a step was added, removed or swapped since the execution began"
    return "an argument changed: new code, or a value that is not the same on every run (time, random, a global)"
