"""A process for one call: for what computes for long, or must be stopped for certain.

The child imports the module of the function and calls it by its registered name; what is defined in a notebook or a script's
``__main__`` travels by cloudpickle, if that is installed. Arguments and result cross as JSON, as they do in the journal. A
call that is cancelled or passes its timeout is killed, alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from durable.errors import FunctionFailed, NotAllowedHere, OutcomeUnknown
from durable.journal import failures
from durable.journal.codec import encode_value
from durable.journal.entries import Failure

if TYPE_CHECKING:
    from durable.workflows.definition import Function


class _Order(msgspec.Struct):
    module: str
    name: str
    body: bytes | None
    arguments: bytes
    path: list[str]


class _Reply(msgspec.Struct):
    output_json: bytes | None = None
    error: Failure | None = None


async def run_in_process(function: Function[..., Any], arguments_json: bytes) -> bytes:
    """The JSON of the result. Raises what the function raised, or `FunctionFailed` when its process died."""
    order = msgspec.msgpack.encode(
        _Order(function.__module__, function.name, _pickled(function), arguments_json, [p for p in sys.path if p])
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from durable.bodies.processes import main; main()",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate(order)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        reply = msgspec.msgpack.decode(out, type=_Reply)
    except msgspec.MsgspecError:
        if function.once:
            raise OutcomeUnknown(
                f"the process of {function.name} ended with code {process.returncode} before it answered. It may have "
                "happened or not. It is declared once=True, so it is not run again."
            ) from None
        raise FunctionFailed(
            "ProcessDied", f"the process of {function.name} ended with code {process.returncode} before it answered"
        ) from None
    if reply.error is not None:
        raise failures.rebuild(reply.error)
    return reply.output_json or b"null"


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
    """The child: one order on standard input, one reply on standard output."""
    reply_to = sys.stdout.buffer
    sys.stdout = sys.stderr  # what the function prints must not mix with the reply
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Order)
    sys.path[:] = order.path
    try:
        reply = _Reply(output_json=_call(order))
    except BaseException as error:
        reply = _Reply(error=failures.record(error))
    reply_to.write(msgspec.msgpack.encode(reply))
    reply_to.flush()


def _call(order: _Order) -> bytes:
    from durable.workflows.definition import REGISTRY
    from durable.workflows.definition import function as register

    if order.body is not None:
        import cloudpickle

        function: Function[..., Any] = register(order.name, executor="process")(cloudpickle.loads(order.body))
    else:
        importlib.import_module(order.module)
        function = REGISTRY.function(order.name)
    args, kwargs = function.decode_arguments(order.arguments)
    result = function.body(*args, **kwargs)
    if inspect.isawaitable(result):
        result = asyncio.run(_wait(result))
    return encode_value(result, f"{function.name}: result")


async def _wait(awaitable: Any) -> Any:
    return await awaitable

