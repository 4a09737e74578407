"""What travels on a node's streams: one byte that says for whom, then the frame.

======  ==============================================================================  ========================
byte    what                                                                            is answered by
======  ==============================================================================  ========================
``m``   a packet of the membership core (`durable.membership.messages`)                 one of the same kind
``v``   what does your node see? (also from those who are no members, with the key)     a `NodeView`, in msgpack
======  ==============================================================================  ========================

Datagrams carry packets of the membership core, and nothing else.

Read next: `durable.cluster.node`.
"""

from __future__ import annotations

MEMBERSHIP, VIEW = b"m", b"v"
