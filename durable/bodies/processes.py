"""A process for one call: for what computes for long, or must be stopped for certain.

The child imports the module of the function and calls it by its registered name; what is defined in a notebook or a script's
``__main__`` travels by cloudpickle, if that is installed. Arguments and result cross as JSON, as they do in the journal. A
call that is cancelled or passes its timeout is killed, alone: its body never sees ``current_call().cancelled``.

What the child says are frames: any number of heartbeats, which the node records as they come, and one reply. Without a reply the
call has failed, and its next attempt finds the last heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

import msgspec

from durable.errors import FunctionFailed, NotAllowedHere, OutcomeUnknown
from durable.journal import failures
from durable.journal.codec import ANY, encode_value
from durable.journal.entries import Failure
from durable.workflows.definition import _CURRENT, REGISTRY, Call, Function
from durable.workflows.definition import function as register

LENGTH_BYTES = 4
"""What stands before each frame of the child."""


class _Order(msgspec.Struct):
    module: str
    name: str
    body: bytes | None
    arguments: bytes
    path: list[str]
    address: tuple[str, bytes, int, int]
    attempt: int
    epoch: int
    last_heartbeat_json: bytes
    value_bytes_max: int


class _Beat(msgspec.Struct, tag=True):
    details_json: bytes


class _Reply(msgspec.Struct, tag=True):
    output_json: bytes | None = None
    error: Failure | None = None


async def run_in_process(
    function: Function[..., Any], arguments_json: bytes, call: Call, value_bytes_max: int, beat: Callable[[bytes], None]
) -> bytes:
    """The JSON of the result; ``beat`` is given that of each heartbeat, as it comes.

    Raises what the function raised, or `FunctionFailed` when its process died.
    """
    order = _Order(
        module=function.__module__,
        name=function.name,
        body=_pickled(function),
        arguments=arguments_json,
        path=[p for p in sys.path if p],
        address=call._address,
        attempt=call.attempt,
        epoch=call.epoch,
        last_heartbeat_json=encode_value(call.last_heartbeat, "heartbeat", value_bytes_max),
        value_bytes_max=value_bytes_max,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from durable.bodies.processes import main; main()",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        reply = await _converse(process, msgspec.msgpack.encode(order), beat)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if reply is None:
        if function.once:
            raise OutcomeUnknown(
                f"the process of {function.name} ended with code {process.returncode} before it answered. It may have "
                "happened or not. It is declared once=True, so it is not run again."
            )
        raise FunctionFailed(
            "ProcessDied", f"the process of {function.name} ended with code {process.returncode} before it answered"
        )
    if reply.error is not None:
        raise failures.rebuild(reply.error)
    return reply.output_json or b"null"


async def _converse(process: asyncio.subprocess.Process, order: bytes, beat: Callable[[bytes], None]) -> _Reply | None:
    """Give the child its order, and hear it to its end. None: it said no reply."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died before it had read all: it will say nothing
        process.stdin.write(order)
        await process.stdin.drain()
    process.stdin.close()
    reply = None
    try:
        while True:
            size = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
            frame: _Beat | _Reply = msgspec.msgpack.decode(await process.stdout.readexactly(size), type=_Beat | _Reply)
            if isinstance(frame, _Beat):
                beat(frame.details_json)
            else:
                reply = frame
    except asyncio.IncompleteReadError:  # no more will come
        await process.wait()
        return reply
    except msgspec.MsgspecError:  # not from here: something wrote to the pipe before `main` did
        return None


def _pickled(function: Function[..., Any]) -> bytes | None:
    if function.__module__ != "__main__":
        return None
    try:
        import cloudpickle
    except ImportError:
        raise NotAllowedHere(
            f"{function.name} is defined in a notebook or script, and executor='process' needs cloudpickle to carry it into "
            "another process: pip install 'durable[notebook]', or define it in a module."
        ) from None
    return bytes(cloudpickle.dumps(function.body))


def main() -> None:
    """The child: one order on standard input; on standard output heartbeats, and one reply."""
    parent = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints, and what the programs print that it starts, must not mix with the frames
    sys.stdout = sys.stderr
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Order)
    sys.path[:] = order.path
    say = partial(_say, parent)
    try:
        reply = _Reply(output_json=_call(order, say))
    except BaseException as error:
        reply = _Reply(error=failures.record(error))
    say(reply)


def _say(parent: BinaryIO, frame: _Beat | _Reply) -> None:
    data = msgspec.msgpack.encode(frame)
    parent.write(len(data).to_bytes(LENGTH_BYTES) + data)  # in one call: several threads of the function may say something
    parent.flush()


def _call(order: _Order, say: Callable[[_Beat], None]) -> bytes:
    if order.body is not None:
        import cloudpickle

        function: Function[..., Any] = register(order.name, executor="process")(cloudpickle.loads(order.body))
    else:
        importlib.import_module(order.module)
        function = REGISTRY.function(order.name)
    args, kwargs = function.decode_arguments(order.arguments)

    def beat(_: Call, details: Any) -> None:
        say(_Beat(encode_value(details, "heartbeat", order.value_bytes_max)))

    call = Call(order.address, order.attempt, ANY.decode(order.last_heartbeat_json), beat)
    call.epoch = order.epoch
    _CURRENT.set(call)
    result = function.body(*args, **kwargs)
    if inspect.isawaitable(result):
        result = asyncio.run(_wait(result))
    return encode_value(result, f"{function.name}: result")


async def _wait(awaitable: Any) -> Any:
    return await awaitable

