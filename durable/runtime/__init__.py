"""Chapter 3: one node, which runs workflows in this process.

In reading order: `runtime` (submit, and what opening a store does), `handle`, `engine` (what happened goes in, batches and
effects come out), `transitions` (where an execution stands), `execution`, `operations` (what each kind of operation writes
and asks for), `scheduler` (which runs next, which leaves memory), `batches` (append, durable, then act), `calls` and
`functions` with `threads` and `processes` (running bodies), `alarm` (timers), `post`, `sent` and `mailbox` (messages between
executions), `newcomers` (code that is registered late), `admin` (recover, list, purge, export, fork), `opening`
(``durable.open``), `config`.
"""
