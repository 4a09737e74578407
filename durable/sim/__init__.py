"""The cluster under a seed: virtual time, a network that loses and delays, processes that stop and die, disks that forget.

Read in this order:

1. `network` (what may happen to a packet), `events` (what happens next), `loop` (an event loop that is told the time);
2. `disk`, `process`, `sockets`, `links` (a machine, and what its processes have for a world), `world` (all of it: whole nodes);
3. `records` (what is written down), `checks` (what must hold whatever happens), `faults` (a storm of them), `__main__` (seeds, as
   many as one likes).

What whole clusters are asked for in it, and the laws that they are held to, is in `durable.trials`.

Nothing in `durable` imports this folder but `durable.testing`, which shares its loop, and `durable.figures`.
"""
