"""The kernel that runs the demos: this very Python, and nothing of the user's.

Jupyter looks a kernel up by name, and a `python3` installed under the user's home can win: the book would then be
executed by another Python with other packages, while the cache key speaks of this one. So no look-up: the command
line is written here. Startup files and history of the user's IPython are left out for the same reason.

The folders that hold the hashed library sources come first on the kernel's path, so that the code that is hashed is
the code that runs. `running` knows every live kernel, so that a cancelled build can end them.
Read next: `execute`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any, ClassVar

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from bookstitch.settings import Settings, pythonpath

NAME = "python3"


class OwnKernel(AsyncKernelManager):
    """A kernel manager whose only kernel is the Python that imported this module."""

    environment: ClassVar[dict[str, str]] = {}
    running: ClassVar[set[int]] = set()  # process groups: the kernel and every process that it started
    group: int | None = None

    @property
    def kernel_spec(self) -> KernelSpec:
        """Instead of a search through Jupyter's data folders."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv += ["--HistoryManager.enabled=False", "--InteractiveShellApp.exec_PYTHONSTARTUP=False"]
        argv += ["--IPKernelApp.log_level=40"]  # errors; it warns about loopback at every start
        return KernelSpec(argv=argv, display_name="Python 3", language="python", env=dict(self.environment))

    async def start_kernel(self, **kw: Any) -> None:  # type: ignore[override]
        """Note the process group, for `end_group`."""
        await super().start_kernel(**kw)
        self.group = getattr(self.provisioner, "pgid", None) or None
        if self.group:
            self.running.add(self.group)

    async def cleanup_resources(self, restart: bool = False) -> None:  # type: ignore[override]
        """After the kernel has gone: end what a demo left running, so that it cannot disturb the next one."""
        await super().cleanup_resources(restart)
        if self.group and not restart:
            end_group(self.group)
            self.running.discard(self.group)


def own_kernel(settings: Settings) -> type[OwnKernel]:
    """The manager's class for one book (papermill takes a class and makes the instance itself)."""
    ipython = settings.cache / "ipython"  # an empty profile
    environment = {"IPYTHONDIR": str(ipython), **pythonpath(settings.python_path)}
    return type("BookKernel", (OwnKernel,), {"environment": environment})


def end_group(group: int) -> None:
    """Kill a process group; it may have gone already."""
    if hasattr(os, "killpg") and group != os.getpgrp():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def end_all() -> None:
    """Kill every kernel that still runs; each waiting thread then sees a dead kernel and returns."""
    for group in list(OwnKernel.running):
        end_group(group)
