"""A small HTTP/1.1 client for the loopback interface: keep-alive, one request a connection at a time.

Why not httpx: the client shares two cores with the server that it measures, and a general client costs
about as much a request as the whole of Restate does. This one parses what Restate's ingress and hypercorn
send, and no more (no redirects, no TLS).
"""

from __future__ import annotations

import asyncio

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoopbackClient:
    """Any number of requests at once; each takes an idle connection or opens one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body. Raises `OSError` or `asyncio.IncompleteReadError` when the server goes away."""
        connection = (
            self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        )
        reader, writer = connection
        kind = "content-type: application/json\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{kind}content-length: {len(body)}\r\n\r\n"
        try:
            writer.write(head.encode() + body)
            status, payload = await _answer(reader)
        except BaseException:
            writer.close()  # half an answer may be in it: never reuse
            raise
        self._idle.append(connection)
        return status, payload

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    if headers.get("transfer-encoding", "") == "chunked":
        return status, await _chunks(reader)
    return status, await reader.readexactly(int(headers.get("content-length", "0")))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(parts)
