"""Clients of a simulated cluster: they submit, send, ask and wait all through a storm, and hold the cluster to each answer.

**How it works.** Each client is a process with a `ClusterClient`, on a machine of its own that no fault but the network's hits.
What it does is drawn from the seed. It sends again, under the same id, what it got no answer to, as everybody is told to. Some
ids are submitted by whoever comes to it, and asked for before anybody has. In one world of `STEERED_EVERY` they also pause what
runs, let it go on, and cancel it. When the storm is over each client waits for the workflows whose acceptance it was told of first.

==========================  ===========================================================================================
law                         says
==========================  ===========================================================================================
answered means committed    what a client was told of is on stable storage on a majority: a workflow that was accepted, a
                            word that was sent, an end that was shown
executed after committed    so is the row of the call whose function begins to run, and with it all rows before it
one result                  the right one, whoever asks; or that it was cancelled, if somebody asked for that
nothing twice               no body runs twice while one node owns its partition: once more for each failover that hit it
the story adds up           there is an order of what all clients did in which each answer is right (`durable.trials.story`)
the end                     everything accepted has come to its end
==========================  ===========================================================================================

Read next: `durable.trials.runs`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from random import Random
from typing import TYPE_CHECKING, Any

from durable import linearizable
from durable.cluster.client import ClusterClient
from durable.errors import DurableError, MailRefused, Unreachable, WorkflowCancelled, WorkflowError, WorkflowNotFound
from durable.journal.entries import FINISHED as ENDED
from durable.journal.entries import Status
from durable.journal.keys import JOURNAL, MAIL, STATUS, of, partition_of
from durable.sim.checks import Law, LawBroken
from durable.sim.world import SECRET
from durable.trials import story
from durable.trials.journals import Journals
from durable.trials.story import (
    ACCEPTED,
    CANCELLED,
    CREATED,
    DONE,
    END,
    ENDLESS,
    FINISHED,
    NOT_FOUND,
    OVER,
    REFUSED,
    UNFINISHED,
    Operation,
)
from durable.trials.workloads import KINDS, partitions_in, placed

if TYPE_CHECKING:
    from durable.cluster.node import ClusterNode
    from durable.sim.process import SimProcess
    from durable.sim.world import SimWorld

CLIENTS = 3
PAUSE_S = (0.05, 1.5)
PATIENCE_S = 8.0
TRIES = 5
SHARED = 12
"""How many ids anybody may submit."""
STEERED_EVERY = 5
STEER_S = (0.2, 8.0)
"""How long something stays paused."""


class Clients(Law):
    """`CLIENTS` clients, and the laws of the table."""

    def __init__(self, world: SimWorld, journals: Journals) -> None:
        super().__init__(world)
        self.accepted: dict[str, str] = {}
        """By id of a workflow: the client that was told of it first, and waits for its end; the first one if a node was told."""
        self.operations: list[Operation] = []
        self._shared = [placed(f"shared-{number}", partitions_in(world)) for number in range(SHARED)]
        self._journals = journals
        self._clients: dict[str, ClusterClient] = {}
        self._asked: dict[str, tuple[str, int]] = {}
        self._results: dict[str, Any] = {}
        self._steered = world.seed % STEERED_EVERY == 2
        self._paused: set[str] = set()
        """What somebody has ever asked to pause: an answer that is late may have done it since."""
        self._over: set[str] = set()
        """What somebody was told the end of."""
        self._bodies: set[tuple[Any, ...]] = set()
        """What ran: of which workflow, which call, in which life of which process, in which epoch of its partition."""
        self._ending = False
        self._broken: LawBroken | None = None

    def asked(self, workflow_id: str) -> tuple[str, int]:
        """What is submitted under an id, by whomever: a kind, and its input."""
        if workflow_id not in self._asked:
            dice = Random(f"{self.world.seed}/{workflow_id}")
            self._asked[workflow_id] = dice.choice(list(KINDS)), dice.randrange(1_000)
        return self._asked[workflow_id]

    # As a law

    def begins(self) -> None:
        for number in range(1, CLIENTS + 1):
            process = self.world.enter(f"client-{number}")
            process.spawn(self._live(process, Random(f"{self.world.seed}/client-{number}")))

    def healed(self) -> None:
        self._ending = True

    def stepped(self, process: SimProcess) -> None:
        if self._broken is not None:
            raise self._broken

    def missing(self) -> str | None:
        if not self._ending:
            return None
        unfinished = [workflow_id for workflow_id in self.accepted if workflow_id not in self._results]
        if unfinished:
            return f"{len(unfinished)} of {len(self.accepted)} accepted workflows have not completed, {unfinished[0]} for one"
        for target, operations in linearizable.parts(self.operations, lambda one: one.target).items():
            if not story.explained(operations):
                raise LawBroken("the story adds up", self.world, target, *operations)
        return None

    def ran(self, process: SimProcess, workflow_id: str, sequence_number: int) -> None:
        """A function's body begins."""
        body = workflow_id, sequence_number, process.name, process.life, process.node._host.owned_now.get(partition_of(workflow_id))
        if body in self._bodies and self._broken is None:
            self._broken = LawBroken("nothing twice", self.world, *body)
        self._bodies.add(body)
        row = self._journals.row_of_call(process.machine, workflow_id, sequence_number)
        self._holds("executed after committed", workflow_id, (row,) if row is not None else ())

    def _holds(self, law: str, workflow_id: str, prefixes: tuple[bytes, ...], needle: bytes = b"") -> None:
        """A row with one of these beginnings of a key, and ``needle`` in it, is on stable storage on a majority."""
        partition = partition_of(workflow_id)
        enough = self._journals.majority(partition)
        copies = self._journals.durable_on(partition, prefixes, enough, needle)
        if copies < enough and self._broken is None:
            self._broken = LawBroken(law, self.world, workflow_id, *prefixes, needle, f"on {copies} disks")

    # What a client does

    def submit(self, name: str, workflow_id: str) -> None:
        """That client or node submits it now, besides whatever it does."""
        process, asker = self._asker(name)
        process.spawn(self._submit(asker, name, workflow_id))

    def ask(self, name: str, workflow_id: str) -> None:
        """That client or node asks where it stands now, besides whatever it does."""
        process, asker = self._asker(name)
        process.spawn(self._ask(asker, name, workflow_id))

    def _asker(self, name: str) -> tuple[SimProcess, Any]:
        process = self.world.machine(name).process
        assert process is not None and process.running, f"{name} does not run"
        return process, self._clients.get(name, process.node)

    async def _live(self, process: SimProcess, dice: Random) -> None:
        seeds = [self.world.machine(name).address for name in self.world.seeds]
        client = ClusterClient(seeds, SECRET, rpc_timeout=PATIENCE_S, transport=process.transport, entropy=process.entropy)
        while True:
            try:
                await client.open()
                break
            except Unreachable:  # a storm may begin by cutting it off
                await asyncio.sleep(dice.uniform(*PAUSE_S))
        self._clients[process.name] = client
        number = 0
        while True:
            await asyncio.sleep(dice.uniform(*PAUSE_S))
            if self._ending:
                break
            number += 1
            await self._act(client, process.name, dice, number)
        for workflow_id in [one for one, teller in self.accepted.items() if teller == process.name]:
            await self._await(client, process.name, workflow_id)

    async def _act(self, client: ClusterClient, me: str, dice: Random, number: int) -> None:
        known = list(self.accepted)
        ledgers = [one for one in known if self.asked(one)[0] == "ledger"]
        under_way = [one for one in known if one not in self._over]
        if self._steered and under_way and dice.random() < 0.1:
            await self._steer(client, me, dice, dice.choice(under_way))
            return
        what = dice.random()
        if ledgers and what < 0.3:
            word = f"{me}/{dice.choice((number, max(1, number - 1)))}"  # the last one again, perhaps: it counts once
            if self._steered and dice.random() < 0.1:
                word = END
            await self._send(client, me, dice.choice(ledgers), word, word)
        elif what < 0.5:
            await self._ask(client, me, dice.choice([*known, *self._shared]))
        else:
            own = placed(f"{me}-{number}", partitions_in(self.world))
            chosen = dice.choice(self._shared) if dice.random() < 0.25 else own
            await self._submit(client, me, chosen)
            if self._steered and dice.random() < 0.3:  # while its first calls run
                await self._steer(client, me, dice, chosen)

    async def _submit(self, client: ClusterClient | ClusterNode, me: str, workflow_id: str) -> None:
        kind, n = self.asked(workflow_id)
        for _ in range(TRIES):
            submitting = client.submit(KINDS[kind][0], n, workflow_id=workflow_id)
            if await self._do(me, "submit", workflow_id, (kind,), submitting, lambda _: CREATED):
                self.accepted.setdefault(workflow_id, me if me in self._clients else next(iter(self._clients)))
                self._holds("answered means committed", workflow_id, (of(partition_of(workflow_id), STATUS, workflow_id),))
                return

    async def _send(self, client: ClusterClient | ClusterNode, me: str, workflow_id: str, key: str, word: str) -> bool:
        sending = client.handle(workflow_id).send("words", word, key=key)
        answer = await self._do(me, "send", workflow_id, (key, word), sending, lambda _: ACCEPTED)
        if answer == ACCEPTED:
            partition = partition_of(workflow_id)
            rows = of(partition, MAIL, workflow_id), of(partition, JOURNAL, workflow_id)
            self._holds("answered means committed", workflow_id, rows, b'"%b"' % word.encode())
        return answer is not None

    async def _steer(self, client: ClusterClient, me: str, dice: Random, workflow_id: str) -> None:
        """Cancel it; or pause it, and let it go on after a while, in which it must not end."""
        handle = client.handle(workflow_id)
        if dice.random() < 0.4:
            await self._do(me, "cancel", workflow_id, (), handle.cancel(), lambda _: DONE)
            return
        self._paused.add(workflow_id)
        await self._do(me, "pause", workflow_id, (), handle.pause(), lambda _: DONE)
        await asyncio.sleep(dice.uniform(*STEER_S))
        await self._ask(client, me, workflow_id)
        await self._do(me, "resume", workflow_id, (), handle.resume(), lambda _: DONE)

    async def _ask(self, client: ClusterClient | ClusterNode, me: str, workflow_id: str) -> None:
        handle = client.handle(workflow_id)
        asking = handle.status()
        found: list[Status] = []

        def told(status: Status) -> str:
            found.append(status)
            return FINISHED if status in ENDED else UNFINISHED

        if await self._do(me, "status", workflow_id, (), asking, told) == FINISHED:
            self._ended(workflow_id, found[0])
            await self._do(me, "result", workflow_id, (), handle.result(), repr)

    async def _await(self, client: ClusterClient | ClusterNode, me: str, workflow_id: str) -> None:
        kind, n = self.asked(workflow_id)
        ended, told = kind != "ledger", None
        while told is None:
            if not ended:
                ended = await self._send(client, me, workflow_id, END, END)
            if workflow_id in self._paused:
                await self._do(me, "resume", workflow_id, (), client.handle(workflow_id).resume(), lambda _: DONE)
            if ended:
                result = client.handle(workflow_id).result(timeout=PATIENCE_S)
                told = await self._do(me, "result", workflow_id, (), result, repr)
            await asyncio.sleep(0.5)
        self._ended(workflow_id, Status.CANCELLED if told == CANCELLED else Status.COMPLETED)
        self._results[workflow_id] = told
        right = kind == "ledger" or told in (CANCELLED, repr(n + KINDS[kind][1]))  # the story knows of ledgers, and of cancels
        if not right and self._broken is None:
            self._broken = LawBroken("one result", self.world, workflow_id, kind, n, told)

    def _ended(self, workflow_id: str, status: Status) -> None:
        self._over.add(workflow_id)
        key = of(partition_of(workflow_id), STATUS, workflow_id)
        self._holds("answered means committed", workflow_id, (key,), status.value.encode())

    async def _do(self, me: str, what: str, target: str, given: tuple[Any, ...], doing: Awaitable[Any], told: Any) -> Any:
        """Do it, note it, and return the answer; None where there was none."""
        began, ended, answer = self.world.now, ENDLESS, None
        try:
            answer = told(await doing)
            ended = self.world.now
        except WorkflowNotFound:
            ended, answer = self.world.now, NOT_FOUND
            return None
        except MailRefused:
            ended, answer = self.world.now, REFUSED
        except WorkflowCancelled:
            ended, answer = self.world.now, CANCELLED
        except WorkflowError as error:
            if what != "pause" or "has finished" not in str(error):
                return None
            ended, answer = self.world.now, OVER
        except (DurableError, TimeoutError):
            return None
        finally:
            self.operations.append(Operation(me, what, target, given, began, ended, answer))
        return answer
