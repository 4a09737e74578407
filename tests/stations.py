"""Stations for tests of what travels between nodes: a transport with both ends of RPC on it, and a desk that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from durable.membership.member import NodeAddress
from durable.ports import Link
from durable.rpc.calls import RpcClient, RpcServer
from durable.rpc.frames import ANSWER, REQUEST
from durable.rpc.peers import Peers
from durable.rpc.requests import Owned
from durable.transports.cut import CutTransport
from durable.transports.sockets import SocketTransport

LOOPBACK = NodeAddress("127.0.0.1", 0)


class ScriptedDesk:
    """Each question goes to ``script``: what it returns is answered, what it raises is raised. ``asked`` keeps them all."""

    def __init__(self, script: Callable[..., Any]) -> None:
        self.script = script
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        async def ask(*arguments: Any) -> Any:
            self.asked.append((name, *arguments))
            answer = self.script(name, *arguments)
            return await answer if asyncio.iscoroutine(answer) or asyncio.isfuture(answer) else answer

        return ask


class Station:
    """One node's edge: what arrives goes to the client or the server in it."""

    def __init__(self, desk: Any, owners: Callable[[], list[Owned]] | None = None, copy: Any = None) -> None:
        self.transport = CutTransport(SocketTransport(LOOPBACK))
        self.peers = Peers(self.transport)
        self.client = RpcClient(self.peers)
        self.server = RpcServer(desk, self.transport.dropped, owners=owners, copy=copy)
        self.address = LOOPBACK
        self.links: list[Link] = []
        self.view = b""

    async def open(self) -> Station:
        self.address = await self.transport.open(self)
        return self

    async def close(self) -> None:
        await self.server.close()
        await self.peers.close()
        await self.transport.close()

    def datagram(self, sender: NodeAddress, data: bytes) -> None:
        raise AssertionError("no datagrams here")

    async def question(self, sender: NodeAddress, data: bytes) -> bytes | None:
        return self.view or None

    def frame(self, link: Link, data: bytes) -> None:
        if link not in self.links:
            self.links.append(link)
        if data[:1] == REQUEST:
            self.server.frame(link, data[1:])
        elif data[:1] == ANSWER:
            self.client.frame(link, data[1:])

    def link_lost(self, link: Link) -> None:
        self.client.link_lost(link)
        self.server.link_lost(link)
        self.peers.link_lost(link)


@asynccontextmanager
async def stations(*desks: Any) -> AsyncIterator[list[Station]]:
    """One for each desk."""
    opened = [await Station(desk).open() for desk in desks]
    try:
        yield opened
    finally:
        for one in opened:
            await one.close()
