"""Whose address a node keeps over a restart."""

from __future__ import annotations

from durable.cluster.remembered import KEY, REMEMBERED_MAX, Remembered
from durable.membership.joining import SEEDS_MAX
from durable.membership.member import Member, MemberStatus, NodeAddress, NodeId
from durable.ports import Batch

ALIVE, SUSPECT, DEAD, LEFT = MemberStatus
ME = NodeId("me")


class Disk:
    """Its row, and how often it was written."""

    def __init__(self) -> None:
        self.row: bytes | None = None
        self.writes = 0

    def write(self, batch: Batch) -> None:
        ((key, self.row),) = batch
        assert key == KEY
        self.writes += 1

    def remembered(self) -> Remembered:
        return Remembered(ME, self.row, self.write)


def member(name: str, status: MemberStatus = ALIVE, port: int = 7800) -> Member:
    return Member(NodeId(name), NodeAddress(name, port), status, 0, 1, 0.0)


def known(remembered: Remembered) -> list[str]:
    return [str(address) for address in remembered.beside([])]


def test_everybody_but_itself_and_who_has_left_is_asked_after_a_restart() -> None:
    disk = Disk()
    disk.remembered().update([member("me"), member("a"), member("b", SUSPECT), member("c", DEAD), member("d", LEFT)], ())
    assert known(disk.remembered()) == ["a:7800", "b:7800", "c:7800"]


def test_a_voter_is_remembered_when_it_is_no_member_any_more_and_nobody_else_is() -> None:
    disk = Disk()
    remembered = disk.remembered()
    remembered.update([member("a"), member("b")], [NodeId("a")])
    remembered.update([], [NodeId("a")])
    assert known(disk.remembered()) == ["a:7800"]
    remembered.update([member("a", LEFT)], [NodeId("a")])
    assert known(disk.remembered()) == []


def test_before_any_roster_is_known_nothing_is_forgotten() -> None:
    disk = Disk()
    disk.remembered().update([member("a")], ())
    started_anew = disk.remembered()
    started_anew.update([member("me")], ())
    assert known(started_anew) == known(disk.remembered()) == ["a:7800"]


def test_it_is_written_when_an_address_has_changed_and_not_otherwise() -> None:
    disk = Disk()
    remembered = disk.remembered()
    for status in (ALIVE, SUSPECT, ALIVE, DEAD):
        remembered.update([member("a", status)], ())
    assert disk.writes == 1
    remembered.update([member("a", port=7801)], ())
    assert disk.writes == 2 and known(disk.remembered()) == ["a:7801"]


def test_there_is_a_bound_and_voters_come_first_and_seeds_before_all() -> None:
    disk = Disk()
    remembered = disk.remembered()
    remembered.update([member(f"n{number:03}") for number in range(200)], [NodeId("n150")])
    assert len(known(remembered)) == REMEMBERED_MAX and known(remembered)[0] == "n150:7800"
    seeds = [NodeAddress("seed", port) for port in range(SEEDS_MAX - 1)]
    assert remembered.beside(seeds) == [*seeds, NodeAddress("n150", 7800)]
    assert remembered.beside([NodeAddress("n150", 7800)])[:2] == [NodeAddress("n150", 7800), NodeAddress("n000", 7800)]
