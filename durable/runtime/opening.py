"""``durable.open``: a folder, and everything that is in it goes on.

    async with durable.open("orders.db") as runtime: ...
    runtime = await durable.open("orders.db")           # in a notebook, whose cells cannot share a block
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from durable.runtime.config import NodeConfig
from durable.runtime.runtime import NodeRuntime
from durable.storage.node import NodeStorage


class Opening:
    """What `open` returns: await it, or enter it. Nothing is opened before."""

    def __init__(self, url_or_path: str, config: NodeConfig | None) -> None:
        self._url_or_path = url_or_path
        self._config = config
        self._runtime: NodeRuntime | None = None

    def __await__(self) -> Generator[Any, Any, NodeRuntime]:
        return self._open().__await__()

    async def __aenter__(self) -> NodeRuntime:
        self._runtime = await self._open()
        return self._runtime

    async def __aexit__(self, *_: object) -> None:
        if self._runtime is not None:
            await self._runtime.close()

    async def _open(self) -> NodeRuntime:
        from durable.storage import open_store

        store = open_store(self._url_or_path)
        try:
            return await NodeRuntime.make(NodeStorage.make(store), self._config, owns_store=True)
        except BaseException:
            store.close()
            raise


def open(url_or_path: Any = "durable-data", config: NodeConfig | None = None) -> Opening:
    """Open a store and run its workflows: RocksDB in that folder, or ``leveldb:path``, or ``memory:``.

    Await the result, or use it in ``async with``. Raises `StoreLocked` when another process holds the folder.

    >>> import asyncio
    >>> async def main():
    ...     async with open("memory:") as runtime:
    ...         return runtime.node_id
    >>> asyncio.run(main())
    'node-1'
    """
    return Opening(str(url_or_path), config)
