"""Chapter 4, the edges: bytes between processes, and who gets in.

Read in this order: `seal` (what makes a packet one of ours), `windows` (why it counts only once), `udp` (datagrams), `framing`,
`tcp` and `links` (streams), `names` (host names), `sockets` (all of it as one `durable.ports.Transport`), `cut` (a network that
can be parted and made worse, for experiments).
"""
