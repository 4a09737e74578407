"""Only what carries a true seal opens, once; and whatever does not open changes nothing."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.membership.messages import SEAL_BYTES_MAX
from durable.transports.seal import (
    HEADER_BYTES,
    HELLO_BYTES,
    KEY_ID_BYTES,
    MAGIC,
    PLAIN,
    RANDOM_BYTES,
    TAG_BYTES,
    WELCOME_BYTES,
    Keyring,
    Rejected,
    Sealed,
    Unsealed,
)

SECRET, OTHER = "a-secret-of-the-tests-1", "a-secret-of-the-tests-2"


class Entropy:
    """Bytes that differ each time, and are the same in every run."""

    def __init__(self, seed: str) -> None:
        self._seed, self._count = seed, 0

    def random_bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(f"{self._seed}{self._count}".encode()).digest(count)


def sealed(name: str, *secrets: str, cluster: str = "durable") -> Sealed:
    return Sealed(Keyring(secrets or (SECRET,), cluster), Entropy(name))


def why(seal: Sealed | Unsealed, datagram: bytes) -> str:
    with pytest.raises(Rejected) as rejected:
        seal.open(datagram)
    return str(rejected.value)


@given(st.binary(max_size=1_336))
def test_what_is_sealed_opens_once(packet: bytes) -> None:
    a, b = sealed("a"), sealed("b")
    datagram = a.seal(packet)
    assert len(datagram) - len(packet) == HEADER_BYTES + TAG_BYTES <= SEAL_BYTES_MAX
    assert b.open(datagram) == packet
    assert why(b, datagram) == "replayed"


def test_what_is_sealed_shows_nothing_of_what_is_inside() -> None:
    a = sealed("a")
    assert b"node-1" not in a.seal(b"node-1 node-1 node-1") and a.seal(b"same")[HEADER_BYTES:] != a.seal(b"same")[HEADER_BYTES:]


@given(st.data())
def test_a_datagram_that_was_touched_does_not_open_and_moves_no_window(data: st.DataObject) -> None:
    a, b = sealed("a"), sealed("b")
    true = a.seal(b"the packet")
    place = data.draw(st.integers(0, len(true) - 1))
    touched = data.draw(
        st.one_of(
            st.integers(1, 255).map(lambda bits: true[:place] + bytes((true[place] ^ bits,)) + true[place + 1 :]),
            st.just(true[:place]),
            st.binary(min_size=1, max_size=50).map(lambda more: true + more),
            st.binary(max_size=200),
        )
    )
    if touched != true:
        assert why(b, touched)
        assert len(b._sessions) == 0
    assert b.open(true) == b"the packet"


def test_a_forged_number_does_not_push_the_window_past_the_true_ones() -> None:
    a, b = sealed("a"), sealed("b")
    b.open(a.seal(b"first"))
    true = bytearray(a.seal(b"second"))
    forged = bytes(true[: HEADER_BYTES - 8]) + (2**60).to_bytes(8, "big") + bytes(true[HEADER_BYTES:])
    assert why(b, forged) == "forged"
    assert b.open(bytes(true)) == b"second"


def test_another_key_another_cluster_no_seal_and_an_echo_do_not_open() -> None:
    b = sealed("b")
    assert why(b, sealed("a", OTHER).seal(b"x")) == "another key or cluster"
    assert why(b, sealed("a", cluster="other").seal(b"x")) == "another key or cluster"
    assert why(b, Unsealed().seal(b"x" * 100)) == "not sealed"
    assert why(b, b.seal(b"x")) == "own echo"
    assert why(b, b"\x01short") == "too short"
    assert why(Unsealed(), b.seal(b"x")) == "sealed, and no key here"
    assert why(Unsealed(), b"") == "not one of ours"


def test_a_recording_of_an_earlier_life_does_not_open() -> None:
    b = sealed("b")
    recorded = sealed("a, first life").seal(b"node-3 is dead")
    b.open(recorded)
    b.open(sealed("a, second life").seal(b"hello again"))
    assert why(b, recorded) == "replayed"


def test_a_new_secret_comes_in_without_a_pause() -> None:
    before, during, after = ([OTHER], [OTHER, SECRET], [SECRET, OTHER])
    for one, other in ((before, during), (during, after), (after, [SECRET])):
        assert sealed("b", *other).open(sealed("a", *one).seal(b"x")) == b"x"
        assert sealed("a", *one).open(sealed("b", *other).seal(b"x")) == b"x"
    assert why(sealed("b", SECRET), sealed("a", *before).seal(b"x")) == "another key or cluster"


@pytest.mark.parametrize("secrets", [(), ("short",), (SECRET,) * 9])
def test_a_keyring_wants_a_few_long_secrets(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="secret"):
        Keyring(secrets, "durable")


# Streams


def test_a_greeting_makes_two_ends_of_a_channel() -> None:
    for a, b in ((sealed("a"), sealed("b")), (Unsealed(), Unsealed())):
        hello = a.hello()
        welcome, acceptor = b.welcome(hello)
        caller = a.enter(hello, welcome)
        assert (len(hello), len(welcome)) == (HELLO_BYTES, WELCOME_BYTES)
        for said in (b"one", b"", b"three"):
            assert acceptor.open(caller.seal(said)) == said
            assert caller.open(acceptor.seal(said)) == said


@given(st.integers(0, WELCOME_BYTES - 1), st.integers(1, 255))
def test_a_welcome_that_was_touched_is_none(place: int, bits: int) -> None:
    a, b = sealed("a"), sealed("b")
    hello = a.hello()
    welcome = bytearray(b.welcome(hello)[0])
    welcome[place] ^= bits
    with pytest.raises(Rejected):
        a.enter(hello, bytes(welcome))


@given(st.binary(max_size=200))
def test_a_hello_of_a_stranger_is_turned_away_or_leads_nowhere(hello: bytes) -> None:
    for seal in (sealed("b"), Unsealed()):
        with pytest.raises(Rejected):
            seal.welcome(hello)


def test_a_recorded_call_is_worth_nothing_the_next_time() -> None:
    a, b = sealed("a"), sealed("b")
    hello = a.hello()
    welcome, _ = b.welcome(hello)
    question = a.enter(hello, welcome).seal(b"let me in")
    _, again = b.welcome(hello)
    with pytest.raises(Rejected, match="forged"):
        again.open(question)


def test_a_frame_sent_twice_or_sent_back_does_not_open() -> None:
    a, b = sealed("a"), sealed("b")
    hello = a.hello()
    welcome, acceptor = b.welcome(hello)
    caller = a.enter(hello, welcome)
    frame = caller.seal(b"x")
    with pytest.raises(Rejected):
        caller.open(frame)
    acceptor.open(frame)
    with pytest.raises(Rejected):
        acceptor.open(frame)
    with pytest.raises(Rejected, match="too short"):
        acceptor.open(b"")


def test_both_ends_of_a_channel_know_that_the_other_is_of_another_cluster() -> None:
    for a, b, foreign in ((Unsealed("prod"), Unsealed("prod"), False), (Unsealed("prod"), Unsealed("staging"), True)):
        welcome, acceptor = b.welcome(a.hello())
        assert acceptor.foreign is a.enter(b"", welcome).foreign is foreign
    earlier = MAGIC + PLAIN + bytes(KEY_ID_BYTES + RANDOM_BYTES)
    assert not Unsealed("prod").welcome(earlier)[1].foreign, "a version that does not say its name"


def test_callers_and_acceptors_with_and_without_a_key_part_at_once() -> None:
    with pytest.raises(Rejected, match="no key here"):
        Unsealed().welcome(sealed("a").hello())
    with pytest.raises(Rejected, match="not sealed"):
        sealed("a").welcome(Unsealed().hello())
    with pytest.raises(Rejected, match="another key"):
        sealed("a").welcome(sealed("b", OTHER).hello())
