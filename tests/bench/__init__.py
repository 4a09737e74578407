"""The yardstick: `durable` beside DBOS and Restate's real server, in one go, on one disk.

Absolute times say little on a shared machine. So every comparison here is *interleaved*: at least five
rounds, in each round every peer runs every workload once, the order of the peers rotates, a probe of the
raw disk stands beside each run, and the medians are compared. Nothing in it is an assertion: it writes
numbers (JSON) and figures (SVG).

Run it from the root::

    nox -s bench                                                    # all that the page of measures shows
    nox -s bench -- --workloads W1,W2 --peers durable,dbos          # only some of it

or, with the extras ``bench`` and ``cluster`` installed, as ``PYTHONPATH=tests python -m bench``. The book's page is written from
result files by ``PYTHONPATH=tests python -m bench.page book/measures/bench.json``; `merge` puts what was measured again into one.

Reading order: `workloads` (what is measured, and what must be reached), `peer` (what a peer must offer), `bodies` (the steps, the
same for all), `drive` (how each workload is driven), the adapters, `run` (one run in its own
processes), `stats`, `goals`, `figures`; then `studies` (what has no engine beside it: the ring, SWIM in simulation, five real
processes) and `traces` (where the time goes); last the page: `page`, `workload_page`, `cluster_figures`, `cluster_page`.

Limits: loads are bounded in count and by `Workload.limit_s`; servers bind to the loopback interface only;
Linux is where the figures come from (macOS works, without the parent-death signal; Windows is not
supported).
"""
