"""`crash_everywhere`: the workflow is run once for every moment at which its process can die.

Whether a workflow survives a crash is not a matter of opinion: there are finitely many moments at which it makes a difference
when a process dies, namely before and after each journal write. So all of them are tried. First the workflow runs
undisturbed; then, for each of its N journal writes, twice more: in one run the process dies just before the write, in the other
just after, and a new one goes on with what the store holds. In the last run it dies over and over, every few writes.

Every run must end as the undisturbed one did: the same status and the same result, of the workflow and of all that it started.
And nothing may happen that must never happen (`durable.testing.lives.Witness`).

Limits: the bodies of functions are really run, so give it fakes (``reset`` makes them new before each run). Time is virtual,
and a crashed process is back at once; a workflow whose result depends on what is faster (a call of two seconds against a
timeout of three) may then honestly end otherwise. Function bodies that give another answer each time need ``same``.

Read next: `durable.testing.report`, what it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from durable.errors import WorkflowError
from durable.journal.codec import ANY
from durable.journal.entries import Command
from durable.journal.entries import EntryType as Kind
from durable.journal.journal import entries
from durable.runtime.config import NodeConfig
from durable.storage.memory import InMemoryStore
from durable.testing.lives import WRITES_MAX, Death, Ending, Plan, Send, Step, Witness, endings_in, journals, live
from durable.testing.report import CrashReport, StepLine
from durable.testing.virtual import in_own_thread_if_needed
from durable.workflows.definition import REGISTRY, Workflow

_MISSING: Any = object()
LIVES_IN_VAIN_MAX = 100
Same = Callable[[Any, Any], bool]


class Trial:
    """One run through all its lives: how everything ended, and what the witness saw."""

    def __init__(self, label: str, endings: dict[str, Ending], witness: Witness, store: InMemoryStore) -> None:
        self.label = label
        self.endings = endings
        self.witness = witness
        self.faults = list(witness.faults)
        for workflow_id, (_, rows) in journals(store).items():
            open_steps = [entry for entry in entries(rows) if not entry.completed]
            ending = endings.get(workflow_id)
            if ending is not None and not ending.status.finished:
                waits = ", ".join(f"{entry.entry_type.value} {entry.name}".strip() for entry in open_steps)
                self.faults.append(f"{workflow_id!r} is {ending.status.value} and waits for {waits or 'nothing'}")


def crash_everywhere(
    workflow: Workflow[Any, Any] | str,
    input: Any = _MISSING,
    *,
    sends: Sequence[Send | tuple[str, Any]] = (),
    cancel_after: float | None = None,
    reset: Callable[[], object] | None = None,
    same: Same | None = None,
    workflow_id: str = "under-test",
    config: NodeConfig | None = None,
) -> CrashReport:
    """Run a workflow with a crash before and after every journal write, and compare how it ends.

    Args:
        workflow: the workflow, or its registered name; ``input`` is its input.
        sends: messages from outside, as ``(channel, value)`` or `Send`, which says when and to whom.
        cancel_after: ask for it to be cancelled after this many seconds of virtual time.
        reset: called before each run, to give the functions a fresh world.
        same: ``same(expected, got)`` says whether two results count as equal; by default their JSON must be.
        workflow_id: the id under which it runs.
        config: the settings of the node.

    Works from synchronous code, also where an event loop is running (a notebook); `crash_everywhere_async` does not block it.

    Raises `WorkflowError` when the workflow does not come to an end even undisturbed.

    >>> import durable
    >>> @durable.function
    ... async def double(n: int) -> int:
    ...     return 2 * n
    >>> @durable.workflow("twice-double")
    ... async def twice_double(ctx: durable.Context, n: int) -> int:
    ...     return await ctx.call(double, await ctx.call(double, n))
    >>> report = crash_everywhere(twice_double, 3).check()
    >>> report.ok, report.runs_max("double")
    (True, 2)
    """
    definition = REGISTRY.workflow(workflow)
    plan = Plan(
        definition,
        () if input is _MISSING else (input,),
        workflow_id,
        tuple(send if isinstance(send, Send) else Send(*send) for send in sends),
        cancel_after,
        config or NodeConfig(),
    )
    return in_own_thread_if_needed(lambda: _everywhere(plan, reset or (lambda: None), same))


async def crash_everywhere_async(workflow: Workflow[Any, Any] | str, input: Any = _MISSING, **options: Any) -> CrashReport:
    """`crash_everywhere` for a running event loop, which goes on meanwhile. Takes the same arguments."""
    return await asyncio.to_thread(crash_everywhere, workflow, input, **options)


def _everywhere(plan: Plan, reset: Callable[[], object], same: Same | None) -> CrashReport:
    reset()
    undisturbed = run_trial(plan, None)
    main = undisturbed.endings.get(plan.workflow_id)
    if main is None or not main.status.finished:
        raise WorkflowError(
            f"{plan.workflow.name!r} does not come to an end even without a crash: {'; '.join(undisturbed.faults)}. Give it "
            "what it waits for with sends=[(channel, value)]."
        )
    trials = []
    bound = 10 * undisturbed.witness.writes + 100
    for write in range(1, undisturbed.witness.writes + 1):
        for after in (False, True):
            reset()
            trials.append(run_trial(plan, Death(write, after), bound))
    reset()
    trials.append(run_relentless(plan))
    return _report(plan, undisturbed, trials, same)


def run_trial(plan: Plan, death: Death | None, writes_max: int = WRITES_MAX) -> Trial:
    """One run with one crash, or with none."""
    store, witness = InMemoryStore.open(), Witness()
    life = live(plan, store, witness, death, writes_max=writes_max)
    if life.endings is None:
        life = live(plan, store, witness, None, life.elapsed_s, writes_max)
    assert life.endings is not None
    return Trial(str(death or "undisturbed"), life.endings, witness, store)


def run_relentless(plan: Plan) -> Trial:
    """One run that crashes over and over: after a few writes, and after more when the last life got nowhere."""
    store, witness = InMemoryStore.open(), Witness()
    elapsed_s, patience, known = 0.0, 2, 0
    while patience < LIVES_IN_VAIN_MAX:
        life = live(plan, store, witness, Death(patience, after=True), elapsed_s)
        if life.endings is not None:
            return Trial("over and over", life.endings, witness, store)
        elapsed_s = life.elapsed_s
        progress = len(witness.commands) + len(witness.answers)
        patience = 2 if progress > known else patience + 1
        known = progress
    witness.faults.append(f"it got nowhere in {LIVES_IN_VAIN_MAX} lives, one after another")
    return Trial("over and over", endings_in(store), witness, store)


# --- comparing ------------------------------------------------------------------------------------------------------


def _report(plan: Plan, undisturbed: Trial, trials: list[Trial], same: Same | None) -> CrashReport:
    problems = [f"undisturbed: {fault}" for fault in undisturbed.witness.faults]
    expected_open = {fault for fault in undisturbed.faults if fault not in undisturbed.witness.faults}
    for trial in trials:
        problems += [f"crash {trial.label}: {fault}" for fault in trial.faults if fault not in expected_open]
        problems += [f"crash {trial.label}: {text}" for text in _differences(undisturbed, trial, same)]
    return CrashReport(
        workflow=plan.workflow.name,
        workflow_id=plan.workflow_id,
        writes=undisturbed.witness.writes,
        crashes=len(trials),
        ending=undisturbed.endings[plan.workflow_id],
        steps=_steps(plan, undisturbed, trials, same),
        problems=tuple(problems),
    )


def _differences(undisturbed: Trial, trial: Trial, same: Same | None) -> list[str]:
    found = []
    for workflow_id, expected in undisturbed.endings.items():
        got = trial.endings.get(workflow_id)
        if got is None:
            found.append(f"{workflow_id!r} was never started")
        elif not _same_ending(expected, got, same):
            found.append(f"{workflow_id!r} ended as {got}, and undisturbed as {expected}")
    new = [workflow_id for workflow_id in trial.endings if workflow_id not in undisturbed.endings]
    return [*found, *(f"{workflow_id!r} was started, and undisturbed never" for workflow_id in new)]


def _same_ending(expected: Ending, got: Ending, same: Same | None) -> bool:
    if (expected.status, expected.error) != (got.status, got.error):
        return False
    return _same_json(expected.output_json, got.output_json, same)


def _same_json(expected: bytes | None, got: bytes | None, same: Same | None) -> bool:
    if expected == got:
        return True
    if same is None or expected is None or got is None:
        return False
    return same(ANY.decode(expected), ANY.decode(got))


def _steps(plan: Plan, undisturbed: Trial, trials: list[Trial], same: Same | None) -> tuple[StepLine, ...]:
    """A line for every step of the undisturbed run, and for those that only a crash brought about."""
    first = undisturbed.witness
    steps: dict[Step, Command] = dict(sorted(first.commands.items(), key=lambda item: _order(plan, item[0])))
    for trial in trials:
        for step, command in trial.witness.commands.items():
            steps.setdefault(step, command)
    lines = []
    for step, command in steps.items():
        runs = [trial.witness.bodies.get(step, 0) for trial in trials]
        has_body = command.entry_type in (Kind.CALL, Kind.SIDE_EFFECT)
        lines.append(
            StepLine(
                workflow_id=step[0],
                run=step[1],
                sequence_number=step[2],
                entry_type=command.entry_type,
                name=command.name,
                runs_undisturbed=first.bodies.get(step, 0) if has_body else None,
                runs_max=max([*runs, first.bodies.get(step, 0)]) if has_body else None,
                same=all(_same_answer(first, trial.witness, step, same) for trial in trials),
            )
        )
    return tuple(lines)


def _order(plan: Plan, step: Step) -> tuple[bool, Step]:
    return step[0] != plan.workflow_id, step


def _same_answer(first: Witness, other: Witness, step: Step, same: Same | None) -> bool:
    expected, got = first.answers.get(step), other.answers.get(step)
    if expected is None or got is None:
        return expected is got or step not in first.commands or step not in other.commands
    if (expected.error is None) != (got.error is None):
        return False
    if expected.error is not None and got.error is not None:
        return (expected.error.error_type, expected.error.message) == (got.error.error_type, got.error.message)
    return _same_json(expected.output_json, got.output_json, same)
