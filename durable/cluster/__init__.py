"""Chapters 4 to 6: a node of a cluster: who is there, who owns what, and how a process becomes a part of it.

Read in this order: `config` (what a node is told), `node` (`ClusterNode`: one pump, one timer around the membership core),
`replicated` (`ReplicatedLog`: the same around the replication core), `host` (log, engine and desk together), `founding` (how a
cluster is born), `ask` (what a node answers to those who are not members), `client` (`ClusterClient`: the same face from outside),
`local` and `sight` (`LocalCluster`: real processes on this machine, to try it on), `child` and `process` (the two ends of its
pipes), `app` (the code that it runs), `commands` (``durable node``, ``durable members``, ...).
"""

from durable.cluster.ask import Copies, NodeView, ask_node
from durable.cluster.client import ClusterClient
from durable.cluster.config import ClusterConfig
from durable.cluster.events import EventStream
from durable.cluster.local import LocalCluster
from durable.cluster.node import ClusterNode
from durable.membership import Member, MemberChanged, MemberStatus, NodeAddress, NodeId
from durable.replication.standing import Role
from durable.routing.partitions import PartitionRing
from durable.routing.ring import HashRing
from durable.routing.router import Local, Remote, Router
from durable.rpc.remote import RemoteDesk, RemoteExecutor

__all__ = [
    "ClusterClient",
    "ClusterConfig",
    "ClusterNode",
    "Copies",
    "EventStream",
    "HashRing",
    "Local",
    "LocalCluster",
    "Member",
    "MemberChanged",
    "MemberStatus",
    "NodeAddress",
    "NodeId",
    "NodeView",
    "PartitionRing",
    "Remote",
    "RemoteDesk",
    "RemoteExecutor",
    "Role",
    "Router",
    "ask_node",
]
