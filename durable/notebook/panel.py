"""A live panel over a `LocalCluster`: the ring and the matrix as one node sees them, and buttons to break things.

**How it works.** The cluster calls the panel after every report of a node; nothing is asked again and again. What comes within
`REDRAW_S` is drawn once. A button does what the method of its name does, on the chosen node; what it did, or why it could not,
stands below.

**In a page without a kernel** the panel shows its last state, and its buttons rest: they need the notebook's kernel, and say so.
When the cluster is closed, the panel keeps what was there before.

**Limits.** The parting is in two halves; more groups are `LocalCluster.partition`'s. It needs ipywidgets (the extra
``notebook``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from durable.errors import DurableError
from durable.membership.member import NodeId
from durable.notebook.figure import esc, tag
from durable.notebook.looks import in_order
from durable.notebook.matrix import membership_matrix
from durable.notebook.rings import hash_ring, ring_of

if TYPE_CHECKING:
    from durable.cluster.local import LocalCluster

REDRAW_S = 0.1
NEEDS_A_KERNEL = "The buttons act on live processes, through the notebook's kernel. Without one, this is the last state."
CLOSED = "The cluster is closed. This is its last state."
BUTTONS = ("kill", "pause", "resume", "restart", "leave", "add", "partition", "heal")


class ClusterPanel:
    """What `cluster_panel` returns; ``widget`` is what is shown, ``press`` what a button does."""

    def __init__(self, cluster: LocalCluster, virtual_nodes_per_node: int = 150) -> None:
        import ipywidgets as widgets

        self._cluster = cluster
        self._positions = virtual_nodes_per_node
        self._planned: asyncio.TimerHandle | None = None
        self._doing: dict[asyncio.Task[None], None] = {}
        self._choice = widgets.Dropdown(options=list(cluster.nodes), description="node", layout={"width": "12em"})
        self._buttons = [widgets.Button(description=name, layout={"width": "auto"}) for name in BUTTONS]
        self._matrix, self._ring, self._words = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._note = widgets.HTML(tag("small", NEEDS_A_KERNEL))
        for button in self._buttons:
            button.on_click(lambda pressed: self.press(pressed.description))
        self._choice.observe(lambda _: self.draw(), names="value")
        flow = widgets.Layout(flex_flow="row wrap")
        self.widget = widgets.VBox(
            [
                widgets.HBox([self._choice, *self._buttons], layout=flow),
                self._words,
                widgets.HBox([self._matrix, self._ring], layout=flow),
                self._note,
            ]
        )
        self._told("")
        self.draw()
        self._stop = cluster.listen(self._changed)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return self.widget._repr_mimebundle_(include=include, exclude=exclude)

    def draw(self) -> None:
        """Show what is so now: the whole matrix, and the ring of the chosen node."""
        self._planned = None
        names = list(self._cluster.nodes)
        if list(self._choice.options) != names:
            chosen = self._choice.value
            self._choice.options = names
            self._choice.value = chosen if chosen in names else next(iter(names), None)
        self._matrix.value = membership_matrix(self._cluster).html
        seen = self._cluster.members().get(NodeId(str(self._choice.value)), {})
        title = tag("div", f"the ring, as {esc(self._choice.value or 'nobody')} sees it")
        self._ring.value = title + hash_ring(ring_of(seen, self._positions)).html

    def press(self, name: str) -> asyncio.Task[None]:
        """Do what the button of that name does, on the chosen node. The task ends when it is done, or could not be."""
        task = asyncio.get_running_loop().create_task(self._do(name))
        self._doing[task] = None
        task.add_done_callback(lambda done: self._doing.pop(done, None))
        return task

    async def _do(self, name: str) -> None:
        cluster, node = self._cluster, str(self._choice.value)
        half = in_order(cluster.running)
        actions: dict[str, tuple[str, Callable[[], Awaitable[Any]]]] = {
            **{verb: (f"{verb} {node}", lambda verb=verb: getattr(cluster, verb)(node)) for verb in BUTTONS[:5]},  # type: ignore[misc]
            "add": ("add a node", cluster.add),
            "partition": ("part the network in two", lambda: cluster.partition([half[: (len(half) + 1) // 2]])),
            "heal": ("heal the network", cluster.heal),
        }
        words, act = actions[name]
        self._told(f"{words} …")
        try:
            await act()
        except (DurableError, ValueError) as error:
            self._told(f"{words}: {error}")
        else:
            self._told(f"{words}: done")

    def _told(self, words: str) -> None:
        self._words.value = tag("div", esc(words) or "&#8203;")

    def _changed(self) -> None:
        if self._cluster.closed:
            if self._planned is not None:
                self._planned.cancel()
            self.draw()
            for widget in (self._choice, *self._buttons):
                widget.disabled = True
            self._note.value = tag("small", f"{CLOSED} {NEEDS_A_KERNEL}")
            # All of it once more: whoever executes a notebook for a page keeps what a cell sends, and reports come between cells.
            for widget in (self._choice, *self._buttons, self._matrix, self._ring, self._words, self._note):
                widget.send_state()
        elif self._planned is None:
            self._planned = asyncio.get_running_loop().call_later(REDRAW_S, self.draw)


def cluster_panel(cluster: LocalCluster, virtual_nodes_per_node: int = 150) -> ClusterPanel:
    """A live panel over a cluster; the last expression of a cell shows it. It ends with the cluster."""
    return ClusterPanel(cluster, virtual_nodes_per_node)
