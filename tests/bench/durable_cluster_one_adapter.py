"""The library as a cluster of one node: what the machinery of a cluster costs beside `durable.open`, without any copy."""

from __future__ import annotations

from bench import durable_cluster_adapter as cluster

absent = cluster.absent


def about() -> dict[str, str]:
    return {**cluster.about(), "sync": "RocksDB on the only node of a cluster, an fsync a group commit"}


class Adapter(cluster.Adapter):
    nodes = 1
