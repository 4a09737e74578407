"""Replication cores with made-up disks and a made-up network: what is made up behaves as its table says."""

from __future__ import annotations

import pytest

from durable.copies.effects import Committed, Confirmed, Owned
from durable.copies.messages import Append
from durable.errors import NotOwner
from durable.figures.replicas import Replicas, Said, Told
from durable.figures.transcript import play
from durable.membership.member import NodeId

A, B, C = (NodeId(f"node-{number}") for number in (1, 2, 3))


def owned(seed: int = 1) -> Replicas:
    """Three nodes of which node-2 owns the partition."""
    replicas = Replicas(seed, 3)
    replicas.run_until(lambda: replicas.owner() == B)
    replicas.run(0.1)
    return replicas


def committed(replicas: Replicas) -> list[int]:
    return [one.effect.index for one in replicas.seen if isinstance(one, Told) and isinstance(one.effect, Committed)]


def test_a_seed_decides_a_run() -> None:
    runs = [owned(seed) for seed in (1, 1, 2)]
    assert runs[0].seen == runs[1].seen != runs[2].seen


def test_what_was_not_synced_is_gone_after_a_crash_and_what_was_is_not() -> None:
    replicas = owned()
    replicas.append(B, "a")
    replicas.run(0.1)
    replicas.append(B, "b")
    replicas.crash(B)
    replicas.start(B)
    replica = replicas.stations[B].core.replicas[0]  # type: ignore[union-attr]
    assert replica.log.last == 1 and committed(replicas) == [1]


def test_a_node_that_goes_on_does_first_what_it_was_about_to_do_and_then_reads_what_came() -> None:
    replicas = owned()
    replicas.pause(B)
    replicas.believe(B, False)
    replicas.run_until(lambda: replicas.owner() == A)
    replicas.append(B, "late")
    assert not [one for one in replicas.seen if isinstance(one, Said) and isinstance(one.message, Append)]
    replicas.resume(B)
    assert [one.source for one in replicas.seen if isinstance(one, Said) and isinstance(one.message, Append)] == [B, B]
    replicas.run(3.0)
    assert committed(replicas) == [] and replicas.owner() == A


def test_messages_on_a_cut_path_are_seen_and_do_not_arrive() -> None:
    replicas = owned()
    replicas.cut(B, A)
    replicas.append(B, "a")
    replicas.run(0.1)
    appends = [one for one in replicas.seen if isinstance(one, Said) and isinstance(one.message, Append)]
    assert {one.target: one.arrives for one in appends} == {A: False, C: True}
    assert committed(replicas) == [1], "two of three have it"
    replicas.heal()
    replicas.run(2.0)
    assert replicas.stations[A].core.status(0).commit == 1  # type: ignore[union-attr]


def test_a_wiped_disk_comes_back_as_another_and_is_let_in_again() -> None:
    replicas = owned()
    replicas.append(B, "a")
    replicas.run(2.0)
    replicas.wipe(C)
    replicas.start(C)
    core = replicas.stations[C].core
    assert core is not None and not core.voter and 0 not in core.replicas
    replicas.tell(C, lambda core: core.ask_in(replicas.queue.now))
    replicas.run_until(lambda: core.voter and core.status(0) is not None and core.status(0).applied >= 1)  # type: ignore[union-attr]


def test_an_owner_is_asked_and_one_that_is_none_refuses() -> None:
    replicas = owned()
    replicas.confirm(B)
    replicas.run(0.1)
    assert [one.node for one in replicas.seen if isinstance(one, Told) and isinstance(one.effect, Confirmed)] == [B]
    assert [one.node for one in replicas.seen if isinstance(one, Told) and isinstance(one.effect, Owned)] == [B]
    with pytest.raises(NotOwner):
        replicas.append(A, "x")
    with pytest.raises(TimeoutError):
        replicas.run_until(lambda: False, within_s=1.0)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("append node-1 x", "refused: NotOwner"),
        ("confirm node-2", ""),
        ("leave node-2", ""),
        ("ask-out node-3", ""),
        ("wipe node-3", ""),
        ("run 0.01 changes", "(nothing)"),
        ("copies", "node-2: owner, gen 1, promised 1@node-2, log 1@node-2 to 0, commit 0"),
    ],
)
def test_every_command_of_a_transcript_is_played(command: str, answer: str) -> None:
    played = play(f"> replicas 3 seed 1\n> run until owned changes\n> {command}\n")
    assert answer in played.partition(f"> {command}\n")[2]


@pytest.mark.parametrize("command", ["walk away", "run 1 for ever", "append node-2", "replicas 3"])
def test_an_unknown_command_says_which(command: str) -> None:
    with pytest.raises(ValueError, match="cannot play"):
        play(f"> replicas 3 seed 1\n> {command}\n")
