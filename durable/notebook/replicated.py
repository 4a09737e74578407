"""What copies of a partition say to each other, as a sequence diagram, from a recorded run (`durable.sim.replicas`).

Read next: `durable.notebook.sequence`, which draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from durable.notebook.figure import Figure
from durable.notebook.looks import in_order
from durable.notebook.sequence import BAD, GOOD, Arrow, Note, sequence
from durable.replication.effects import Lost
from durable.sim.replicas import Said, Told
from durable.sim.replicascript import effect_words, is_shown, message_words


def replica_exchange(seen: Iterable[Said | Told], names: Sequence[str] = (), since_s: float = 0.0) -> Figure:
    """A sequence diagram of what was said about the partition, and told to shells.

    Args:
        seen: as `Replicas.seen` holds it; digests, and what is the roster's, are left out.
        names: the nodes from left to right; by default all that occur, sorted.
        since_s: when the clock of the figure begins.
    """
    shown = [one for one in seen if is_shown(one)]
    found = [name for one in shown for name in ((one.source, one.target) if isinstance(one, Said) else (one.node,))]
    order = list(names) or in_order(map(str, found))
    rows = [(f"{one.at - since_s:.3f}", _arrow(one) if isinstance(one, Said) else _note(one)) for one in shown]
    return sequence(rows, order, f"{len(rows)} events between {', '.join(order)}")


def _arrow(said: Said) -> Arrow:
    return Arrow(said.source, said.target, message_words(said.message), not said.arrives)


def _note(told: Told) -> Note:
    colour = BAD if isinstance(told.effect, Lost) else GOOD
    return Note(told.node, f"{told.node} {effect_words(told.effect)}", colour)
