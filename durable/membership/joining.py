"""Getting in: whom to ask, how long to go on asking, and what the one who is asked looks at.

**How it works.** A joiner sends `Join` to every seed that has not answered yet, again after 1, 2, 4, ...
periods, at most ``exchange_interval_s`` apart, until each has answered once: two halves of a cluster that
start at the same moment, each with a seed of the other half still down, would otherwise never meet.

The one who is asked goes down `ADMISSION`, and the first row that applies refuses. (Another protocol version
or cluster name never gets this far: the packet is dropped when it is read.)

=====================  =======  ==============================================================================
row                    final    what the joiner is told
=====================  =======  ==============================================================================
other settings         yes      which differ, here and there
name in use            no       who has it; let in when that one has left or been found dead
list full              no       how many there are
=====================  =======  ==============================================================================

A restart at the same address is not a conflict: its greater boot number replaces what is known, at once.

**Limits.** Whoever holds the cluster's key gets in: admission keeps out mistakes, not intruders
(`durable.transports.seal` does).

Read next: `swim`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from durable.membership.messages import Join, Refused

if TYPE_CHECKING:
    from durable.membership.member import NodeAddress
    from durable.membership.tuning import Tuning
    from durable.membership.view import View

SEEDS_MAX = 64


def settings_that_differ(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Each setting that is not equal, for a human; empty if all are.

    >>> settings_that_differ({"partitions": "256"}, {"partitions": "64"})
    'partitions is 256 here and 64 there'
    """
    names = sorted({*ours, *theirs})
    return ", ".join(
        f"{name} is {ours.get(name, 'not set')} here and {theirs.get(name, 'not set')} there"
        for name in names
        if ours.get(name) != theirs.get(name)
    )


def _other_settings(view: View, tuning: Tuning, join: Join) -> str:
    differ = settings_that_differ(tuning.settings, join.settings)
    return f"this cluster was born with other settings: {differ}. Give the node the same" if differ else ""


def _name_in_use(view: View, tuning: Tuning, join: Join) -> str:
    name, address = join.joiner.node_id, join.joiner.address
    holder = view.me if name == view.me.node_id else view.others.get(name)
    if holder is None or holder.address == address or not holder.status.is_live:
        return ""
    return (
        f"{name} is already a member, at {holder.address}, and not known to be dead. "
        f"Give this node another name; if it has moved, it is let in once the old one is found dead"
    )


def _list_full(view: View, tuning: Tuning, join: Join) -> str:
    full = len(view.others) + 1 >= tuning.members_max and join.joiner.node_id not in view.others
    return f"the cluster has {tuning.members_max} members, and no room for more" if full else ""


FINAL, NOT_YET = True, False
_Row: TypeAlias = tuple[Callable[["View", "Tuning", Join], str], bool]

ADMISSION: tuple[_Row, ...] = (
    (_other_settings, FINAL),
    (_name_in_use, NOT_YET),
    (_list_full, NOT_YET),
)
"""Reasons to refuse, in this order: what finds the reason, and whether trying again is useless."""


def refusal(view: View, tuning: Tuning, join: Join) -> Refused | None:
    """Why the joiner is not let in, or None if it is."""
    for find_reason, final in ADMISSION:
        if why := find_reason(view, tuning, join):
            return Refused(join.sequence, why, final)
    return None


class Seeds:
    """The seeds that have not answered yet."""

    def __init__(self, interval_s: float, pause_max_s: float) -> None:
        self._interval_s = interval_s
        self._pause_max_s = pause_max_s
        self._pause_s = interval_s
        self._waiting: dict[NodeAddress, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, seeds: Sequence[NodeAddress]) -> None:
        """Start over with these. Raises `ValueError` past 64."""
        if len(seeds) > SEEDS_MAX:
            raise ValueError(f"{len(seeds)} seeds are too many: a few suffice, {SEEDS_MAX} is the bound")
        self._waiting = dict.fromkeys(seeds, 0)
        self._pause_s = self._interval_s

    def attempt(self, next_sequence: Callable[[], int]) -> list[tuple[NodeAddress, int]]:
        """Whom to ask now, each under a number of its own."""
        for seed in self._waiting:
            self._waiting[seed] = next_sequence()
        return list(self._waiting.items())

    def next_pause_s(self) -> float:
        """How long to wait before asking again; twice as long each time."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._pause_max_s)
        return pause_s

    def answered(self, sequence: int) -> bool:
        """A seed let us in: ask it no more. False if no seed was asked under this number."""
        for seed, asked in self._waiting.items():
            if asked == sequence:
                del self._waiting[seed]
                return True
        return False

    def asked(self, sequence: int) -> bool:
        """Whether a seed was asked under this number, and has not let us in."""
        return sequence in self._waiting.values()
