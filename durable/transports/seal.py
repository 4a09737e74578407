"""Seals: what makes a packet one of ours. AES-256-GCM, with keys derived for each purpose, cluster and life.

**Why it exists.** Whoever can send "node-3 is dead" can take a cluster apart. A packet without a true seal is dropped before
anything in it is read.

**How it works.** A *secret* is what the operator sets. From it HKDF derives a key for one cluster name, and from that one a
key for each purpose and session, so that no two ever share a nonce: the nonce is a plain counter.

===============  ====================================================  =====================================================
                 datagram                                              stream
===============  ====================================================  =====================================================
key              of the sender's session (16 random bytes, in the      of the connection: 32 random bytes of each side, one
                 clear)                                                key for each direction
nonce            the number of the datagram in its session             the number of the frame in its direction
replayed         `windows`                                             impossible: the other side's bytes are new
first proof      the datagram itself                                   the acceptor's greeting ends in a seal over nothing;
                                                                       then the caller's first frame
===============  ====================================================  =====================================================

A datagram: ``version (1) | key id (4) | session (16) | number (8) | sealed packet | tag (16)``: 45 bytes more.

**Rotation.** A `Keyring` seals with its first secret and opens with any of them. So a new one is brought in without a pause,
in three rounds over all nodes: ``old,new``, then ``new,old``, then ``new``.

**Limits.** One secret for all: who has it is a member, and can say anything. No forward secrecy: whoever records today and
steals the secret tomorrow reads the recording (names and addresses of members). Without a secret (`Unsealed`) everybody who
reaches the port is a member; `durable.cluster.config` allows that on the loopback address only. A datagram names no receiver:
one that was recorded on its way to a member opens at another as well, once; what it claims is as old there as here.

Read next: `windows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from durable.errors import DurableError
from durable.transports.windows import ReplayWindow, Sessions

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from durable.ports import Entropy

SECRET_CHARS_MIN = 16
SECRETS_MAX = 8
SEALED, PLAIN = b"\x01", b"\x00"
KEY_ID_BYTES, SESSION_BYTES, NUMBER_BYTES, TAG_BYTES, RANDOM_BYTES = 4, 16, 8, 16, 32
HEADER_BYTES = 1 + KEY_ID_BYTES + SESSION_BYTES + NUMBER_BYTES
UNNAMED = bytes(KEY_ID_BYTES)
"""An earlier version without a key: it does not say which cluster it is of."""
MAGIC = b"dur1"
HELLO_BYTES = len(MAGIC) + 1 + KEY_ID_BYTES + RANDOM_BYTES
WELCOME_BYTES = HELLO_BYTES + TAG_BYTES


class Rejected(Exception):
    """What arrived is not one of ours; the message is the reason under which it is counted."""


class Channel(Protocol):
    """One connection's frames, after the greeting. `open` raises `Rejected`. ``foreign``: the other end is of a cluster with
    another name. It may be asked who it is, and nothing else.
    """

    @property
    def foreign(self) -> bool: ...

    def seal(self, frame: bytes) -> bytes: ...
    def open(self, sealed: bytes) -> bytes: ...


class Seal(Protocol):
    """How packets are closed and opened. What opens raises `Rejected`, and then nothing has changed."""

    def seal(self, packet: bytes) -> bytes: ...
    def open(self, datagram: bytes) -> bytes: ...
    def hello(self) -> bytes: ...
    def welcome(self, hello: bytes) -> tuple[bytes, Channel]: ...
    def enter(self, hello: bytes, welcome: bytes) -> Channel: ...


@dataclass(frozen=True, slots=True)
class _Key:
    """One secret, as it is used in one cluster."""

    key_id: bytes
    root: bytes


class Keyring:
    """The secrets of a cluster: the first one seals, any of them opens.

    Args:
        secrets: 1 to 8, of at least 16 characters each. They are used as they are, so they must be random, not chosen:
            ``python -c "import secrets; print(secrets.token_hex(32))"``.
        cluster: packets of a cluster with another name do not open, even with the same secret.

    Raises:
        ValueError: no secrets, too many, or one is too short.
    """

    def __init__(self, secrets: Sequence[str], cluster: str) -> None:
        if not 1 <= len(secrets) <= SECRETS_MAX:
            raise ValueError(f"{len(secrets)} secrets were given; it must be 1 to {SECRETS_MAX}")
        for secret in secrets:
            if len(secret) < SECRET_CHARS_MIN:
                raise ValueError(
                    f"a secret of {len(secret)} characters is too short: it needs {SECRET_CHARS_MIN}, at random; make one by "
                    'python -c "import secrets; print(secrets.token_hex(32))"'
                )
        self._keys: dict[bytes, _Key] = {}
        for secret in secrets:
            root = _derive(secret.encode(), b"cluster\0" + cluster.encode(), 32)
            key = _Key(_derive(root, b"id", KEY_ID_BYTES), root)
            self._keys.setdefault(key.key_id, key)
        self.first = next(iter(self._keys.values()))

    def find(self, key_id: bytes) -> _Key:
        """The key with this id. Raises `Rejected`: another key, or another cluster's."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise Rejected("another key or cluster") from None


class Sealed:
    """AES-256-GCM over everything.

    Args:
        keyring: the secrets.
        entropy: where sessions and greetings come from.
    """

    def __init__(self, keyring: Keyring, entropy: Entropy) -> None:
        self._keyring = keyring
        self._entropy = entropy
        self._session = entropy.random_bytes(SESSION_BYTES)
        self._number = 0
        self._own = _datagram_cipher(keyring.first, self._session)
        self._sessions: Sessions[tuple[AESGCM, ReplayWindow]] = Sessions()

    def seal(self, packet: bytes) -> bytes:
        """One datagram."""
        header = SEALED + self._keyring.first.key_id + self._session + self._number.to_bytes(NUMBER_BYTES, "big")
        sealed = self._own.encrypt(_nonce(self._number), packet, header)
        self._number += 1
        return header + sealed

    def open(self, datagram: bytes) -> bytes:
        """The packet in a datagram."""
        if datagram[:1] != SEALED:
            raise Rejected("not sealed")
        if len(datagram) < HEADER_BYTES + TAG_BYTES:
            raise Rejected("too short")
        header = datagram[:HEADER_BYTES]
        key_id, rest = header[1 : 1 + KEY_ID_BYTES], header[1 + KEY_ID_BYTES :]
        session, number = rest[:SESSION_BYTES], int.from_bytes(rest[SESSION_BYTES:], "big")
        if session == self._session:
            raise Rejected("own echo")
        key = self._keyring.find(key_id)
        known = self._sessions.get(key_id + session)
        cipher, window = known or (_datagram_cipher(key, session), ReplayWindow())
        packet = _decrypt(cipher, number, datagram[HEADER_BYTES:], header)
        # Only now: a forged number must not move the window, and a forged session must not take a place.
        if why := window.admit(number):
            raise Rejected(why)
        if known is None:
            self._sessions.keep(key_id + session, (cipher, window))
        return packet

    def hello(self) -> bytes:
        """What a caller says first."""
        return MAGIC + SEALED + self._keyring.first.key_id + self._entropy.random_bytes(RANDOM_BYTES)

    def welcome(self, hello: bytes) -> tuple[bytes, Channel]:
        """What the acceptor answers, and its end of the connection."""
        key = self._keyring.find(_key_id(hello, SEALED))
        greeting = hello[:-RANDOM_BYTES] + self._entropy.random_bytes(RANDOM_BYTES)
        channel = _SealedChannel(key, hello, greeting, caller=False)
        return greeting + channel.seal(b""), channel

    def enter(self, hello: bytes, welcome: bytes) -> Channel:
        """The caller's end, once the acceptor has proved that it has the key."""
        greeting, proof = welcome[:HELLO_BYTES], welcome[HELLO_BYTES:]
        key = self._keyring.find(_key_id(greeting, SEALED))
        channel = _SealedChannel(key, hello, greeting, caller=True)
        channel.open(proof)
        return channel


class _SealedChannel:
    foreign = False  # or it would have no key for this

    def __init__(self, key: _Key, hello: bytes, greeting: bytes, *, caller: bool) -> None:
        both = hello + greeting
        ways = _cipher(key, b"caller\0" + both), _cipher(key, b"acceptor\0" + both)
        self._out, self._in = ways if caller else ways[::-1]
        self._sent = self._received = 0

    def seal(self, frame: bytes) -> bytes:
        sealed = self._out.encrypt(_nonce(self._sent), frame, None)
        self._sent += 1
        return sealed

    def open(self, sealed: bytes) -> bytes:
        if len(sealed) < TAG_BYTES:
            raise Rejected("too short")
        frame = _decrypt(self._in, self._received, sealed, None)
        self._received += 1
        return frame


class Unsealed:
    """No key: everything is in the clear, and believed. For the loopback address. ``cluster``: as for a `Keyring`; without a key it
    protects from mistakes only, such as a port that a node of another cluster has now.
    """

    def __init__(self, cluster: str = "durable") -> None:
        self._cluster_id = blake2b(cluster.encode(), digest_size=KEY_ID_BYTES).digest()

    def seal(self, packet: bytes) -> bytes:
        """One datagram."""
        return PLAIN + packet

    def open(self, datagram: bytes) -> bytes:
        """The packet in a datagram."""
        if datagram[:1] == SEALED:
            raise Rejected("sealed, and no key here")
        if datagram[:1] != PLAIN:
            raise Rejected("not one of ours")
        return datagram[1:]

    def hello(self) -> bytes:
        """What a caller says first."""
        return MAGIC + PLAIN + self._cluster_id + bytes(RANDOM_BYTES)

    def welcome(self, hello: bytes) -> tuple[bytes, Channel]:
        """What the acceptor answers, and its end of the connection."""
        return self.hello() + bytes(TAG_BYTES), self._channel(hello)

    def enter(self, hello: bytes, welcome: bytes) -> Channel:
        """The caller's end."""
        return self._channel(welcome[:HELLO_BYTES])

    def _channel(self, greeting: bytes) -> _PlainChannel:
        return _PlainChannel(_key_id(greeting, PLAIN) not in (self._cluster_id, UNNAMED))


@dataclass(frozen=True, slots=True)
class _PlainChannel:
    foreign: bool

    def seal(self, frame: bytes) -> bytes:
        return frame

    def open(self, sealed: bytes) -> bytes:
        return sealed


def _key_id(hello: bytes, kind: bytes) -> bytes:
    if len(hello) != HELLO_BYTES or not hello.startswith(MAGIC):
        raise Rejected("not one of ours")
    if hello[len(MAGIC) : len(MAGIC) + 1] != kind:
        raise Rejected("not sealed" if kind == SEALED else "sealed, and no key here")
    return hello[len(MAGIC) + 1 : -RANDOM_BYTES]


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _decrypt(cipher: AESGCM, number: int, sealed: bytes, header: bytes | None) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(_nonce(number), sealed, header)
    except InvalidTag:
        raise Rejected("forged") from None


def _datagram_cipher(key: _Key, session: bytes) -> AESGCM:
    return _cipher(key, b"datagram\0" + session)


def _cipher(key: _Key, purpose: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_derive(key.root, purpose, 32))


def _derive(secret: bytes, purpose: bytes, count: int) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise DurableError("a cluster with a key needs cryptography: pip install 'durable[cluster]'") from error
    return HKDF(SHA256(), count, salt=b"durable/1", info=purpose).derive(secret)
