"""Chapter 6: what the copies of a partition say to each other, keep on disk, and ask of their shell.

Read in this order: `messages` (what travels), `frames` (how much of it at once), `rows` (what is kept), `log` (the entries of
one copy), `lines` (what two nodes know to be alike), `tuning` (the numbers), `effects` (what a shell is asked to do).

Who may say what, and when, is decided in `durable.replication`.
"""
