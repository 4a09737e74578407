"""What is measured, as data: one row a workload, one row a curve; and what `durable` must reach.

A workload is a size, a driver (a name in `bench.drive.DRIVERS`) and the one metric that the table shows;
everything else that a driver returns is kept in the JSON. Sizes and goals stay as they are, so that
figures of different days compare; `goals` judges by them.

To add one: a row here, and a driver if none of the present ones does it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from durable.membership.tuning import Tuning

PEERS = ("durable", "durable_cluster_one", "durable_cluster", "dbos", "dbos_postgres", "restate")
ENGINES = ("durable", "dbos", "dbos_postgres", "restate")
ALL = ("durable", "dbos", "restate")
OWN = ("durable",)
FAILOVER_S = 3.0
"""How soon all must have resumed after a SIGKILL; with the default timeouts, so long after the suspect timeout."""


@dataclass(frozen=True)
class Size:
    """How much: executions, steps in each, and the body at which the process is killed (0: never)."""

    workflows: int
    steps: int = 1
    kill_at: int = 0

    def __str__(self) -> str:
        return f"{self.workflows:,} x {self.steps:,}"


@dataclass(frozen=True)
class Goal:
    """What the median of one metric must reach. Of ``every_round`` the worst one must.

    ``times`` names what the bound is a multiple of, if it is no number of its own: a peer (its median of the same metric), a
    workload (the median there), or another metric of the same runs, such as the probe's.
    """

    metric: str
    bound: float
    more_is_better: bool
    times: str = ""
    peer: str = "durable"
    every_round: bool = False


def at_least(metric: str, bound: float, times: str = "", peer: str = "durable") -> Goal:
    return Goal(metric, bound, True, times, peer)


def at_most(metric: str, bound: float, times: str = "", peer: str = "durable") -> Goal:
    return Goal(metric, bound, False, times, peer)


def never(metric: str) -> Goal:
    return Goal(metric, 0, False, every_round=True)


@dataclass(frozen=True)
class Workload:
    """One line of the table. A second driver opens, in a new process, the folder that the first one left.

    ``profiled`` says that the profile of a step (`bench.profile`) is one of this work, and so tells why its goal is missed. What is
    measured only along a curve is not ``in_table``. ``rounds_max`` is for what takes minutes.
    """

    name: str
    title: str
    description: str
    size: Size
    driver: str
    headline: str
    unit: str
    higher_is_better: bool
    peers: tuple[str, ...] = ALL
    second_driver: str | None = None
    limit_s: float = 120.0
    goals: tuple[Goal, ...] = ()
    profiled: bool = False
    in_table: bool = True
    rounds_max: int | None = None

    def sized(self, size: Size) -> Workload:
        return replace(self, size=size)


@dataclass(frozen=True)
class Curve:
    """A workload over growing sizes. ``until`` is the largest that a peer is asked for; from ``once_from`` on a point takes minutes
    and is measured once. ``limit_s``: more than the workload's own.
    """

    name: str
    title: str
    workload: str
    sizes: tuple[Size, ...]
    metric: str
    x_label: str
    y_label: str
    until: dict[str, int]
    x: str = "workflows"
    once_from: int = 1_000_000
    limit_s: float | None = None

    def extent(self, size: Size) -> int:
        """Where it lies along the curve."""
        return int(getattr(size, self.x))


WORKLOADS: dict[str, Workload] = {
    row.name: row
    for row in (
        Workload(
            "W1", "One workflow, 1,000 steps in sequence",
            "Each step waits for the last one's record: a durable step's cost, shared with none.",
            Size(1, 1_000), "sequence", "steps_per_s", "steps/s", True, peers=ENGINES,
            goals=(
                at_least("steps_per_s", 0.5, times="probe_rate_per_s"),
                at_least("steps_per_s", 4, times="restate"),
                at_most("p99_ms", 3, times="probe_p99_ms"),
            ),
        ),
        Workload(
            "W2", "200 workflows of 10 steps, all at once",
            "What group commit is for: many workflows that are ready share one fsync.",
            Size(200, 10), "fan", "steps_per_s", "steps/s", True, peers=ENGINES,
            goals=(at_least("steps_per_s", 30_000), at_least("steps_per_s", 20, times="restate")), profiled=True,
        ),
        Workload(
            "W2L", "5,000 workflows of 10 steps, all at once",
            "The same, 25 times as much: cost must not grow with the load.",
            Size(5_000, 10), "fan", "steps_per_s", "steps/s", True, peers=OWN,
            goals=(at_least("steps_per_s", 1, times="W2"),),
        ),
        Workload(
            "W3", "Submit to result, one step",
            "One caller, one workflow at a time, nothing else running: latency, not throughput.",
            Size(200, 1), "latency", "p50_ms", "ms", False, peers=ENGINES,
            goals=(at_most("p50_ms", 1), at_most("p99_ms", 5)),
        ),
        Workload(
            "W4", "1,000 durable sleeps of one second",
            "All submitted at once. One second is the floor.",
            Size(1_000, 1), "sleepers", "total_s", "s", False, peers=ENGINES,
            goals=(at_most("total_s", 1.1),),
        ),
        Workload(
            "W5", "10,000 workflows that wait for a message",
            "Time until each has run to its wait, and the memory then, in all processes of the peer.",
            Size(10_000, 0), "waiting", "start_s", "s", False, limit_s=180.0,
            goals=(at_most("start_s", 1), at_most("memory_mb", 20)),
        ),
        Workload(
            "W5L", "1,000,000 workflows that wait for a message",
            "The same, a hundred times as much: only parked executions fit.",
            Size(1_000_000, 0), "waiting", "start_s", "s", False, peers=OWN, limit_s=600.0, rounds_max=1,
            goals=(at_least("started_per_s", 20_000), at_most("memory_mb", 500)),
        ),
        Workload(
            "W6", "500 workflows of 20 steps, SIGKILL at step 4,000, restart",
            "All processes are killed at the 4,000th body. Time from the new one's start to the last result; *from open* leaves "
            "out its interpreter's start and imports. *Recorded ran again* counts bodies that ran once more though they were on "
            "record at the kill.",
            Size(500, 20, kill_at=4_000), "until_killed", "recovery_s", "s", False,
            second_driver="recovered", limit_s=120.0,
            goals=(at_most("recovery_s", 0.5), never("recorded_ran_again")),
        ),
        Workload(
            "W7", "Replay of a journal of 100,000 entries",
            "One waiting workflow, opened again and woken: rows read, decoded and matched a second.",
            Size(1, 100_000), "long_journal", "rows_per_s", "rows/s", True,
            peers=OWN, second_driver="replayed", limit_s=180.0,
            goals=(at_least("rows_per_s", 200_000),),
        ),
        Workload(
            "W8", "Three nodes: 200 workflows of 10 steps, all at once",
            "One node beside three that keep three copies and commit by majority, on the same processors. (W2 is the same work at "
            "another time: compare within a row.) Then one workflow alone, whose every step is a commit: *commit over floor* is "
            "its time in units of the least that it can take, one fsync and one round trip to another process (the median of the "
            "rounds' ratios, not the ratio of the medians).",
            Size(200, 10), "replicated", "steps_per_s", "steps/s", True,
            peers=("durable", "durable_cluster_one", "durable_cluster"),
            goals=(
                at_least("steps_per_s", 10_000, peer="durable_cluster"),
                at_most("commit_over_floor", 3, peer="durable_cluster"),
            ),
            profiled=True,
        ),
        Workload(
            "W9", "SIGKILL of the owner of 1,000 running workflows",
            "Three nodes with the LAN preset. Time until the last of the thousand has run a step on another node. Beside it: when "
            "both others hold the dead one dead (*detected*), and when all that it owned has an owner of a higher epoch "
            "(*fenced*). The second does not wait for the first: three missed digests are enough.",
            Size(1_000, 0), "failover_lan", "resumed_s", "s", False, peers=("durable_cluster",),
            goals=(at_most("resumed_s", FAILOVER_S, peer="durable_cluster"),),
        ),
        Workload(
            "W9D", "SIGKILL of the owner of 1,000 running workflows, default timeouts",
            "The same with the defaults, which forgive a pause of five seconds.",
            Size(1_000, 0), "failover_default", "resumed_s", "s", False, peers=("durable_cluster",), limit_s=180.0,
            goals=(at_most("resumed_s", Tuning().suspect_timeout_s + FAILOVER_S, peer="durable_cluster"),),
        ),
        Workload(
            "BUSY", "1,000 steps beside a loop that is always runnable",
            "A thread that only flushes can be starved by a busy event loop: the slowest steps show it.",
            Size(1, 1_000), "beside_busy_loop", "p99_ms", "ms", False, peers=OWN,
        ),
        Workload(
            "OPEN", "Opening a store with many waiting executions",
            "Filled, closed, opened by a new process: time until a new workflow's result.",
            Size(10_000, 0), "waiting", "open_s", "s", False,
            peers=OWN, second_driver="opened", limit_s=900.0, in_table=False,
        ),
    )
}  # fmt: skip


def _workflows(*counts: int, steps: int = 10) -> tuple[Size, ...]:
    return tuple(Size(count, steps) for count in counts)


CURVES: dict[str, Curve] = {
    row.name: row
    for row in (
        Curve(
            "concurrency", "Steps a second, as more workflows run at once",
            "W2", _workflows(1, 10, 100, 1_000, 10_000),
            "steps_per_s", "concurrent workflows (10 steps each)", "steps/s",
            {"durable": 10_000, "dbos": 1_000, "restate": 10_000},
        ),
        Curve(
            "memory", "Memory of a waiting workflow",
            "W5", _workflows(1_000, 10_000, 100_000, 1_000_000, steps=0),
            "bytes_each", "waiting workflows", "bytes each",
            {"durable": 1_000_000, "dbos": 1_000, "restate": 10_000}, limit_s=600.0,
        ),
        Curve(
            "recovery", "Time to recover one workflow, by the length of its journal", "W6",
            tuple(Size(1, steps, kill_at=steps) for steps in (100, 1_000, 10_000, 50_000)),
            "recovery_s", "steps in the journal", "s from process start to result",
            {"durable": 50_000, "dbos": 10_000, "restate": 10_000}, x="steps",
        ),
        Curve(
            "open", "Time to open a store",
            "OPEN", _workflows(10, 1_000, 10_000, 100_000, 1_000_000, steps=0),
            "open_s", "waiting executions in the store", "s from open to a new workflow's result",
            {"durable": 1_000_000},
        ),
    )
}  # fmt: skip
