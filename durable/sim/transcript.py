"""Transcripts: a run of a swarm written down, so that one text is a test and a figure at once.

**How it works.** Lines that begin with ``> `` are commands; the indented lines under each are what happened.
`play` runs the commands and writes the answers anew: a test compares the two texts, and regenerating is
writing the new one. Everything else is prose.

=====================================  =======================================================================
command                                does
=====================================  =======================================================================
swarm N seed S                         node-1 to node-N, who know each other; must come first
start X [seeds A B]                    a new process, or a restart in the next life
crash X, pause X, resume X, leave X    to one process
cut A -> B, cut A <-> B                one way, or both
lose X                                 that share of all datagrams, 0 to 1
heal                                   no cuts, no loss
run T                                  T seconds, every packet and change of belief
run T changes                          only the changes of belief
run T about X                          only packets from, to or about X, and beliefs of or about it
members [A]                            what A (or everybody) believes
replicas N seed S                      in place of ``swarm``: copies of a partition (`durable.sim.replicascript`)
=====================================  =======================================================================

**Limits.** Sequence numbers are left out: they start at random and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from durable.membership.member import Claim, MemberStatus
from durable.membership.messages import Exchange, Join, JoinAck, Packet, Ping, PingReq, Refused
from durable.sim.network import Faults
from durable.sim.replicascript import ReplicaStage
from durable.sim.swarm import Belief, Sent, Swarm


def play(text: str) -> str:
    """The transcript with its answers written anew.

    >>> print(play("> swarm 2 seed 1\\n> run 0.01 changes\\n> members node-1\\n"), end="")
    > swarm 2 seed 1
    > run 0.01 changes
        (nothing)
    > members node-1
        node-1 believes: node-1 ALIVE 0, node-2 ALIVE 0

    Raises:
        ValueError: a command is unknown; the message holds the line.
    """
    stage = _Stage()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    ") and lines and (lines[-1].startswith(("> ", "    "))):
            continue
        lines.append(line.rstrip())
        if line.startswith("> "):
            lines += [f"    {answer}".rstrip() for answer in stage.do(line[2:].strip())]
    return "\n".join(lines) + "\n"


class _Stage:
    """The swarm of one transcript, or its replicas, and how its commands are carried out."""

    def __init__(self) -> None:
        self._swarm: Swarm | None = None
        self._replicas: ReplicaStage | None = None

    def do(self, command: str) -> list[str]:
        match command.split():
            case ["swarm", count, "seed", seed]:
                self._swarm = Swarm(int(seed))
                self._swarm.start_converged(int(count))
                return []
            case ["replicas", count, "seed", seed, *piece] if piece[:-1] in ([], ["piece"]):
                self._replicas = ReplicaStage(int(seed), int(count), int(piece[-1]) if piece else None)
                return []
            case [verb, *words] if self._replicas is not None:
                answers = self._replicas.do(verb, words)
                if answers is not None:
                    return answers
            case [verb, *words] if self._swarm is not None:
                answers = self._to_swarm(self._swarm, verb, words)
                if answers is not None:
                    return answers
        raise ValueError(f"cannot play: {command}")

    def _to_swarm(self, swarm: Swarm, verb: str, words: list[str]) -> list[str] | None:
        simple: dict[str, Callable[[str], None]] = {
            "crash": swarm.crash,
            "pause": swarm.pause,
            "leave": swarm.leave,
        }
        match verb, words:
            case "start", [name, *rest]:
                return _watch(swarm, lambda: swarm.start(name, seeds=rest[1:]), _everything)
            case "resume", [name]:
                return _watch(swarm, lambda: swarm.resume(name), _everything)
            case (("crash" | "pause" | "leave"), [name]):
                return _watch(swarm, lambda: simple[verb](name), _everything)
            case "cut", [source, way, target] if way in ("->", "<->"):
                ends = swarm.address_of(source), swarm.address_of(target)
                for a, b in (ends, ends[::-1])[: 1 if way == "->" else 2]:
                    swarm.network.cut(a, b)
            case "lose", [share]:
                swarm.network.faults = replace(swarm.network.faults, loss=float(share))
            case "heal", []:
                swarm.network.heal()
                swarm.network.faults = Faults()
            case "run", [seconds]:
                return _watch(swarm, lambda: swarm.run(float(seconds)), _everything) or ["(nothing)"]
            case "run", [seconds, "changes"]:
                return _watch(swarm, lambda: swarm.run(float(seconds)), _changes) or ["(nothing)"]
            case "run", [seconds, "about", name]:
                return _watch(swarm, lambda: swarm.run(float(seconds)), _about(name)) or ["(nothing)"]
            case "members", names:
                return list(_members(swarm, names))
            case _:
                return None
        return []


_Filter = Callable[[Swarm, Sent | Belief], bool]


def _everything(swarm: Swarm, what: Sent | Belief) -> bool:
    return True


def _changes(swarm: Swarm, what: Sent | Belief) -> bool:
    return isinstance(what, Belief)


def _about(name: str) -> _Filter:
    def chosen(swarm: Swarm, what: Sent | Belief) -> bool:
        if isinstance(what, Belief):
            return name in (what.observer, what.member.node_id)
        message = what.packet.message
        told = isinstance(message, PingReq) and message.target == name
        return told or name in (what.source, what.target.host, *(c.node_id for c in what.packet.claims))

    return chosen


def _watch(swarm: Swarm, happen: Callable[[], object], chosen: _Filter) -> list[str]:
    """Let something happen, and write down what of it is chosen, in the order of time."""
    seen: list[tuple[float, int, str]] = []
    beliefs, others = len(swarm.beliefs), len(swarm.other_effects)

    def sent(packet: Sent) -> None:
        if chosen(swarm, packet):
            seen.append((packet.at, 2, _packet(packet)))

    swarm.on_sent = sent
    happen()
    swarm.on_sent = None
    for belief in swarm.beliefs[beliefs:]:
        if chosen(swarm, belief):
            seen.append((belief.at, 1, _belief(belief)))
    for at, observer, effect in swarm.other_effects[others:]:
        seen.append((at, 3, f"{observer}: {type(effect).__name__}"))
    return [f"{at:7.3f}  {line}" for at, _, line in sorted(seen, key=lambda entry: entry[:2])]


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
    boot = f" boot {claim.boot}" if claim.boot > 1 else ""
    return f"{claim.node_id} {claim.status.name} {claim.incarnation}{boot}{by}"


def _belief(belief: Belief) -> str:
    was = "unknown" if belief.was is None else belief.was.name
    member = belief.member
    now = f"{member.status.name} {member.incarnation}"
    return f"{belief.observer} believes: {member.node_id} was {was}, is {now}"


def _members(swarm: Swarm, names: list[str]) -> Iterator[str]:
    for process in swarm.alive():
        if not names or process.node_id in names:
            listed = ", ".join(
                f"{member.node_id} {member.status.name} {member.incarnation}"
                for member in process.swim.members()
            )
            yield f"{process.node_id} believes: {listed}"
