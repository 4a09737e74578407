"""Traces: what is looked into, not timed. One row a trace; each adds its part to a result file, and is named like a workload.

A profiler or a note at every turn makes everything slower: these runs say where the time goes, and never how much it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import commit, profile

TRACES: dict[str, Callable[[dict[str, Any], Path], None]] = {"PROFILE": profile.add, "COMMIT": commit.add}
"""By name: given the document, and a folder that is on a real disk."""
