"""The process that is killed: opens the store, submits what is missing, and prints each result as it is told.

``python -m chaos.node URL EFFECTS COUNT PARK_AFTER``; it says ``ready`` when all is submitted, and ``done`` at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys

import durable
from chaos import shapes
from durable import NodeConfig


async def main(url: str, effects: str, count: int, park_after: float) -> None:
    shapes.EFFECTS = effects
    config = NodeConfig(park_after=park_after, max_concurrent_workflows=8)
    async with durable.open(url, config) as runtime:
        handles = []
        for number in range(count):
            definition, argument = shapes.SHAPES[number % len(shapes.SHAPES)]
            handles.append(await runtime.submit(definition, argument, workflow_id=f"w{number}"))
            print(json.dumps(["accepted", f"w{number}"]), flush=True)
        print(json.dumps(["ready"]), flush=True)
        for handle in asyncio.as_completed([tell(handle) for handle in handles]):
            await handle
        print(json.dumps(["done"]), flush=True)


async def tell(handle: durable.WorkflowHandle) -> None:
    result = await handle.result()
    print(json.dumps(["result", handle.workflow_id, result]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
