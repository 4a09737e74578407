"""What can be switched off in the nodes of a chaos run, to see that the harness would notice. `durable` knows nothing of it.

``epochs``: nothing that comes from a replaced owner is refused any more. Two owners then commit side by side.

Read next: `chaos.cluster`.
"""

from __future__ import annotations

from typing import Any

VARIABLE = "CHAOS_SABOTAGE"


def apply(what: str) -> None:
    """Switch ``what`` off in this process; nothing for an empty name."""
    if what == "":
        return
    _SABOTAGE[what]()


def _no_epochs() -> None:
    """R1 for entries: a copy takes the entries of an owner whose epoch it has given up for another one, and says so to it; and that
    owner believes in nobody newer.
    """
    from durable.copies.messages import Ack
    from durable.replication import following
    from durable.replication.owner import Owner
    from durable.replication.replica import Replica

    checked = following.on_append

    def unchecked(replica: Any, sender: Any, append: Any) -> None:
        if append.epoch >= replica.promised or append.generation != replica.generation:
            checked(replica, sender, append)
            return
        following.take_entries(replica, append.prev, append.entries, append.commit)
        last = append.prev + len(append.entries)
        replica.home.send_synced(sender, Ack(replica.partition, replica.generation, append.epoch, last))

    def deaf(handler: Any) -> Any:
        def unless_owner(replica: Any, sender: Any, message: Any) -> None:
            if replica.owner is None:
                handler(replica, sender, message)

        return unless_owner

    following.on_append = unchecked
    following.on_prepare = deaf(following.on_prepare)
    following.on_sync = deaf(following.on_sync)
    for where, name, instead in (
        (Owner, "on_higher", lambda owner, sender, promised: None),
        (Replica, "accepts", lambda replica, epoch: True),
    ):
        setattr(where, name, instead)


_SABOTAGE = {"epochs": _no_epochs}
