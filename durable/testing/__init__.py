"""For users' own tests: crash a workflow everywhere, run a month in milliseconds, replay what production recorded.

=================== ================================================================================================
`run`               ``asyncio.run`` in virtual time: ``durable.open`` inside it gives a node on that clock
`virtual_time`      the same as a block, for several coroutines one after another
`crash_everywhere`  a crash before and after every journal write; every run must end alike
`check_replay`      does this code still do what an exported journal says it did?
`debug`             the workflow stopped at a position of its journal, with its true locals
=================== ================================================================================================

Nothing in ``durable`` imports this room. Read in this order: `virtual`, `lives`, `crashes`, `report`, `replays`, `debugger`.
"""

from durable.testing.crashes import crash_everywhere, crash_everywhere_async
from durable.testing.debugger import Stopped, debug
from durable.testing.lives import Send
from durable.testing.replays import ReplayCheck, check_replay
from durable.testing.report import CrashReport
from durable.testing.virtual import NothingWillHappen, VirtualTime, run, virtual_time

__all__ = [
    "CrashReport",
    "NothingWillHappen",
    "ReplayCheck",
    "Send",
    "Stopped",
    "VirtualTime",
    "check_replay",
    "crash_everywhere",
    "crash_everywhere_async",
    "debug",
    "run",
    "virtual_time",
]
