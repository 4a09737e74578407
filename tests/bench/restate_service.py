"""The workflows of the Restate peer: an ASGI application, served over HTTP/2 by hypercorn in a process of
its own.

Beside Restate's protocol it answers two paths of the benchmark, read directly and not through the server:
when the bodies ran, and how many workflows have arrived at their wait.

Run as ``python -m bench.restate_service PORT``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from bench import bodies
from bench.processes import allow_many_files

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

steps = restate.Workflow("steps")
sleep = restate.Workflow("sleep")
wait = restate.Workflow("wait")


@steps.main("run")
async def run_steps(ctx: restate.WorkflowContext, count: int) -> int:
    for number in range(count):
        await ctx.run_typed("step", _step, workflow_id=ctx.key(), number=number)
    return count


async def _step(workflow_id: str, number: int) -> int:
    return bodies.body(workflow_id, number)


@sleep.main("run")
async def run_sleep(ctx: restate.WorkflowContext, count: int) -> int:
    await ctx.sleep(timedelta(seconds=count))
    return count


@wait.main("run")
async def run_wait(ctx: restate.WorkflowContext, count: int) -> int:
    bodies.arrive()
    await ctx.promise("go", type_hint=int).value()
    return count


_restate_app = restate.app([steps, sleep, wait])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The Restate endpoint, with ``/bench/...`` in front of it."""
    if scope["type"] != "http" or not scope["path"].startswith("/bench/"):
        await _restate_app(scope, receive, send)
        return
    answer: Any = bodies.taken_times() if scope["path"] == "/bench/bodies" else bodies.arrived()
    payload = json.dumps(answer).encode()
    headers = [(b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


def main(port: int) -> None:
    allow_many_files()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2**31 - 1  # as Restate's own documentation advises for hypercorn
    config.keep_alive_max_requests = 2**31 - 1
    asyncio.run(serve(app, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(int(sys.argv[1]))
