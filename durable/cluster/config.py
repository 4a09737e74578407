"""`ClusterConfig`: everything that a node is told, in one frozen place.

**How it works.** Three ways to one: the constructor, a preset (`default`, `lan`), or the environment (`from_env`):

======================  ============================================================================================
variable                field
======================  ============================================================================================
CLUSTER_NODE_ID         ``node_id``, unique in the cluster
CLUSTER_BIND_HOST       host of ``bind_address``; default 127.0.0.1
CLUSTER_BIND_PORT       port of ``bind_address``; default 7800, the same number for UDP and TCP
CLUSTER_ADVERTISE_HOST  host of ``advertise_address``: where others reach this node, if not where it binds
CLUSTER_SEED_NODES      ``seed_nodes``: host:port,host:port
CLUSTER_SECRET_KEY      ``secret_key``: one secret, or several with commas between them, the one to seal with first
CLUSTER_NAME            ``cluster_name``
CLUSTER_INSECURE        1: ``insecure``
======================  ============================================================================================

**Closed by default.** Whoever can send a node a packet can take its cluster apart. So a node without a key listens on the
loopback address, and nowhere else: `check_secured` refuses, and says what to set. ``insecure`` overrides that, and is warned
about every minute.

**Limits.** ``replicas``, ``partitions`` and ``virtual_nodes_per_node`` are fixed at a cluster's birth: a node with other
values is refused, and told which.

Read next: `durable.cluster.node`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from ipaddress import ip_address
from typing import Any

from durable.copies.tuning import ReplicationTuning
from durable.errors import NotSecured
from durable.membership.joining import SEEDS_MAX
from durable.membership.member import NAME_CHARS_MAX, NodeAddress, NodeId
from durable.membership.tuning import Tuning
from durable.routing.partitions import PARTITIONS, PARTITIONS_MAX
from durable.routing.ring import VIRTUAL_NODES_MAX
from durable.transports.seal import SECRET_CHARS_MIN, SECRETS_MAX

PORT = 7800
LOOPBACK = NodeAddress("127.0.0.1", PORT)
PRESETS: Mapping[str, Mapping[str, float]] = {"default": {}, "lan": {"gossip_interval": 0.1, "suspect_timeout": 0.5}}
"""What a preset says otherwise than the defaults."""

EXCHANGE_PERIODS = 30
"""Whole lists are exchanged every so many gossip intervals: every 30 s by default."""


@dataclass(frozen=True)
class ClusterConfig:
    """What one node is told. Times in seconds.

    >>> config = ClusterConfig("node-3", "127.0.0.1:7802", seed_nodes=["127.0.0.1:7800"])
    >>> config.bind_address.port, config.seed_nodes[0].host, config.suspect_timeout
    (7802, '127.0.0.1', 5.0)

    Raises:
        ValueError: a value is out of range, or the node binds a wildcard and says not where others reach it.
    """

    node_id: NodeId | str
    """The name of this node, unique in the cluster: what the ring places, and what epochs are named by."""
    bind_address: NodeAddress = LOOPBACK
    """Where to listen, also as "host:port". Port 0 lets the system choose."""
    _: KW_ONLY
    seed_nodes: Sequence[NodeAddress] = ()
    """Members to ask at the start, also as "host:port"; names are looked up at each attempt. Nodes that found a cluster
    together are given one list, their own addresses included: it begins when all of them are up."""
    advertise_address: NodeAddress | None = None
    """Where others reach this node; required if it binds a wildcard. None: where it binds."""
    secret_key: str | Sequence[str] | None = field(default=None, repr=False)
    """What the cluster's keys are derived from: random, at least 16 characters. Several: the first seals, any opens."""
    cluster_name: str = "durable"
    """Packets of a cluster with another name are dropped; the keys are derived from it too."""
    insecure: bool = False
    """Listen beyond this machine without a key; warned about every minute."""
    gossip_interval: float = 1.0
    """One protocol period: every member probes one other in it. The other pauses of membership follow from it."""
    suspect_timeout: float = 5.0
    """How long a suspect has at least to refute before it is held dead. What it owns is taken over sooner: an owner that is
    silent for three gossip intervals is given up."""
    dead_timeout: float = 30.0
    """How long a dead member stays in the list. It stays a voter of the journal for longer."""
    virtual_nodes_per_node: int = 150
    """Positions of a node on the ring. More spread the load better. Fixed at the cluster's birth."""
    rpc_timeout: float = 30.0
    """How long a caller waits for an answer of the cluster, with everything that is tried again in between."""
    replicas: int = 3
    """Copies of each partition's journal; a majority of them decides. Fixed at the cluster's birth."""
    partitions: int = PARTITIONS
    """Slices of the hash space, each with one journal and one owner. Fixed at the cluster's birth."""
    witness: bool = False
    """Votes and keeps logs, and runs nothing: the third opinion of two nodes that work."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "node_id", NodeId(self.node_id))
        put(self, "bind_address", _address(self.bind_address))
        put(self, "seed_nodes", tuple(_address(seed) for seed in self.seed_nodes))
        if self.advertise_address is not None:
            put(self, "advertise_address", _address(self.advertise_address))
        if isinstance(self.secret_key, str):
            put(self, "secret_key", tuple(part.strip() for part in self.secret_key.split(",") if part.strip()))
        put(self, "secret_key", tuple(self.secret_key or ()) or None)
        self._check()

    def _check(self) -> None:
        for name, text in (("node_id", str(self.node_id)), ("cluster_name", self.cluster_name)):
            if not 1 <= len(text) <= NAME_CHARS_MAX:
                raise ValueError(f"{name} is {text!r}; it must be 1 to {NAME_CHARS_MAX} characters")
        ranges = {"virtual_nodes_per_node": VIRTUAL_NODES_MAX, "partitions": PARTITIONS_MAX, "replicas": 9}
        for name, most in ranges.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 1 and {most:,}")
        if not 0 < self.rpc_timeout < float("inf"):
            raise ValueError(f"rpc_timeout is {self.rpc_timeout}; it must be a number of seconds above 0")
        if len(self.seed_nodes) > SEEDS_MAX:
            raise ValueError(f"{len(self.seed_nodes)} seed nodes are too many: a few suffice, {SEEDS_MAX} is the bound")
        if len(self.secrets) > SECRETS_MAX or any(len(secret) < SECRET_CHARS_MIN for secret in self.secrets):
            raise ValueError(
                f"secret_key must be up to {SECRETS_MAX} secrets of at least {SECRET_CHARS_MIN} random characters; "
                f'make one by python -c "import secrets; print(secrets.token_hex(32))"'
            )
        if self.advertise_address is None and _is_wildcard(self.bind_address.host):
            raise ValueError(
                f"bind_address {self.bind_address} is a wildcard, which nobody can connect to: "
                f"say where others reach this node, by advertise_address (CLUSTER_ADVERTISE_HOST)"
            )
        self.tuning()  # its own checks

    # The three ways to one

    @classmethod
    def default(cls, node_id: NodeId | str = "node-1", **changes: Any) -> ClusterConfig:
        """The defaults: a dead node is noticed within seconds, at two packets a second and node."""
        return cls(node_id=node_id, **changes)

    @classmethod
    def lan(cls, node_id: NodeId | str = "node-1", **changes: Any) -> ClusterConfig:
        """Ten times as fast: 100 ms and 500 ms. For machines in one room that are not overloaded."""
        return cls(node_id=node_id, **{**PRESETS["lan"], **changes})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **changes: Any) -> ClusterConfig:
        """From the variables in the table above; ``changes`` win over them.

        Raises:
            ValueError: CLUSTER_NODE_ID is missing, or a value makes no sense; the message names the variable.
        """
        given = os.environ if environ is None else environ
        fields: dict[str, Any] = {}
        if name := given.get("CLUSTER_NODE_ID"):
            fields["node_id"] = name
        host, port = given.get("CLUSTER_BIND_HOST", LOOPBACK.host), given.get("CLUSTER_BIND_PORT", str(PORT))
        fields["bind_address"] = _from("CLUSTER_BIND_HOST and CLUSTER_BIND_PORT", host, port)
        if seeds := given.get("CLUSTER_SEED_NODES"):
            fields["seed_nodes"] = parse_seeds(seeds)
        fields["secret_key"] = given.get("CLUSTER_SECRET_KEY") or None
        if name := given.get("CLUSTER_NAME"):
            fields["cluster_name"] = name
        fields["insecure"] = given.get("CLUSTER_INSECURE", "") == "1"
        fields |= changes
        if host := given.get("CLUSTER_ADVERTISE_HOST", ""):
            fields.setdefault("advertise_address", NodeAddress(host, _address(fields["bind_address"]).port))
        if "node_id" not in fields:
            raise ValueError("CLUSTER_NODE_ID is not set, nor node_id (--id): give this node a name that no other has")
        return cls(**fields)

    # What follows from it

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets, the one that seals first; empty without a key."""
        return tuple(self.secret_key or ())

    @property
    def is_open(self) -> bool:
        """Whether it listens beyond this machine without a key."""
        return not self.secrets and not is_loopback(self.bind_address.host)

    def check_secured(self) -> None:
        """Raises `NotSecured` if it is open and nobody said that it shall be."""
        if self.is_open and not self.insecure:
            raise NotSecured(
                f"{self.node_id} would listen on {self.bind_address} without a key: whoever reaches that port could take the "
                f"cluster apart. It did not start. Set CLUSTER_SECRET_KEY (secret_key) to the same random value on every node, "
                f'made by python -c "import secrets; print(secrets.token_hex(32))"; or bind 127.0.0.1; '
                f"or set CLUSTER_INSECURE=1 (insecure) if the network is closed to all others"
            )

    def tuning(self) -> Tuning:
        """The numbers of the membership core."""
        fixed = ("partitions", "replicas", "virtual_nodes_per_node")
        return Tuning(
            interval_s=self.gossip_interval,
            suspect_timeout_s=self.suspect_timeout,
            dead_timeout_s=self.dead_timeout,
            exchange_interval_s=EXCHANGE_PERIODS * self.gossip_interval,
            cluster=self.cluster_name,
            settings={name: str(getattr(self, name)) for name in fixed},
        )

    def replication(self) -> ReplicationTuning:
        """The numbers of the replication core."""
        return ReplicationTuning(
            replicas=self.replicas,
            partitions=self.partitions,
            virtual_nodes_per_node=self.virtual_nodes_per_node,
            gossip_interval_s=self.gossip_interval,
            rpc_timeout_s=self.rpc_timeout,
        )

    def advertised(self, bound: NodeAddress) -> NodeAddress:
        """Where others reach the node, now that it is bound."""
        if self.advertise_address is None:
            return bound
        return NodeAddress(self.advertise_address.host, self.advertise_address.port or bound.port)


def parse_seeds(text: str) -> list[NodeAddress]:
    """``host:port,host:port``. Raises `ValueError`.

    >>> [str(seed) for seed in parse_seeds("10.0.0.7:7800, 10.0.0.8:7800")]
    ['10.0.0.7:7800', '10.0.0.8:7800']
    """
    return [NodeAddress.parse(part) for part in text.split(",") if part.strip()]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. Another name than localhost is not looked up, and taken for no.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "node-1.internal")]
    [True, True, True, False, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _address(given: NodeAddress | str) -> NodeAddress:
    return NodeAddress.parse(given) if isinstance(given, str) else given


def _from(names: str, host: str, port: str) -> NodeAddress:
    try:
        return NodeAddress.parse(f"[{host}]:{port}")
    except ValueError as error:
        raise ValueError(f"{names}: {error}") from error
