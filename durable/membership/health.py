"""Local health: a member that keeps missing what it should hear suspects itself first, and gives the others
more time.

**Why it exists.** A slow process (starved of CPU, stopped, blocked by its own code) reads its acks late and
takes the others for dead. From the outside nothing distinguishes its accusations from true ones; from the
inside there is evidence.

**How it works.** A score between 0 (well) and 8. The length of the probe period and the timeout of a ping are
multiplied by score + 1. `CHANGES` is the whole rule.

**Limits.** The slower a member thinks itself, the later it detects true failures: up to 9 times later, and
its peers do it instead.

Source: Lifeguard, "Local Health Aware Probe" (its Local Health Multiplier). Against the paper: a failed probe
costs nothing when every helper answered with a nack, for then the way to the helpers is well and it is the
target that is silent (memberlist does the same); and a stall of the event loop, which the paper could not
see, counts. Read next: `outbox`.
"""

from __future__ import annotations

from enum import Enum

SCORE_MAX = 8


class Evidence(Enum):
    """What happened that says something about this member's own health."""

    PROBE_ANSWERED = "a probe was answered"
    PROBE_FAILED_ALONE = "a probe failed, and nobody could be asked for help"
    NACK_MISSING = "a helper sent neither ack nor nack"
    REFUTED = "others suspected this member, and it had to refute"
    STALLED = "this member's own loop came late"


CHANGES = {
    Evidence.PROBE_ANSWERED: -1,
    Evidence.PROBE_FAILED_ALONE: +1,
    Evidence.NACK_MISSING: +1,
    Evidence.REFUTED: +1,
    Evidence.STALLED: +1,
}
"""What each piece of evidence does to the score."""


class LocalHealth:
    """The score. ``enabled=False`` holds it at 0: plain SWIM, to measure against.

    >>> health = LocalHealth()
    >>> health.record(Evidence.REFUTED, times=2)
    >>> health.record(Evidence.PROBE_ANSWERED)
    >>> health.score, health.multiplier
    (1, 2)
    """

    def __init__(self, enabled: bool = True) -> None:
        self.score = 0
        self._enabled = enabled

    def record(self, evidence: Evidence, times: int = 1) -> None:
        """Move the score, within 0 and 8."""
        if self._enabled:
            self.score = min(SCORE_MAX, max(0, self.score + CHANGES[evidence] * times))

    @property
    def multiplier(self) -> int:
        """1 (well) to 9: what timeouts and periods are multiplied by."""
        return self.score + 1
