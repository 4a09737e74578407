"""`ask_node`: what a node sees, for those who are no members: an operator, a test, ``durable members``.

**How it works.** One question over TCP, by the same key as the members. The answer is a `NodeView`: the list as that node
believes it (another may believe otherwise), and what it has dropped, by reason.

Read next: `durable.cluster.local`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from durable.errors import ProtocolError, Unreachable
from durable.membership.member import Member, NodeAddress, NodeId
from durable.ports import Transport
from durable.replication.standing import Role
from durable.rpc.frames import VIEW
from durable.transports.seal import Keyring, Seal, Sealed, Unsealed
from durable.transports.sockets import SocketTransport
from durable.world import SystemEntropy


class Copies(msgspec.Struct, frozen=True):
    """A node's own copies of partitions: owned here, whole, and to be here by the roster and not yet usable."""

    owned: int
    whole: int
    lacking: int

    def __str__(self) -> str:
        return f"{self.owned} owned, {self.whole} whole" + (f", {self.lacking} to come" if self.lacking else "")


class NodeView(msgspec.Struct, frozen=True):
    """What one node sees. ``since`` of a member is how many seconds ago it took on its status.

    ``health`` is 0 for a node that is well, up to 8 for one that notices that it cannot keep up. ``roles`` says of every member,
    and of every voter that is no member any more, what it is to the journals; ``copies`` is about the node itself. Without a
    storage it knows neither. ``cluster_name`` is empty if it does not say.
    """

    node_id: NodeId
    members: tuple[Member, ...]
    dropped: Mapping[str, int]
    health: int
    cluster_name: str = ""
    roles: Mapping[NodeId, Role] = {}
    copies: Copies | None = None

    def strange(self, cluster_name: str) -> str:
        """Why it is nothing to whoever wants this cluster; empty if it is. A key would have told before: there may be none."""
        if self.cluster_name in ("", cluster_name):
            return ""
        return f"{self.node_id} is a node of the cluster {self.cluster_name!r}, and not of {cluster_name!r}"


_decoder = msgspec.msgpack.Decoder(NodeView)


async def ask_node(
    address: NodeAddress | str, *, secret_key: str | Sequence[str] | None = None, cluster_name: str = "durable"
) -> NodeView:
    """What the node at ``address`` sees.

    Raises:
        Unreachable: nobody answers there, or nobody with this key and cluster name.
        ProtocolError: something else answers there.
    """
    to = NodeAddress.parse(address) if isinstance(address, str) else address
    secrets = [part.strip() for part in secret_key.split(",")] if isinstance(secret_key, str) else list(secret_key or ())
    view = await ask_through(SocketTransport(to, seal_of(secrets, cluster_name)), to)
    if strange := view.strange(cluster_name):
        raise Unreachable(strange)
    return view


async def ask_through(transport: Transport, to: NodeAddress) -> NodeView:
    """The same through a transport that is there already."""
    answer = await transport.ask(to, VIEW)
    try:
        return _decoder.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{to} answered what is no view: {error}. Run one version of durable") from error


def encode_view(view: NodeView) -> bytes:
    """The answer, as it travels."""
    return msgspec.msgpack.encode(view)


def seal_of(secrets: Sequence[str], cluster_name: str) -> Seal:
    """How a cluster's packets are sealed: by its key if it has one."""
    return Sealed(Keyring(secrets, cluster_name), SystemEntropy()) if secrets else Unsealed(cluster_name)
