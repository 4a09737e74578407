"""Chapter 5: asking another process, and finding the one to ask.

Read in this order: `frames` (what travels), `peers` (one link to each), `requests` (what can be asked), `calls` (many questions
at once, with a deadline each), `tries` (what an answer means for the next try), `remote` (`RemoteDesk`: the whole cluster as one
desk). Who is asked is a `durable.desk.Desk`; how bytes get there is `durable.transports`' business.
"""
