"""The world outside: a bank that keeps its ledger in a file, and is slow to answer."""

import time
from pathlib import Path

LEDGER = Path("ledger.txt")


def charge(order: str, cents: int, key: str = "") -> str:
    """Take money for an order. With a key, a request that comes again is recognised."""
    lines = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    if key and any(line.endswith(key) for line in lines):
        print(f"bank: this request again; nothing more is taken for {order}")
    else:
        with LEDGER.open("a") as ledger:
            ledger.write(f"{order}  {cents / 100:.2f}  {key}".rstrip() + "\n")
        print(f"bank: took {cents / 100:.2f} for {order}")
    time.sleep(1)  # the money is taken; the answer is on its way
    return f"payment-of-{order}"
