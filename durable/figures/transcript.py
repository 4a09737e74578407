"""Transcripts: a run of a world written down, so that one text is a test and a figure at once.

**How it works.** Lines that begin with ``> `` are commands; the indented lines under each are what happened.
`play` runs the commands and writes the answers anew: a test compares the two texts, and regenerating is
writing the new one. Everything else is prose.

=====================================  =======================================================================
command                                does
=====================================  =======================================================================
nodes N seed S                         node-1 to node-N, who know each other; must come first
start X [seeds A B]                    a new process, or a restart in its next life
crash X, pause X, resume X, leave X    to one process
cut A -> B, cut A <-> B                one way, or both
lose X                                 that share of all datagrams, 0 to 1
heal                                   no cuts, no loss
run T                                  T seconds, every packet and change of belief
run T changes                          only the changes of belief
run T about X                          only packets from, to or about X, and beliefs of or about it
members [A]                            what A (or everybody) believes
replicas N seed S                      in place of ``nodes``: copies of a partition (`durable.figures.replicascript`)
=====================================  =======================================================================

The clock starts when they do; what they said before, to find each other, is left out.

**Limits.** Sequence numbers are left out: they start at random and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from durable.figures.replicascript import ReplicaStage
from durable.membership.member import Claim, MemberStatus
from durable.membership.messages import Exchange, Join, JoinAck, Packet, Ping, PingReq, Refused
from durable.sim.network import Faults
from durable.sim.records import Beliefs, Note, Sent
from durable.sim.world import SimWorld


def play(text: str) -> str:
    """The transcript with its answers written anew.

    >>> print(play("> nodes 2 seed 1\\n> run 0.01 changes\\n> members node-1\\n"), end="")
    > nodes 2 seed 1
    > run 0.01 changes
        (nothing)
    > members node-1
        node-1 believes: node-1 ALIVE 0, node-2 ALIVE 0

    Raises:
        ValueError: a command is unknown; the message holds the line.
    """
    stage = _Stage()
    try:
        return _played(stage, text)
    finally:
        stage.close()


def _played(stage: _Stage, text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    ") and lines and (lines[-1].startswith(("> ", "    "))):
            continue
        lines.append(line.rstrip())
        if line.startswith("> "):
            lines += [f"    {answer}".rstrip() for answer in stage.do(line[2:].strip())]
    return "\n".join(lines) + "\n"


class _Stage:
    """The world of one transcript, or its replicas, and how its commands are carried out."""

    def __init__(self) -> None:
        self._world: SimWorld | None = None
        self._replicas: ReplicaStage | None = None
        self._zero = 0.0

    def close(self) -> None:
        if self._world is not None:
            self._world.close()

    def do(self, command: str) -> list[str]:
        match command.split():
            case ["nodes", count, "seed", seed] if self._world is None:
                self._world = SimWorld(int(seed))
                Beliefs(self._world)
                self._world.start_converged(int(count))
                self._zero = self._world.now
                return []
            case ["replicas", count, "seed", seed, *piece] if piece[:-1] in ([], ["piece"]):
                self._replicas = ReplicaStage(int(seed), int(count), int(piece[-1]) if piece else None)
                return []
            case [verb, *words] if self._replicas is not None:
                answers = self._replicas.do(verb, words)
                if answers is not None:
                    return answers
            case [verb, *words] if self._world is not None:
                answers = self._to_world(self._world, verb, words)
                if answers is not None:
                    return answers
        raise ValueError(f"cannot play: {command}")

    def _to_world(self, world: SimWorld, verb: str, words: list[str]) -> list[str] | None:
        simple: dict[str, Callable[[str], object]] = {
            "crash": world.crash,
            "pause": world.pause,
            "leave": world.leave,
            "resume": world.resume,
        }
        match verb, words:
            case "start", [name, *rest]:
                return self._watch(world, lambda: world.start(name, seeds=rest[1:]), _everything)
            case (("crash" | "pause" | "leave" | "resume"), [name]):
                return self._watch(world, lambda: simple[verb](name), _everything)
            case "cut", [source, way, target] if way in ("->", "<->"):
                for a, b in ((source, target), (target, source))[: 1 if way == "->" else 2]:
                    world.cut(a, b)
            case "lose", [share]:
                world.network.faults = replace(world.network.faults, loss=float(share))
            case "heal", []:
                world.heal()
                world.network.faults = Faults()
            case "run", [seconds]:
                return self._watch(world, lambda: world.run(float(seconds)), _everything) or ["(nothing)"]
            case "run", [seconds, "changes"]:
                return self._watch(world, lambda: world.run(float(seconds)), _changes) or ["(nothing)"]
            case "run", [seconds, "about", name]:
                return self._watch(world, lambda: world.run(float(seconds)), _about(name)) or ["(nothing)"]
            case "members", names:
                return list(_members(world, names))
            case _:
                return None
        return []

    def _watch(self, world: SimWorld, happen: Callable[[], object], chosen: _Filter) -> list[str]:
        """Let something happen, and write down what of it is chosen, in the order of time."""
        seen: list[tuple[float, int, str]] = []
        before = len(world.notes)

        def sent(packet: Sent) -> None:
            if chosen(packet):
                seen.append((packet.at, 1, _packet(packet)))

        world.on_sent = sent
        happen()
        world.on_sent = None
        for note in world.notes[before:]:
            if _is_told(note) and chosen(note):
                seen.append((note.at, 0, f"{note.who} {note.what}"))
        return [f"{at - self._zero:7.3f}  {line}" for at, _, line in sorted(seen, key=lambda entry: entry[:2])]


_Filter = Callable[[Sent | Note], bool]


def _is_told(note: Note) -> bool:
    """What the nodes do; what was done to them is said by the commands."""
    return note.what.startswith(("believes:", "has joined", "has left", "ended:"))


def _everything(what: Sent | Note) -> bool:
    return True


def _changes(what: Sent | Note) -> bool:
    return isinstance(what, Note)


def _about(name: str) -> _Filter:
    def chosen(what: Sent | Note) -> bool:
        if isinstance(what, Note):
            return what.who == name or f" {name} " in what.what
        message = what.packet.message
        told = isinstance(message, PingReq) and message.target == name
        return told or name in (what.source, what.target.host, *(c.node_id for c in what.packet.claims))

    return chosen


def _packet(sent: Sent) -> str:
    lost = "" if sent.copies else "   (lost)"
    return f"{sent.source} -> {sent.target.host}  {_what(sent.packet)}{lost}"


def _what(packet: Packet) -> str:
    message = packet.message
    match message:
        case None:
            said = "news"
        case Ping():
            said = "Ping"
        case PingReq(target=target):
            said = f"PingReq for {target}"
        case Join():
            said = "Join"
        case JoinAck(members=members) | Exchange(members=members):
            said = f"{type(message).__name__} with {len(members)} members"
        case Refused(why=why):
            said = f"Refused: {why}"
        case _:
            said = type(message).__name__
    claims = ", ".join(_claim(claim) for claim in packet.claims)
    return f"{said}  [{claims}]" if claims else said


def _claim(claim: Claim) -> str:
    by = f" by {claim.origin}" if claim.status in (MemberStatus.SUSPECT, MemberStatus.DEAD) else ""
    return f"{claim.node_id} {claim.status.name} {claim.incarnation}{by}"


def _members(world: SimWorld, names: list[str]) -> Iterator[str]:
    for process in world.running():
        if not names or process.name in names:
            listed = ", ".join(
                f"{member.node_id} {member.status.name} {member.incarnation}" for member in process.node.members()
            )
            yield f"{process.name} believes: {listed}"
