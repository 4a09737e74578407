"""The cluster under a seed: virtual time, a network that loses and delays, processes that stop and die, disks that forget.

Read in this order:

1. `network` (what may happen to a packet), `events` (what happens next), `loop` (an event loop that is told the time);
2. `disk`, `process`, `sockets`, `links` (a machine, and what its processes have for a world), `world` (all of it: whole nodes);
3. `records` (what is written down), `checks` (what must hold whatever happens), `journals`, `logs` and `work` (what replicated
   journals and their clients are held to), `faults` (a storm of them), `runs` (one seed, from birth to judgement), `__main__`
   (many of them); `durable.linearizable` says whether what clients saw can be explained.

Nothing in `durable` imports this folder but `durable.testing`, which shares its loop, and `durable.figures`.
"""
