"""Put what was measured again into the result file of an older day: ``python -m bench.merge INTO.json FROM.json``.

A workload is replaced as a whole, with all its peers, and so is a point of a curve: only what was measured in one session is
compared. What was taken, when, and on which machine is noted under ``later``, and the page says so. Traces come along, with
their own dates.

``later`` is a list of ``{"workloads": [...], "points": {curve: [size, ...]}, "created": ..., "machine": ..., "peers": ...}``, where
``peers`` describes those that differ from what the file says of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.stats import faults
from bench.workloads import CURVES, WORKLOADS

TRACED = ("profile", "profile_cluster", "profile_created", "commit")
Document = Mapping[str, Any]
Part = str | tuple[str, int]
"""A workload, or a curve and a size."""


def merge(into: Document, new: Document) -> dict[str, Any]:
    """Neither is changed. Raises `ValueError` if one is not well formed, or a part of ``new`` is no newer than what is there."""
    found = [fault for document in (into, new) for fault in faults(document)]
    if found:
        raise ValueError("not a result of this benchmark: " + "; ".join(found))
    there, again = dates(into), dates(new)
    for one in sorted(there.keys() & again.keys(), key=str):
        if again[one] <= there[one]:
            raise ValueError(f"{_named(one)} is of {there[one]} there already")
    kept = {key: [run for run in into[key] if part(run) not in again] for key in ("runs", "points")}
    left = {run["peer"] for key in kept for run in kept[key]}
    merged = {
        **into,
        **{key: [*kept[key], *new[key]] for key in kept},
        **{key: new[key] for key in TRACED if key in new},
        "peers": {**into["peers"], **{name: about for name, about in new["peers"].items() if name not in left}},
    }
    later = [*_still_true(into.get("later", ()), again), *_noted(new, merged["peers"])]
    return {**merged, "later": later} if later else merged


def part(run: Mapping[str, Any]) -> Part:
    """What a run or a point is one of."""
    return (run["curve"], int(run[CURVES[run["curve"]].x])) if "curve" in run else str(run["workload"])


def dates(document: Document) -> dict[Part, str]:
    """When each part was measured."""
    found = {part(run): document["created"] for run in (*document["runs"], *document["points"])}
    for entry in document.get("later", ()):
        found |= dict.fromkeys(_parts(entry), entry["created"])
    return found


def _parts(entry: Mapping[str, Any]) -> list[Part]:
    return [*entry["workloads"], *((curve, size) for curve, sizes in entry.get("points", {}).items() for size in sizes)]


def _entry(parts: Collection[Part], source: Document, peers: Mapping[str, Any]) -> dict[str, Any]:
    """A note that these are of that day and machine."""
    sizes = {curve: sorted(one[1] for one in parts if not isinstance(one, str) and one[0] == curve) for curve in CURVES}
    return {
        "workloads": [name for name in WORKLOADS if name in parts],
        "points": {curve: found for curve, found in sizes.items() if found},
        "peers": dict(peers),
        "created": source["created"],
        "machine": source["machine"],
    }


def _still_true(later: Iterable[Document], again: Collection[Part]) -> list[dict[str, Any]]:
    """The notes of earlier merges, without what was measured again."""
    left = [(entry, [one for one in _parts(entry) if one not in again]) for entry in later]
    return [_entry(parts, entry, entry.get("peers", {})) for entry, parts in left if parts]


def _noted(new: Document, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The note of this merge, and those that the newer file has itself."""
    own = [one for one, date in dates(new).items() if date == new["created"]]
    ran = {run["peer"] for run in (*new["runs"], *new["points"]) if part(run) in own}
    other = {name: new["peers"][name] for name in sorted(ran) if new["peers"].get(name) != described.get(name)}
    return [*([_entry(own, new, other)] if own else []), *_still_true(new.get("later", ()), ())]


def _named(one: Part) -> str:
    return one if isinstance(one, str) else f"{one[0]} at {one[1]:,}"


def _told(into: Document, new: Document) -> Iterator[str]:
    """What is taken, and who is gone by that."""
    before = [(part(run), run["peer"]) for run in (*into["runs"], *into["points"])]
    after = [(part(run), run["peer"]) for run in (*new["runs"], *new["points"])]
    for one in dict.fromkeys(name for name, _ in after):
        yield _named(one)
        for peer in dict.fromkeys(peer for name, peer in before if name == one and (one, peer) not in after):
            yield f"{_named(one)}: {peer} is gone, which was not measured beside the others"
    yield from (key for key in TRACED if key in new)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m bench.merge INTO.json FROM.json")
        return 2
    path = Path(arguments[0])
    into, new = (json.loads(Path(name).read_text()) for name in arguments)
    path.write_text(json.dumps(merge(into, new), indent=1) + "\n")
    for said in _told(into, new):
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
