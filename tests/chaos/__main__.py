"""``nox -s chaos``: kill one node again and again, then a cluster under every fault.

``python -m chaos --minutes 30 --seed 1 --store rocksdb|leveldb|mixed [--rounds 200] [--control]``

``--rounds`` is the number of kills of a single node beforehand (0: none). ``--control`` runs the cluster with the epoch check
switched off in its nodes: then losses must be reported, and it fails if there are none.
"""

from __future__ import annotations

import argparse
import sys

from chaos import cluster, kill


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the cluster is under faults (default: 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=list(cluster.STORES), default="rocksdb")
    parser.add_argument("--rounds", type=int, default=20, help="kills of a single node beforehand (default: 20)")
    parser.add_argument("--control", action="store_true", help="without the epoch check: must report losses")
    chosen = parser.parse_args()
    good = True
    if chosen.rounds and not chosen.control:
        for store in ("rocksdb", "leveldb") if chosen.store == "mixed" else (chosen.store,):
            try:
                kill.run(chosen.rounds, store, chosen.seed)
            except kill.Broken as broken:
                good = False
                again = f"--rounds {chosen.rounds} --seed {chosen.seed} --store {store} --minutes 0"
                print(f"BROKEN: {broken}\nAgain: nox -s chaos -- {again}")
    if chosen.minutes:
        good = cluster.main(chosen.minutes, chosen.seed, chosen.store, chosen.control) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
