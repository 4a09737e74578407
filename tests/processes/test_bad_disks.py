"""A node on a disk that fails: a clear error, nothing acknowledged that is lost, and it goes on when the disk is well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from children import child, output_of
from nodes import asynchronous
from stores import DISK_ENGINES

import durable
from durable import Context, Status, StoreError, StoreLocked, workflow


@workflow("disk-wait")
async def wait(ctx: Context, text: str) -> int:
    ctx.state["text"] = text
    await ctx.receive("end")
    return len(text)


PROGRAM = """
    import asyncio, resource, signal, sys
    import durable
    from durable import Context, workflow

    @workflow("disk-wait")
    async def wait(ctx: Context, text: str) -> int:
        ctx.state["text"] = text
        await ctx.receive("end")
        return len(text)
"""

FILLS = (
    PROGRAM
    + """
    async def main(url):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        runtime = await durable.open(url)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            for n in range(1000):
                handle = await runtime.submit(wait, "x" * 5_000, workflow_id=f"w{n}")
                print(handle.workflow_id, flush=True)
        except durable.StoreFull as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print("StoreFull", flush=True)
            try:
                await runtime.submit(wait, "y")
            except durable.StoreFull:
                print("still", flush=True)
        try:
            await runtime.close()
        except durable.StoreError:
            pass

    asyncio.run(main(sys.argv[1]))
"""
)

HOLDS = (
    PROGRAM
    + """
    async def main(url):
        async with durable.open(url) as runtime:
            await runtime.submit(wait, "held", workflow_id="held")
            print("open", flush=True)
            await asyncio.sleep(600)

    asyncio.run(main(sys.argv[1]))
"""
)


@pytest.mark.parametrize("engine", DISK_ENGINES)
@asynchronous
async def test_a_full_disk_stops_the_node_and_loses_nothing_that_was_acknowledged(engine: str, tmp_path: Path) -> None:
    url = f"{engine}:{tmp_path / 'db'}"
    *acknowledged, full, still = (await asyncio.to_thread(output_of, FILLS, url)).split()
    assert (full, still) == ("StoreFull", "still")
    assert len(acknowledged) > 10
    async with durable.open(url) as runtime:
        for workflow_id in acknowledged:
            await runtime.handle(workflow_id).send("end")
            assert await runtime.handle(workflow_id).result(timeout=10) == 5_000


@pytest.mark.parametrize("engine", DISK_ENGINES)
@asynchronous
async def test_a_folder_that_another_process_holds_names_it_and_opens_when_it_is_gone(engine: str, tmp_path: Path) -> None:
    url = f"{engine}:{tmp_path / 'db'}"
    with child(HOLDS, url) as holder:
        assert await asyncio.to_thread(holder.line) == "open"
        with pytest.raises(StoreLocked, match=f"pid {holder.pid}"):
            await durable.open(url)
    async with durable.open(url) as runtime:
        assert await runtime.handle("held").status() in (Status.RUNNING, Status.WAITING)
        await runtime.handle("held").send("end")
        assert await runtime.handle("held").result(timeout=10) == 4


@pytest.mark.parametrize("engine", DISK_ENGINES)
@asynchronous
async def test_a_damaged_table_file_is_an_error_and_no_strange_result(engine: str, tmp_path: Path) -> None:
    """Bytes flipped in the middle of the store's files: whatever is read, it is what was written, or an error."""
    folder = tmp_path / "db"
    url = f"{engine}:{folder}"
    async with durable.open(url) as runtime:
        for n in range(40):
            handle = await runtime.submit(wait, f"{n:04}" * 500, workflow_id=f"w{n}")
            await handle.send("end")
            assert await handle.result() == 2_000
    files = [file for file in folder.iterdir() if file.suffix in (".log", ".sst", ".ldb") and file.stat().st_size > 10_000]
    assert files
    for file in files:
        data = bytearray(file.read_bytes())
        for place in range(4_000, len(data), 8_000):
            data[place] ^= 0xFF
        file.write_bytes(bytes(data))
    read = failed = 0
    try:
        async with durable.open(url) as runtime:
            for n in range(40):
                try:
                    read += await runtime.handle(f"w{n}").result(timeout=5) == 2_000
                except durable.DurableError:
                    failed += 1
    except StoreError:
        failed = 40
    assert failed > 0
    assert read + failed >= 40
