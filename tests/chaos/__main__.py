"""``nox -s chaos``: kill one node 200 times, then a cluster under every fault for 30 minutes.

``python -m chaos --minutes 30 --seed 1 --store rocksdb|leveldb|mixed [--rounds 200] [--control]``

``--rounds`` is the number of kills of a single node beforehand, ``--minutes`` how long the cluster is under faults; 0 leaves either
out, and ``--rounds 20 --minutes 2`` is a short look. A run of 5 minutes or more must have shown a partial cut that does what it is
for, one of 10 or more every kind of fault. ``--control`` is another, short run, of the harness: with the epoch check switched
off in the nodes it must find contradictions, and with it, under the same faults, none.
"""

from __future__ import annotations

import argparse
import sys

from chaos import cluster, control, kill


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the cluster is under faults (default: 30)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=list(cluster.STORES), default="rocksdb")
    parser.add_argument("--rounds", type=int, default=200, help="kills of a single node beforehand (default: 200)")
    parser.add_argument("--control", action="store_true", help="only show that the harness sees it when epochs are not checked")
    chosen = parser.parse_args()
    if chosen.control:
        return 0 if control.main(chosen.seed, chosen.store) else 1
    good = True
    if chosen.rounds:
        for store in ("rocksdb", "leveldb") if chosen.store == "mixed" else (chosen.store,):
            try:
                kill.run(chosen.rounds, store, chosen.seed)
            except kill.Broken as broken:
                good = False
                again = f"--rounds {chosen.rounds} --seed {chosen.seed} --store {store} --minutes 0"
                print(f"BROKEN: {broken}\nAgain: nox -s chaos -- {again}")
    if chosen.minutes:
        good = cluster.main(chosen.minutes, chosen.seed, chosen.store) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
