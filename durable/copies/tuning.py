"""The numbers that replication runs by. Times follow from ``gossip_interval_s`` and ``rpc_timeout_s``.

Read next: `messages`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReplicationTuning:
    """What may differ from cluster to cluster; ``replicas``, ``partitions`` and ``virtual_nodes_per_node`` are fixed at its birth.

    >>> ReplicationTuning(gossip_interval_s=0.5).owner_timeout_s
    1.5

    Raises:
        ValueError: a number is out of range.
    """

    replicas: int = 3
    """R: how many nodes keep a copy of each partition, if there are as many."""
    partitions: int = 256
    virtual_nodes_per_node: int = 150
    gossip_interval_s: float = 1.0
    """How often an owner sends its digest."""
    rpc_timeout_s: float = 30.0
    """An owner that has not heard a majority for a third of it resigns."""
    replace_after_s: float = 300.0
    """How long a voter must be dead before a spare takes its place."""
    tail_entries: int = 512
    """Entries kept below the applied index, so that a copy that lags a little needs no snapshot."""
    tail_bytes: int = 1 << 20
    in_flight_entries_max: int = 4_096
    """Entries of a partition that are appended and not committed; past it `append` raises Overloaded."""
    piece_bytes: int = 256 << 10
    """How much of a log or a snapshot one message carries, about."""
    snapshot_bytes_max: int = 1 << 30
    """How much a node stages in memory, of all partitions together; a larger snapshot is given up, and asked for again."""
    handovers_max: int = 16
    """Partitions that an owner hands over in one gossip interval."""

    def __post_init__(self) -> None:
        for name in ("gossip_interval_s", "rpc_timeout_s", "replace_after_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a number of seconds above 0")
        for name in ("replicas", "partitions", "virtual_nodes_per_node", "in_flight_entries_max", "piece_bytes", "handovers_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.tail_entries < 0 or self.tail_bytes < 0:
            raise ValueError("tail_entries and tail_bytes must not be negative")

    @property
    def owner_timeout_s(self) -> float:
        """Three digests missed: the owner is not heard."""
        return 3 * self.gossip_interval_s

    @property
    def handover_patience_s(self) -> float:
        """How long an owner puts off to hand over a partition in which something is under way."""
        return self.rpc_timeout_s / 10

    @property
    def planning_patience_s(self) -> float:
        """How long a change of the roster may come no nearer before another has its turn."""
        return self.rpc_timeout_s / 3

    @property
    def stagger_s(self) -> float:
        """How much later each next place on the ring campaigns."""
        return self.gossip_interval_s / 2

    @property
    def settings(self) -> dict[str, str]:
        """What was fixed at birth, as it stands in a roster."""
        names = ("replicas", "partitions", "virtual_nodes_per_node")
        return {name: str(getattr(self, name)) for name in names}
