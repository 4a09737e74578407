"""What a node is told: checked at once, closed by default, the same from code and from the environment."""

from __future__ import annotations

import pytest

from durable.cluster.config import ClusterConfig
from durable.errors import NotSecured
from durable.membership.member import NodeAddress

SECRET = "a-secret-of-the-tests-1"


def test_the_defaults_are_those_of_the_book() -> None:
    config = ClusterConfig.default()
    assert (config.gossip_interval, config.suspect_timeout, config.dead_timeout) == (1.0, 5.0, 30.0)
    assert (config.virtual_nodes_per_node, config.partitions, config.replicas, config.rpc_timeout) == (150, 256, 3, 30.0)
    assert config.bind_address == NodeAddress("127.0.0.1", 7800) and config.seed_nodes == ()
    lan = ClusterConfig.lan("node-2", dead_timeout=3.0)
    assert (lan.node_id, lan.gossip_interval, lan.suspect_timeout, lan.dead_timeout) == ("node-2", 0.1, 0.5, 3.0)
    assert lan.tuning().exchange_interval_s == pytest.approx(3.0)


def test_addresses_may_be_written_as_text() -> None:
    config = ClusterConfig(node_id="a", bind_address="[::1]:1", seed_nodes=["b:2", NodeAddress("c", 3)])  # type: ignore[arg-type,list-item]
    assert config.bind_address == NodeAddress("::1", 1)
    assert config.seed_nodes == (NodeAddress("b", 2), NodeAddress("c", 3))


def test_the_name_and_the_address_need_no_keyword_and_the_rest_does() -> None:
    named = ClusterConfig(node_id="node-3", bind_address=NodeAddress("127.0.0.1", 7802), seed_nodes=[NodeAddress("b", 2)])
    assert ClusterConfig("node-3", NodeAddress("127.0.0.1", 7802), seed_nodes=[NodeAddress("b", 2)]) == named
    with pytest.raises(TypeError, match="positional arguments"):
        ClusterConfig("node-3", NodeAddress("127.0.0.1", 7802), [NodeAddress("b", 2)])  # type: ignore[misc]


def test_the_environment_says_it_all() -> None:
    config = ClusterConfig.from_env(
        {
            "CLUSTER_NODE_ID": "node-3",
            "CLUSTER_BIND_HOST": "0.0.0.0",
            "CLUSTER_BIND_PORT": "7802",
            "CLUSTER_ADVERTISE_HOST": "node-3.internal",
            "CLUSTER_SEED_NODES": "node-1.internal:7800, node-2.internal:7801",
            "CLUSTER_SECRET_KEY": f"{SECRET}, {SECRET}-old",
            "CLUSTER_NAME": "orders",
            "CLUSTER_INSECURE": "0",
        }
    )
    assert config == ClusterConfig(
        node_id="node-3",
        bind_address=NodeAddress("0.0.0.0", 7802),
        advertise_address=NodeAddress("node-3.internal", 7802),
        seed_nodes=[NodeAddress("node-1.internal", 7800), NodeAddress("node-2.internal", 7801)],
        secret_key=[SECRET, f"{SECRET}-old"],
        cluster_name="orders",
    )
    assert config.advertised(NodeAddress("0.0.0.0", 7802)) == NodeAddress("node-3.internal", 7802)
    config.check_secured()


def test_what_is_said_in_code_wins_over_the_environment() -> None:
    config = ClusterConfig.from_env({"CLUSTER_NODE_ID": "a", "CLUSTER_BIND_PORT": "1"}, node_id="b")
    assert (config.node_id, config.bind_address.port) == ("b", 1)


def test_an_advertised_host_goes_with_the_port_that_is_bound() -> None:
    environment = {"CLUSTER_NODE_ID": "a", "CLUSTER_ADVERTISE_HOST": "h", "CLUSTER_SECRET_KEY": SECRET}
    assert ClusterConfig.from_env(environment).advertise_address == NodeAddress("h", 7800)
    for bind in ("0.0.0.0:7802", NodeAddress("0.0.0.0", 7802)):
        assert ClusterConfig.from_env(environment, bind_address=bind).advertise_address == NodeAddress("h", 7802)
    said = ClusterConfig.from_env(environment, bind_address="0.0.0.0:7802", advertise_address="i:1")
    assert said.advertise_address == NodeAddress("i", 1)


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "CLUSTER_NODE_ID is not set"),
        ({"CLUSTER_NODE_ID": "a", "CLUSTER_BIND_PORT": "x"}, "CLUSTER_BIND_HOST and CLUSTER_BIND_PORT"),
        ({"CLUSTER_NODE_ID": "a", "CLUSTER_SEED_NODES": "b"}, "write it as host:port"),
        ({"CLUSTER_NODE_ID": "a", "CLUSTER_BIND_HOST": "0.0.0.0"}, "CLUSTER_ADVERTISE_HOST"),
        ({"CLUSTER_NODE_ID": "a", "CLUSTER_SECRET_KEY": "short"}, "token_hex"),
    ],
)
def test_a_mistake_in_the_environment_is_named(environment: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ClusterConfig.from_env(environment)


@pytest.mark.parametrize(
    "fields",
    [
        {"node_id": ""},
        {"node_id": "x" * 65},
        {"cluster_name": ""},
        {"gossip_interval": 0.0},
        {"rpc_timeout": 0.0},
        {"partitions": 0},
        {"replicas": 10},
        {"virtual_nodes_per_node": 10_001},
        {"seed_nodes": ["a:1"] * 65},
        {"secret_key": [SECRET] * 9},
        {"bind_address": "::"},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ClusterConfig(**{"node_id": "a", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["10.0.0.7", "0.0.0.0", "node-1.internal"])
def test_a_node_that_others_can_reach_wants_a_key(host: str) -> None:
    bind, here = NodeAddress(host, 7800), NodeAddress("node-1.internal", 7800)
    config = ClusterConfig(node_id="a", bind_address=bind, advertise_address=here)
    with pytest.raises(NotSecured, match="CLUSTER_SECRET_KEY") as refused:
        config.check_secured()
    assert "CLUSTER_INSECURE=1" in str(refused.value) and "127.0.0.1" in str(refused.value)
    ClusterConfig(node_id="a", bind_address=bind, advertise_address=here, secret_key=SECRET).check_secured()
    insecure = ClusterConfig(node_id="a", bind_address=bind, advertise_address=here, insecure=True)
    insecure.check_secured()
    assert insecure.is_open


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_this_machine_none_is_wanted(host: str) -> None:
    ClusterConfig(node_id="a", bind_address=NodeAddress(host, 7800)).check_secured()


def test_a_secret_does_not_show() -> None:
    assert SECRET not in repr(ClusterConfig(node_id="a", secret_key=SECRET))


def test_what_is_fixed_at_birth_goes_with_every_join() -> None:
    assert ClusterConfig(node_id="a", partitions=64).tuning().settings == {
        "partitions": "64",
        "replicas": "3",
        "virtual_nodes_per_node": "150",
    }
