"""``durable``: look into a store at the command line, also while its process is at work; be a node of a cluster, or ask one.

::

    durable list                     every execution: id, workflow, status, when
    durable show ID                  one execution: what it was given, where it stands, what came out
    durable journal ID               its operations, in order
    durable export ID > ID.jsonl     its journal as JSON lines, for `durable replay` and `durable.testing`
    durable replay app:workflow journals/*.jsonl
                                     does the code in app.py still do what these journals say? exit code 1 if not
    durable node --id node-1 --bind 127.0.0.1:7800 --seeds 127.0.0.1:7801 --data node-1.db --app package.module
                                     be a member of a cluster until SIGTERM, and run its workflows
    durable members --seed 127.0.0.1:7800
                                     who is there, as that node sees it; who votes, and what copies each has
    durable submit NAME --input '{"n": 7}' --id job-7 --wait --seeds 127.0.0.1:7800
                                     start an execution in a cluster, and wait for its result
    durable cancel ID --seeds 127.0.0.1:7800
                                     ask an execution to stop
    durable recover node-3.db --to orders.db
                                     a majority of a cluster's disks is lost: make one store of what is left

``--store PATH`` names the store (default ``durable-data``). It is read by copying it at one instant
(`durable.storage.open_read_only`): nothing is written to it, and the process that holds it is not slowed. A status is the
one that was recorded last: an execution that has only just begun to wait may still show as RUNNING.

With ``--seeds HOST:PORT,...`` the same commands ask a cluster instead, through any of those nodes; ``replay`` then takes ids and
not files. The environment holds as for a node: where neither ``--seeds`` nor ``--store`` is given, CLUSTER_SEED_NODES names the
cluster (and ``replay`` takes ids beside files), CLUSTER_NAME and CLUSTER_SECRET_KEY are its name and its key.

Tables come from rich (``pip install 'durable[cli]'``); ``--json`` needs nothing, and is meant for programs: one JSON document
on standard output, times in milliseconds since 1970.

What the exit codes mean stands in `EXIT_CODES`, and at the end of ``durable --help``.

Read next: `durable.testing.replays`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from durable.desk.listing import Executions, ranges
from durable.errors import DurableError, ReplayError, StoreError, WorkflowNotFound
from durable.journal.entries import StatusRow, WorkflowMetadata
from durable.journal.journal import Journal, entries
from durable.options import json_of, limit_of, seeds_of, status_of
from durable.runtime.admin import export
from durable.storage.node import NodeStorage
from durable.tables import UsageError, coloured, complain, outcome, put_json, put_table, when
from durable.workflows.definition import Workflow

if TYPE_CHECKING:
    from durable.cluster.client import ClusterClient
    from durable.membership.member import NodeAddress

T = TypeVar("T")
OK, NOT_OK, USAGE, INCOMPLETE = 0, 1, 2, 3
EXIT_CODES = (
    f"Exit codes: {OK} all is well; {NOT_OK} what was asked for is not there, cannot be read, or has drifted; {USAGE} the command "
    f"line is wrong; {INCOMPLETE} it was done, and is incomplete: of some partitions nobody answered, or too few copies are left "
    "(standard error names them)."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is returned. An error is one line (or one message of replay) on standard error."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except UsageError as error:
        complain(str(error))
        return USAGE
    except BrokenPipeError:  # `durable list | head`: nobody reads on
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return OK
    except (DurableError, OSError) as error:
        complain(str(error))
        return NOT_OK


def _parser() -> argparse.ArgumentParser:
    text = "Look into a store, also while its process is at work; be a node of a cluster; ask one."
    parser = argparse.ArgumentParser(prog="durable", description=text, epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    seeds = argparse.ArgumentParser(add_help=False)
    what = "ask this cluster, through any of these nodes (CLUSTER_SEED_NODES)"
    seeds.add_argument("--seeds", type=seeds_of, metavar="HOST:PORT,...", help=what)
    seeds.add_argument("--cluster", metavar="NAME", help="name of the cluster (CLUSTER_NAME; default: durable)")
    store = argparse.ArgumentParser(add_help=False, parents=[seeds])
    what = "folder of the store, when no cluster is asked (default: durable-data); given, CLUSTER_SEED_NODES is not read"
    store.add_argument("--store", metavar="PATH", help=what)
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="JSON instead of a table")

    listing = commands.add_parser("list", parents=[store, as_json], help="list executions")
    listing.add_argument("--status", type=status_of, help="only this status, e.g. WAITING")
    listing.add_argument("--workflow", help="only executions of this workflow")
    listing.add_argument("--limit", type=limit_of, default=100, help="at most so many (default: 100)")
    listing.add_argument("--after", metavar="ID", help="go on behind this id, the last one of the page before")
    listing.set_defaults(command=_list)
    for name, command, what in (
        ("show", _show, "show one execution"),
        ("journal", _journal, "show its operations, in order"),
    ):
        one = commands.add_parser(name, parents=[store, as_json], help=what)
        one.add_argument("id", metavar="ID", help="the workflow id")
        one.set_defaults(command=command)
    exporting = commands.add_parser("export", parents=[store], help="write its journal as JSON lines")
    exporting.add_argument("id", metavar="ID", help="the workflow id")
    exporting.set_defaults(command=_export)
    replaying = commands.add_parser("replay", parents=[seeds, as_json], help="replay exported journals against this code")
    replaying.add_argument("target", metavar="MODULE[:WORKFLOW]", help="where the code is, e.g. app:process_order")
    replaying.add_argument("journals", metavar="FILE", nargs="+", help="files made by `durable export`, or ids in a cluster")
    replaying.set_defaults(command=_replay)
    submitting = commands.add_parser("submit", parents=[seeds, as_json], help="start an execution in a cluster")
    submitting.add_argument("workflow", metavar="WORKFLOW", help="the name under which its nodes have it")
    submitting.add_argument("--input", type=json_of, metavar="JSON", help="what it is given (default: null)")
    submitting.add_argument("--id", metavar="ID", help="the workflow id (default: a new one); submitting an id again is safe")
    submitting.add_argument("--wait", action="store_true", help="wait for the result, and print it")
    submitting.set_defaults(command=_submit)
    cancelling = commands.add_parser("cancel", parents=[seeds], help="ask an execution in a cluster to stop")
    cancelling.add_argument("id", metavar="ID", help="the workflow id")
    cancelling.set_defaults(command=_cancel)
    _add_cluster(commands, as_json)
    text = (
        "Of each partition the furthest copy is taken, and what its log holds is applied. The folders are only read; their nodes "
        "must have stopped, and must not be started again. The new store is for durable.open, or for `durable node --bootstrap`."
    )
    recovering = commands.add_parser(
        "recover", parents=[as_json], help="make one store of what is left of a cluster that lost a majority", description=text
    )
    recovering.add_argument("folders", metavar="FOLDER", nargs="+", help="the stores of its nodes that are left")
    recovering.add_argument("--to", metavar="PATH", required=True, help="where the new store shall be: no folder yet")
    recovering.set_defaults(command=_recover)
    return parser


def _add_cluster(commands: Any, as_json: argparse.ArgumentParser) -> None:
    cluster = argparse.ArgumentParser(add_help=False)
    cluster.add_argument("--cluster", metavar="NAME", help="name of the cluster (CLUSTER_NAME; default: durable)")
    text = "Be a member of a cluster. Where nothing is said, CLUSTER_NODE_ID, ... hold; the key is CLUSTER_SECRET_KEY."
    node = commands.add_parser("node", parents=[cluster], help="be a member of a cluster until SIGTERM", description=text)
    node.add_argument("--id", help="name of this node, unique in the cluster")
    node.add_argument("--bind", metavar="HOST:PORT", help="where to listen (default: 127.0.0.1:7800)")
    node.add_argument("--advertise", metavar="HOST:PORT", help="where others reach this node, if not where it binds")
    node.add_argument("--seeds", metavar="HOST:PORT,...", help="members to ask at the start")
    node.add_argument("--preset", choices=("default", "lan"), default="default", help="how fast (default: default)")
    node.add_argument("--data", metavar="PATH", help="folder of its store, or leveldb:PATH; without, it runs no workflows")
    node.add_argument("--app", metavar="MODULE,...", help="modules whose workflows it runs, e.g. package.module")
    node.add_argument("--witness", action="store_true", help="keep journals and vote, but run nothing; needs --data")
    node.add_argument("--bootstrap", action="store_true", help="found a cluster of this node alone; the others then join it")
    node.add_argument("--insecure", action="store_true", help="listen beyond this machine without a key")
    node.set_defaults(command=_node)
    members = commands.add_parser("members", parents=[cluster, as_json], help="who is in a cluster, as one node sees it")
    what = "the node to ask; of several, the first that answers"
    members.add_argument("--seed", "--seeds", dest="seeds", metavar="HOST:PORT,...", help=what)
    members.set_defaults(command=_members)


# --- commands -------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    found = _listed(options)
    if options.json:
        put_json(found)
    else:
        rows = [
            (one.workflow_id, one.workflow, coloured(one.status), when(one.created_at), when(one.updated_at)) for one in found
        ]
        put_table(f"{len(found)} execution{'s' * (len(found) != 1)}", ("id", "workflow", "status", "created", "updated"), rows)
    if not found.missing:
        return OK
    why = next(iter(found.missing.values()))
    complain(f"incomplete: nobody answered for {len(found.missing)} partitions: {ranges(found.missing)}. The first: {why}")
    return INCOMPLETE


def _show(options: argparse.Namespace) -> int:
    one = _of_cluster(options, lambda cluster: cluster.handle(options.id).metadata()) if _asked(options) else _metadata(options)
    if options.json:
        put_json(one)
        return OK
    error = one.error
    rows = [
        ("workflow", f"{one.workflow} (version {one.version})"),
        ("status", coloured(one.status)),
        ("input", one.input_json),
        ("result", one.output_json or "-"),
        ("error", f"{error.error_type}: {error.message}" if error else "-"),
        ("created", when(one.created_at)),
        ("updated", when(one.updated_at)),
        ("owner", one.owner),
        ("run", str(one.run)),
    ]
    put_table(one.workflow_id, ("", ""), rows, cut=False)
    return OK


def _journal(options: argparse.Namespace) -> int:
    one, journal = _of_cluster(options, lambda cluster: _look(cluster, options.id)) if _asked(options) else _entries(options)
    if options.json:
        put_json(list(journal))
        return OK
    shown = [
        (
            str(entry.sequence_number),
            entry.entry_type.value,
            entry.name,
            entry.input_json,
            outcome(entry),
            when(entry.timestamp),
            entry.where,
        )
        for entry in journal
    ]
    title = f"{options.id}: {one.workflow}, {one.status.value}"
    put_table(title, ("#", "type", "name", "input", "output", "made", "where"), shown)
    return OK


def _export(options: argparse.Namespace) -> int:
    sys.stdout.write(_exported(options, options.id))
    return OK


def _replay(options: argparse.Namespace) -> int:
    from durable.testing.replays import check_replay

    workflow = _target(options.target)
    results: list[tuple[str, str, str]] = []
    for name in options.journals:
        try:
            is_id = options.seeds or (_asked(options) and not Path(name).exists())
            text = _exported(options, name) if is_id else Path(name).read_text(encoding="utf-8")
            checked = check_replay(workflow, text)
        except (DurableError, OSError, UnicodeDecodeError) as error:
            results.append((name, "DRIFT" if isinstance(error, ReplayError) else "ERROR", str(error)))
        else:
            results.append((name, "ok", f"{checked.workflow_id}: {checked.operations} operations, {checked.status.value}"))
    failed = [result for result in results if result[1] != "ok"]
    if options.json:
        put_json([{"file": name, "result": result, "message": message} for name, result, message in results])
    else:
        rows = [(name, result, message.partition("\n")[0]) for name, result, message in results]
        put_table(f"{len(results)} journals, {len(failed)} not as recorded", ("file", "result", ""), rows)
        for name, _, message in failed:
            complain(f"{name}: {message}")
    return NOT_OK if failed else OK


def _target(target: str) -> Workflow[Any, Any] | None:
    """``module:workflow``, or ``module`` for every workflow that it registers."""
    module_name, _, name = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"cannot import {module_name!r}: {error}") from error
    if not name:
        return None
    found = getattr(module, name, None)
    if not isinstance(found, Workflow):
        names = sorted(key for key, value in vars(module).items() if isinstance(value, Workflow))
        raise UsageError(f"{module_name!r} has no workflow {name!r}; it has: {', '.join(names) or 'none'}")
    return found


def _submit(options: argparse.Namespace) -> int:
    async def ask(cluster: ClusterClient) -> tuple[str, Any]:
        handle = await cluster.submit(options.workflow, options.input, options.id)
        if options.wait and options.id is None:
            complain(f"waits for {handle.workflow_id}. If it breaks off, ask again with --id {handle.workflow_id}")
        return handle.workflow_id, await handle.result() if options.wait else None

    workflow_id, result = _of_cluster(options, ask)
    if options.json:
        put_json({"workflow_id": workflow_id, **({"result": result} if options.wait else {})})
        return OK
    sys.stdout.write((msgspec.json.encode(result).decode() if options.wait else workflow_id) + "\n")
    return OK


def _cancel(options: argparse.Namespace) -> int:
    _of_cluster(options, lambda cluster: cluster.handle(options.id).cancel())
    return OK


def _node(options: argparse.Namespace) -> int:
    from durable.cluster.app import import_app
    from durable.commands import config_of, run_node

    sys.path.insert(0, str(Path.cwd()))
    try:
        config = config_of(options)
        if options.app:
            import_app(options.app)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if (options.app or options.witness or options.bootstrap) and not options.data:
        raise UsageError("a node without --data keeps nothing and runs nothing: say where its store shall be")
    asyncio.run(run_node(config, options.data, bootstrap=options.bootstrap))
    return OK


def _members(options: argparse.Namespace) -> int:
    from durable.commands import look

    try:
        view, copies = asyncio.run(look(options.seeds or os.environ.get("CLUSTER_SEED_NODES", ""), options.cluster))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.json:
        put_json(msgspec.to_builtins(view) | {"copies_by_node": copies})
        return OK
    rows = []
    listed = {one.node_id: one for one in view.members}
    for node in {**listed, **view.roles}:
        one, seen = listed.get(node), ("-", "not in the list", "-", "-", "-")
        if one is not None:
            seen = (str(one.address), one.status.name, f"{one.since:.1f} s", str(one.incarnation), str(one.boot))
        rows.append((node, view.roles.get(node, "-"), str(copies.get(node, "-")), *seen))
    late = f"; it runs late itself, {view.health} of 8" if view.health else ""
    header = ("node", "role", "copies", "address", "status", "for", "incarnation", "boot")
    put_table(f"as {view.node_id} sees it{late}", header, rows)
    if view.dropped:
        counts = [(reason, f"{count:,}") for reason, count in view.dropped.items()]
        put_table(f"what {view.node_id} has dropped since it started", ("because", "packets"), counts)
    return OK


def _recover(options: argparse.Namespace) -> int:
    from durable.storage.recovery import recover

    try:
        done = recover(options.folders, options.to)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.json:
        put_json({"executions": done.executions, "unsure": done.unsure, "missing": done.missing})
    else:
        count = f"{done.executions} execution{'s' * (done.executions != 1)}"
        sys.stdout.write(f"{count} in {done.folder}. Do not start a node on one of the old folders again\n")
    if done.missing:
        complain(f"incomplete: no copy is left of {len(done.missing)} partitions: {ranges(done.missing)}")
    if done.unsure:
        complain(
            f"incomplete, perhaps: of {len(done.unsure)} partitions ({ranges(done.unsure)}) most of the newest copies are lost, "
            "and with them whatever only they had"
        )
    return INCOMPLETE if done.missing or done.unsure else OK


# --- asking a cluster -----------------------------------------------------------------------------------------------


def _asked(options: argparse.Namespace) -> list[NodeAddress]:
    """The cluster that is asked: by --seeds, or by the environment where no store is named. Empty: none."""
    text = os.environ.get("CLUSTER_SEED_NODES", "")
    if options.seeds or not text or getattr(options, "store", None):
        return options.seeds or []
    try:
        return seeds_of(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"CLUSTER_SEED_NODES: {error}") from error


def _of_cluster(options: argparse.Namespace, ask: Callable[[ClusterClient], Awaitable[T]]) -> T:
    from durable.commands import ask_cluster, credentials_of

    seeds = _asked(options)
    if not seeds:
        raise UsageError("which cluster? Name some of its nodes: --seeds HOST:PORT,... (or CLUSTER_SEED_NODES)")
    try:
        credentials = credentials_of(options.cluster)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return asyncio.run(ask_cluster(seeds, credentials, ask))


async def _look(cluster: ClusterClient, workflow_id: str) -> tuple[WorkflowMetadata, Journal]:
    handle = cluster.handle(workflow_id)
    return await handle.metadata(), await handle.journal()


def _exported(options: argparse.Namespace, workflow_id: str) -> str:
    if _asked(options):
        return _of_cluster(options, lambda cluster: cluster.export(workflow_id))
    with _reading(options.store) as storage:
        return export(storage, workflow_id)


# --- reading --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reading(path: str | None) -> Iterator[NodeStorage]:
    from durable.storage import engine_and_path, open_read_only

    _, folder = engine_and_path(path or "durable-data")
    reader = open_read_only(folder)
    try:
        storage = NodeStorage(reader)
        if storage.check_format() is None:
            raise StoreError(f"{folder} is a store, but not one of durable's. Nothing was touched. Check the path.")
        yield storage
    finally:
        reader.close()


def _listed(options: argparse.Namespace) -> Executions:
    if _asked(options):
        wanted = {name: getattr(options, name) for name in ("status", "workflow", "limit", "after")}
        return _of_cluster(options, lambda cluster: cluster.list(**wanted))
    found = Executions()
    with _reading(options.store) as storage:
        for workflow_id, row in storage.statuses(options.after):
            if len(found) >= options.limit:
                break
            if options.status in (None, row.status) and options.workflow in (None, row.workflow):
                found.append(storage.metadata(workflow_id, row))
    return found


def _metadata(options: argparse.Namespace) -> WorkflowMetadata:
    with _reading(options.store) as storage:
        return storage.metadata(options.id, _row(storage, options.id))


def _entries(options: argparse.Namespace) -> tuple[StatusRow, Journal]:
    with _reading(options.store) as storage:
        row = _row(storage, options.id)
        rows = storage.rows(options.id, row.incarnation, row.run)
        return row, entries(rows, storage.attempts(options.id, row.incarnation, row.run))


def _row(storage: NodeStorage, workflow_id: str) -> StatusRow:
    row = storage.status(workflow_id)
    if row is None:
        raise WorkflowNotFound(f"there is no execution with the id {workflow_id!r} in this store")
    return row
