"""The appendix of settings: nothing that the code has is missing in it, and nothing is in it that the code does not have."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from durable.cli import _parser
from durable.cluster.config import ClusterConfig
from durable.membership.tuning import Tuning
from durable.notebook.settings import cluster_settings, membership_numbers, node_settings, settings_table, words_of
from durable.runtime.config import NodeConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book/chapters/appendix-configuration.md").read_text("utf8")


class Watched(Mapping[str, str]):
    """An environment that remembers what was looked for in it."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values_ = values
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


def test_the_table_of_variables_names_exactly_those_that_are_read() -> None:
    environment = Watched({"CLUSTER_NODE_ID": "node-1", "CLUSTER_ADVERTISE_HOST": "node-1.internal"})
    ClusterConfig.from_env(environment)
    table = inspect.getdoc(importlib.import_module("durable.cluster.config")) or ""
    assert set(re.findall(r"^(CLUSTER_\w+)  ", table, re.MULTILINE)) == environment.asked
    source = "".join(path.read_text("utf8") for path in sorted((ROOT / "durable").rglob("*.py")))
    read = set(re.findall(r'(?:environ|given)(?:\.get\(|\[)"(\w+)"', source))
    assert {name for name in read if name.isupper()} <= environment.asked, "the library reads a variable that is not on the page"


def test_the_example_environment_has_only_variables_that_are_read_and_can_start() -> None:
    lines = (ROOT / "book/examples/node.env").read_text("utf8").splitlines()
    environment = Watched(dict(line.split("=", 1) for line in lines))
    config = ClusterConfig.from_env(environment)
    assert set(environment) <= environment.asked
    assert not config.is_open and config.secrets
    config.check_secured()


@pytest.mark.parametrize("kind", [ClusterConfig, NodeConfig, Tuning])
def test_every_setting_says_what_it_is(kind: type) -> None:
    hidden = {"settings"} if kind is Tuning else set()
    words = words_of(kind)
    assert not [field.name for field in fields(kind) if not words[field.name] and field.name not in hidden]


def test_the_tables_hold_every_field_with_its_default() -> None:
    text = str(cluster_settings())
    for field in fields(ClusterConfig):
        assert re.search(rf"^{field.name} ", text, re.MULTILINE), field.name
    assert re.search(r"^suspect_timeout +5 +0\.5  How long", text, re.MULTILINE)
    assert re.search(r"^node_id +required", text, re.MULTILINE)
    assert re.search(r"^value_bytes_max +16 MiB", str(node_settings()), re.MULTILINE)
    assert re.search(r"^gossip_tick_s +0\.2 +0\.02 ", str(membership_numbers()), re.MULTILINE)


def test_code_in_the_words_is_code_and_markup_is_not() -> None:
    class Odd:
        """For `settings_table`, words only."""

        width: int = 3
        """Less than ``a<b>``."""

    assert words_of(Odd) == {"width": "Less than ``a<b>``."}
    assert "&lt;" not in str(settings_table(NodeConfig)) and "<code" in node_settings().html


def test_every_command_is_on_the_page_with_its_help() -> None:
    actions = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    commands = {name for action in actions for name in action.choices}
    assert commands and set(re.findall(r"^python -m durable (\w+) --help$", PAGE, re.MULTILINE)) == commands


def test_a_node_that_would_be_open_to_all_is_refused_on_the_page() -> None:
    terminal = pytest.importorskip("bookstitch.terminal", reason="the extra `book` is not installed")
    (line,) = re.findall(r"^python -m durable node --id .*$", PAGE, re.MULTILINE)
    said = terminal.session(terminal.parse([line, "@fails"]), ROOT / "book/examples")
    assert "It did not start. Set CLUSTER_SECRET_KEY" in said
