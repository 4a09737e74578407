"""Chapter 3: one node, which runs workflows in this process.

In reading order: `runtime` (what opening a store does), `desk` (how requests are answered), `engine` (what happened goes in,
batches and effects come out), `tenure` (which partitions are run here), `transitions` (where an execution stands), `births` (how it
comes to be), `execution`, `operations` (what each kind of operation writes and asks for), `scheduler` (which runs next, which
leaves memory), `batches` (append, durable, then act), `calls` (of functions, whose bodies `durable.bodies` runs), `alarm`
(timers), `post`, `carrier` and `mailbox` (messages between executions), `waiters`, `newcomers` (code that is registered late),
`admin` (list, purge, export), `opening` (``durable.open``), `config`.
"""
