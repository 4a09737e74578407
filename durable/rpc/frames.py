"""What travels on a node's streams and links: one byte that says for whom, then the rest.

=========  ======  =====================================================================  ==============================
on         byte    what                                                                   is answered by
=========  ======  =====================================================================  ==============================
stream     ``m``   a packet of the membership core (`durable.membership.messages`)        one of the same kind
stream     ``v``   what does your node see? (also from those who are no members, with     a `NodeView`, in msgpack
                   the key)
link       ``q``   a request (`durable.rpc.calls`)                                      a frame ``a`` on the same link
link       ``a``   an answer
link       ``r``   messages of the replication core                                       (by the core, or not)
=========  ======  =====================================================================  ==============================

Datagrams carry packets of the membership core, and nothing else.

Read next: `durable.cluster.node`.
"""

from __future__ import annotations

MEMBERSHIP, VIEW = b"m", b"v"
REQUEST, ANSWER, REPLICATION = b"q", b"a", b"r"
