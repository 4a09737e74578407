"""Where an execution stands, and how it gets from there to anywhere else: `TRANSITIONS`, and nothing but it.

A pair that the table does not have cannot happen: `durable.runtime.execution.Execution.move` raises for it. The book's diagram
of statuses is drawn from this table.
"""

from __future__ import annotations

import enum

from durable.journal.entries import Status


class Event(enum.Enum):
    """What can happen to an execution as a whole."""

    STEP = "its code runs"
    WAIT = "everything in it waits for a timer, a message or another workflow"
    PAUSE = "an operator pauses it"
    RESUME = "an operator resumes it"
    RETURN = "its code returned"
    RAISE = "its code raised"
    CANCELLED = "its code ended by a cancel"
    DIVERGE = "its code does not match its journal"
    NEW_CODE = "its workflow was registered again"


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.PENDING, Event.STEP): Status.RUNNING,
    (Status.PENDING, Event.WAIT): Status.WAITING,
    (Status.PENDING, Event.PAUSE): Status.PAUSED,
    (Status.PENDING, Event.DIVERGE): Status.DIVERGED,
    (Status.RUNNING, Event.STEP): Status.RUNNING,
    (Status.RUNNING, Event.WAIT): Status.WAITING,
    (Status.RUNNING, Event.PAUSE): Status.PAUSED,
    (Status.RUNNING, Event.RETURN): Status.COMPLETED,
    (Status.RUNNING, Event.RAISE): Status.FAILED,
    (Status.RUNNING, Event.CANCELLED): Status.CANCELLED,
    (Status.RUNNING, Event.DIVERGE): Status.DIVERGED,
    (Status.WAITING, Event.STEP): Status.RUNNING,
    (Status.WAITING, Event.WAIT): Status.WAITING,
    (Status.WAITING, Event.PAUSE): Status.PAUSED,
    (Status.WAITING, Event.DIVERGE): Status.DIVERGED,
    (Status.WAITING, Event.NEW_CODE): Status.PENDING,
    (Status.PAUSED, Event.PAUSE): Status.PAUSED,
    (Status.PAUSED, Event.RESUME): Status.PENDING,
    (Status.DIVERGED, Event.NEW_CODE): Status.PENDING,
    (Status.DIVERGED, Event.DIVERGE): Status.DIVERGED,
    (Status.DIVERGED, Event.CANCELLED): Status.CANCELLED,
}

ENDINGS = {Status.COMPLETED: Event.RETURN, Status.FAILED: Event.RAISE, Status.CANCELLED: Event.CANCELLED}
