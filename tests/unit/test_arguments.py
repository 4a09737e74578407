"""A mistyped argument is an error that names it, the same on one node and from a client, before anything is asked of anybody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nodes import asynchronous, open_node
from towns import Town, in_town

from durable import Context, WorkflowHandle, workflow
from durable.cluster.client import ClusterClient
from durable.desk.face import Face
from durable.errors import EncodingError, WorkflowError
from durable.journal.keys import id_bytes

LONE = "\ud800"


@workflow("arguments-waits")
async def waits(ctx: Context) -> str:
    return str(await ctx.receive("words", str))


Attempt = Callable[[Face, WorkflowHandle[Any]], Awaitable[Any]]


async def at_once(ask: Callable[[], Any]) -> None:
    ask()


WRONG: list[tuple[str, type[Exception], str, Attempt]] = [
    ("key", TypeError, "key is 7; it must be a str, or None", lambda _, one: one.send("words", "x", key=7)),  # type: ignore[arg-type]
    ("channel", TypeError, "channel is 7; it must be a str", lambda _, one: one.send(7, "x")),  # type: ignore[arg-type]
    ("channel none", TypeError, "channel is None; it must be a str", lambda _, one: one.send(None, "x")),  # type: ignore[arg-type]
    ("lone channel", EncodingError, r"channel is '\ud800'", lambda _, one: one.send(LONE, "x")),
    ("lone key", EncodingError, r"key is '\ud800'", lambda _, one: one.send("words", "x", key=LONE)),
    ("at", TypeError, "at is 'x'; it must be an int", lambda _, one: one.fork("x")),  # type: ignore[arg-type]
    ("at bool", TypeError, "at is True; it must be an int", lambda _, one: one.fork(True)),
    ("far at", ValueError, "at is 1000000000000000000000000000000; it must be", lambda _, one: one.fork(10**30)),
    ("fork id", TypeError, "workflow_id is 7; it must be a str", lambda _, one: one.fork(0, 7)),  # type: ignore[arg-type]
    ("limit", TypeError, "limit is '5'; it must be an int", lambda face, _: face.list(limit="5")),  # type: ignore[arg-type]
    ("limit below", ValueError, "limit is -1; it must be 0 to 9,223,", lambda face, _: face.list(limit=-1)),
    ("limit above", ValueError, "it must be 0 to 9,223,", lambda face, _: face.list(limit=10**30)),
    ("after", TypeError, "after is 7; it must be a str, or None", lambda face, _: face.list(after=7)),  # type: ignore[arg-type]
    ("lone after", EncodingError, r"after is '\ud800'", lambda face, _: face.list(after=LONE)),
    ("of", TypeError, "workflow is 7; it must be a str, or None", lambda face, _: face.list(workflow=7)),  # type: ignore[arg-type]
    ("lone of", EncodingError, r"workflow is '\ud800'", lambda face, _: face.list(workflow=LONE)),
    ("request", TypeError, "request_id is 7; it must be", lambda face, _: face.purge(1e9, request_id=7)),  # type: ignore[arg-type]
    ("older", WorkflowError, "the duration is longer", lambda face, _: face.purge(10**400)),
    ("handle", TypeError, "workflow_id is 7", lambda face, _: at_once(lambda: face.handle(7))),  # type: ignore[arg-type]
    ("lone handle", WorkflowError, "cannot be a workflow id", lambda face, _: at_once(lambda: face.handle(LONE))),
    ("submit", TypeError, "workflow_id is 7", lambda face, _: face.submit(waits, workflow_id=7)),  # type: ignore[call-overload]
    ("lone submit", WorkflowError, "cannot be", lambda face, _: face.submit(waits, workflow_id=LONE)),
    ("export", TypeError, "workflow_id is 7", lambda face, _: face.export(7)),  # type: ignore[arg-type]
]


async def each_is_refused(face: Face) -> None:
    handle = await face.submit(waits, workflow_id="w-1")
    for what, kind, why, attempt in WRONG:
        with pytest.raises(kind, match=re.escape(why)) as caught:
            await asyncio.wait_for(attempt(face, handle), 2.0)
        assert not isinstance(caught.value, UnicodeError), what
    assert await face.purge(10**30) == [] and await face.purge(True) == []
    assert len(await face.list(limit=2**63 - 1)) == 1
    await handle.send("words", "well")
    assert await handle.result() == "well"


@asynchronous
async def test_on_one_node() -> None:
    runtime = await open_node()
    await each_is_refused(runtime)
    await runtime.close()


@in_town("node-1", "node-2", "node-3")
async def test_from_a_client_and_no_link_is_cut(town: Town) -> None:
    async with ClusterClient([town["node-1"].station.address], rpc_timeout=5.0) as cluster:
        await each_is_refused(cluster)
        with pytest.raises(EncodingError, match="workflow is"):
            await cluster.submit(LONE, 1)
        assert [dict(node.station.transport.dropped) for node in town.nodes.values()] == [{}, {}, {}]


def test_what_is_no_id_is_no_key() -> None:
    with pytest.raises(WorkflowError, match=r"'\\ud800' cannot be a workflow id"):
        id_bytes(LONE)
