"""Whom a list of seeds means, however it is spelled: oneself, members, or somebody who is missing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from durable.cluster.founding import Founding, look_up
from durable.errors import JoinRejected
from durable.membership.member import NodeAddress, NodeId

NAMES = {"node-1.internal": "10.0.0.1", "node-2.internal": "10.0.0.2"}


@pytest.fixture(autouse=True)
def name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(loop: Any, host: str, port: int) -> list[Any]:
        if host not in NAMES:
            host.encode("idna")
            raise OSError(f"no such name: {host}")
        return [(None, None, None, "", (NAMES[host], port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


class Told:
    """A founding whose core notes what is asked of it."""

    def __init__(self, me: str, *, ran_alone: bool = False) -> None:
        self.asked: list[Any] = []
        self.core = SimpleNamespace(
            roster=None,
            birth=lambda now, seeds, founders: self.asked.append((seeds, founders)),
            ask_in=lambda now: self.asked.append("let me in"),
        )
        log: Any = self
        self.founding = Founding(log, NodeAddress.parse(me), ran_alone=ran_alone, witness=False)

    def tell(self, what: Any) -> None:
        what(0.0)

    def begin(self, *seeds: str, **members: str) -> list[Any]:
        async def run() -> None:
            self.founding.begin([await look_up(NodeAddress.parse(seed)) for seed in seeds], by_address(members))

        asyncio.run(run())
        return self.asked


def by_address(members: dict[str, str]) -> dict[NodeAddress, NodeId]:
    return {NodeAddress.parse(address): NodeId(name) for name, address in members.items()}


BY_NAME = {"a": "node-1.internal:7800", "b": "node-2.internal:7800"}
BY_NUMBER = {"a": "10.0.0.1:7800", "b": "10.0.0.2:7800"}


@pytest.mark.parametrize(
    ("seeds", "members"),
    [(BY_NAME, BY_NAME), (BY_NAME, BY_NUMBER), (BY_NUMBER, BY_NUMBER)],
    ids=["names advertised", "names given, numbers advertised", "numbers"],
)
def test_a_seed_is_who_advertises_it_as_it_is_written_or_as_it_is_looked_up(seeds: dict[str, str], members: dict[str, str]) -> None:
    for me in members.values():
        assert Told(me).begin(*seeds.values(), **members) == [(tuple(members.values()), ("a", "b"))]


def test_numbers_are_compared_and_not_their_spelling() -> None:
    told = Told("[fd00::1]:1")
    members = {"a": "[fd00::1]:1", "b": "[fd00:0:0::2]:1"}
    assert told.begin("[FD00:0::1]:1", "[fd00::2]:1", **members) == [(("[fd00::1]:1", "[fd00:0:0::2]:1"), ("a", "b"))]


def test_two_ways_to_one_member_are_one_founder() -> None:
    told = Told("10.0.0.1:7800")
    assert told.begin("10.0.0.1:7800", *BY_NAME.values(), **BY_NUMBER) == [(tuple(BY_NUMBER.values()), ("a", "b"))]


def test_a_founder_that_is_missing_is_named_as_in_the_list() -> None:
    told = Told(BY_NAME["a"])
    here = {"a": BY_NAME["a"]}
    assert told.begin(*BY_NAME.values(), "unknown.internal:1", "a..b:1", **here) == []
    why = told.founding.waits_for(by_address(here)) or ""
    assert why.endswith("missing: node-2.internal:7800, unknown.internal:1, a..b:1")


def test_who_is_not_in_the_list_asks_to_be_let_in() -> None:
    assert Told("node-3.internal:7800").begin(*BY_NAME.values(), **BY_NAME) == ["let me in"]


@pytest.mark.parametrize("me", ["node-1.internal:7800", "10.0.0.1:7800"])
def test_a_store_that_ran_alone_founds_where_the_only_seed_is_itself(me: str) -> None:
    assert Told(me, ran_alone=True).begin("node-1.internal:7800", a=me) == [((), ())]
    with pytest.raises(JoinRejected, match="ran without a cluster"):
        Told(me, ran_alone=True).begin(*BY_NAME.values(), a=me)
