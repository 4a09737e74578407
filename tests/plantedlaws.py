"""Bugs to plant in nodes that are otherwise those of production, one for each law that no broken rule of the protocol is found by.

=======================  ================================================================================================
law                      what is broken
=======================  ================================================================================================
nothing twice            a function that has returned is called once more, as if its answer had been lost in the node
one result               the second function of a workflow is recorded with an answer that it did not give
the story adds up        a message that is sent again under its key is taken again, while its receiver runs
the same, of pauses      a pause is answered, and the execution runs on
the same, of cancels     a cancel is answered, and the execution ends by itself
equal replicas           a copy leaves the time of its partition out of what it applies
a witness owns nothing   a witness takes itself for a voter like others
a promise never falls    a copy that nobody needs any more forgets what it has promised, too
what is done stays so    an execution ends with what it was given, and then with its result
=======================  ================================================================================================

Each takes a pytest.MonkeyPatch.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from durable.bodies.runner import FunctionRunner, RunningCall
from durable.copies.effects import Apply
from durable.copies.messages import ZERO, Roster
from durable.journal.keys import CLOCK, partition_of, table
from durable.replication.home import Home
from durable.replication.replica import Replica
from durable.replication.voters import Voters
from durable.runtime.answer import Answer
from durable.runtime.batches import PartitionBatch
from durable.runtime.desk import LocalDesk
from durable.runtime.execution import Execution


def bodies_again(patch: pytest.MonkeyPatch) -> None:
    run_task = FunctionRunner._run_task

    def twice(self: FunctionRunner, running: RunningCall, body: Callable[[], Any], context: contextvars.Context) -> None:
        async def again() -> Any:
            await body()
            return await body()

        run_task(self, running, again, context)

    patch.setattr(FunctionRunner, "_run_task", twice)


def answers_mixed(patch: pytest.MonkeyPatch) -> None:
    made = Answer.__init__

    def make(self: Answer, sequence_number: int, output_json: bytes | None = None, *rest: Any) -> None:
        mixed = sequence_number == 1 and output_json is not None and output_json.isdigit()
        made(self, sequence_number, b"0" if mixed else output_json, *rest)

    patch.setattr(Answer, "__init__", make)


def messages_again(patch: pytest.MonkeyPatch) -> None:
    is_known = LocalDesk._is_known

    def known(self: LocalDesk, workflow_id: str, request: bytes) -> bool:
        return self._engine.find(workflow_id) is None and is_known(self, workflow_id, request)

    patch.setattr(LocalDesk, "_is_known", known)


def pauses_unheard(patch: pytest.MonkeyPatch) -> None:
    async def pause(self: LocalDesk, workflow_id: str) -> None:
        await self._found(workflow_id)
        await self._recorded(partition_of(workflow_id), workflow_id)

    patch.setattr(LocalDesk, "pause", pause)


def cancels_unheard(patch: pytest.MonkeyPatch) -> None:
    async def cancel(self: LocalDesk, workflow_id: str) -> None:
        if await self._found(workflow_id) is not None:
            await self.resume(workflow_id)
        await self._recorded(partition_of(workflow_id), workflow_id)

    patch.setattr(LocalDesk, "cancel", cancel)


def time_not_copied(patch: pytest.MonkeyPatch) -> None:
    apply = Replica.apply

    def without_time(self: Replica) -> None:
        effects, before = self.home.effects, len(self.home.effects)
        apply(self)
        for place in range(before, len(effects)):
            effect = effects[place]
            if isinstance(effect, Apply) and self.owner is None:
                kept = [write for write in effect.writes if write[0] != table(self.partition, CLOCK)]
                effects[place] = Apply(effect.partition, effect.index, kept)

    patch.setattr(Replica, "apply", without_time)


def witnesses_stand(patch: pytest.MonkeyPatch) -> None:
    begin, use = Voters.__init__, Voters._use

    def made(self: Voters, home: Home, *rest: Any) -> None:
        begin(self, home, *rest)
        home.standing, self.witness = True, False

    def used(self: Voters, roster: Roster) -> None:
        use(self, roster)
        self.home.witnesses = ()

    patch.setattr(Voters, "__init__", made)
    patch.setattr(Voters, "_use", used)


def promises_dropped(patch: pytest.MonkeyPatch) -> None:
    forget = Replica.forget

    def all_of_it(self: Replica) -> None:
        self.promised = ZERO
        forget(self)

    patch.setattr(Replica, "forget", all_of_it)


def ended_twice(patch: pytest.MonkeyPatch) -> None:
    status_write = Execution.status_write

    def write(self: Execution, batch: PartitionBatch, now_ms: int, output_json: bytes | None = None) -> Any:
        if output_json is not None and self.start is not None:
            status_write(self, batch, now_ms, self.start.input_json)
        return status_write(self, batch, now_ms, output_json)

    patch.setattr(Execution, "status_write", write)


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "nothing twice": bodies_again,
    "one result": answers_mixed,
    "the story adds up": messages_again,
    "the story adds up, of pauses": pauses_unheard,
    "the story adds up, of cancels": cancels_unheard,
    "equal replicas": time_not_copied,
    "a witness owns nothing": witnesses_stand,
    "a promise never falls": promises_dropped,
    "what is done stays so": ended_twice,
}
"""By the law that finds it, and the part of it that does."""
