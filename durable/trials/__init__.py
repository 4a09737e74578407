"""Trials of the simulated cluster: what a seed is played in, what it is asked for, and the laws that it is held to.

Read in this order: `logs`, `journals` (what replicated journals promise), `workloads` (what runs), `story` (what clients may be
told), `clients` (who asks, and holds the cluster to the answers), `runs` (one seed, from birth to judgement).

`python -m durable.sim` plays many of them.
"""
