"""Reads that are no older than the question: is this node still the owner, as far as a majority knows?

**Why it exists.** An owner that was cut off reads its own rows and finds them in order, while another has long gone on. A read
that must be current asks a majority whether anybody newer was promised, after it was asked for. One message a peer serves all
partitions and all readers of a turn.

**Limits.** Nothing is cached: no leases, because clocks are not trusted. A round that is not answered is asked again every
gossip interval, and given up after ``rpc_timeout`` (whoever waits has given up too).

Source: the ReadIndex of Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 6.4. Read next: `replication`.
"""

from __future__ import annotations

from durable.copies.effects import Confirmed as ConfirmedEffect
from durable.copies.messages import Confirm, Confirmed, Epoch
from durable.membership.member import NodeId
from durable.replication.home import Home
from durable.replication.replica import Replica


class Round:
    """One question about some partitions, and who has confirmed which."""

    __slots__ = ("asked_at", "partitions")

    def __init__(self, asked_at: float) -> None:
        self.asked_at = asked_at
        self.partitions: dict[int, tuple[Epoch, set[NodeId]]] = {}


class Reads:
    """The rounds of one node."""

    def __init__(self, home: Home, replicas: dict[int, Replica]) -> None:
        self._home = home
        self._replicas = replicas
        self._number = int(home.now * 1_000_000)
        """Of the next round. Not one of an earlier life of this node: its answers may still be on their way."""
        self._open: dict[int, Epoch] = {}
        self._rounds: dict[int, Round] = {}

    def ask(self, partition: int, epoch: Epoch) -> int:
        """Put a partition into this turn's round."""
        self._open[partition] = epoch
        return self._number

    def flush(self) -> None:
        """The end of a turn: ask."""
        if not self._open:
            return
        number, self._number = self._number, self._number + 1
        round = self._rounds[number] = Round(self._home.now)
        for partition, epoch in self._open.items():
            round.partitions[partition] = (epoch, set())
        self._open = {}
        self._ask(number, round)
        for partition in list(round.partitions):
            self._add(number, partition, self._home.me)

    def _ask(self, number: int, round: Round) -> None:
        rows: dict[NodeId, list[tuple[int, int, Epoch]]] = {}
        for partition, (epoch, have) in round.partitions.items():
            replica = self._replicas[partition]
            for node in replica.order:
                if node != self._home.me and node not in have:
                    rows.setdefault(node, []).append((partition, replica.generation, epoch))
        for node, asked in rows.items():
            self._home.send(node, Confirm(number, asked))

    def answer(self, sender: NodeId, confirm: Confirm) -> None:
        """Those of which this copy has promised nobody newer."""
        known = []
        for partition, generation, epoch in confirm.rows:
            replica = self._replicas.get(partition)
            if (
                replica is not None
                and generation == replica.known_generation
                and replica.accepts(epoch)
                and replica.may_vote()
                and replica.is_member(sender)
            ):
                known.append(partition)
        if known:
            self._home.send(sender, Confirmed(confirm.round, known))

    def on_confirmed(self, sender: NodeId, confirmed: Confirmed) -> None:
        for partition in confirmed.partitions:
            self._add(confirmed.round, partition, sender)

    def _add(self, number: int, partition: int, node: NodeId) -> None:
        round = self._rounds.get(number)
        entry = round.partitions.get(partition) if round is not None else None
        if round is None or entry is None:
            return
        replica, (epoch, have) = self._replicas[partition], entry
        if not self._still_owned(partition, epoch):
            del round.partitions[partition]
        elif replica.is_member(node):
            have.add(node)
            if len(have) >= replica.quorum():
                del round.partitions[partition]
                self._home.effects.append(ConfirmedEffect(partition, number))
        if not round.partitions:
            del self._rounds[number]

    def _still_owned(self, partition: int, epoch: Epoch) -> bool:
        owner = self._replicas[partition].owner
        return owner is not None and owner.in_office and owner.epoch == epoch

    def repeat(self) -> None:
        """Every gossip interval: ask again, or give up."""
        tuning, now = self._home.tuning, self._home.now
        for number, round in list(self._rounds.items()):
            lost = [p for p, (epoch, _) in round.partitions.items() if not self._still_owned(p, epoch)]
            for partition in lost:
                del round.partitions[partition]
            if not round.partitions or now - round.asked_at > tuning.rpc_timeout_s:
                del self._rounds[number]
            elif now - round.asked_at >= tuning.gossip_interval_s:
                self._ask(number, round)
