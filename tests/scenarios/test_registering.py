"""Registering never raises, whatever became of the nodes that once waited for the code."""

from __future__ import annotations

import asyncio
import logging

import durable
from durable import Context
from durable.storage import InMemoryStore
from durable.workflows.definition import REGISTRY


async def registered_late(ctx: Context) -> int:
    return 1


def test_a_node_whose_event_loop_ended_without_closing_it_does_not_stop_a_later_registration() -> None:
    kept = []

    async def leave_a_node_behind() -> None:
        runtime = await durable.NodeRuntime.make(durable.NodeStorage.make(InMemoryStore.open()))
        workflow = durable.workflow("registered-late")(registered_late)
        del REGISTRY.workflows["registered-late"]
        handle = await runtime.submit(workflow, workflow_id="waits-for-code")
        while await handle.status() is not durable.Status.WAITING:
            await asyncio.sleep(0)
        kept.append(runtime)

    logging.disable(logging.WARNING)
    try:
        asyncio.run(leave_a_node_behind())
    finally:
        logging.disable(logging.NOTSET)
    durable.workflow("registered-late")(registered_late)
