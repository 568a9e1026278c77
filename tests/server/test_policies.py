"""Policies on a running server, for a client that knows nothing of them; through restarts, kills
and definitions.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from processes import Serving
from test_cli_serve import wherry

from wire import brokers


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def serving(data: Path) -> Iterator[Serving]:
    serving = Serving("--directory", data)
    yield serving
    serving.close()


Policies = Callable[..., Any]


@pytest.fixture
def policies(data: Path) -> Policies:
    """`wherry policies`, on the data directory of the test."""

    def run(command: str, *arguments: object, status: int = 0) -> Any:
        return wherry("policies", command, "-d", data, *arguments, status=status)

    return run


def fill(channel: Any, queue: str, count: int) -> None:
    for number in range(count):
        channel.basic_publish("", queue, str(number).encode())


def bodies(channel: Any, queue: str) -> list[str]:
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(got[2].decode())
    return found


def test_a_policy_acts_on_what_is_there_and_what_comes(
    serving: Serving, policies: Policies
) -> None:
    with serving.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("log.before")
        channel.queue_declare("log.lost")
        fill(channel, "log.before", 5)
        channel.queue_declare("other")
        definition = {"max-length": 2, "dead-letter-exchange": "", "dead-letter-routing-key": "x"}
        policies("set", "short", "^log\\.", json.dumps(definition))
        channel.queue_declare("log.after")
        for queue in ("log.after", "other"):
            fill(channel, queue, 5)
        assert bodies(channel, "log.before") == ["3", "4"]
        assert bodies(channel, "log.after") == ["3", "4"]
        assert len(bodies(channel, "other")) == 5
        # As they were declared: a client that starts again has nothing to know of policies.
        channel.queue_declare("log.before")
        policies("set", "--priority", 1, "refuse", "^log", '{"overflow": "reject-publish"}')
        channel.confirm_delivery()
        fill(channel, "log.after", 3)  # the policy with the length does not act any more
        policies("delete", "refuse")
        policies("set", "short", "^log", '{"max-length": 1, "overflow": "reject-publish"}')
        with pytest.raises(pika.exceptions.NackError):
            channel.basic_publish("", "log.after", b"refused")
        policies("delete", "short")
        channel.basic_publish("", "log.after", b"taken")


def test_policies_are_listed_and_so_is_what_they_act_on(
    serving: Serving, data: Path, policies: Policies
) -> None:
    with serving.connect() as connection:
        connection.channel().queue_declare("orders")
    done = policies("set", "--apply-to", "queues", "p", "^orders$", '{"ha-mode": "all"}')
    assert done.stderr == "note: 'ha-mode' has no effect: there is one node\n" + (
        "note: it does not match quorum queues, because of 'ha-mode': that is RabbitMQ's rule\n"
    )
    policies("set", "--priority", -3, "p", "^orders$", '{"max-length": 7, "message-ttl": 60000}')
    policies("set", "--operator", "cap", "", '{"max-length": 5}')
    (listed,) = json.loads(policies("list", "--json").stdout)
    assert listed == {
        "vhost": "/",
        "name": "p",
        "pattern": "^orders$",
        "apply_to": "all",
        "priority": -3,
        "definition": {"max-length": 7, "message-ttl": 60000},
        "operator": False,
    }
    lines = policies("list", "--operator").stdout.splitlines()
    assert lines[1].split("\t") == ["/", "cap", "", "all", "0", '{"max-length": 5}']
    (queue,) = json.loads(wherry("queues", "-d", data, "--json").stdout)
    assert (queue["policy"], queue["operator_policy"]) == ("p", "cap")
    assert queue["effective_policy_definition"] == {"max-length": 5, "message-ttl": 60000}
    assert queue["arguments"] == {}
    done = policies("delete", "cap", status=1)
    assert done.stderr == "Error: there is no policy 'cap' in virtual host '/'\n"
    policies("delete", "--operator", "cap")
    assert json.loads(policies("list", "--operator", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("p", "", '{"max-lenght": 5}'), 1, "'max-lenght': there is no such setting; there are"),
        (("p", "", '{"max-length": "5"}'), 1, "'max-length': a whole number from 0"),
        (("p", "(", '{"max-length": 5}'), 1, "invalid pattern '('"),
        (("p", "", "{}"), 1, "it is empty"),
        (("p", "", "max-length: 5"), 2, "it is not JSON"),
        (("p", "", "[5]"), 2, "a JSON object is expected, such as"),
        (("--operator", "p", "", '{"lease": true}'), 1, "'lease': a whole number from 1"),
        (("--operator", "p", "", '{"alternate-exchange": "x"}'), 1, "of an operator policy"),
        (("--vhost", "none", "p", "", '{"max-length": 5}'), 1, "'none'"),
        (("--apply-to", "moons", "p", "", "{}"), 2, "moons"),
    ],
)
def test_what_cannot_be_is_a_line(
    arguments: tuple[str, ...], status: int, text: str, serving: Serving, policies: Policies
) -> None:
    done = policies("set", *arguments, status=status)
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(policies("list", "--json").stdout) == []


def test_policies_are_kept_without_a_server_and_through_a_restart(
    data: Path, policies: Policies
) -> None:
    with contextlib.closing(Serving("--directory", data)) as first:
        policies("set", "short", "^q$", '{"max-length": 9}')
        with first.connect() as connection:
            channel = connection.channel()
            channel.queue_declare("q", durable=True)
            channel.confirm_delivery()
            persistent = pika.BasicProperties(delivery_mode=2)
            for number in range(5):
                channel.basic_publish("", "q", str(number).encode(), persistent)
    # Nobody has the directory open: the command opens it.
    policies("set", "short", "^q$", '{"max-length": 3}')
    assert len(json.loads(policies("list", "--json").stdout)) == 1
    with contextlib.closing(Serving("--directory", data)) as second, second.connect() as connection:
        channel = connection.channel()
        assert channel.queue_declare("q", durable=True).method.message_count == 3
        fill(channel, "q", 3)
        assert bodies(channel, "q") == ["0", "1", "2"]


def test_definitions_carry_policies(serving: Serving, data: Path, policies: Policies) -> None:
    policies("set", "--priority", 2, "--apply-to", "queues", "p", "^q", '{"max-length": 3}')
    policies("set", "--operator", "o", "^q", '{"expires": 60000}')
    exported = wherry("definitions", "export", "-d", data, "-").stdout
    rule = {"pattern": "^q", "priority": 2, "apply-to": "queues", "definition": {"max-length": 3}}
    assert json.loads(exported)["policies"] == [{"vhost": "/", "name": "p", **rule}]
    (parameter,) = json.loads(exported)["parameters"]
    assert (parameter["component"], parameter["name"]) == ("operator_policy", "o")
    assert parameter["value"]["definition"] == {"expires": 60000}
    policies("delete", "p")
    policies("delete", "--operator", "o")
    done = wherry("definitions", "import", "-d", data, "--strict", "-", text=exported)
    assert "1 policies" in done.stdout
    assert "1 operator policies" in done.stdout
    again = wherry("definitions", "export", "-d", data, "-").stdout
    assert json.loads(again) == json.loads(exported)


def test_policies_survive_a_kill() -> None:
    from wherry.server.control import ControlClient

    rule = {"name": "p", "pattern": "^q$", "definition": {"max-length": 2}}
    with brokers.start("wherry", durable=True) as broker:
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            connection.channel().queue_declare("q", durable=True)
        with ControlClient(broker.control) as control:
            control.do("set_policy", {**rule, "name": "gone", "priority": 5})
            control.do("set_policy", rule)
            control.do("delete_policy", {"name": "gone"})
            control.do("set_policy", {**rule, "operator": True, "definition": {"max-length": 1}})
        broker.kill_and_restart()
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            channel = connection.channel()
            fill(channel, "q", 5)
            assert bodies(channel, "q") == ["4"]
        with ControlClient(broker.control) as control:
            assert [one["name"] for one in control.do("policies", {})] == ["p"]
            control.do("delete_policy", {"name": "p", "operator": True})
        broker.kill_and_restart()
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            channel = connection.channel()
            fill(channel, "q", 5)
            assert bodies(channel, "q") == ["3", "4"]
