"""The cluster under a seed: virtual time, a network that loses and delays, processes that stop and die.

Read `network` (what may happen to a packet), `events` (virtual time), `swarm` (many membership cores in one
world), `checks` (what must hold whatever happens), `transcript` (a run written down, as a test and as a
figure). Nothing in `durable` imports this folder.
"""
