"""The checker of histories, against one that tries every order, and on histories that it must be quick with."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import permutations

import pytest

from durable.linearizable import check, explain, parts

INF = float("inf")


@dataclass(frozen=True)
class Op:
    """On a register: ``writes`` a value, or ``reads`` one (None: the read was not answered)."""

    began: float
    ended: float
    writes: int | None = None
    reads: int | None = None
    key: str = "x"


def register(value: int, op: Op) -> int | None:
    if op.writes is not None:
        return op.writes
    return value if op.reads is None or op.reads == value else None


def tried(operations: list[Op], value: int) -> bool:
    """Every subset that holds all that were answered, in every order that respects real time."""
    answered = [one for one in operations if one.ended < INF]
    open_ = [one for one in operations if one.ended == INF]
    for chosen in range(1 << len(open_)):
        those = answered + [one for place, one in enumerate(open_) if chosen >> place & 1]
        for order in permutations(those):
            if any(later.ended < earlier.began for place, earlier in enumerate(order) for later in order[place + 1 :]):
                continue
            state: int | None = value
            for one in order:
                state = register(state, one)
                if state is None:
                    break
            if state is not None:
                return True
    return False


def drawn(draw: random.Random, count: int, clients: int, lost: float = 0.02) -> list[Op]:
    """A history that can be: each operation takes effect at an instant between its ends, in the order of those instants."""
    free = [0.0] * clients
    made = []
    for _ in range(count):
        client = draw.randrange(clients)
        began = free[client] + draw.random()
        instant = began + draw.random() * 2
        free[client] = instant + draw.random() * 2
        made.append((instant, Op(began, free[client], draw.randrange(1_000) if draw.random() < 0.5 else None)))
    value, history = 0, []
    for _, one in sorted(made, key=lambda pair: pair[0]):
        if one.writes is not None:
            value = one.writes
            history.append(replace(one, ended=INF) if draw.random() < lost else one)
        else:
            history.append(replace(one, reads=value))
    return history


@pytest.mark.parametrize("seed", range(300))
def test_it_agrees_with_trying_every_order(seed: int) -> None:
    draw = random.Random(seed)
    history = [
        Op(began, INF if draw.random() < 0.15 else began + draw.random() * 3, *((draw.randrange(3), None) if draw.random() < 0.5
           else (None, draw.randrange(3))))
        for began in (draw.random() * 4 for _ in range(5))
    ]  # fmt: skip
    assert check(history, 0, register) is tried(history, 0)


@pytest.mark.parametrize(("count", "clients"), [(200, 3), (2_000, 5), (1_000, 10)])
def test_long_histories_that_can_be_are_explained_by_an_order_that_respects_time(count: int, clients: int) -> None:
    history = drawn(random.Random(count), count, clients)
    order = explain(history, 0, register)
    assert order is not None
    assert {one for one in history if one.ended < INF} <= set(order)
    latest = 0.0
    for one in order:  # none begins after the end of one that stands behind it
        assert one.ended >= latest
        latest = max(latest, one.began)


@pytest.mark.parametrize("seed", range(20))
def test_one_stale_read_in_a_long_history_is_found(seed: int) -> None:
    history = drawn(random.Random(seed), 400, 4, lost=0.0)
    reads = [place for place, one in enumerate(history) if one.writes is None]
    place = reads[len(reads) // 2]
    history[place] = replace(history[place], reads=-1)
    assert not check(history, 0, register)


def test_nothing_is_always_explained_and_what_was_never_answered_may_not_have_happened() -> None:
    assert explain([], 0, register) == []
    assert check([Op(0, INF, 7), Op(1, 2, None, 0), Op(3, 4, None, 0)], 0, register)
    assert check([Op(0, INF, 7), Op(1, 2, None, 0), Op(3, 4, None, 7)], 0, register)
    assert not check([Op(0, INF, 7), Op(1, 2, None, 7), Op(3, 4, None, 0)], 0, register)


def test_a_history_is_cut_into_the_parts_that_do_not_touch() -> None:
    one, two, three = Op(2, 3, 1, key="a"), Op(0, 1, 1, key="b"), Op(1, 4, None, 1, key="a")
    assert parts([one, two, three], lambda op: op.key) == {"b": [two], "a": [three, one]}
