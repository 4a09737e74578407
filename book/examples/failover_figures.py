"""The figures of chapter 6: each is a run under a seed that stands here, drawn as it was recorded."""

import ast
import json
from collections.abc import Callable
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from typing import Any

from durable.copies.effects import Lost
from durable.figures.replicas import Replicas, Said, Told
from durable.figures.replicascript import effect_words, is_shown, message_words
from durable.membership.member import NodeId
from durable.notebook import Figure, table
from durable.notebook.sequence import BAD, GOOD, Arrow, Event, Note, Row, sequence

NODE_1, NODE_2, NODE_3 = NodeId("node-1"), NodeId("node-2"), NodeId("node-3")


def obvious() -> Any:
    spec = spec_from_file_location("naive", Path(__file__).with_name("naive.py"))
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(module := module_from_spec(spec))
    return module


def drawn(seed: int, **scheme: Any) -> Figure:
    """A run of the obvious scheme, up to the violation."""
    naive = obvious()
    run, twice = naive.play(partial(naive.Run, **scheme), seed)
    assert twice, "the seed shows what it is to show"
    shown = [_row(kind, words) for kind, *words in run.seen if words[3:] or kind not in ("copy", "ack")]
    return sequence([(str(step), row) for step, row in enumerate(shown, 1)], list(run.nodes), f"seed {seed}: {twice}", unit="step")


def _row(kind: str, words: list[str]) -> Row:
    match kind, words:
        case "sides", [one, other]:
            return Event(f"cut: {_short(one)} | {_short(other)}" if one and other else "the network is whole again")
        case "owns", [name, source, *journal]:
            return Note(name, f"{name} takes over, with {source}'s journal: {_entries(journal)}")
        case "commits", [name, place, entry, *before]:
            again = f"; it was [{before[0]}]" if before else ""
            return Note(name, f"{name} commits entry {place}: [{entry}]{again}", BAD if before else GOOD)
        case _, [source, target, lost, *journal]:
            return Arrow(source, target, f"{kind} {_entries(journal)}", bool(lost))
    raise ValueError(kind)


def _short(names: str) -> str:
    return " ".join(name.removeprefix("node-") for name in names.split())


def _entries(journal: list[str]) -> str:
    return " ".join(f"[{entry}]" for entry in journal) or "empty"


def two_live_sides() -> Figure:
    return drawn(198)


def the_same_three() -> Figure:
    return drawn(1409, nodes=3, longest=True, majority=True)


def recorded(happen: Callable[[Replicas], None]) -> Figure:
    """Three nodes (seed 1) of which node-2 owns the partition; then what ``happen`` does, from the beginning of its clock."""
    replicas = Replicas(seed=1, count=3)
    replicas.run_until(lambda: replicas.owner() is not None)
    replicas.run(0.3)
    replicas.append(NODE_2, "a")
    replicas.run(1.5)
    replicas.seen.clear()
    begin = replicas.queue.now
    happen(replicas)
    rows = [(f"{one.at - begin:.3f}", row_of(one)) for one in replicas.seen if is_shown(one)]
    return sequence(rows, [NODE_1, NODE_2, NODE_3], f"{len(rows)} events between three nodes")


def row_of(seen: Said | Told) -> Row:
    if isinstance(seen, Said):
        return Arrow(seen.source, seen.target, message_words(seen.message), not seen.arrives)
    return Note(seen.node, f"{seen.node} {effect_words(seen.effect)}", BAD if isinstance(seen.effect, Lost) else GOOD)


def a_commit() -> Figure:
    def happen(replicas: Replicas) -> None:
        replicas.append(NODE_2, "b")
        replicas.run(0.02)

    return recorded(happen)


def an_election() -> Figure:
    def happen(replicas: Replicas) -> None:
        replicas.cut(NODE_2, NODE_3)
        replicas.append(NODE_2, "b")  # reaches node-1 only, and is committed with it
        replicas.run(0.02)
        replicas.crash(NODE_2)
        replicas.believe(NODE_2, False)
        replicas.run(1.0)

    return recorded(happen)


def a_zombie() -> Figure:
    def happen(replicas: Replicas) -> None:
        replicas.pause(NODE_2)
        replicas.believe(NODE_2, False)
        replicas.run(1.0)
        replicas.append(NODE_2, "x")
        replicas.resume(NODE_2)
        replicas.run(0.02)

    return recorded(happen)


def how_long() -> Figure:
    """The two kills of the measures: medians, in seconds after the SIGKILL."""
    runs = json.loads((Path(__file__).resolve().parents[1] / "measures/bench.json").read_text("utf8"))["runs"]
    moments = ["detected_s", "fenced_s", "resumed_half_s", "resumed_s"]
    rows = []
    for preset, workload in (("defaults", "W9D"), ("LAN preset", "W9")):
        kills = [run["metrics"] for run in runs if run["workload"] == workload and run["metrics"]]
        rows.append((preset, *(f"{median(kill[moment] for kill in kills):.2f}\N{NO-BREAK SPACE}s" for moment in moments)))
    return table(rows, "", "held dead by both others", "owned again", "half have run a step", "all have")


def parsed(name: str) -> ast.Module:
    return ast.parse((Path(__file__).resolve().parents[2] / "tests" / name).read_text("utf8"))


def the_mutations() -> Figure:
    """The table of the module that breaks the rules, and within how many seeds its test must catch each."""
    (caught,) = [
        ast.literal_eval(node.value)
        for node in parsed("simulation/test_replication_model.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CAUGHT_WITHIN"
    ]
    lines = (ast.get_docstring(parsed("replicamutations.py")) or "").splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("====")]
    starts = [0, lines[rules[0]].index(" =") + 1, lines[rules[0]].rindex(" =") + 1]
    cells = [[line[begin:end].strip() for begin, end in zip(starts, [*starts[1:], None], strict=True)] for line in lines]
    heads, rows = cells[rules[0] + 1], cells[rules[1] + 1 : rules[2]]
    return table([(*row, caught[row[0]][1]) for row in rows], *heads, "seeds")


if __name__ == "__main__":
    for figure in (two_live_sides, the_same_three, a_commit, an_election, a_zombie, how_long, the_mutations):
        print(figure(), end="\n\n")
