"""What runs in the processes of a `LocalCluster`: one `ClusterNode`, at the other end of a pipe.

**How it works.** Orders come in on standard input and reports go out on standard output, a JSON object a line. The first line
is the configuration, with the app and the store. Every change of belief is reported at once, with the whole list as this node now
sees it, and every change of what it owns: whoever waits for something waits for a report, and never asks again and again.

=========  ===========================  ======================================================================================
order      with                         does
=========  ===========================  ======================================================================================
join       ``seeds``                    asks them, and answers when let in
cut        ``peers``, ``deaf``,         is cut off from exactly these (`CutTransport.cut`)
           ``mute``
disturb    ``loss``, ``delay_s``, ...   sends as over a bad network (`CutTransport.faults`)
leave                                   tells the others, answers, ends
view                                    answers with the `NodeView`
submit     a workflow's name, ...       submits it, and answers with its id
result     ``workflow_id``              answers when it has come, in JSON
=========  ===========================  ======================================================================================

**Its environment** names the node, as ``CLUSTER_NODE_ID``: so a function's body can say where it runs.

**Its end.** When the parent is gone, however it went, the pipe closes and the process ends. One that is stopped (SIGSTOP)
would not notice: on Linux the kernel is asked to kill it too.

Read next: `durable.commands`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any

import msgspec

from durable.cluster.app import unpack_app
from durable.cluster.ask import seal_of
from durable.cluster.config import ClusterConfig
from durable.cluster.node import ClusterNode
from durable.errors import DurableError
from durable.journal.codec import encode_value
from durable.membership.member import NodeAddress
from durable.storage import open_store
from durable.storage.node import NodeStorage
from durable.transports.cut import CutTransport
from durable.transports.sockets import SocketTransport
from durable.workflows.definition import REGISTRY
from durable.world import die_with_parent


class Orders(msgspec.Struct):
    """The first line: what this child is to be. ``config`` are the fields of a `ClusterConfig`."""

    config: dict[str, Any]
    store: str | None = None
    app: dict[str, str] = {}


def main() -> None:
    """Read the configuration, and run until told otherwise."""
    die_with_parent(os.getppid())
    asyncio.run(_Child(msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)).run())


class _Child:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._config = ClusterConfig(**orders.config)
        seal = seal_of(self._config.secrets, self._config.cluster_name)
        self._transport = CutTransport(SocketTransport(self._config.bind_address, seal, self._config.advertise_address))
        self._node: ClusterNode | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            unpack_app(self._orders.app)
            node = self._node = self._make_node()
            address = await node.start()
        except (OSError, DurableError, ValueError) as error:
            _report(error=str(error))
            return
        threading.Thread(target=self._read_orders, args=(loop,), daemon=True).start()
        _report(started=str(address), boot=node.members()[0].boot, members=_members(node))
        self._tasks.append(loop.create_task(self._report_ownership(node)))
        async for change in node.events():
            was = change.was.name if change.was is not None else None
            _report(changed=msgspec.to_builtins(change.member), was=was, members=_members(node))
        try:
            await node.closed()
        except DurableError as error:
            _report(error=str(error))
        await asyncio.gather(*self._tasks)

    def _make_node(self) -> ClusterNode:
        storage = NodeStorage.make(open_store(self._orders.store)) if self._orders.store else None
        return ClusterNode(self._config, storage, transport=self._transport)

    async def _report_ownership(self, node: ClusterNode) -> None:
        async for owned in node.ownership():
            _report(owned=owned)

    def _read_orders(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin.buffer:
            order = msgspec.json.decode(line)
            loop.call_soon_threadsafe(self._begin, order)
        os._exit(0)  # the parent is gone: nobody is left to tell

    def _begin(self, order: dict[str, Any]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._obey(order)))

    async def _obey(self, order: dict[str, Any]) -> None:
        assert self._node is not None
        answer: Any = None
        try:
            match order["do"]:
                case "join":
                    await self._node.join(seeds=[NodeAddress.parse(seed) for seed in order["seeds"]])
                case "cut":
                    peers, deaf, mute = (map(NodeAddress.parse, order[name]) for name in ("peers", "deaf", "mute"))
                    self._transport.cut(peers, deaf=deaf, mute=mute)
                case "disturb":
                    self._transport.faults(**order["faults"])
                case "leave":
                    await self._node.leave()
                case "submit":
                    definition = REGISTRY.workflow(order["workflow"])
                    given = definition.decode_input(order["input"].encode())
                    answer = (await self._node.submit(definition, given, order["workflow_id"])).workflow_id
                case "result":
                    result = await self._node.handle(order["workflow_id"]).result()
                    answer = encode_value(result, order["workflow_id"]).decode()
                case "view":
                    answer = msgspec.to_builtins(self._node.view())
        except DurableError as error:
            _report(answers=order["number"], error=str(error))
        except Exception as error:  # whoever asked waits for an answer
            _report(answers=order["number"], error=f"{type(error).__name__}: {error}")
        else:
            _report(answers=order["number"], answer=answer)


def _members(node: ClusterNode) -> Any:
    return msgspec.to_builtins(node.members())


def _report(**what: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
