"""Write every transcript anew. Read the difference before you keep it: the protocol has changed.

python tests/scenarios/regenerate.py
"""

from __future__ import annotations

from pathlib import Path

from durable.figures.transcript import play

if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*.txt")):
        before = path.read_text()
        after = play(before)
        path.write_text(after)
        print("changed" if after != before else "same   ", path.name)
