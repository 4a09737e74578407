"""Transcripts of the replicated journal: what copies of one partition say to each other, written down.

`durable.figures.transcript` plays them; a transcript that begins with ``replicas`` is played by this stage.

=====================================  =======================================================================
command                                does
=====================================  =======================================================================
replicas N seed S [piece B]            node-1 to node-N found a cluster; must come first; the clock begins. Logs are
                                       fetched in pieces of about B bytes
start X                                a new process: a restart on its disk, or a new node
crash X, pause X, resume X, wipe X     to one node
cut A -> B, cut A <-> B, heal          one way, or both
believe X dead, believe X alive        what membership tells everybody but X
append X VALUE ...                     X is asked to append entries; the error, if it refuses
confirm X                              X is asked whether it still owns the partition
ask-in X, ask-out X, leave X           X wants to become a voter, or to be none; leave: it hands over first
run T                                  T seconds of it, without digests
run T changes                          only what the cores told their shells
run T about A B                        only what A or B say, are sent, or tell their shells
run until owned                        until somebody owns the partition; also with ``changes`` or ``about``
copies                                 every copy, as it stands
=====================================  =======================================================================

Epochs are written as ``3@node-1``. The roster's own partition, digests and greetings are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from durable.copies.effects import Committed, Confirmed, Effect, Lost, Owned, RosterChanged
from durable.copies.messages import (
    Ack,
    Append,
    AskChange,
    Base,
    BaseHeld,
    Behind,
    Confirm,
    Digest,
    DigestAnswer,
    Fetch,
    HandOver,
    Piece,
    Plan,
    PlanReady,
    Prepare,
    PreVoted,
    Promise,
    Refused,
    RosterNews,
    SnapshotPiece,
    Superseded,
    Sync,
)
from durable.copies.messages import Confirmed as ConfirmedMessage
from durable.copies.rows import decode_entry, decode_seal, is_seal
from durable.errors import DurableError
from durable.figures.replicas import RANGE, P, Replicas, Said, Told
from durable.membership.member import NodeId
from durable.replication import ROSTER, ZERO, Epoch, Message, ReplicationTuning

QUIET = (Digest, DigestAnswer, AskChange, Plan, PlanReady, Confirm, ConfirmedMessage)
"""Said every second, whatever happens."""
ENTRIES_SHOWN = 3
"""How many of a log's last entries ``copies`` shows."""


def epoch_words(epoch: Epoch) -> str:
    """An epoch as ``3@node-1``."""
    return "none" if epoch == ZERO else f"{epoch[0]}@{epoch[1]}"


def entry_words(entry: bytes) -> str:
    """What an entry holds: the values that were appended, or the seal."""
    if is_seal(entry):
        return f"SEAL to roster {decode_seal(entry).version}"
    return " ".join(key.removeprefix(RANGE).decode() for key, _ in decode_entry(entry))


def message_words(message: Message) -> str:
    """A message in a few words, without partition and generation."""
    match message:
        case PreVoted(granted=granted):
            return "PreVoted: yes" if granted else "PreVoted: no"
        case Prepare(epoch=epoch):
            return f"Prepare {epoch_words(epoch)}"
        case Promise(epoch=epoch, log_epoch=log_epoch, last=last):
            return f"Promise {epoch_words(epoch)}; log of {epoch_words(log_epoch)} to {last}"
        case Refused(epoch=epoch, promised=promised):
            return f"Refused {epoch_words(epoch)}: promised {epoch_words(promised)}"
        case Fetch(start=start):
            return f"Fetch from {start}"
        case Piece(start=start, entries=entries):
            return f"Piece {_span(start, entries)}"
        case SnapshotPiece(index=index, number=number, rows=rows):
            return f"SnapshotPiece {number} at {index}, {len(rows)} rows"
        case Sync(epoch=epoch, floor=floor):
            return f"Sync {epoch_words(epoch)} to {floor}"
        case Append(epoch=epoch, prev=prev, entries=entries):
            return f"Append {epoch_words(epoch)} {_span(prev + 1, entries)}"
        case Ack(epoch=epoch, last=last):
            return f"Ack {epoch_words(epoch)} to {last}"
        case Behind(epoch=epoch) | HandOver(epoch=epoch):
            return f"{type(message).__name__} {epoch_words(epoch)}"
        case Base(generation=generation, index=index):
            return f"Base of generation {generation}, to {index}"
        case BaseHeld(generation=generation) | Superseded(generation=generation):
            return f"{type(message).__name__} {generation}"
        case RosterNews(roster=roster):
            return f"RosterNews {roster.version}: {' '.join(roster.voters)}"
    return type(message).__name__


def _span(start: int, entries: list[bytes]) -> str:
    if len(entries) > 4:
        return f"{start}..{start + len(entries) - 1}"
    return ", ".join(f"{start + place} [{entry_words(entry)}]" for place, entry in enumerate(entries))


def effect_words(effect: Effect) -> str:
    """What a core told its shell."""
    match effect:
        case Owned(epoch=epoch):
            return f"owns it in epoch {epoch_words(epoch)}"
        case Lost(epoch=epoch, why=why):
            return f"has lost it: {why}"
        case Committed(index=index):
            return f"committed up to {index}"
        case Confirmed():
            return "confirmed: a majority knows of no other owner"
        case RosterChanged(roster=roster):
            return f"roster {roster.version} is decided"
    return type(effect).__name__


def is_shown(seen: Said | Told) -> bool:
    """Whether it is about the partition, or the roster, and says something new."""
    what = seen.message if isinstance(seen, Said) else seen.effect
    return not isinstance(what, QUIET) and getattr(what, "partition", P) != ROSTER


class ReplicaStage:
    """The nodes of one transcript."""

    def __init__(self, seed: int, count: int, piece_bytes: int | None = None) -> None:
        tuning = ReplicationTuning(partitions=1)
        self.replicas = Replicas(seed, count, replace(tuning, piece_bytes=piece_bytes) if piece_bytes else tuning)

    def do(self, verb: str, words: list[str]) -> list[str] | None:
        """The answer to a command; None if there is no such command."""
        replicas = self.replicas
        simple: dict[str, Callable[[NodeId], None]] = {
            "start": replicas.start,
            "crash": replicas.crash,
            "pause": replicas.pause,
            "resume": replicas.resume,
            "wipe": replicas.wipe,
            "confirm": replicas.confirm,
            "ask-in": lambda name: replicas.tell(name, lambda core: core.ask_in(replicas.queue.now)),
            "ask-out": lambda name: replicas.tell(name, lambda core: core.ask_out(replicas.queue.now)),
            "leave": lambda name: replicas.tell(name, lambda core: core.hand_over_all(replicas.queue.now)),
        }
        match verb, words:
            case "cut", [source, ("->" | "<->") as way, target]:
                replicas.cut(NodeId(source), NodeId(target))
                if way == "<->":
                    replicas.cut(NodeId(target), NodeId(source))
            case "heal", []:
                replicas.heal()
            case "believe", [name, ("dead" | "alive") as word]:
                return self._watch(lambda: replicas.believe(NodeId(name), word == "alive"))
            case "append", [name, *values] if values:
                return self._watch(lambda: replicas.append(NodeId(name), *values))
            case verb, [name] if verb in simple:
                return self._watch(lambda: simple[verb](NodeId(name)))
            case "run", ["until", "owned", *rest]:
                return self._watch(lambda: replicas.run_until(lambda: replicas.owner() is not None), *_chosen(rest))
            case "run", [seconds, *rest]:
                return self._watch(lambda: replicas.run(float(seconds)), *_chosen(rest)) or ["(nothing)"]
            case "copies", []:
                return list(self._copies())
            case _:
                return None
        return []

    def _watch(self, happen: Callable[[], object], chosen: Callable[[Said | Told], bool] = lambda seen: True) -> list[str]:
        before, refused = len(self.replicas.seen), []
        try:
            happen()
        except DurableError as error:
            refused.append(f"         refused: {type(error).__name__}: {error}")
        return [self._line(seen) for seen in self.replicas.seen[before:] if is_shown(seen) and chosen(seen)] + refused

    def _line(self, seen: Said | Told) -> str:
        at = f"{seen.at - self.replicas.began_s:7.3f}"
        if isinstance(seen, Told):
            return f"{at}  {seen.node} {effect_words(seen.effect)}"
        lost = "" if seen.arrives else "   (lost)"
        return f"{at}  {seen.source} -> {seen.target}  {message_words(seen.message)}{lost}"

    def _copies(self) -> Iterator[str]:
        for name, station in self.replicas.stations.items():
            if station.core is None:
                yield f"{name}: no process"
                continue
            replica, status = station.core.replicas.get(P), station.core.status(P)
            if replica is None or status is None:
                yield f"{name}: no copy"
                continue
            log = replica.log
            indices = range(log.base + 1, log.last + 1)
            words = [entry_words(log.entry(index)).replace(" to roster", "") for index in indices[-ENTRIES_SHOWN:]]
            entries = [f"[{each}]" for each in words]
            shown = " ".join(["", "..", *entries] if len(indices) > ENTRIES_SHOWN else ["", *entries])
            yield (
                f"{name}: {status.role}, gen {status.generation}, promised {epoch_words(status.epoch)}, "
                f"log {epoch_words(replica.log_epoch)} to {log.last}{shown}, commit {replica.commit}"
            )


def _chosen(rest: list[str]) -> list[Callable[[Said | Told], bool]]:
    match rest:
        case []:
            return []
        case ["changes"]:
            return [lambda seen: isinstance(seen, Told)]
        case ["about", *names]:
            return [lambda seen: any(name in names for name in _ends(seen))]
    raise ValueError(f"cannot play: run ... {' '.join(rest)}")


def _ends(seen: Said | Told) -> tuple[NodeId, ...]:
    return (seen.source, seen.target) if isinstance(seen, Said) else (seen.node,)
