"""What a node writes when a roster was decided: its place in the roster's own log, and, at birth, in every partition.

The roster's log needs no transfers: what a generation begins with is the roster itself, so whoever hears of version v holds
all of it. Index and version are the same number: generation v begins at index v and ends with entry v + 1.

Read next: `replication`.
"""

from __future__ import annotations

from durable.copies.log import LogTail
from durable.copies.messages import ZERO, Members, Roster
from durable.copies.rows import ROSTER, ROSTER_KEY, State, applied_row, encode_row, log_key
from durable.ports import Write
from durable.replication.home import Home
from durable.replication.replica import Replica


def begin_roster_generation(log: Replica, roster: Roster) -> list[Write]:
    """R8, for the roster itself: who knows that version v is decided is in generation v."""
    log.step_down(f"roster {roster.version} was decided")
    log.transfer = None
    deletes: list[Write] = [(log_key(ROSTER, index), None) for index in range(log.log.base + 1, log.log.last + 1)]
    log.enter(roster.version, roster.voters)
    log.log = LogTail(roster.version)
    log.applied = log.commit = roster.version
    log.adopt(ZERO)
    row: Write = (ROSTER_KEY, encode_row(roster))
    return [*deletes, applied_row(ROSTER, roster.version), log.state_row(), row]


def first_states(
    home: Home, replicas: dict[int, Replica], sets: list[Members], replica_class: type[Replica], applied: int
) -> list[Write]:
    """A member of the first roster holds the beginning of each partition that is its own: nothing, or its store as it is."""
    writes: list[Write] = []
    for partition, members in enumerate(sets):
        known = replicas.get(partition)
        if members.get(home.me) != home.store_id or (known is not None and known.generation):
            continue
        promised = known.promised if known is not None else ZERO
        state = State(generation=1, members=members, promised=promised, base=applied, ready=True)
        replica = replicas[partition] = replica_class(home, partition, state, applied)
        writes += [replica.state_row(), applied_row(partition, applied)]
    return writes
