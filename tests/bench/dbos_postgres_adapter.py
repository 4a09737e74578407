"""DBOS Transact again, its journal in PostgreSQL: a server of this run's own, on a free port of the
loopback interface.

PostgreSQL as ``initdb`` sets it up: ``fsync=on``, ``synchronous_commit=on``, a commit is on disk before it
is acknowledged. It refuses to run as root, so there it runs as the system's user ``postgres``.

Limits: only the workloads of throughput and latency. Its backends leave the process group and share memory
that RSS counts for each of them, so that a kill would not be one kill, nor a sum of memory a sum.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from bench import dbos_adapter
from bench.processes import free_port, spawn

READY_S = 30.0
USER = "postgres"


def absent() -> str | None:
    for package in ("dbos", "psycopg"):
        if not find_spec(package):
            return f"the package `{package}` is not installed (extra `bench`)"
    for program in ("initdb", "postgres"):
        if not shutil.which(program):
            return f"PostgreSQL's `{program}` is not on the path"
    if os.geteuid() == 0 and _user_id() is None:
        return f"PostgreSQL does not run as root, and there is no user `{USER}`"
    return None


def about() -> dict[str, str]:
    program = shutil.which("postgres")
    said = (
        subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        if program
        else ""
    )
    return {
        "version": f"{dbos_adapter.about().get('version', '')}, {said.strip()}",
        "sync": "PostgreSQL, fsync=on, synchronous_commit=on (its default)",
    }


def _user_id() -> int | None:
    try:
        return pwd.getpwnam(USER).pw_uid
    except KeyError:
        return None


class Adapter(dbos_adapter.Adapter):
    async def open(self, folder: Path) -> None:
        await self.launch(await self._server(folder))

    async def _server(self, folder: Path) -> str:
        user = USER if os.geteuid() == 0 else None
        data = (folder / "postgres").resolve()
        data.mkdir()
        if user:
            shutil.chown(data, user)
            folder.chmod(0o711)  # it must reach its own folder inside
        create = ["initdb", "-D", str(data), "-A", "trust", "-U", "bench", "-E", "UTF8", "--no-locale"]
        subprocess.run(create, check=True, capture_output=True, timeout=60, user=user, cwd="/")
        port = free_port()
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        command = ["postgres", "-D", str(data), "-p", str(port), *settings]
        self._postgres = spawn(command, folder / "postgres.log", user=user)
        await self._ready(port)
        return f"postgresql://bench@127.0.0.1:{port}/bench"

    async def _ready(self, port: int) -> None:
        import psycopg

        deadline = asyncio.get_running_loop().time() + READY_S
        while True:
            try:
                address = f"host=127.0.0.1 port={port} user=bench dbname=postgres"
                with psycopg.connect(address, autocommit=True) as connection:
                    connection.execute("CREATE DATABASE bench")
                    return
            except psycopg.OperationalError:
                if self._postgres.poll() is not None or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        self._postgres.send_signal(signal.SIGQUIT)  # at once, without a last checkpoint: it is thrown away
        self._postgres.wait(timeout=10)
