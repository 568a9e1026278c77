"""What operators list: exchanges, bindings, consumers, channels; of a server and of a directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from processes import Serving
from test_cli_serve import wherry

from clients import channel
from wherry import blocking
from wire import stomp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.testing import TestBroker


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def serving(data: Path) -> Iterator[Serving]:
    serving = Serving("--directory", data)
    yield serving
    serving.close()


def listed(command: str, data: Path, *options: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(wherry(command, "-d", data, "--json", *options).stdout)
    return found


def test_exchanges_have_the_policy_that_acts_on_them(serving: Serving, data: Path) -> None:
    with serving.connect() as connection:
        connection.channel().exchange_declare("orders", "topic", durable=True)
    wherry("policies", "set", "-d", data, "p", "^orders$", '{"alternate-exchange": "amq.fanout"}')
    by_name = {one["name"]: one for one in listed("exchanges", data)}
    assert {"", "amq.direct", "amq.topic", "orders"} <= by_name.keys()
    orders = by_name["orders"]
    assert (orders["vhost"], orders["type"], orders["durable"]) == ("/", "topic", True)
    assert (orders["policy"], orders["alternate_exchange"]) == ("p", "amq.fanout")
    assert (by_name["amq.topic"]["policy"], by_name["amq.topic"]["alternate_exchange"]) == (
        None,
        None,
    )
    lines = wherry("exchanges", "-d", data).stdout.splitlines()
    assert lines[0].split("\t") == ["vhost", "exchange", "type", "bindings", "durable", "policy"]
    assert "/\torders\ttopic\t0\tyes\tp" in lines


def test_bindings(serving: Serving, data: Path) -> None:
    with serving.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "amq.topic", "b.*")
        channel.queue_bind("q", "amq.headers", "", {"x-match": "any", "kind": "new"})
        channel.exchange_bind("amq.fanout", "amq.topic", "a")
    default, headers, *topics = listed("bindings", data)
    assert default == {
        "vhost": "/",
        "source": "",
        "destination": "q",
        "destination_type": "queue",
        "routing_key": "q",
        "arguments": {},
    }
    assert (headers["source"], headers["arguments"]) == (
        "amq.headers",
        {"x-match": "any", "kind": "new"},
    )
    found = [(one["destination_type"], one["destination"], one["routing_key"]) for one in topics]
    assert found == [("exchange", "amq.fanout", "a"), ("queue", "q", "b.*")]
    lines = wherry("bindings", "-d", data, "--vhost", "/").stdout.splitlines()
    assert lines[1].split("\t") == ["/", "", "q", "queue", "q", "{}"]
    assert lines[-1].split("\t") == ["/", "amq.topic", "q", "queue", "b.*", "{}"]
    assert "no virtual host" in wherry("bindings", "-d", data, "--vhost", "x", status=1).stderr


def test_consumers_and_channels_of_a_server(serving: Serving, data: Path) -> None:
    with serving.connect() as connection:
        first, second = connection.channel(), connection.channel()
        arguments = {"x-single-active-consumer": True}
        first.queue_declare("q", durable=True, arguments=arguments)
        first.basic_qos(prefetch_count=7)
        first.confirm_delivery()
        first.basic_publish("", "q", b"x")
        second.tx_select()
        first.basic_consume("q", lambda *_: None, consumer_tag="one")
        second.basic_qos(prefetch_count=30, global_qos=True)
        second.basic_consume("q", lambda *_: None, consumer_tag="two", auto_ack=True)
        (open_,) = json.loads(wherry("connections", "list", "-d", data, "--json").stdout)
        one, two = listed("consumers", data)
        assert (one["tag"], one["active"], one["prefetch"], one["unacked"]) == ("one", True, 7, 1)
        assert (two["tag"], two["active"], two["no_ack"]) == ("two", False, True)
        assert {one["connection"], two["connection"]} == {open_["id"]}
        numbers = (first.channel_number, second.channel_number)
        assert (one["channel"], two["channel"]) == numbers
        confirming, transactional = listed("channels", data)
        assert (confirming["number"], transactional["number"]) == numbers
        assert (confirming["confirm"], confirming["transactional"]) == (True, False)
        assert (confirming["prefetch"], confirming["unacked"]) == (7, 1)
        assert (transactional["confirm"], transactional["transactional"]) == (False, True)
        assert transactional["global_prefetch"] == 30
        assert confirming["consumers"] == [one["id"]]
        assert confirming["user"] == "guest"
        lines = wherry("consumers", "-d", data).stdout.splitlines()
        assert lines[1].split("\t")[:4] == ["/", "q", "one", str(open_["id"])]
        assert len(wherry("channels", "-d", data).stdout.splitlines()) == 3
        first.close()
        assert [one["tag"] for one in listed("consumers", data)] == ["two"]
        assert [one["number"] for one in listed("channels", data)] == [second.channel_number]


def test_a_directory_that_nobody_has_open(data: Path) -> None:
    with blocking.open(data) as broker:
        broker.declare_queue("q").bind("amq.topic", "#")
        broker.set_policy("p", "^amq", {"alternate-exchange": "amq.fanout"})
    assert {one["policy"] for one in listed("exchanges", data)} == {"p", None}
    assert [one["source"] for one in listed("bindings", data)] == ["", "amq.topic"]
    assert listed("consumers", data) == []
    assert "is it running" in wherry("channels", "-d", data, status=1).stderr


def test_a_stomp_client_has_one_channel(serving: Serving, data: Path) -> None:
    with stomp.connect("127.0.0.1", serving.stomp_port()) as client:
        client.call("SUBSCRIBE", {"destination": "/queue/q", "id": "1"})
        (found,) = listed("consumers", data)
        (one,) = listed("channels", data)
        assert (one["number"], one["consumers"]) == (1, [found["id"]])
        assert (found["connection"], found["channel"]) == (one["connection"], 1)


def test_channels_of_a_server_in_a_program(broker: TestBroker) -> None:
    with channel(broker.amqp_url) as client:
        client.queue_declare("q")
        client.basic_consume("q", lambda *_: None)
        [listed] = broker.server.channels()
        assert (listed["virtual_host"], len(listed["consumers"])) == ("/", 1)
    assert broker.server.channels() == []
