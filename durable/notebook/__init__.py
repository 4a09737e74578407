"""What a notebook shows: tables and figures of journals, policies, nodes and state machines.

A reader understands durable execution by looking at a journal; so whatever this library hands to a notebook has a picture.
The objects' own ``_repr_mimebundle_`` import this package when a notebook asks, and nothing else in `durable` does.

Everything here is pure: entries and tables in, a `Figure` out, which is HTML with inline SVG, and plain text for a
terminal. No plotting library is needed, so the same figures appear in the browser's Python. They take the page's own text
colour, so they are readable by day and by night; the colours are those of Okabe and Ito, which colour-blind readers can
tell apart, and no meaning rests on colour alone. Times are relative to the start and rounded, so that two runs of one
notebook look alike.

Read in this order: `figure`, `words`, `tables`, `timeline`, `delays`, `states` (with `layers`, its layout), `player`, `progress`;
then what shows a cluster: `looks`, `rings`, `owners`, `loads`, `matrix`, `beliefs`, `packets`, `rumours`, `panel`.
"""

from durable.notebook.beliefs import membership_timeline
from durable.notebook.delays import retry_delays
from durable.notebook.figure import Figure
from durable.notebook.loads import node_load
from durable.notebook.matrix import membership_matrix
from durable.notebook.owners import partition_map
from durable.notebook.packets import packet_exchange
from durable.notebook.panel import cluster_panel
from durable.notebook.player import replay_player
from durable.notebook.progress import progress
from durable.notebook.rings import hash_ring, ring_changes, ring_of
from durable.notebook.rumours import rumour, rumour_graph
from durable.notebook.states import state_diagram, status_diagram
from durable.notebook.tables import journal_table, replay_table, table
from durable.notebook.timeline import fan_out, journal_timeline

__all__ = [
    "Figure",
    "cluster_panel",
    "fan_out",
    "hash_ring",
    "journal_table",
    "journal_timeline",
    "membership_matrix",
    "membership_timeline",
    "node_load",
    "packet_exchange",
    "partition_map",
    "progress",
    "replay_player",
    "replay_table",
    "retry_delays",
    "ring_changes",
    "ring_of",
    "rumour",
    "rumour_graph",
    "state_diagram",
    "status_diagram",
    "table",
]
