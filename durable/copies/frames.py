"""How much travels at once: in one entry of a log, one Append, one frame.

**Why it exists.** A link takes no frame above `durable.transports.links.LINK_FRAME_BYTES_MAX`. What no frame can carry must not
get into a log: no copy would ever have it.

**How it works.** A frame is cut where it would become longer than `FRAME_BYTES`, and a message that is longer by itself travels
alone. The one thing that makes a message long is the entries in it, and of those a long message has one: so the longest frame is
about as long as the longest entry, `ENTRY_BYTES_MAX`.

Read next: `messages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from durable.copies.messages import Append, Hello, Message, Piece, encode

_WITH_ENTRIES = (Append, Piece)
FRAME_MESSAGES_MAX = 512
FRAME_BYTES = 4 << 20
"""What is longer holds up the short ones behind it, and is not kept while a link is dialled."""
ENTRY_BYTES_MAX = 36 << 20
"""Twice the largest value that a journal takes by default (a message stands in the journal and in the outbox), and its keys."""


def frames(hello: Hello, messages: Sequence[Message]) -> Iterator[bytes]:
    """What is said to a peer in a turn. It is seldom much: so it is encoded first, and cut when it has become too long."""
    for begin in range(0, len(messages), FRAME_MESSAGES_MAX):
        part = messages[begin : begin + FRAME_MESSAGES_MAX]
        frame = encode([hello, *part])
        if len(frame) <= FRAME_BYTES or len(part) == 1:
            yield frame
        else:
            for few in cut(part):
                yield encode([hello, *few])


def cut(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages of each frame, in order: at least one in each.

    >>> [len(part) for part in cut([Piece(7, 1, (3, "a"), n, [bytes(3 << 20)], 0) for n in range(3)])]
    [1, 1, 1]
    >>> [len(part) for part in cut([Piece(7, 1, (3, "a"), n, [b"small"], 0) for n in range(3)])]
    [3]
    """
    begin = size = 0
    for at, message in enumerate(messages):
        weight = sum(map(len, message.entries)) if isinstance(message, _WITH_ENTRIES) else 0
        if at > begin and size + weight > FRAME_BYTES:
            yield messages[begin:at]
            begin = at
            size = 0
        size += weight
    yield messages[begin:]
