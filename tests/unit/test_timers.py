"""Timers: moved, cancelled, and handed out in one order only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from durable.membership.timers import Timers

NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), NAMES, st.integers(0, 20)),
        st.tuples(st.just("delay"), NAMES, st.integers(0, 20)),
        st.tuples(st.just("cancel"), NAMES, st.just(0)),
        st.tuples(st.just("due"), st.just(""), st.integers(0, 20)),
    ),
    max_size=300,
)


@given(STEPS)
def test_timers_behave_like_a_plain_dictionary(steps: list[tuple[str, str, int]]) -> None:
    timers = Timers()
    model: dict[tuple[str, str | int], tuple[int, int]] = {}
    for number, (what, name, at) in enumerate(steps):
        key = (name, "")
        match what:
            case "set":
                timers.set(key, at)
                model[key] = (at, number)
            case "delay":
                timers.delay(key, at)
                if key in model and model[key][0] < at:
                    model[key] = (at, number)
            case "cancel":
                timers.cancel(key)
                model.pop(key, None)
            case "due":
                ready = sorted((when, key) for key, when in model.items() if when[0] <= at)
                assert timers.due(at) == (ready[0][1] if ready else None)
                if ready:
                    del model[ready[0][1]]
        assert timers.next_deadline() == min((when[0] for when in model.values()), default=None)
        assert all((key in timers) == (key in model) for key in [(name, "") for name in "abcd"])


def test_a_timer_moved_a_thousand_times_does_not_fill_the_heap() -> None:
    timers = Timers()
    for at in range(10_000):
        timers.set(("one", ""), float(at))
    assert len(timers._heap) < 100
    assert timers.due(9_999.0) == ("one", "")
    timers.set(("one", ""), 1.0)
    timers.clear()
    assert timers.next_deadline() is None
