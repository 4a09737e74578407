"""Chapter 3: one node, which runs workflows in this process.

In reading order: `runtime` (submit, and what opening a store does), `handle`, `engine` (what happened goes in, batches and
effects come out), `execution` (one execution and its TRANSITIONS), `scheduler` (which runs next, which leaves memory),
`batches` (append, durable, then act), `functions` with `threads` and `processes` (running bodies), `post` and `mailbox`
(messages between executions), `admin` (recover, list, purge, export, fork), `opening` (``durable.open``), `config`.
"""
