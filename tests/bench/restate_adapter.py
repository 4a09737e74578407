"""Restate's real server, from npm, and a service of its Python SDK: three processes with the driver, all on
the loopback.

The server runs with its defaults (24 partitions, replicated loglet with one node, the write-ahead log of
its RocksDB synced: about two fdatasync calls a step in W1, counted with strace), but for its ports, free
ones on 127.0.0.1, and telemetry, which is off. The package is installed once, into the ignored cache
folder, without running its install scripts.

Limits: a SIGKILL takes server, service and driver together; a service that dies alone is another
experiment.
"""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.loopback import LoopbackClient
from bench.peer import Kind
from bench.processes import free_port, spawn

SERVER_VERSION = "1.7.12"
PACKAGE = f"@restatedev/restate-server@{SERVER_VERSION}"
CACHE = Path(".bench/cache/restate")
READY_S = 60.0


def absent() -> str | None:
    for package in ("restate", "hypercorn"):
        if not find_spec(package):
            return f"the package `{package}` is not installed (extra `bench`)"
    if _binary().exists():
        return None
    if not shutil.which("npm"):
        return "npm is not installed, so Restate's server cannot be fetched"
    return _install()


def about() -> dict[str, str]:
    return {"version": SERVER_VERSION, "sync": "RocksDB write-ahead log, fsynced a batch (its default)"}


def _binary() -> Path:
    system = platform.system().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine()
    )
    return (
        CACHE / f"node_modules/@restatedev/restate-server-{system}-{machine}/bin/restate-server"
    ).resolve()


def _install() -> str | None:
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(CACHE),
        PACKAGE,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return "npm did not fetch Restate's server within 300 s"
    if done.returncode:
        return f"npm could not fetch Restate's server: {done.stderr.strip().splitlines()[-1:]}"
    return None if _binary().exists() else "npm has no Restate server for this machine"


class Adapter:
    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    async def open(self, folder: Path) -> None:
        first = not (folder / "ports.json").exists()
        ports = self._ports(folder)  # kept over a restart: the server knows the service by its address
        self._service = LoopbackClient(ports["service"])
        self._ingress = LoopbackClient(ports["ingress"])
        admin = LoopbackClient(ports["admin"])
        service = [sys.executable, "-m", "bench.restate_service", str(ports["service"])]
        self._processes.append(spawn(service, folder / "service.log"))
        server = [str(_binary()), *_arguments(folder, ports)]
        self._processes.append(spawn(server, folder / "server.log", _settings(ports)))
        await asyncio.gather(
            self._ready(self._service, "/bench/arrived"),
            self._ready(self._ingress, "/restate/health"),
            self._ready(admin, "/health"),
        )
        if first:
            await _register(admin, ports["service"])
        admin.close()

    def _ports(self, folder: Path) -> dict[str, int]:
        kept = folder / "ports.json"
        if kept.exists():
            return dict(json.loads(kept.read_text()))
        ports = {name: free_port() for name in ("service", "ingress", "admin", "node")}
        kept.write_text(json.dumps(ports))
        return ports

    async def _ready(self, client: LoopbackClient, path: str) -> None:
        deadline = asyncio.get_running_loop().time() + READY_S
        while asyncio.get_running_loop().time() < deadline:
            for process in self._processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
            try:
                if (await client.request("GET", path))[0] == 200:
                    return
            except (OSError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(0.02)
        raise TimeoutError(f"no answer on {path} within {READY_S} s")

    async def run(self, kind: Kind, workflow_id: str, count: int) -> int:
        return int(await self._post(f"/{kind}/{workflow_id}/run", count))

    async def start(self, kind: Kind, workflow_id: str, count: int) -> None:
        await self._post(f"/{kind}/{workflow_id}/run/send", count)

    async def _post(self, path: str, count: int) -> bytes:
        status, answer = await self._ingress.request("POST", path, str(count).encode())
        if status not in (200, 202):
            raise RuntimeError(f"POST {path}: {status} {answer[:200]!r}")
        return answer

    async def finished(self, workflow_ids: Sequence[str]) -> None:
        await asyncio.gather(*(self._attach(workflow_id) for workflow_id in workflow_ids))

    async def _attach(self, workflow_id: str) -> None:
        """Wait for a result. Just restarted, the server may answer "unavailable" for a moment: ask again."""
        while True:
            status, answer = await self._ingress.request(
                "GET", f"/restate/workflow/steps/{workflow_id}/attach"
            )
            if status == 200:
                return
            if status not in (429, 500, 502, 503):
                raise RuntimeError(f"attach to {workflow_id}: {status} {answer[:200]!r}")
            await asyncio.sleep(0.05)

    async def bodies(self) -> list[float]:
        return list(json.loads((await self._service.request("GET", "/bench/bodies"))[1]))

    async def arrived(self) -> int:
        return int((await self._service.request("GET", "/bench/arrived"))[1])

    async def close(self) -> None:
        """Kill, not ask: what it holds is thrown away, and a graceful shutdown may take a minute."""
        for client in (getattr(self, "_ingress", None), getattr(self, "_service", None)):
            if client is not None:
                client.close()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(timeout=10)
        self._processes.clear()


def _arguments(folder: Path, ports: dict[str, int]) -> list[str]:
    base = str((folder / "restate").resolve())
    node = [
        "--node-name",
        "bench",
        "--bind-ip",
        "127.0.0.1",
        "--bind-port",
        str(ports["node"]),
        "--base-dir",
        base,
    ]
    return ["--no-logo", "--listen-mode", "tcp", *node]


def _settings(ports: dict[str, int]) -> dict[str, str]:
    return {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ports['ingress']}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{ports['admin']}",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_ADVERTISED_HOST": "127.0.0.1",
        "DO_NOT_TRACK": "1",
    }


async def _register(admin: LoopbackClient, port: int) -> None:
    body = json.dumps({"uri": f"http://127.0.0.1:{port}"}).encode()
    status, answer = await admin.request("POST", "/deployments", body)
    if status not in (200, 201):
        raise RuntimeError(f"the service could not be registered: {status} {answer[:300]!r}")
