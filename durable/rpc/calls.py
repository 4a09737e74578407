"""Requests and answers over links: many under way at once, each with a deadline, none in the way of another.

**How it works.** The caller numbers its requests on a link; an answer bears the number of its request and comes whenever it is
ready, so the result of an hour's work waits beside questions of a millisecond. Who waits no more, because its deadline has come
or its task was cancelled, says `Forget`, and the far side stops too.

=================================  ==========================================================================================
what happens                       what the caller sees
=================================  ==========================================================================================
an error over there                the same error here (`requests.fault_of`)
nobody could be called             `Unreachable`: it was not sent
the link was lost, or the          `Unanswered`, an `Unreachable`: it was sent, and may have been done
deadline came
`CALLS_MAX` under way on the link  `Overloaded`: it was not sent (the far side keeps the same bound, and says the same)
`WAITS_MAX` waits for results      the same; no other request is in their way, nor are they in the way of any other: what would
                                   end them may be a request on the same link
it cannot be written               `EncodingError`: it was not sent
it cannot be read over there       `ClusterError`: it was not done
membership holds the node dead     `Unanswered`: it may have been done (`RpcClient.gone`)
`RpcClient.end`                    `ClusterError`: it may have been done
=================================  ==========================================================================================

**Limits.** An answer is a frame: one that is longer than a link takes comes as a `ClusterError`. Requests of one link are begun
in order, and then go their own ways.

Read next: `durable.rpc.remote`, which knows whom to ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from durable.errors import ClusterError, DurableError, EncodingError, Overloaded, Unanswered, Unreachable
from durable.rpc.frames import ANSWER, REQUEST
from durable.rpc.peers import Peers
from durable.rpc.requests import (
    ANSWERS,
    Answer,
    Ask,
    Fault,
    Forget,
    Numbered,
    Outcome,
    Owned,
    Owners,
    Request,
    error_of,
    fault_of,
)

if TYPE_CHECKING:
    from durable.desk.desk import Desk
    from durable.journal.entries import StatusRow
    from durable.membership.member import NodeAddress
    from durable.ports import Link

CALLS_MAX, WAITS_MAX = 10_000, 10_000
T = TypeVar("T")

log = logging.getLogger("durable")
_encoder = msgspec.msgpack.Encoder()
_asks = msgspec.msgpack.Decoder(Ask)
_numbers = msgspec.msgpack.Decoder(Numbered)
_answers = msgspec.msgpack.Decoder(Answer)
_values: dict[type, msgspec.msgpack.Decoder[Any]] = {kind: msgspec.msgpack.Decoder(of) for kind, of in ANSWERS.items()}
_NOTHING = msgspec.Raw(_encoder.encode(None))
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _UnderWay(dict[int, T], Generic[T]):
    """What is under way on one link, by number. Waits for results are counted apart from all else."""

    def __init__(self) -> None:
        super().__init__()
        self._waits: set[int] = set()

    def full(self, request: Request) -> str:
        """Of what there is too much for one more; empty if there is room."""
        if isinstance(request, Outcome):
            return f"{WAITS_MAX:,} waits for results" if len(self._waits) >= WAITS_MAX else ""
        return f"{CALLS_MAX:,} requests" if len(self) - len(self._waits) >= CALLS_MAX else ""

    def begin(self, number: int, request: Request, one: T) -> None:
        self[number] = one
        if isinstance(request, Outcome):
            self._waits.add(number)

    def end(self, number: int) -> T | None:
        self._waits.discard(number)
        return self.pop(number, None)


class RpcClient:
    """Asks. Frames that begin with `ANSWER` are for `frame`. ``refuses`` is why nothing is asked; empty: it is."""

    def __init__(self, peers: Peers) -> None:
        self.refuses = ""
        self._peers = peers
        self._dropped = peers.dropped
        self._number = 0
        self._under_way: dict[Link, _UnderWay[tuple[type, asyncio.Future[Any]]]] = {}

    async def call(self, to: NodeAddress, request: Request, within_s: float) -> Any:
        """The answer, of the type that `ANSWERS` says. Raises what the table above says."""
        self.check()
        sent: tuple[Link, int] | None = None
        try:
            async with asyncio.timeout(within_s):
                link = await self._peers.link(to)
                self.check()  # it may have ended meanwhile
                number, future = self._send(link, request)
                sent = link, number
                return await future
        except TimeoutError:
            if sent is None:
                raise Unreachable(f"{to} could not be called within {within_s:g} s") from None
            raise Unanswered(f"{to} has not answered within {within_s:g} s; it may have done what it was asked") from None
        finally:
            if sent is not None:
                self._forget(*sent)

    def check(self) -> None:
        """Raises `ClusterError` if nothing is asked."""
        if self.refuses:
            raise ClusterError(self.refuses)

    def end(self, why: str) -> None:
        """Ask nothing any more: whoever waits, or calls from now on, gets a `ClusterError` that says why."""
        self.refuses = why
        for waiting in self._under_way.values():
            for _, future in waiting.values():
                if not future.done():
                    future.set_exception(ClusterError(why))

    def gone(self, to: NodeAddress) -> None:
        """Nobody is thought to be alive there: whoever waits for its answer gets `Unanswered` now, and can ask somebody else."""
        for link, waiting in self._under_way.items():
            if link.peer == to:
                for _, future in waiting.values():
                    if not future.done():
                        future.set_exception(Unanswered(f"{to} seems to be dead; it may have done what it was asked"))

    def _send(self, link: Link, request: Request) -> tuple[int, asyncio.Future[Any]]:
        waiting = self._under_way.setdefault(link, _UnderWay())
        if full := waiting.full(request):
            raise Overloaded(f"{full} at {link.peer} are under way. Nothing was sent: ask again later")
        self._number = number = self._number + 1
        try:
            queued = link.send(_written(Ask(number, request)))
        except ValueError as error:
            raise Overloaded(f"the request is too long to be sent: {error}") from error
        if not queued:
            if link.closed:
                self._under_way.pop(link, None)
            raise Unreachable(f"nothing can be sent to {link.peer} now. Nothing was sent")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiting.begin(number, request, (type(request), future))
        return number, future

    def _forget(self, link: Link, number: int) -> None:
        waiting = self._under_way.get(link)
        if waiting is not None and waiting.end(number) is not None:  # it has not been answered
            link.send(REQUEST + _encoder.encode(Ask(number, Forget())))

    def frame(self, link: Link, data: bytes) -> None:
        """An answer, without its first byte."""
        try:
            answer = _answers.decode(data)
            waiting = self._under_way.get(link)
            if waiting is None or answer.number not in waiting:
                return  # nobody waits for it any more
            kind, future = waiting[answer.number]
            value = None if answer.fault else _values[kind].decode(answer.value)
        except _BROKEN:
            self._dropped["unreadable answer"] += 1
            link.abort()  # whoever waits is told when it is lost
            return
        waiting.end(answer.number)
        if future.done():
            return
        if answer.fault is not None:
            future.set_exception(error_of(answer.fault))
        else:
            future.set_result(value)

    def link_lost(self, link: Link) -> None:
        """Whoever waits for an answer on it is told."""
        for _, future in self._under_way.pop(link, _UnderWay()).values():
            if not future.done():
                future.set_exception(Unanswered(f"the link to {link.peer} was lost; it may have done what it was asked"))


class RpcServer:
    """Answers, from a desk. Frames that begin with `REQUEST` are for `frame`.

    Args:
        desk: who is asked.
        dropped: where what cannot be read is counted.
        owners: which partitions are whose, as far as this node knows.
        copy: how an execution ended, if this node has rows that may say it, whoever owns them.
    """

    def __init__(
        self,
        desk: Desk,
        dropped: Counter[str],
        *,
        owners: Callable[[], list[Owned]] | None = None,
        copy: Callable[[str], StatusRow | None] | None = None,
    ) -> None:
        self._desk = desk
        self._dropped = dropped
        self._owners = owners
        self._copy = copy
        self._under_way: dict[Link, _UnderWay[asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return sum(len(tasks) for tasks in self._under_way.values())

    def frame(self, link: Link, data: bytes) -> None:
        """A request, without its first byte."""
        try:
            ask = _asks.decode(data)
        except _BROKEN as error:
            self._unreadable(link, data, error)
            return
        tasks = self._under_way.setdefault(link, _UnderWay())
        under_way = tasks.get(ask.number)
        if isinstance(ask.request, Forget):
            if under_way is not None:
                under_way.cancel()
        elif under_way is not None:
            self._dropped["request repeated"] += 1
        elif full := tasks.full(ask.request):
            why = Overloaded(f"{full} are under way on this link. Nothing was accepted: ask again later")
            self._say(link, Answer(ask.number, _NOTHING, fault_of(why)))
        else:
            task = asyncio.get_running_loop().create_task(self._serve(link, ask))
            tasks.begin(ask.number, ask.request, task)
            task.add_done_callback(lambda _: tasks.end(ask.number))  # also of one that is cancelled before it begins

    def link_lost(self, link: Link) -> None:
        """Nobody waits for its answers any more."""
        for task in self._under_way.pop(link, _UnderWay()).values():
            task.cancel()

    async def close(self) -> None:
        """Stop answering."""
        tasks = [task for of_link in self._under_way.values() for task in of_link.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _unreadable(self, link: Link, data: bytes, error: Exception) -> None:
        """Whoever asked is told, if it can be seen who; the others on the link go on."""
        self._dropped["unreadable request"] += 1
        try:
            number = _numbers.decode(data).number
        except _BROKEN:
            link.abort()
            return
        if number not in self._under_way.get(link, {}):
            why = ClusterError(f"the request cannot be read: {error}. Nothing was done. Do all run one version of durable?")
            self._say(link, Answer(number, _NOTHING, fault_of(why)))

    async def _serve(self, link: Link, ask: Ask) -> None:
        try:
            value = msgspec.Raw(_encoder.encode(await self._answer(ask.request)))
            self._say(link, Answer(ask.number, value))
        except DurableError as error:
            self._say(link, Answer(ask.number, _NOTHING, fault_of(error)))
        except Exception as error:
            log.exception("a request could not be answered")
            self._say(link, Answer(ask.number, _NOTHING, Fault("", (), f"{type(error).__name__}: {error}")))

    async def _answer(self, request: Request) -> Any:
        if isinstance(request, Owners):
            return self._owners() if self._owners is not None else []
        if isinstance(request, Outcome) and self._copy is not None:
            row = self._copy(request.workflow_id)
            if row is not None:
                return row
        return await request.of(self._desk)

    def _say(self, link: Link, answer: Answer) -> None:
        try:
            said = link.send(ANSWER + _encoder.encode(answer))
        except ValueError as error:
            why = ClusterError(f"the answer cannot be sent, it is too long: {error}. Ask for less at once")
            said = link.send(ANSWER + _encoder.encode(Answer(answer.number, _NOTHING, fault_of(why))))
        if not said:
            link.abort()  # a caller that reads nothing: it is to know that no answer comes


def refuse(link: Link, data: bytes, who: str) -> bool:
    """Say no to a request (without its first byte) where no desk is. False: it cannot be read."""
    try:
        ask = _asks.decode(data)
    except _BROKEN:
        return False
    if not isinstance(ask.request, Forget):
        why = Unreachable(f"{who} keeps no journals, and runs nothing. Nothing was done")
        link.send(ANSWER + _encoder.encode(Answer(ask.number, _NOTHING, fault_of(why))))
    return True


def _written(ask: Ask) -> bytes:
    try:
        return REQUEST + _encoder.encode(ask)
    except (TypeError, UnicodeEncodeError, OverflowError) as error:
        raise EncodingError(f"the request cannot be written: {error}. Nothing was sent") from error
