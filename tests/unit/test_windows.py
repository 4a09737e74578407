"""A sealed datagram counts once; what the receiver keeps for that is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from durable.transports.windows import WINDOW, ReplayWindow, Sessions


@given(st.lists(st.integers(0, 3 * WINDOW)))
def test_no_number_is_admitted_twice(numbers: list[int]) -> None:
    window = ReplayWindow()
    admitted = [number for number in numbers if not window.admit(number)]
    assert len(admitted) == len(set(admitted))


@given(st.lists(st.integers(0, 3 * WINDOW), unique=True))
def test_every_new_number_within_the_window_is_admitted(numbers: list[int]) -> None:
    window, highest = ReplayWindow(), -1
    for number in numbers:
        assert window.admit(number) == ("too old" if highest - number >= WINDOW else "")
        highest = max(highest, number)


def test_a_window_keeps_no_more_than_its_bits() -> None:
    window = ReplayWindow()
    for number in (0, 1, 2**60):
        window.admit(number)
    assert window._seen.bit_length() <= WINDOW


def test_the_session_unheard_for_longest_is_forgotten() -> None:
    sessions = Sessions[int](most=2)
    sessions.keep(b"a", 1)
    sessions.keep(b"b", 2)
    assert sessions.get(b"a") == 1  # heard
    sessions.keep(b"c", 3)
    assert (sessions.get(b"a"), sessions.get(b"b"), sessions.get(b"c"), len(sessions)) == (1, None, 3, 2)
