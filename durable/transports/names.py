"""Host names for datagrams: looked up beside the event loop, and kept for half a minute.

**Why it exists.** A socket that is given a name looks it up at once, and the whole event loop waits for the name server. For
a member of SWIM that is as bad as being stopped.

**How it works.** An address in numbers is used as it is. A name that is not known yet, or no more, is looked up in the
background; until the answer is there the old one is used, and without one the datagram is lost, as datagrams may be.

**Limits.** At most `NAMES_MAX` names are kept; past that the oldest goes. Of several addresses the first is used.

Read next: `sockets`.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

KEPT_S = 30.0
NAMES_MAX = 4_096


class Names:
    """Looks up names for sockets of one address family."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self._family = family
        self._known: dict[str, tuple[str, float]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def address(self, host: str) -> str | None:
        """Its address in numbers, as far as it is known now."""
        if is_number(host):
            return host
        known = self._known.get(host)
        loop = asyncio.get_running_loop()
        if (known is None or loop.time() > known[1]) and host not in self._asking:
            self._asking[host] = loop.create_task(self._ask(host))
        return known[0] if known else None

    async def _ask(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, None, family=self._family, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):  # the latter: no host can have that name
            return
        else:
            self._known.pop(host, None)
            self._known[host] = (str(found[0][4][0]), loop.time() + KEPT_S)
            if len(self._known) > NAMES_MAX:
                del self._known[next(iter(self._known))]
        finally:
            self._asking.pop(host, None)

    def close(self) -> None:
        """Look nothing up any more."""
        for task in list(self._asking.values()):
            task.cancel()


def is_number(host: str) -> bool:
    """Whether a host is an address in numbers.

    >>> is_number("10.0.0.7"), is_number("::1"), is_number("localhost")
    (True, True, False)
    """
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
