"""The live panel over real processes: its buttons do what they say, it shows what follows, and keeps its last state."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from durable.cluster.local import LocalCluster
from durable.notebook import cluster_panel
from durable.notebook.panel import BUTTONS, CLOSED, NEEDS_A_KERNEL

pytest.importorskip("ipywidgets", reason="the extra `notebook` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]


def texts(panel: Any) -> str:
    return "".join(str(widget.value) for widget in (panel._words, panel._matrix, panel._ring, panel._note))


async def shown(panel: Any, words: str) -> None:
    """Return when the panel shows that, as its widgets tell it: nobody looks again and again."""
    there = asyncio.Event()

    def look(_: object = None) -> None:
        if words in texts(panel):
            there.set()

    widgets = (panel._words, panel._matrix, panel._ring, panel._note)
    for widget in widgets:
        widget.observe(look, names="value")
    look()
    try:
        await asyncio.wait_for(there.wait(), 30)
    finally:
        for widget in widgets:
            widget.unobserve(look, names="value")


def test_its_buttons_act_on_the_processes_and_what_it_shows_follows() -> None:
    async def story() -> None:
        async with LocalCluster(3) as cluster:
            panel = cluster_panel(cluster)
            assert NEEDS_A_KERNEL in texts(panel)
            assert "3 nodes" in panel._ring.value and "gone" not in panel._matrix.value

            panel._choice.value = "node-3"
            await panel.press("kill")
            assert cluster.states()["node-3"] == "gone" and "kill node-3: done" in texts(panel)
            panel._choice.value = "node-1"
            await shown(panel, "2 nodes")  # node-1 has buried it
            assert "(gone)" in panel._matrix.value

            await panel.press("add")
            assert list(panel._choice.options) != [] and "node-4" in cluster.running
            await cluster.wait_converged()
            await shown(panel, "3 nodes")
            assert "node-4" in panel._choice.options

            panel._choice.value = "node-3"
            await panel.press("restart")
            await cluster.wait_converged()
            await panel.press("pause")
            assert cluster.states()["node-3"] == "paused"
            await shown(panel, "(paused)")
            await panel.press("leave")  # it cannot be told anything
            assert "node-3 is paused, and cannot be told to leave" in texts(panel)
            await panel.press("resume")
            await cluster.wait_converged()

            await panel.press("partition")
            assert "part the network in two: done" in texts(panel)
            await panel.press("heal")
            await cluster.wait_converged()
        assert "(gone)" not in panel._matrix.value and "4 nodes" in panel._ring.value
        assert CLOSED in texts(panel)
        assert all(button.disabled for button in (*panel._buttons, panel._choice))

    asyncio.run(story())


def test_many_reports_are_drawn_once() -> None:
    async def story() -> int:
        async with LocalCluster(2) as cluster:
            panel = cluster_panel(cluster)
            assert [button.description for button in panel._buttons] == list(BUTTONS)
            draws, drawn = [0], asyncio.Event()

            def draw() -> None:
                draws[0] += 1
                drawn.set()

            panel.draw = draw  # type: ignore[method-assign]
            for _ in range(50):
                cluster._notify()
            assert draws == [0]
            await drawn.wait()
            for _ in range(5):
                await asyncio.sleep(0)
            return draws[0]

    assert asyncio.run(story()) == 1


CELLS = (
    "from durable.cluster import LocalCluster, MemberStatus\nfrom durable.notebook import cluster_panel",
    "cluster = LocalCluster(3)\nawait cluster.start()",
    "panel = cluster_panel(cluster)\npanel",
    "await cluster.kill('node-3')\nawait cluster.wait_believed('node-3', MemberStatus.DEAD)\nawait cluster.add()",
    "await cluster.wait_converged()\nawait cluster.close()",
)


def test_an_executed_notebook_keeps_the_last_state_for_a_page_without_a_kernel(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra `book` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra `book` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `book` is not installed")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources)
    asyncio.run(client.async_execute(env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}))
    models = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    states = [model["state"] for model in models]
    shown = "".join(state.get("value") or "" for state in states if isinstance(state.get("value"), str))
    assert NEEDS_A_KERNEL in shown and CLOSED in shown
    assert shown.count("3 nodes") == 1 and "durable-cross" in shown and "(gone)" in shown
    [nodes] = [state["_options_labels"] for state in states if "_options_labels" in state]
    assert nodes == ["node-1", "node-2", "node-3", "node-4"]
    assert all(state["disabled"] for state in states if state.get("_model_name") in ("ButtonModel", "DropdownModel"))
