"""A process for one call: for what computes for long, or must be stopped for certain.

The child imports the module of the function and calls it by its registered name; what is defined in a notebook or a script's
``__main__`` travels by cloudpickle, if that is installed. Arguments and result cross as JSON, as they do in the journal. A
call that is cancelled or passes its timeout is killed, alone: its body never sees ``current_call().cancelled``.

What the child says are frames, on a pipe of their own: any number of heartbeats, which the node records as they come, and one
reply. Without a reply the call has failed, and its next attempt finds the last heartbeat.

A Ctrl-C or SIGTERM that is meant for the node does not reach the body: the node says when it ends, and what has no result then is
begun again, here or elsewhere. The process ends with the node.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from durable.errors import FunctionFailed, NotAllowedHere, OutcomeUnknown
from durable.journal import failures
from durable.journal.codec import ANY, encode_value
from durable.journal.entries import Failure
from durable.journal.retry import class_name
from durable.workflows.definition import _CURRENT, REGISTRY, Call, Function
from durable.workflows.definition import function as register
from durable.world import die_with_parent

LENGTH_BYTES = 4
"""What stands before each frame of the child."""
LAST_S = 1.0
"""How long a process that has answered may take to end by itself, for what it does at its exit; and how long one that has ended
is still heard."""


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
    error_types: tuple[str, ...] = ()


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
        path=[p or str(Path.cwd()) for p in sys.path],
        address=call._address,
        attempt=call.attempt,
        epoch=call.epoch,
        last_heartbeat_json=encode_value(call.last_heartbeat, "heartbeat", value_bytes_max),
        value_bytes_max=value_bytes_max,
    )
    ours, theirs = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            f"from durable.bodies.processes import main; main({theirs}, {os.getpid()})",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(theirs,),
            process_group=0,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        reply = await _converse(process, msgspec.msgpack.encode(order), ours, beat)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LAST_S if reply is not None else None)
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
        error = failures.rebuild(reply.error)
        if isinstance(error, FunctionFailed):  # for its `RetryPolicy`, which knows classes
            error.error_types = reply.error_types  # type: ignore[attr-defined]
        raise error
    return reply.output_json or b"null"


async def _converse(
    process: asyncio.subprocess.Process, order: bytes, ours: int, beat: Callable[[bytes], None]
) -> _Reply | None:
    """Give the child its order, and hear it until it has answered or ended, whoever else may hold its pipe.

    None: it said no reply.
    """
    heard = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(heard), os.fdopen(ours, "rb", 0)
    )
    ending = asyncio.create_task(_hang_up(process, pipe))
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died before it had read all: it will say nothing
            process.stdin.write(order)
            await process.stdin.drain()
        process.stdin.close()
        while True:
            size = int.from_bytes(await heard.readexactly(LENGTH_BYTES))
            frame: _Beat | _Reply = msgspec.msgpack.decode(await heard.readexactly(size), type=_Beat | _Reply)
            if isinstance(frame, _Reply):
                return frame
            beat(frame.details_json)
    except asyncio.IncompleteReadError:  # it has ended
        return None
    finally:
        ending.cancel()
        pipe.close()


async def _hang_up(process: asyncio.subprocess.Process, pipe: asyncio.ReadTransport) -> None:
    """Hear no more of a process that has ended than what it left in the pipe: those that it forked may hold it for ever."""
    await process.wait()
    await asyncio.sleep(LAST_S)
    pipe.close()


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


def main(theirs: int, parent_id: int) -> None:
    """The child: one order on standard input; on the pipe ``theirs`` heartbeats, and one reply."""
    die_with_parent(parent_id)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stay)  # not SIG_IGN, which the programs that the body starts would inherit
    os.set_inheritable(theirs, False)
    with contextlib.suppress(OSError):  # there may be no standard error
        os.dup2(2, 1)  # whoever runs the node reads its standard output, and no body's
    sys.stdout = sys.stderr
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Order)
    sys.path[:] = order.path
    with os.fdopen(theirs, "wb") as parent:
        try:
            reply = _Reply(output_json=_call(order, partial(_say, parent)))
        except BaseException as error:
            reply = _Reply(error=failures.record(error), error_types=tuple(class_name(kind) for kind in type(error).__mro__))
        _say(parent, reply)


def _stay(number: int, frame: Any) -> None:
    """The node was told to stop; it says what becomes of this process."""


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

    own_id = os.getpid()

    def beat(_: Call, details: Any) -> None:
        if os.getpid() != own_id:
            raise NotAllowedHere("heartbeat() is for the process of the function itself, not for those that it forks")
        say(_Beat(encode_value(details, "heartbeat", order.value_bytes_max)))

    call = Call(order.address, order.attempt, ANY.decode(order.last_heartbeat_json), beat)
    call.epoch = order.epoch
    _CURRENT.set(call)
    result = function.body(*args, **kwargs)
    if inspect.isawaitable(result):
        result = asyncio.run(_wait(result))
    return encode_value(result, f"{function.name}: result", order.value_bytes_max)


async def _wait(awaitable: Any) -> Any:
    return await awaitable

