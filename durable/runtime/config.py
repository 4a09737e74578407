"""The settings of a node. Each has a default that suits a laptop and a small server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """How a `NodeRuntime` runs. Times are seconds, sizes bytes.

    ``max_concurrent_workflows`` counts executions with code or a function running, never those that wait for a timer, a
    message or a child. ``max_pending`` bounds what is accepted and neither finished nor parked; past it ``submit`` raises
    `Overloaded`. An execution that waits longer than ``park_after`` is dropped from memory, at once when more than
    ``max_waiting_in_memory`` wait. ``mailbox_max`` bounds the unread messages of one execution.
    """

    node_id: str = "node-1"
    max_concurrent_workflows: int = 100
    max_pending: int = 100_000
    park_after: float = 1.0
    max_waiting_in_memory: int = 1_000
    max_threads: int = 32
    value_bytes_max: int = 16 * 1024 * 1024
    mailbox_max: int = 10_000

    def __post_init__(self) -> None:
        for name in ("max_concurrent_workflows", "max_pending", "max_threads", "value_bytes_max", "mailbox_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"NodeConfig: {name} must be at least 1, and is {getattr(self, name)}")
        for name in ("park_after", "max_waiting_in_memory"):
            if getattr(self, name) < 0:
                raise ValueError(f"NodeConfig: {name} must not be negative, and is {getattr(self, name)}")
