"""Chapters 4 to 6: a node of a cluster. This half is membership: who is there, and where a key would live.

Read in this order: `config` (what a node is told), `node` (`ClusterNode`: one pump, one timer around the membership core),
`ask` (what a node answers to those who are not members), `peers`, `requests` and `rpc` (questions over links), `tries` and
`remote` (whom to ask about a workflow), `client` (`ClusterClient`: the same from outside), `local` (`LocalCluster`: real processes
on this machine, to try it on) and `child` (the other side of it), `commands` (``durable node``, ``durable members``, ...).
"""

from durable.cluster.ask import NodeView, ask_node
from durable.cluster.client import ClusterClient
from durable.cluster.config import ClusterConfig
from durable.cluster.events import EventStream
from durable.cluster.local import LocalCluster
from durable.cluster.node import ClusterNode
from durable.cluster.remote import RemoteDesk, RemoteExecutor
from durable.membership import Member, MemberChanged, MemberStatus, NodeAddress, NodeId

__all__ = [
    "ClusterClient",
    "ClusterConfig",
    "ClusterNode",
    "EventStream",
    "LocalCluster",
    "Member",
    "MemberChanged",
    "MemberStatus",
    "NodeAddress",
    "NodeId",
    "NodeView",
    "RemoteDesk",
    "RemoteExecutor",
    "ask_node",
]
