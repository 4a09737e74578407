"""What demonstrations 12 and 13 promise, looked for in what they printed when they ran.

A notebook that runs through has raised nothing, which is less than its text says. ``PROMISES`` has, for a notebook's name, what
reads its outputs and fails when the text is not true of them. Outputs are taken as words: what was printed, and the text form of
what was displayed, each a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from durable.membership.member import NodeId
from durable.routing.partitions import PartitionRing

NODES = [f"node-{number}" for number in range(1, 6)]
COPIES = 3


def blocks(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """The words of every output, in order."""
    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    found = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return [words if isinstance(words, str) else "".join(words) for words in found]


def block(shown: list[str], begin: str) -> str:
    """The one block that begins so."""
    [found] = [words for words in shown if words.startswith(begin)]
    return found


def rows(words: str) -> list[list[str]]:
    """The words of a table, line by line without its head."""
    return [line.split() for line in words.splitlines()[1:]]


def named(shown: list[str], label: str) -> str:
    """What stands behind a label on a printed line."""
    [found] = [line.removeprefix(label) for words in shown for line in words.splitlines() if line.startswith(label)]
    return found.strip()


def whole_ring() -> PartitionRing:
    """Computed here, from nothing but the names."""
    ring = PartitionRing(150, 256)
    for name in NODES:
        ring.add_node(NodeId(name))
    return ring


def routed(shown: list[str]) -> None:
    """Demonstration 12."""
    ring = whole_ring()
    assert block(shown, "the ring says\n").endswith("\n0 of 256 partitions have another owner")
    assert named(shown, "as the ring says:") == "60 of 60"
    orders = rows(block(shown, "order "))
    assert [row[:2] for row in orders] == [[f"order-{number}", NODES[number % len(NODES)]] for number in range(10)]
    for order, _, said, owner, ran in orders:
        assert said == owner == ran == ring.get_node(order)
    load = {node: int(count) for node, count, _ in rows(block(shown, "node    orders"))}
    assert load == {node: sum(ring.get_node(f"order-{number}") == node for number in range(60)) for node in NODES}
    assert named(shown, "nodes that tell the same about all sixty:") == str(len(NODES))
    room, errand = ring.get_node("store-room"), ring.get_node("errand")
    assert room != errand and named(shown, "owners:") == f"{room} and {errand}"
    assert named(shown, "errand:") == f"a teapot, packed on {room}"
    assert named(shown, "store room:") == "served errand"


def failed_over(shown: list[str]) -> None:
    """Demonstration 13."""
    [runs] = [words for words in shown if " runs parcel-" in words]
    victim, _, lost = runs.strip().partition(" runs ")
    goes_on_elsewhere(shown, victim, lost.split(", "))
    comes_back(shown, victim, len(lost.split(", ")))
    comes_too_late(shown)


def goes_on_elsewhere(shown: list[str], victim: str, lost: list[str]) -> None:
    ring = whole_ring()
    parcels = {parcel: row for parcel, *row in rows(block(shown, "parcel "))}
    assert len(parcels) == 12 and "parcel-5" in lost
    for parcel, (epoch, later, packed, weighed, labelled) in parcels.items():
        if parcel in lost:
            assert int(later) > int(epoch) and packed == victim
            assert {weighed, labelled} <= set(ring.get_nodes(parcel, COPIES)) - {victim}
        else:
            assert later == epoch
            assert victim != packed == weighed == labelled


def comes_back(shown: list[str], victim: str, moved: int) -> None:
    during, after = [words for words in shown if "mark: " in words]
    for words in (during, after):
        assert f"{victim}  ALIVE (4), then SUSPECT (4), then DEAD (4)" in words
    assert during.endswith(f"mark: {victim} is killed") and after.endswith(f"mark: {victim} restarts")
    rings, owners = [words for words in shown if words.startswith("before\n")]
    for words in (rings, owners):
        stages = words.split("\n\n")
        assert [stage.splitlines()[0] for stage in stages] == ["before", f"without {victim}", "back"]
        before, without, back = ([line for line in stage.splitlines()[2:] if line.startswith("node-")] for stage in stages)
        assert before == back != without and victim not in "\n".join(without)
    assert rings.endswith(f"{moved} of 12 keys move" + (", all" if moved > 1 else ",") + f" to {victim}")


def comes_too_late(shown: list[str]) -> None:
    zombie, heir, result = (part.partition(": ")[2] for part in block(shown, "zombie: ").strip().split(", ", 2))
    assert result == str([zombie, heir, heir]) and zombie != heir
    refused = {node: int(later) - int(before) for node, before, later in rows(block(shown, "node    had refused"))}
    refusing = {node for node, count in refused.items() if count > 0}
    assert len(refusing) == COPIES - 1 and heir in refusing and zombie not in refusing
    assert rows(block(shown, "asked at")) == [[node, zombie, heir, heir] for node in NODES]
    assert named(shown, "the epoch has only grown:") == "True"
    assert named(shown, "the owner now:") == zombie
    [weighed] = [row for row in rows(shown[-1]) if "weigh" in row]
    assert f'"{heir}"' in weighed


PROMISES: dict[str, Callable[[list[str]], None]] = {
    "12-distributed-execution": routed,
    "13-node-failure": failed_over,
}
