"""The numbers that membership runs by. Everything else follows from ``interval_s``.

Read next: `swim`, which uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from durable.membership.messages import PACKET_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What may differ from cluster to cluster. All times in seconds, above 0.

    >>> Tuning(interval_s=0.1, suspect_timeout_s=0.5).gossip_tick_s     # the LAN preset
    0.02

    Raises:
        ValueError: a number is out of range.
    """

    interval_s: float = 1.0
    """One protocol period: each member probes one other in it."""
    suspect_timeout_s: float = 5.0
    """How long a suspect has at least to refute. At most three times as long."""
    dead_timeout_s: float = 30.0
    """How long a dead member stays in the list, and is still told that it is thought dead."""
    exchange_interval_s: float = 30.0
    """How often whole lists are exchanged with a random member, and one believed dead is called again."""
    helpers: int = 3
    """k: how many members are asked to probe for us."""
    gossip_fanout: int = 3
    """To how many members the extra gossip tick sends."""
    packet_bytes_max: int = PACKET_BYTES_MAX
    """The largest datagram, before it is sealed."""
    members_max: int = 4_096
    """Members in the list, beyond which newcomers are refused. As many tombstones are kept."""
    cluster: str = "durable"
    """Packets of a cluster with another name are dropped."""
    settings: Mapping[str, str] = field(default_factory=lambda: NO_SETTINGS)
    """What must be equal on every member: a node with other values is refused, and told which."""
    lifeguard: bool = True
    """False: plain SWIM (local health, nacks, confirmed suspicion, buddy claims and the stall rule off), to
    measure against.
    """

    def __post_init__(self) -> None:
        for name in ("interval_s", "suspect_timeout_s", "dead_timeout_s", "exchange_interval_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a number of seconds above 0")
        for name in ("helpers", "gossip_fanout", "members_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 512 <= self.packet_bytes_max <= 65_000:
            raise ValueError(
                f"packet_bytes_max is {self.packet_bytes_max}; it must be between 512 and 65,000"
            )

    @property
    def probe_timeout_s(self) -> float:
        """How long a direct ping may take before helpers are asked: half a period, which leaves them the
        other half.
        """
        return self.interval_s / 2

    @property
    def nack_timeout_s(self) -> float:
        """When a helper says that it is still waiting: at 80 % of what the prober gives it (Lifeguard's
        figure).
        """
        return 0.8 * self.probe_timeout_s

    @property
    def gossip_tick_s(self) -> float:
        """The pause between extra gossip packets while news is pending: 200 ms of a 1 s period."""
        return self.interval_s / 5

    @property
    def stall_s(self) -> float:
        """Being woken later than this is a stall of our own: a quarter of a period, half of what a peer has
        to answer.
        """
        return self.interval_s / 4
