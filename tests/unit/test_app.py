"""Code that a notebook defines runs in its children as it would here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from durable.cluster.app import import_app, pack_app, unpack_app

NOTEBOOK = '''
import dataclasses, json, durable
from durable import Context
from durable.cluster.app import pack_app

@dataclasses.dataclass
class Order:
    item: str
    count: int = 1

@durable.function(timeout=7.0)
async def price(order: Order) -> int:
    return 3 * order.count

@durable.workflow("shop", version=2)
async def shop(ctx: Context, order: Order) -> int:
    if order.count > 5:
        return await shop(ctx, Order(order.item, 5))    # a definition that names itself
    return await ctx.call(price, order)

print(json.dumps(pack_app([shop])))
'''

CHILD = '''
import asyncio, json, sys, durable
from durable.cluster.app import unpack_app
from durable.workflows.definition import REGISTRY
unpack_app(json.loads(sys.stdin.read()))
assert REGISTRY.functions["price"].timeout == 7.0 and REGISTRY.workflows["shop"].version == 2
async def main():
    async with durable.open("memory:") as runtime:
        return await (await runtime.submit("shop", {"item": "tea", "count": 9})).result()
print(asyncio.run(main()))
'''


def run_python(code: str, given: str = "") -> str:
    command = [sys.executable, "-c", "import sys; sys.path[:] = eval(sys.argv[1]); exec(sys.argv[2])", repr(sys.path), code]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def test_definitions_travel_with_their_types_and_with_what_they_call() -> None:
    assert run_python(CHILD, run_python(NOTEBOOK)).strip() == "15"


def test_modules_travel_by_name() -> None:
    assert pack_app("json") == {"modules": "json"}
    assert pack_app(["json", "csv"]) == {"modules": "json,csv"}
    assert pack_app(None) == {}
    unpack_app({"modules": "json,csv"})


def test_what_is_no_app_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"'no\.such\.module' cannot be imported: ModuleNotFoundError"):
        import_app("json, no.such.module")
    with pytest.raises(TypeError, match="decorate it"):
        pack_app([len])  # type: ignore[list-item]
