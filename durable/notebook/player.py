"""A journal, step by step: a slider moves a replay from its first operation to its last.

It is made of widgets that need no kernel: a Play button and a slider, linked in the browser, choose which of the prepared
tables is shown. So it lives in the built book too, where no Python runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.journal.entries import JournalEntry
from durable.notebook.figure import esc, tag
from durable.notebook.tables import journal_table

STEPS_MAX = 60
"""Every step is a table of its own in the page: a longer journal is shown up to here."""


def replay_player(entries: Sequence[JournalEntry], milliseconds_a_step: int = 900) -> Any:
    """An interactive replay: at step n the code has made n operations again, and the journal has answered them.

    Needs ipywidgets (the extra ``notebook``). Returns a widget; the last expression of a cell shows it.
    """
    import ipywidgets as widgets

    shown = list(entries[:STEPS_MAX])
    tables = [widgets.HTML(value=_step(shown, step)) for step in range(len(shown) + 1)]
    stack = widgets.Stack(children=tables, selected_index=0)
    play = widgets.Play(value=0, min=0, max=len(shown), interval=milliseconds_a_step, show_repeat=False)
    slider = widgets.IntSlider(value=0, min=0, max=len(shown), description="replayed", continuous_update=True)
    widgets.jslink((play, "value"), (slider, "value"))
    widgets.jslink((slider, "value"), (stack, "selected_index"))
    return widgets.VBox([widgets.HBox([play, slider]), stack])


def _step(entries: Sequence[JournalEntry], step: int) -> str:
    """What is seen after ``step`` operations: those that were answered, and the question that comes next."""
    if step == len(entries):
        last = "every operation has been made again: from here on the code goes on by itself"
    else:
        following = entries[step]
        what = f"{following.entry_type.value} {following.name}".strip()
        answer = "its answer is there: return it" if following.completed else "no answer: do the work again, or go on waiting"
        last = f"next, entry {step}: {what}; {answer}"
    table = journal_table(entries[:step]).html if step else tag("p", "nothing has been replayed yet", class_="durable-muted")
    return f"{table}<p>{esc(last)}</p>"
