"""The settings of a node. Each has a default that suits a laptop and a small server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """How a `NodeRuntime` runs. Times are seconds, sizes bytes.

    Raises:
        ValueError: a value is out of range.
    """

    node_id: str = "node-1"
    """The node that is named as an execution's owner. In a cluster it is that of the `ClusterConfig`."""
    max_concurrent_workflows: int = 100
    """Executions with code or a function running; never those that wait for a timer, a message or a child."""
    max_pending: int = 100_000
    """Executions accepted and neither finished nor parked; past it ``submit`` raises `Overloaded`."""
    park_after: float = 1.0
    """An execution that waits longer than this is dropped from memory, until it is needed."""
    max_waiting_in_memory: int = 1_000
    """When more than so many wait, they are dropped from memory at once."""
    max_threads: int = 32
    """Threads for functions that are not async."""
    value_bytes_max: int = 16 * 1024 * 1024
    """The largest input, result or message; a larger one is refused."""
    mailbox_max: int = 10_000
    """Unread messages of one execution; past it a sender is refused."""

    def __post_init__(self) -> None:
        for name in ("max_concurrent_workflows", "max_pending", "max_threads", "value_bytes_max", "mailbox_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"NodeConfig: {name} must be at least 1, and is {getattr(self, name)}")
        for name in ("park_after", "max_waiting_in_memory"):
            if getattr(self, name) < 0:
                raise ValueError(f"NodeConfig: {name} must not be negative, and is {getattr(self, name)}")
