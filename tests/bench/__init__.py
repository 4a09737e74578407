"""The yardstick: `durable` beside DBOS and Restate's real server, in one go, on one disk.

Absolute times say little on a shared machine. So every comparison here is *interleaved*: at least five
rounds, in each round every peer runs every workload once, the order of the peers rotates, a probe of the
raw disk stands beside each run, and the medians are compared. Nothing in it is an assertion: it writes
numbers (JSON) and figures (SVG).

Run it from the root, with the ``bench`` extra installed::

    PYTHONPATH=tests python -m bench --workloads W1,W2 --rounds 5 --peers durable,dbos --out bench.json
    PYTHONPATH=tests python -m bench.figures bench.json book/assets/bench

Reading order: `workloads` (what is measured), `peer` (what a peer must offer), `bodies` (the steps, the
same for all), `drive` (how each workload is driven), the three adapters, `run` (one run in its own
processes), `stats`, `figures`; then `studies` (what has no engine beside it: the ring, SWIM in simulation, five real
processes), `cluster_figures`, `cluster_page`.

Limits: loads are bounded in count and by `Workload.limit_s`; servers bind to the loopback interface only;
Linux is where the figures come from (macOS works, without the parent-death signal; Windows is not
supported).
"""
