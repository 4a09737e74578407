"""Simulated runs that are measured, drawn or told, where `durable.sim` holds them to laws.

1. `swarm` (bare membership cores by the thousand), `measures` (what they do, against the papers' figures);
2. `transcript` (a run written down, as a test and as a figure at once), `replicas` and `replicascript` (the same for copies of a
   partition).

**Why a room of its own.** These ask other questions than a simulation does, and cut the nodes short to afford the answers. Nothing
in `durable` imports this folder.
"""
