"""What can be switched off in the nodes of a chaos run, to see that the harness would notice. `durable` knows nothing of it.

``epochs``: nothing that comes from a replaced owner is refused any more. Two owners then commit side by side.

Read next: `chaos.cluster`.
"""

from __future__ import annotations

VARIABLE = "CHAOS_SABOTAGE"


def apply(what: str) -> None:
    """Switch ``what`` off in this process; nothing for an empty name."""
    if what == "":
        return
    _SABOTAGE[what]()


def _no_epochs() -> None:
    raise NotImplementedError


_SABOTAGE = {"epochs": _no_epochs}
