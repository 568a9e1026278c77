"""Definitions: RabbitMQ's file in, ours out; what is honoured and what is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wherry import InvalidArgument, PreconditionFailed, UnknownExchange
from wherry.server.definitions import (
    Binding,
    Exchange,
    Policy,
    Queue,
    export_definitions,
    import_definitions,
    parse,
)
from wherry.server.permissions import Permission, TopicPermission, UserAccess, VirtualHostLimits
from wherry.server.users import UserStore

# From `rabbitmqctl export_definitions` of RabbitMQ 3.10.8.
RABBITMQ = Path(__file__).parent / "data" / "rabbitmq-3.10-definitions.json"


class FakeTopology:
    def __init__(self) -> None:
        self.hosts: dict[str, tuple[dict[str, Exchange], dict[str, Queue], list[Binding]]] = {}
        self.rules: dict[tuple[str, bool, str], Policy] = {}
        self.synced = 0
        self.add_virtual_host("/")

    def virtual_hosts(self) -> list[str]:
        return list(self.hosts)

    def add_virtual_host(self, name: str) -> None:
        predeclared = {"amq.topic": Exchange("amq.topic", "topic"), "": Exchange("", "direct")}
        self.hosts.setdefault(name, (predeclared, {}, []))

    def exchanges(self, vhost: str) -> list[Exchange]:
        return list(self.hosts[vhost][0].values())

    def queues(self, vhost: str) -> list[Queue]:
        return list(self.hosts[vhost][1].values())

    def bindings(self, vhost: str) -> list[Binding]:
        return self.hosts[vhost][2]

    def policies(self, vhost: str) -> list[Policy]:
        return [rule for (host, _, _), rule in sorted(self.rules.items()) if host == vhost]

    def set_policy(self, vhost: str, policy: Policy) -> list[str]:
        if "federation-upstream-set" in policy.definition:
            raise InvalidArgument("there is no such setting")
        self.rules[vhost, policy.operator, policy.name] = policy
        return ["'ha-mode' has no effect"] if "ha-mode" in policy.definition else []

    def declare_exchange(self, vhost: str, exchange: Exchange) -> None:
        if self.hosts[vhost][0].setdefault(exchange.name, exchange) != exchange:
            raise PreconditionFailed(f"inequivalent exchange '{exchange.name}'")

    def declare_queue(self, vhost: str, queue: Queue) -> None:
        if queue.arguments.get("x-queue-type") == "stream":
            raise InvalidArgument("stream queues are not supported yet")
        if self.hosts[vhost][1].setdefault(queue.name, queue) != queue:
            raise PreconditionFailed(f"inequivalent queue '{queue.name}'")

    def bind(self, vhost: str, binding: Binding) -> None:
        if binding.source not in self.hosts[vhost][0]:
            raise UnknownExchange(f"no exchange '{binding.source}' in vhost '{vhost}'")
        if binding not in self.hosts[vhost][2]:
            self.hosts[vhost][2].append(binding)

    def sync(self) -> None:
        self.synced += 1


@pytest.fixture
def definitions() -> dict[str, Any]:
    return parse(RABBITMQ.read_bytes())


def test_everything_of_a_real_file_is_imported_or_reported(definitions: dict[str, Any]) -> None:
    topology, users = FakeTopology(), UserStore()
    report = import_definitions(definitions, topology, users)
    assert report.counts == {
        "users": 4,
        "virtual hosts": 3,
        "permissions": 4,
        "topic permissions": 1,
        "operator policies": 1,
        "policies": 4,
        "exchanges": 4,
        "queues": 7,
        "bindings": 6,
    }
    assert report.problems == [
        "queue 'stream' in virtual host 'shop': stream queues are not supported yet",
        "global parameter 'mine': there are no global parameters in Wherry",
    ]
    assert report.notes == ["policy 'ha' in virtual host '/': 'ha-mode' has no effect"]
    assert topology.synced == 1
    exchanges, queues, bindings = topology.hosts["shop"]
    assert exchanges["headers"].arguments == {"alternate-exchange": "unrouted"}
    assert exchanges["transient"].durable is False
    assert queues["brief"] == Queue("brief", durable=False)
    assert queues["other-lazy"] == Queue("other-lazy", arguments={"x-queue-mode": "lazy"})
    assert Binding("orders", "dead", "exchange", "order.dead") in bindings
    assert topology.hosts["/"][2] == [Binding("amq.topic", "ha.one", "queue", "x.y")]


def test_policies_of_a_real_file_come_before_what_they_act_on(definitions: dict[str, Any]) -> None:
    class Watched(FakeTopology):
        def declare_exchange(self, vhost: str, exchange: Exchange) -> None:
            assert len(self.rules) == 5
            super().declare_exchange(vhost, exchange)

    topology = Watched()
    import_definitions(definitions, topology, None)
    cap = topology.rules["shop", True, "cap"]
    assert (cap.apply_to, cap.operator) == ("queues", True)
    assert cap.definition["max-length"] == 500
    # Queues and exchanges are declared as they were, whatever policies make of them.
    exchanges, queues, _ = topology.hosts["shop"]
    assert queues["shop-orders"].arguments == {}
    assert exchanges["orders"].arguments == {}


def test_users_of_a_real_file(definitions: dict[str, Any], tmp_path: Path) -> None:
    users = UserStore(tmp_path / "users.json")
    import_definitions(definitions, FakeTopology(), users)
    assert users.verify("alice", "wonderland") is not None
    assert users.verify("bob", "builder") == UserAccess(
        "bob",
        ("monitoring", "management"),
        (Permission("shop", "", "^orders$", "^shop-"),),
        (TopicPermission("shop", "orders", r"^{username}\.", r"^{vhost}\."),),
        max_connections=5,
        max_channels=20,
    )
    assert users.verify("certonly", "x") is None
    assert users.verify("certonly", "") is None
    assert users.exists("certonly")
    assert users.snapshot().vhost_limits == (VirtualHostLimits("shop", 100, 50),)


def test_importing_again_changes_nothing(definitions: dict[str, Any]) -> None:
    topology, users = FakeTopology(), UserStore()
    first = import_definitions(definitions, topology, users)
    hosts, table = str(topology.hosts), users.snapshot()
    second = import_definitions(definitions, topology, users)
    assert second == first
    assert (str(topology.hosts), users.snapshot()) == (hosts, table)


def test_what_exists_in_another_form_stays(definitions: dict[str, Any]) -> None:
    topology = FakeTopology()
    topology.add_virtual_host("shop")
    topology.declare_queue("shop", Queue("brief", durable=True))
    report = import_definitions(definitions, topology, None)
    assert "queue 'brief' in virtual host 'shop': inequivalent queue 'brief'" in report.problems
    assert topology.hosts["shop"][1]["brief"].durable is True
    assert "users, permissions and limits were left out" in report.notes


def test_what_is_exported_is_what_was_declared(definitions: dict[str, Any]) -> None:
    topology, users = FakeTopology(), UserStore()
    import_definitions(definitions, topology, users)
    exported = parse(json.dumps(export_definitions(topology, users)).encode())

    def by_name(entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {f"{entry['vhost']}/{entry['name']}": entry["arguments"] for entry in entries}

    original = by_name(definitions["queues"])
    del original["shop/stream"]
    assert by_name(exported["queues"]) == original
    assert by_name(exported["exchanges"]) == by_name(definitions["exchanges"])
    assert len(exported["bindings"]) == len(definitions["bindings"])
    other, other_users = FakeTopology(), UserStore()
    report = import_definitions(exported, other, other_users)
    assert report.problems == []
    assert other_users.snapshot() == users.snapshot()
    assert export_definitions(other, other_users) == exported
    assert other_users.verify("alice", "wonderland") is not None


def test_an_export_of_one_virtual_host() -> None:
    definitions = {
        "queues": [{"name": "q", "durable": True, "auto_delete": False, "arguments": {}}],
        "exchanges": [{"name": "e", "type": "fanout"}],
        "bindings": [{"source": "e", "destination": "q", "destination_type": "queue"}],
        "policies": [{"name": "p", "pattern": "", "definition": {"max-length": 1}}],
    }
    topology = FakeTopology()
    report = import_definitions(definitions, topology, None, default_vhost="mine")
    assert report.problems == []
    assert topology.rules["mine", False, "p"].definition == {"max-length": 1}
    assert report.counts["virtual hosts"] == 1


@pytest.mark.parametrize(
    ("kind", "entry", "problem"),
    [
        ("queues", {}, "queue 'None' in virtual host '/': 'name' is missing"),
        ("queues", "q", "queues[0]: is not an object"),
        ("queues", {"name": "q", "arguments": 3}, "queue 'q' in virtual host '/': an object is"),
        ("exchanges", {"name": "e"}, "exchange 'e' in virtual host '/': 'type' is missing"),
        (
            "bindings",
            {"source": "none", "destination": "q"},
            "binding from 'none' to 'q' in virtual host '/': no exchange 'none'",
        ),
        ("vhosts", {"name": "v", "tracing": True}, "virtual host 'v': there is no tracing"),
        (
            "vhosts",
            {"name": "v", "metadata": {"default_queue_type": "quorum"}},
            "virtual host 'v': its default queue type quorum",
        ),
        ("vhosts", {"name": "v", "limits": {"max-x": 1}}, "virtual host 'v': there is no limit"),
        ("users", {"name": "u", "password_hash": "?"}, "user 'u': the password hash is not Base64"),
        ("users", {"name": "u", "limits": {"max-connections": "3"}}, "user 'u': a limit is a num"),
        ("users", {"name": "u", "limits": {"max-fun": 3}}, "user 'u': there is no limit 'max-fun'"),
        (
            "users",
            {"name": "u", "hashing_algorithm": "rot13", "password_hash": "x"},
            "user 'u': unknown hashing algorithm 'rot13'",
        ),
        ("users", {"name": "u", "tags": 5}, "user 'u': tags are a list of texts"),
        ("users", {"name": "u", "tags": [{}]}, "user 'u': tags are a list of texts"),
        ("vhosts", {"name": "v", "metadata": 5}, "virtual host 'v': an object is expected"),
        (
            "policies",
            {"name": "p", "pattern": "", "definition": {}, "priority": 1 << 70},
            "policy 'p' in virtual host '/': a priority of 1180591620717411303424: at most",
        ),
        (
            "policies",
            {"name": "p", "pattern": "", "definition": {}, "apply-to": 5},
            "policy 'p' in virtual host '/': 'apply-to' is text",
        ),
        (
            "permissions",
            {"user": "nobody", "configure": "", "write": "", "read": ""},
            "permissions of 'nobody' in virtual host '/': there is no user 'nobody'",
        ),
        (
            "permissions",
            {"user": "guest", "configure": "(", "write": "", "read": ""},
            "permissions of 'guest' in virtual host '/': '('",
        ),
        (
            "topic_permissions",
            {"user": "guest", "exchange": "e", "write": "[", "read": ""},
            "topic permissions of 'guest' in virtual host '/': '['",
        ),
        (
            "parameters",
            {"component": "shovel", "name": "s", "value": {}},
            "parameter 's' of shovel in virtual host '/': there is no shovel in Wherry",
        ),
        ("policies", "p", "policies[0]: is not an object"),
        ("policies", {"pattern": ""}, "policy 'None' in virtual host '/': 'name' is missing"),
        (
            "policies",
            {"name": "p", "priority": "high"},
            "policy 'p' in virtual host '/': a priority is a whole number",
        ),
        (
            "policies",
            {"name": "p", "pattern": "", "definition": {"federation-upstream-set": "all"}},
            "policy 'p' in virtual host '/': there is no such setting",
        ),
        (
            "parameters",
            {"component": "operator_policy", "name": "o", "value": 3},
            "operator policy 'o' in virtual host '/': an object is expected",
        ),
        ("federation", {}, "'federation': there is no such thing in Wherry"),
    ],
)
def test_a_problem_has_a_line_and_the_rest_goes_on(kind: str, entry: Any, problem: str) -> None:
    definitions = {"queues": [], kind: [entry]}
    definitions["queues"] = [*definitions["queues"], {"name": "good"}]
    topology = FakeTopology()
    report = import_definitions(definitions, topology, UserStore())
    (found,) = report.problems
    assert found.startswith(problem)
    assert "good" in topology.hosts["/"][1]


def test_other_forms_of_the_same() -> None:
    definitions = {
        "vhosts": [{"name": "v", "limits": [["max-connections", 3], ["max-queues", -1]]}],
        "users": [{"name": "u", "tags": "administrator, monitoring", "password_hash": ""}],
        "policies": [{"vhost": "v", "name": "p", "pattern": "", "definition": [["max-length", 7]]}],
        "queues": [{"vhost": "v", "name": "q", "arguments": []}],
        "global_parameters": [{"name": "cluster_name", "value": "c"}],
    }
    topology, users = FakeTopology(), UserStore()
    report = import_definitions(definitions, topology, users)
    assert report.problems == []
    assert "cluster_name 'c': set it with cluster_name in wherry.toml" in report.notes
    assert users.list()[1].tags == ("administrator", "monitoring")
    assert users.snapshot().vhost_limits == (VirtualHostLimits("v", 3, None),)
    assert topology.rules["v", False, "p"].definition == {"max-length": 7}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no definitions"),
        (b'{"a": 1}', "no definitions"),
        (b'{"queues": {}}', "'queues' is not a list"),
    ],
)
def test_what_is_no_definitions_file(data: bytes, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        parse(data)
